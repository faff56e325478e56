"""An upstream whose answers get back what placeholders stood for in the request, whole or streamed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Final

import orjson

from gateway.gate import Released
from gateway.pseudonyms.restore import Pieces, Restorer
from gateway.sse import events, has_done, payload
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health, Upstream

# Fields of a chunk whose texts continue one another from chunk to chunk; any other comes whole.
_CONTINUED: Final = frozenset(
    {"content", "reasoning_content", "reasoning", "refusal", "arguments", "text", "thinking", "transcript", "summary"}
)
_PROTOCOL: Final = frozenset({"role", "type"})
_CHUNK_FIELDS: Final = ("id", "object", "created", "model")
Path = tuple[str | int, ...]


class Restoring:
    """One upstream, for one request that went out pseudonymised."""

    def __init__(self, upstream: Upstream, restorer: Restorer) -> None:
        self._upstream = upstream
        self._restorer = restorer

    @property
    def model(self) -> Model:
        """Which one it is."""
        return self._upstream.model

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer with its values; raises `UpstreamError`."""
        return restored(await self._upstream.complete(call), self._restorer)

    async def stream(self, call: Released[Call]) -> AsyncGenerator[bytes, None]:
        """The events with their values; what may be the beginning of a placeholder waits for the next one."""
        blocks, stream = self._upstream.stream(call), RestoredStream(self._restorer)
        try:
            async for block in blocks:
                yield stream.feed(block)
        finally:
            await _close(blocks)

    async def health(self) -> Health:
        """As the upstream says."""
        return await self._upstream.health()

    async def aclose(self) -> None:
        """Nothing: the upstream is not this request's own."""


async def _close(blocks: AsyncIterator[bytes]) -> None:
    if isinstance(blocks, AsyncGenerator):
        await blocks.aclose()


def restored(answer: Answer, restorer: Restorer) -> Answer:
    """A whole answer with its values."""
    body = orjson.loads(answer.body)
    if isinstance(body, dict) and isinstance(body.get("choices"), list):
        body["choices"] = [_whole(choice, restorer) for choice in body["choices"]]
    return dataclasses.replace(answer, body=orjson.dumps(body), text=restorer.whole(answer.text))


def _whole(value: Any, restorer: Restorer) -> Any:
    if isinstance(value, str):
        return restorer.whole(value)
    if isinstance(value, list):
        return [_whole(item, restorer) for item in value]
    if isinstance(value, dict):
        return {name: item if name in _PROTOCOL else _whole(item, restorer) for name, item in value.items()}
    return value


class RestoredStream:
    """One stream on its way back: whole events in, the same events out, their texts restored."""

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._pieces: dict[Any, dict[Path, Pieces]] = {}  # by choice, then by place in its delta
        self._template: dict[str, Any] = {}

    def feed(self, block: bytes) -> bytes:
        """The events to send for these."""
        return b"".join(self._event(event) for event in events(block))

    def _event(self, event: bytes) -> bytes:
        if has_done(event):
            return b"".join(self._left()) + event
        try:
            chunk = orjson.loads(payload(event))
        except orjson.JSONDecodeError:
            return event
        if not isinstance(chunk, dict) or not isinstance(choices := chunk.get("choices"), list):
            return event
        self._template = {name: chunk[name] for name in _CHUNK_FIELDS if name in chunk}
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _choice(self, choice: dict[str, Any]) -> None:
        pieces = self._pieces.setdefault(choice.get("index", 0), {})
        if isinstance(delta := choice.get("delta"), dict):
            choice["delta"] = self._walk(delta, (), pieces)
        if choice.get("finish_reason") is not None:
            choice["delta"] = _flushed(choice.get("delta") or {}, pieces)

    def _walk(self, value: Any, path: Path, pieces: dict[Path, Pieces]) -> Any:
        if isinstance(value, str):
            if path[-1] in _PROTOCOL:
                return value
            if path[-1] not in _CONTINUED:
                return self._restorer.whole(value)
            return pieces.setdefault(path, Pieces(self._restorer)).feed(value)
        if isinstance(value, list):
            return [self._walk(item, (*path, _place(item, number)), pieces) for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {name: self._walk(item, (*path, name), pieces) for name, item in value.items()}
        return value

    def _left(self) -> Iterator[bytes]:
        """What is still held of choices that ended without saying so."""
        for index, pieces in self._pieces.items():
            if delta := _flushed({}, pieces):
                choice = {"index": index, "delta": delta, "finish_reason": None}
                yield b"data: " + orjson.dumps({**self._template, "choices": [choice]}) + b"\n\n"


def _place(item: Any, number: int) -> int:
    """Which member of a list a piece belongs to: as it says itself (tool calls do), else its place."""
    index = item.get("index") if isinstance(item, dict) else None
    return index if isinstance(index, int) else number


def _flushed(delta: dict[str, Any], pieces: dict[Path, Pieces]) -> dict[str, Any]:
    for path, held in pieces.items():
        if text := held.flush():
            _append(delta, path, text)
    return delta


def _append(node: Any, path: Path, text: str) -> None:
    """Add a text at the end of the one at this place, made if need be."""
    for part, following in itertools.pairwise(path):
        if isinstance(part, str):
            if not isinstance(node.get(part), list if isinstance(following, int) else dict):
                node[part] = [] if isinstance(following, int) else {}
            node = node[part]
            continue
        member = next((item for number, item in enumerate(node) if _place(item, number) == part), None)
        if member is None:
            member = {"index": part}
            node.append(member)
        node = member
    node[path[-1]] = (node.get(path[-1]) or "") + text
