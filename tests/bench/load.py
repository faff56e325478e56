"""A load generator that checks every answer: `python -m tests.bench.load --port 8400 -c 64 -n 1500 [--stream]`.

Closed loop, HTTP/1.1 keep-alive on loopback. An answer is good when its status is 200, its own id is echoed, its chunks
are all there in order, and (streamed) it ends in `[DONE]`. Prints one JSON line; times are microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import cast

import httptools
import uvloop

from tests.bench.upstream import CHUNKS

_MARK = re.compile(rb"ID=(\d{9}) t=(\d+) i=(\d+)")
_SENTENCES = ("Explain the budget of a small team, then list five steps. ", 'Summarise this \\"text\\" for me please. ')


@dataclass
class Tally:
    """What a run has seen."""

    sent: int = 0
    good: int = 0
    errors: list[str] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    relay: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, options: argparse.Namespace, tally: Tally, done: asyncio.Future[None]) -> None:
        self.options, self.tally, self.done = options, tally, done
        filler = ""
        while len(filler) < options.prompt:
            filler += _SENTENCES[len(filler) % 7 == 0]
        self.filler = filler[: options.prompt].rstrip("\\")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour only
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.tally.errors.append(f"connection lost: {exc}")
            self.done.set_result(None)

    def next(self) -> None:
        if self.tally.sent >= self.options.requests:
            self.done.set_result(None)
            self.transport.close()
            return
        self.tally.sent += 1
        self.id = b"%09d" % (self.options.start + self.tally.sent)
        text = f"ID={self.id.decode()};D={self.options.delay:06d}; {self.filler}"
        stream = ',"stream":true,"stream_options":{"include_usage":true}' if self.options.stream else ""
        body = (
            f'{{"model":"{self.options.model}","messages":['
            '{"role":"system","content":"You are a helpful assistant."},'
            f'{{"role":"user","content":"{text}"}}],"temperature":0.2,"max_tokens":64{stream}}}'
        ).encode()
        self.parser = httptools.HttpResponseParser(self)
        self.got = bytearray()
        self.seen = 0
        self.first_at = 0
        self.started = time.monotonic_ns()
        self.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer sk-test\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        now = time.monotonic_ns()
        self.got += body
        for mark in _MARK.finditer(body):
            if not self.first_at:
                self.first_at = now
            self.tally.relay.append((now - int(mark[2])) / 1e3)

    def on_message_complete(self) -> None:
        problem = self.problem(bytes(self.got))
        if problem:
            self.tally.errors.append(problem)
        else:
            self.tally.good += 1
            self.tally.latency.append((time.monotonic_ns() - self.started) / 1e3)
            self.tally.first.append((self.first_at - self.started) / 1e3)
        # The parser is inside its own callback here: the next request waits for the loop's next turn.
        asyncio.get_running_loop().call_soon(self.next)

    def problem(self, body: bytes) -> str:
        status = self.parser.get_status_code()
        if status != 200:
            return f"status {status}: {body[:200]!r}"
        marks = _MARK.findall(body)
        wanted = CHUNKS if self.options.stream else 1
        if [int(mark[2]) for mark in marks] != list(range(wanted)):
            return f"{len(marks)} chunks, or not in order"
        if any(mark[0] != self.id for mark in marks):
            return "somebody else's answer"
        if self.options.stream and not body.endswith(b"data: [DONE]\n\n"):
            return "no [DONE]"
        return "" if b'"usage"' in body else "no usage"


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [float("nan")]
    return {
        name: round(ordered[int((len(ordered) - 1) * q)], 1) for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }


async def run(options: argparse.Namespace) -> dict[str, object]:
    loop, tally = asyncio.get_running_loop(), Tally()
    started = time.monotonic()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(min(options.connections, options.requests))]
    for end in ends:
        await loop.create_connection(lambda end=end: Client(options, tally, end), "127.0.0.1", options.port)  # type: ignore[misc]
    async with asyncio.timeout(options.limit):
        await asyncio.gather(*ends)
    seconds = time.monotonic() - started
    return {
        "sent": tally.sent,
        "good": tally.good,
        "errors": len(tally.errors),
        "why": tally.errors[:2],
        "rps": round(tally.good / seconds, 1),
        "latency_us": percentiles(tally.latency),
        "first_us": percentiles(tally.first),
        "relay_us": percentiles(tally.relay),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("-c", "--connections", type=int, default=16)
    parser.add_argument("-n", "--requests", type=int, default=1000)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--delay", type=int, default=0, help="microseconds between streamed chunks")
    parser.add_argument("--start", type=int, default=0, help="the first id: another a run, or a cache answers")
    parser.add_argument("--prompt", type=int, default=200, help="characters")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--limit", type=float, default=300)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
