"""OpenAI's API as servers of local models speak it: Ollama, llama.cpp, LM Studio, vLLM, TGI and whatever is like them.

They differ from it in ways that break clients: tool calls (`local_calls.py`), the words for a schema, streams that take
no tools, and answers without their usage, which is then counted here and marked `estimated`. What is in order is
relayed as it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.errors import UpstreamError
from gateway.gate import Released
from gateway.sse import DONE, events, payload, read_usage
from gateway.types import Answer, Model
from gateway.upstreams.base import Call
from gateway.upstreams.local_calls import StreamedCalls, mend_whole, tool_names
from gateway.upstreams.openai_http import OpenAIUpstream, read_answer
from gateway.upstreams.pool import TRANSPORT_ERRORS, Pool, read_whole
from router_models.encoder import shared

Json = dict[str, Any]
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_DONE: Final = re.compile(rb"(?:^|[\r\n])(data:[ \t]*\[DONE\])")
_NO_STREAM: Final = re.compile(r"tools with stream|stream.{0,20}tools", re.IGNORECASE)  # llama.cpp before May 2025
_COUNT_S: Final = 2.0
_MOST_KEPT_BYTES: Final = 2_000_000
_TOKENS_PER_MESSAGE: Final = 4
_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal")
# What Ollama's OpenAI API does not read (docs/api/openai-compatibility).
_IGNORED: Final = {"ollama": {"n": 1, "tool_choice": "auto", "logit_bias": {}, "parallel_tool_calls": True}}


def _json_object(schema: Json) -> Json:
    """llama.cpp's and llama-cpp-python's, in all their versions: a grammar made of the schema."""
    return {"type": "json_object", "schema": schema}


def _value(schema: Json) -> Json:
    """TGI's."""
    return {"type": "json_object", "value": schema}


_SCHEMAS: Final[dict[str, Callable[[Json], Json]]] = {"llamacpp": _json_object, "tgi": _value}
# LM Studio takes schemas only.
_ANY_OBJECT: Final = {
    "lmstudio": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
}


class LocalUpstream(OpenAIUpstream):
    """One model of a server that nearly speaks OpenAI's API."""

    def __init__(self, model: Model, pool: Pool) -> None:
        super().__init__(model, pool)
        self._root = model.base_url.removesuffix("/v1")
        self._streams_tools = True

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, its tool calls in order and its usage counted where the server did not say it."""
        return await self._in_order(call.value, self._body(call.value))

    async def _in_order(self, asked: Call, sent: Mapping[str, object]) -> Answer:
        raw = await self._whole(self._url, sent, asked)
        body: Any = self._parsed(raw)
        changed = False
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # what is no answer is told so below
            if names := tool_names(asked.body):
                changed = mend_whole(body, names, asked.request_id)
            if read_usage(body.get("usage")) is None:
                text = "\n".join(_said(choice["message"]) for choice in body["choices"])
                body["usage"] = await self._usage(asked, text)
                changed = True
        if changed:
            raw = orjson.dumps(body)
        return read_answer(self.model, raw, body, hide_logprobs=bool(asked.logprobs))

    async def stream(self, call: Released[Call]) -> AsyncGenerator[bytes, None]:
        """Its events as they come, but for what is out of order."""
        names = tool_names(call.value.body)
        if names and not self._streams_tools:
            yield await self._streamed_at_once(call.value)
            return
        begun = False
        try:
            async with contextlib.aclosing(self._mended(call, names)) as blocks:
                async for block in blocks:
                    begun = True
                    yield block
        except UpstreamError as error:
            if begun or not names or not _NO_STREAM.search(error.message):
                raise
            self._streams_tools = False
            yield await self._streamed_at_once(call.value)

    async def _streamed_at_once(self, call: Call) -> bytes:
        body = {name: value for name, value in self._body(call).items() if name not in {"stream", "stream_options"}}
        return _as_events(await self._in_order(call, body))

    async def _mended(self, call: Released[Call], names: frozenset[str]) -> AsyncGenerator[bytes, None]:
        calls = StreamedCalls(names, call.value.request_id) if names else None
        kept = _Kept()
        async with contextlib.aclosing(super().stream(call)) as blocks:
            async for block in blocks:
                end = _DONE.search(block) if b"[DONE]" in block else None
                body = block[: end.start(1)] if end else block
                kept.add(body)
                mended = calls.feed(body) if calls and body else body
                if end is None:
                    if mended:
                        yield mended
                    continue
                held = calls.end() if calls else b""
                usage = b"" if kept.has_usage else await self._usage_event(call.value, kept)
                yield mended + held + usage + block[end.start(1) :]

    def _body(self, call: Call) -> dict[str, object]:
        body = super()._body(call)
        call.aside.lost.update(
            name
            for name, usual in _IGNORED.get(self.model.provider, {}).items()
            if body.get(name) not in (None, usual, "none")
        )
        wanted = body.get("response_format")
        if isinstance(wanted, dict):
            body["response_format"] = self._format(wanted)
        return body

    def _format(self, wanted: Json) -> Json:
        """A schema, or the wish for JSON, in the server's own words."""
        provider = self.model.provider
        if wanted.get("type") == "json_object":
            return _ANY_OBJECT.get(provider, wanted)
        held = wanted.get("json_schema")
        schema = held.get("schema") if isinstance(held, dict) else None
        say = _SCHEMAS.get(provider)
        return say(schema) if say and isinstance(schema, dict) else wanted

    # --- usage that was not said ------------------------------------------------------------------------------------

    async def _usage_event(self, call: Call, kept: _Kept) -> bytes:
        usage = await self._usage(call, kept.text(), scale=kept.scale)
        chunk = {**kept.head(), "object": "chat.completion.chunk", "choices": [], "usage": usage}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    async def _usage(self, call: Call, answer: str, *, scale: float = 1.0) -> Json:
        """Counted with the model's tokenizer where its server lends it, else with the router's; `estimated` anyway."""
        messages = call.body.get("messages")
        listed = messages if isinstance(messages, list) else []
        asked = "\n".join(_strings({"messages": listed, "tools": call.body.get("tools")}))
        prompt, completion = await asyncio.gather(self._count(asked), self._count(answer))
        prompt += _TOKENS_PER_MESSAGE * len(listed)
        completion = round(completion * scale)
        return {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "estimated": True,
        }  # fmt: skip

    async def _count(self, text: str) -> int:
        if not text:
            return 0
        count = await self._tokenized(text) if self.model.provider in {"llamacpp", "vllm"} else None
        return await asyncio.to_thread(_tokens, text) if count is None else count

    async def _tokenized(self, text: str) -> int | None:
        """As the server's own tokenizer cuts it: llama.cpp's and vLLM's `/tokenize`; nothing when it does not say."""
        body = {"content": text, "prompt": text, "model": self.model.model}
        try:
            async with asyncio.timeout(_COUNT_S):
                connect_s = self.model.timeouts.connect_s
                headers, data = self._headers, orjson.dumps(body)
                response = await self._pool.post(
                    f"{self._root}/tokenize", data=data, headers=headers, connect_s=connect_s
                )
                async with response:
                    if response.status != 200:
                        return None
                    tokens = orjson.loads(await read_whole(self.model, response)).get("tokens")
        except (*TRANSPORT_ERRORS, UpstreamError, ValueError, AttributeError):
            return None
        return len(tokens) if isinstance(tokens, list) else None


class _Kept:
    """A stream's blocks until its usage comes: most servers say it, and then nothing of this is read."""

    __slots__ = ("_blocks", "_bytes", "_size", "has_usage")

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._bytes = self._size = 0
        self.has_usage = False

    def add(self, block: bytes) -> None:
        if self.has_usage:
            return
        if b'"usage"' in block and _USAGE.search(block) and self._says(block):
            self.has_usage = True
            self._blocks.clear()
            return
        self._size += len(block)
        if self._bytes < _MOST_KEPT_BYTES:
            self._blocks.append(block)
            self._bytes += len(block)

    def _says(self, block: bytes) -> bool:
        return any(read_usage(chunk.get("usage")) is not None for chunk in _chunks([block]))

    @property
    def scale(self) -> float:
        """How much longer the stream was than what was kept of it."""
        return self._size / self._bytes if self._bytes else 1.0

    def head(self) -> Json:
        first = next(_chunks(self._blocks), {})
        return {name: first[name] for name in ("id", "created", "model") if name in first}

    def text(self) -> str:
        choices = (choice for chunk in _chunks(self._blocks) for choice in chunk.get("choices") or ())
        return "".join(_said(choice.get("delta") or {}) for choice in choices if isinstance(choice, dict))


def _chunks(blocks: list[bytes]) -> Iterator[Json]:
    for block in blocks:
        for event in events(block):
            try:
                chunk = orjson.loads(payload(event))
            except orjson.JSONDecodeError:
                continue
            if isinstance(chunk, dict):
                yield chunk


def _said(message: Mapping[str, Any]) -> str:
    """All that a model wrote: thoughts, text and calls."""
    return "".join([*(message[n] for n in _TEXTS if isinstance(message.get(n), str)), *_called(message)])


def _called(message: Mapping[str, Any]) -> Iterator[str]:
    for call in message.get("tool_calls") or ():
        yield from _strings(call.get("function") if isinstance(call, dict) else None)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if not value.startswith("data:"):
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name != "role":
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _as_events(answer: Answer) -> bytes:
    """A whole answer as a stream."""
    body = orjson.loads(answer.body)
    usage = body.pop("usage", None)
    pieces = []
    for choice in body["choices"]:
        message = choice.pop("message")
        for number, call in enumerate(message.get("tool_calls") or ()):
            call["index"] = number
        reason = choice.pop("finish_reason", None)
        pieces.append({**choice, "delta": message, "finish_reason": None})
        pieces.append({"index": choice.get("index", 0), "delta": {}, "finish_reason": reason})
    head = {**body, "object": "chat.completion.chunk"}
    chunks = [{**head, "choices": [piece]} for piece in pieces]
    if usage:
        chunks.append({**head, "choices": [], "usage": usage})
    return b"".join([*(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks), DONE])


def _tokens(text: str) -> int:
    return len(shared().encode(text, head=len(text), tail=0))
