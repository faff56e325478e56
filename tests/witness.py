"""Loopback model servers that remember every byte they were sent, and answer well or badly; they run in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from tests.upstreams.loopback import DONE, STREAM, Wire, completion, delta

ANSWER = "El faro se ve desde el puerto, y el puerto desde el faro."


@dataclass
class Witness:
    """One server: where it stands, how it behaves, and all that it has received."""

    port: int
    behaviour: str
    seen: bytearray = field(default_factory=bytearray)


async def _good(_raw: bytes, streamed: bool, wire: Wire) -> None:
    if streamed:
        await wire.events(*STREAM)
    else:
        await wire.whole(completion(ANSWER))


async def _echo(raw: bytes, streamed: bool, wire: Wire) -> None:
    """What was said last, again, a few letters at a time; to whom offers tools, as the arguments of a call."""
    body = json.loads(raw)
    content = body["messages"][-1]["content"]
    said = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    if "tools" not in body:
        if not streamed:
            return await wire.whole(completion(said))
        pieces = [delta(said[n : n + 3]) for n in range(0, len(said), 3)]
        return await wire.events(*pieces, delta(finish="stop"), DONE)
    name, arguments = body["tools"][0]["function"]["name"], json.dumps({"nota": said}, ensure_ascii=False)
    call = {"index": 0, "id": "call_0123456789abcdef", "type": "function"}
    if not streamed:
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}],
        }
        return await wire.whole(
            completion(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}])
        )
    first = delta(tool_calls=[{**call, "function": {"name": name, "arguments": ""}}])
    pieces = [
        delta(tool_calls=[{"index": 0, "function": {"arguments": arguments[n : n + 3]}}])
        for n in range(0, len(arguments), 3)
    ]
    return await wire.events(first, *pieces, delta(finish="tool_calls"), DONE)


async def _poor(_raw: bytes, streamed: bool, wire: Wire) -> None:
    """An empty answer: the check `finish` turns it down."""
    if streamed:
        await wire.events(delta(""), delta(finish="stop"), DONE)
    else:
        await wire.whole(completion(""))


async def _strict(_raw: bytes, _streamed: bool, wire: Wire) -> None:
    """A judge who likes nothing."""
    await wire.whole(completion("2"))


async def _fail(raw: bytes, _streamed: bool, wire: Wire) -> None:
    """A 500 that quotes all that it was asked."""
    await wire.whole({"error": {"message": raw.decode(), "type": "server_error"}}, status=500)


async def _reject(raw: bytes, _streamed: bool, wire: Wire) -> None:
    """A 400 that quotes what it was asked, as some servers do when they validate."""
    await wire.whole(
        {"error": {"message": f"Invalid value: {raw.decode()}", "type": "invalid_request_error"}}, status=400
    )


async def _reset(_raw: bytes, _streamed: bool, wire: Wire) -> None:
    wire.reset()


async def _cut(_raw: bytes, streamed: bool, wire: Wire) -> None:
    """Half an answer, then nothing more."""
    if streamed:
        await wire.begin_stream()
        await wire.chunk(delta("El faro"))
    else:
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{")
    wire.reset()


_BEHAVIOURS: Mapping[str, Callable[[bytes, bool, Wire], Awaitable[None]]] = {
    "good": _good, "echo": _echo, "poor": _poor, "fail": _fail, "reject": _reject, "reset": _reset, "cut": _cut,
    "strict": _strict,
}  # fmt: skip


async def _serve(witness: Witness, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    answer, unread = _BEHAVIOURS[witness.behaviour], b""
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(1 << 20):
            witness.seen += data
            unread += data
            head, blank, body = unread.partition(b"\r\n\r\n")
            if not blank or len(body) < _length(head):
                continue
            unread = b""
            if head.startswith(b"GET"):
                await Wire(writer).whole({"object": "list", "data": []})
            else:
                await answer(body, b'"stream":true' in body, Wire(writer))
    writer.close()


def _length(head: bytes) -> int:
    values = (line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(next(values, b"0"))


@contextlib.contextmanager
def witnesses(names: Mapping[str, str]) -> Iterator[dict[str, Witness]]:
    """A server for each name, with this behaviour, until the block ends. `refuse` is a port that nobody listens on."""
    with contextlib.ExitStack() as held:
        started: Future[dict[str, Witness]] = Future()
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(_live(names, started, stop, held)), name="witnesses")
        thread.start()
        try:
            yield started.result(10)
        finally:
            stop.set()
            thread.join()


async def _live(
    names: Mapping[str, str], started: Future[dict[str, Witness]], stop: threading.Event, held: contextlib.ExitStack
) -> None:
    found: dict[str, Witness] = {}
    listeners: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()
    for name, behaviour in names.items():
        door = held.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        witness = found[name] = Witness(door.getsockname()[1], behaviour)
        if behaviour != "refuse":
            listeners.append(await _listen(witness, door, tasks))
    started.set_result(found)
    await asyncio.to_thread(stop.wait)
    for listener in listeners:
        listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(witness: Witness, door: socket.socket, tasks: set[asyncio.Task[None]]) -> asyncio.Server:
    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve(witness, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return await asyncio.start_server(connected, sock=door, limit=1 << 24)
