"""Read a request's body with its limits: size before reading, time while reading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from gateway.errors import BadRequest, BodyTimeout, BodyTooLarge

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_LINGER_S: Final = 5.0


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(receive: Receive, *, content_length: int | None, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body.

    Raises `BodyTooLarge` before reading when the length says so, else as soon as the limit is passed; `BodyTimeout`
    when it does not arrive within `timeout_s`; `ClientGone` when the client leaves.
    """
    if content_length is not None and content_length > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _pieces(receive, max_bytes)
    except TimeoutError:
        raise _too_slow(timeout_s) from None


async def _pieces(receive: Receive, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


async def discard(receive: Receive) -> None:
    """Read on what a refused client still sends, for a while.

    A connection that is closed over unread bytes is reset, and most clients then lose the answer that was sent before.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (await receive()).get("more_body", False):
                pass


def _too_large(max_bytes: int) -> BodyTooLarge:
    size = f"{max_bytes / 1e6:.0f} MB"
    return BodyTooLarge(f"the request body is larger than {size}: send less, or raise limits.max_body_mb in cauce.yaml")


def _too_slow(timeout_s: float) -> BodyTimeout:
    return BodyTimeout(f"the request body was not complete after {timeout_s:g} s: send it again")


def content_length(value: bytes | None) -> int | None:
    """The Content-Length header as a number; raises `BadRequest` when it is not one."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise BadRequest("the Content-Length header is not a number") from None
