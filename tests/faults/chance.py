"""Providers that fail by chance, each on a port of its own; clients that hold every answer against what is right."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

import httpx
import orjson

from gateway.sse import events, payload
from tests.upstreams.loopback import DONE, STREAM, Request, Wire, _read, completion, openai

FAULTS: Final = ("refuse", "reset", "hang", "429", "500", "cut", "wrong")
TEXT: Final = "Hola ¿qué tal?"  # of the stream
_AWAY_S: Final = 0.03


@dataclass
class Chancy:
    """An OpenAI-compatible server that fails in `share` of its calls, in each way as often. `share` may change."""

    share: float
    seed: int
    port: int = 0
    busy: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lot = random.Random(self.seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen: on a free port the first time, then on the same one."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse every connection from now on, and break the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            _reset(writer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.busy += 1
                try:
                    await self._answer(request, Wire(writer, reader))
                finally:
                    self.busy -= 1
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def end(self) -> None:
        """Close, and leave nothing behind."""
        self.close()
        left = [*self._tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.close()

    async def _answer(self, request: Request, wire: Wire) -> None:
        if request.method == "GET" or self._lot.random() >= self.share:
            await openai(request, wire)
            return
        fault = self._lot.choice(FAULTS)
        self.failed[fault] += 1
        stream = bool(request.body.get("stream"))
        match fault:
            case "refuse":
                _reset(wire.writer)
                if self._server is not None:
                    self._server.close()
                    self._server = None
                    self._tasks.add(asyncio.create_task(self._come_back()))
            case "reset":
                wire.reset()
            case "hang":
                await wire.hang()
            case "429":
                await wire.whole({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "1"})
            case "500":
                await wire.whole({"error": {"message": "it burns"}}, status=500)
            case "cut":
                if stream:
                    await wire.begin_stream()
                    await wire.chunk(STREAM[0])
                else:
                    await wire.send(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"
                    )
                await asyncio.sleep(0.01)
                wire.reset()
            case "wrong":
                await wire.whole({"answer": 42})

    async def _come_back(self) -> None:
        await asyncio.sleep(_AWAY_S)
        with contextlib.suppress(OSError):
            await self.open()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@contextlib.asynccontextmanager
async def chancy(*shares: float, seed: int) -> AsyncIterator[list[Chancy]]:
    """So many servers for the time of a block."""
    servers = [Chancy(share, seed + number) for number, share in enumerate(shares)]
    for server in servers:
        await server.open()
    try:
        yield servers
    finally:
        for server in servers:
            await server.end()
        await asyncio.sleep(0.05)


@dataclass
class Seen:
    """What the clients have seen."""

    complete: int = 0
    cut: int = 0  # streams that ended in an error event, after their first byte
    errors: Counter[str] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)  # what is neither an answer nor an error that says what it is
    seconds: list[float] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, base_url: str, route: str, seen: Seen, *, stream: bool) -> None:
    """One request, and what became of it."""
    body = {"model": route, "messages": [{"role": "user", "content": "Hola"}], "stream": stream}
    began = time.monotonic()
    try:
        reply = await client.post(f"{base_url}/chat/completions", json=body)
    except httpx.HTTPError as error:
        seen.unclear.append(repr(error))
        return
    finally:
        seen.seconds.append(time.monotonic() - began)
    if reply.status_code != 200:
        code = _code(reply.content)
        seen.errors[f"{reply.status_code} {code}"] += 1
        if not code:
            seen.unclear.append(f"{reply.status_code} {reply.content[:100]!r}")
    elif not stream:
        if reply.json() == completion():
            seen.complete += 1
        else:
            seen.unclear.append(f"{reply.content[:100]!r}")
    elif reply.content.endswith(DONE) and _text(reply.content) == TEXT:
        seen.complete += 1
    elif b"event: error\n" in reply.content and DONE not in reply.content:
        seen.cut += 1
    else:
        seen.unclear.append(f"{reply.content[-200:]!r}")


def _code(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"]["code"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def _text(stream: bytes) -> str:
    chunks = [orjson.loads(payload(event)) for event in events(stream) if b"[DONE]" not in event]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


async def storm(
    base_url: str, number: int, *, clients: int, routes: dict[bool, list[str]], seed: int
) -> dict[str, Seen]:
    """So many requests, half of them streamed, over the routes for each; what was seen, by route."""
    lot = random.Random(seed)
    plan = [
        (stream, route)
        for _ in range(number)
        for stream in [lot.random() < 0.5]
        for route in [lot.choice(routes[stream])]
    ]
    seen = {route: Seen() for names in routes.values() for route in names}
    rest = iter(plan)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=clients)) as client:

        async def one() -> None:
            for stream, route in rest:
                await ask(client, base_url, route, seen[route], stream=stream)

        await asyncio.gather(*(one() for _ in range(clients)))
    return seen


def config(servers: list[Chancy], *, total_s: float) -> str:
    """Two models that fail and a third, sound, in the order of a ladder."""
    names = ("first", "second", "sound")
    models = "".join(
        f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{server.port}/v1', model: m, "
        f"zone: {zone}, kind: slm, timeouts: {{connect_s: {total_s}, first_token_s: {total_s}, total_s: {total_s}}}}}\n"
        for name, server, zone in zip(names, servers, ("world", "world", "premises"), strict=False)
    )
    return f"discover: false\ncache: {{enabled: false}}\nlog_level: warning\nmodels:\n{models}"


POLICY: Final = """
version: 1
description: two that fail, one that does not
routes:
  whole: {try: [first, second, sound]}
  held: {try: [first, second, sound], mode: buffered}
  straight: {try: [first, second, sound], mode: streamed}
  local: {try: [sound]}
  cloud: {try: [first, second]}
rules: []
default: whole
"""
EITHER: Final = {False: ["whole"], True: ["held", "straight"]}
