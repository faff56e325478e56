"""Small servers on loopback that speak what providers speak, well or badly, and the calls to make to them."""

from __future__ import annotations

import asyncio
import gc
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, TypeVar

import orjson

from gateway.gate import Destination, Gate, Released
from gateway.types import DataClass, Model, Timeouts, Zone
from gateway.upstreams.base import Call, Upstream

T = TypeVar("T")
QUICK = Timeouts(connect_s=1.0, first_token_s=0.4, idle_s=0.3, total_s=2.0)
PATIENT = Timeouts(connect_s=5.0, first_token_s=30.0, idle_s=30.0, total_s=60.0)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed = orjson.loads(self.raw)
        assert isinstance(parsed, dict)
        return parsed


@dataclass
class Wire:
    """One connection, to be answered on: well, badly, or not at all."""

    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def whole(self, body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        await self.send(head(status, given) + data)

    async def begin_stream(self) -> None:
        await self.send(head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"}))

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def events(self, *events: bytes) -> None:
        await self.begin_stream()
        for event in events:
            await self.chunk(event)
        await self.end_stream()

    def reset(self) -> None:
        """Break the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    async def hang(self) -> None:
        """Say nothing until the client leaves."""
        await self.reader.read()


Handler = Callable[[Request, Wire], Awaitable[None]]


@dataclass
class Server:
    """What a loopback server has seen."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    busy: int = 0  # requests that are being answered now

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Some Reason\r\n{lines}\r\n".encode()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """A server for the time of a test."""
    server = Server()
    open_tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        open_tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                server.requests.append(request)
                server.busy += 1
                try:
                    await handler(request, Wire(writer, reader))
                finally:
                    server.busy -= 1
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            open_tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 26)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in open_tasks:
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = first.split(" ")
    return Request(method, path, headers, body)


def clean_run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test to its end; nothing may be left: no task, no error that nobody took, no open transport."""
    stray: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: stray.append(context))
        result = await main
        left: set[asyncio.Task[Any]] = set()
        for _ in range(50):
            left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
            if not left:
                break
            await asyncio.sleep(0.01)
        assert not left, f"left behind: {left}"
        return result

    result = asyncio.run(watched())
    gc.collect()
    assert not stray, stray
    return result


def a_model(url: str = "", **changes: Any) -> Model:
    fields: dict[str, Any] = {
        "provider": "openai-compatible", "model": "served-name", "zone": Zone.PREMISES, "kind": "slm",
        "base_url": f"{url}/v1", "api_key": "sk-upstream-secret-key", "timeouts": PATIENT,
    }  # fmt: skip
    return Model("small", **{**fields, **changes})


def released(model: Model, *, stream: bool = False, logprobs: bool = False, **body: Any) -> Released[Call]:
    """A call that the gate let out to this model."""
    whole = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **body}
    if stream:
        whole["stream"] = True
    call = Call("req_0123", whole, stream, logprobs)
    destination = Destination(model.id, model.zone)
    return Gate().release(call, data=DataClass.PUBLIC, limit=Zone.WORLD, destination=destination)


async def read_all(upstream: Upstream, call: Released[Call]) -> bytes:
    return b"".join([block async for block in upstream.stream(call)])


# --- the wire format of OpenAI ---------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}


def completion(text: str = "Hola, ¿qué tal?", **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "served-name",
        "choices": [choice], "usage": USAGE, **changes,
    }  # fmt: skip


def event(body: object) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def delta(text: str | None = None, *, finish: str | None = None, **more: Any) -> bytes:
    change = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**change, **more}, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})


USAGE_EVENT = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
STREAM = (delta("Hola"), delta(" ¿qué"), delta(" tal?"), delta(finish="stop"), USAGE_EVENT, DONE)


async def openai(request: Request, wire: Wire) -> None:
    """A sound OpenAI-compatible server."""
    if request.method == "GET":
        await wire.whole({"object": "list", "data": [{"id": "served-name", "object": "model", "owned_by": "local"}]})
    elif request.body.get("stream"):
        await wire.events(*STREAM)
    else:
        await wire.whole(completion())
