"""Requests to a running gateway as ordinary and as odd clients send them, and what is asked of every refusal."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.entries import Row, attempts, entry
from tests.running import Running

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes


def a_body(**changes: object) -> bytes:
    return json.dumps({"messages": MESSAGES, **changes}).encode()


def ask(
    gateway: Running,
    body: bytes | Iterable[bytes] | None,
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    path: str = CHAT,
) -> Reply:
    """Send it as an ordinary client does: all of it, and then read."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
        connection.request(method, path, body, headers or {})
        return read(connection.getresponse())


def read(response: http.client.HTTPResponse) -> Reply:
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def connected(gateway: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        yield wire


def reply_on(wire: socket.socket) -> Reply:
    response = http.client.HTTPResponse(wire)
    response.begin()
    return read(response)


def a_head(*headers: str, length: int | None = None) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "host: gateway", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


def the_error(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The reply is this error in OpenAI's shape, with the request's id in the body and in both headers."""
    assert reply.status == status, reply.raw
    assert reply.headers["content-type"] == "application/json"
    error: dict[str, Any] = json.loads(reply.raw)["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["code"] == code
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["request_id"].startswith("req_")
    assert reply.headers["x-request-id"] == reply.headers["x-cauce-request-id"] == error["request_id"]
    return error


def the_refusal(gateway: Running, reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The same, and the ledger has exactly one entry for it, with no upstream call."""
    error = the_error(reply, status, code)
    assert_refused(entry(gateway, error["request_id"]), status, code)
    assert attempts(gateway, error["request_id"]) == []
    return error


def assert_refused(row: Row, status: int, code: str) -> None:
    assert (row["outcome"], row["status"], row["code"]) == ("refused", status, code)
