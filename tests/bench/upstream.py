"""A fast fake of an OpenAI server for benchmarks: `python -m tests.bench.upstream PORT`.

The prompt steers it: `ID=<9 digits>` is echoed, `D=<6 digits>` is the pause in microseconds before each streamed chunk.
Every chunk carries the monotonic time it was sent at, so that the load generator can tell what the way cost.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import httptools
import uvloop

CHUNKS = 20
_HEAD = '{"id":"chatcmpl-fake","object":"chat.completion.chunk","created":1700000000,"model":"fake-model",'
_USAGE = '"usage":{"prompt_tokens":57,"completion_tokens":20,"total_tokens":77}'
_MARKS = re.compile(rb"ID=(\d{9});D=(\d{6})")


class Fake(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour only
        self.parser = httptools.HttpRequestParser(self)
        self.body = bytearray()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = bytes(self.body), bytearray()
        found = _MARKS.search(body)
        request_id, delay_us = (found[1].decode(), int(found[2])) if found else ("000000000", 0)
        if b'"stream":true' not in body:
            self.transport.write(_whole(request_id))
        elif delay_us:
            asyncio.get_running_loop().create_task(self._drip(request_id, delay_us / 1e6, b"include_usage" in body))
        else:
            self.transport.write(_stream_head() + b"".join(_chunk(request_id, n) for n in range(CHUNKS)) + _tail(body))

    async def _drip(self, request_id: str, delay_s: float, usage: bool) -> None:
        self.transport.write(_stream_head())
        for number in range(CHUNKS):
            await asyncio.sleep(delay_s)
            self.transport.write(_chunk(request_id, number))
        self.transport.write(_tail(b"include_usage" if usage else b""))


def _whole(request_id: str) -> bytes:
    body = (
        '{"id":"chatcmpl-fake","object":"chat.completion","created":1700000000,"model":"fake-model",'
        '"choices":[{"index":0,'
        f'"message":{{"role":"assistant","content":"ID={request_id} t={time.monotonic_ns()} i=0 The quick brown fox '
        'jumps over the lazy dog, and the gateway only has to carry this sentence home unharmed."},'
        '"finish_reason":"stop"}],'
        f"{_USAGE}}}"
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def _stream_head() -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(json: str) -> bytes:
    data = f"data: {json}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _chunk(request_id: str, number: int) -> bytes:
    role = '"role":"assistant",' if number == 0 else ""
    text = f"ID={request_id} t={time.monotonic_ns()} i={number} "
    return _event(f'{_HEAD}"choices":[{{"index":0,"delta":{{{role}"content":"{text}"}},"finish_reason":null}}]}}')


def _tail(body: bytes) -> bytes:
    end = _event(_HEAD + '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    usage = _event(f'{_HEAD}"choices":[],{_USAGE}}}') if b"include_usage" in body else b""
    return end + usage + _event("[DONE]") + b"0\r\n\r\n"


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Fake, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
