"""A request that somebody signed in makes from the console: through the door that every other request takes.

Admission, budgets, refusals, ledger and audit are the endpoint's own; only who asks is known from the session and not
from a key, since the console never keeps one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.types import Caller
from gateway.wire.body import App, Scope

_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, as a client would have seen it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Asks = Callable[[bytes, Caller], Awaitable[Reply]]


class Tickets:
    """The keys of the console's own endpoint: one for each request, good once."""

    required = True

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}

    def issue(self, caller: Caller) -> str:
        """A key for one request of this caller."""
        ticket = secrets.token_urlsafe(32)
        self._callers[ticket] = caller
        return ticket

    def find(self, key: str) -> Caller | None:
        """The caller that it was issued for, once."""
        return self._callers.pop(key, None)


def asks(endpoint: App, tickets: Tickets) -> Asks:
    """What sends a chat request's body to an endpoint that takes these tickets."""

    async def ask(body: bytes, caller: Caller) -> Reply:
        ticket = tickets.issue(caller)
        try:
            return await _send(endpoint, body, ticket)
        finally:
            tickets.find(ticket)  # one that was turned away before anyone looked at it is not good for later

    return ask


async def _send(endpoint: App, body: bytes, ticket: str) -> Reply:
    headers = {
        "authorization": f"Bearer {ticket}",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": _PATH,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
    }
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    head: dict[str, Any] = {}
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()  # nobody leaves before the answer; the endpoint cancels this
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            head.update(message)
        else:
            pieces.append(message.get("body", b""))

    await endpoint(scope, receive, send)
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.get("headers", ())}
    return Reply(head.get("status", 500), named, b"".join(pieces))
