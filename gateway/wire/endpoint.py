"""The ASGI endpoint of the request path: bytes in, bytes out, no framework between.

Every request ends here in a reply or a clean end, and in one ledger entry: refused and aborted ones too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import orjson

from gateway.errors import (
    BadRequest,
    BudgetExceeded,
    CauceError,
    ConfigError,
    InternalError,
    Overloaded,
    UpstreamError,
    UpstreamRejected,
    WrongMethod,
)
from gateway.ledger.rates import Rates, Standing
from gateway.pipeline import Recorder, Reply, Streamed, Whole
from gateway.settings import LimitSettings
from gateway.signals.shape import outline
from gateway.sse import error_event
from gateway.stages.reserve import completion_tokens
from gateway.types import Exchange, Inbound, Outcome, Part, Trace
from gateway.upstreams import passing
from gateway.upstreams.failures import leave_out_quotes
from gateway.wire.body import ClientGone, Receive, Scope, Send, content_length, discard, read_body
from gateway.wire.caller import Keys, cost_tags, find_caller, raised_class, refuse_model
from gateway.wire.chat import parse_json, read_translated
from gateway.wire.door import Door, Json
from gateway.wire.errors import retry_after
from gateway.wire.headers import Headers, rate_headers, reply_headers

_JSON = (b"content-type", b"application/json")
_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_READ_ONLY_HEADERS = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"content-length",
        b"content-encoding",
        b"cache-control",
        b"x-cauce-data-class",
        b"x-cauce-tags",
        b"anthropic-version",
        *passing.NAMES,
    }
)


class Costing(Protocol):
    """What a story has cost so far."""

    def cost(self, exchange: Exchange) -> int | None:
        """Nano-USD of all attempts; nothing when a price or a usage is not known."""
        ...


class _Recorder(Recorder, Costing, Protocol):
    pass


def new_request_id() -> str:
    """A fresh id: `req_` and 32 hexadecimal digits."""
    return f"req_{uuid4().hex}"


Run = Callable[[Inbound, Exchange], Awaitable[Reply]]


@dataclass(slots=True)
class _Flow:
    """One request on the wire: its door, whether its body was read, and whether its reply has begun and is complete."""

    door: Door
    run: Run
    asked: Json = field(default_factory=dict)
    read: bool = False
    begun: bool = False
    done: bool = False
    gone: bool = False
    tokens: int = 0  # what was taken from the caller's rates for it
    standings: tuple[Standing, ...] = ()


class Endpoint:
    """The request path: each of its paths has a door, and what runs behind that door."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        doors: Mapping[str, tuple[Door, Run]],
        *,
        keys: Keys,
        limits: LimitSettings,
        recorder: _Recorder,
        crashed: Callable[[str, BaseException], None],
        rates: Rates | None = None,
        traced: Callable[[Iterable[tuple[bytes, bytes]]], Trace | None] | None = None,
    ) -> None:
        self.doors = doors
        self._keys = keys
        self._limits = limits
        self._recorder = recorder
        self._crashed = crashed
        self._rates = rates
        self._traced = traced
        self._max_bytes = int(limits.max_body_mb * 1_000_000)
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to its end."""
        flow = _Flow(*self.doors[scope["path"]])
        exchange = Exchange(new_request_id(), flow.door.name, time.time_ns())
        if self._traced is not None:
            exchange.trace = self._traced(scope["headers"])
        self.in_flight += 1
        try:
            await self._serve(scope, receive, send, exchange, flow)
        except ClientGone:
            await self._abort(exchange)
        except asyncio.CancelledError:
            await self._abort(exchange)
            if not flow.gone:
                raise
        except Exception as error:
            await self._refuse(self._known(error, exchange), exchange, receive, send, flow)
        finally:
            self.in_flight -= 1
            if flow.standings and self._rates is not None:
                self._rates.add(exchange.caller.rates, _tokens(exchange) - flow.tokens)

    def _known(self, error: Exception, exchange: Exchange) -> CauceError:
        """An error that a client may see. Any other is a fault of ours, told in the log."""
        if isinstance(error, CauceError) and not isinstance(error, ConfigError):
            return error
        self._crashed(exchange.request_id, error)
        return InternalError("the gateway failed on this request; its log has the id")

    async def _serve(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, flow: _Flow) -> None:
        if self.in_flight > self._limits.max_in_flight:
            raise Overloaded(
                f"the gateway has {self._limits.max_in_flight} requests in flight, its limit: try again later, "
                "or raise limits.max_in_flight in cauce.yaml",
                retry_after_s=1,
            )
        if scope["method"] != "POST":
            raise WrongMethod(f"{scope['path']} takes POST")
        inbound = await self._receive(scope, receive, exchange, flow)
        if exchange.trace is not None:
            inbound = dataclasses.replace(inbound, trace=exchange.trace)
        exchange.inbound, exchange.stream = inbound, inbound.stream
        # From here on the only thing that can still arrive is the client's leaving.
        watcher = asyncio.create_task(_watch(receive, asyncio.current_task(), flow))
        try:
            reply = await flow.run(inbound, exchange)
            if isinstance(reply, Streamed):
                await self._stream(reply, exchange, send, flow)
            else:
                await self._whole(reply, inbound, exchange, send, flow)
        finally:
            watcher.cancel()

    async def _receive(self, scope: Scope, receive: Receive, exchange: Exchange, flow: _Flow) -> Inbound:
        headers = _read_headers(scope["headers"])
        caller = exchange.caller = find_caller(headers, self._keys)
        raw = await read_body(
            receive,
            content_length=content_length(headers.get(b"content-length")),
            max_bytes=self._max_bytes,
            timeout_s=self._limits.body_timeout_s,
        )
        flow.read = True
        flow.door.check(headers)
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise BadRequest(
                "a compressed body is not read: send it without Content-Encoding", param="content-encoding"
            )
        flow.asked = parse_json(raw)
        inbound = read_translated(
            flow.door.to_chat(flow.asked),
            endpoint=flow.door.name,
            request_id=exchange.request_id,
            received_ns=exchange.received_ns,
            caller=caller,
            data=raised_class(headers, caller),
            tags=cost_tags(headers, caller),
            cacheable=not _no_cache(headers.get(b"cache-control", b"")),
            max_messages=self._limits.max_messages,
        )
        refuse_model(inbound.model, caller)
        if caller.rates and self._rates is not None:
            flow.tokens = outline(inbound).prompt_tokens + completion_tokens(inbound, 0)
            flow.standings = await self._rates.admit(caller.rates, flow.tokens)
        return _with_headers(inbound, headers)

    async def _whole(self, reply: Whole, inbound: Inbound, exchange: Exchange, send: Send, flow: _Flow) -> None:
        body = _spoken(reply.body, inbound, flow)
        headers = _named(reply_headers(exchange, cost_nano_usd=self._recorder.cost(exchange)), exchange, flow)
        headers += _EVENTS if inbound.stream else [_JSON]
        headers.append((b"content-length", b"%d" % len(body)))
        flow.done = True  # recorded already: the client may leave
        await _send_head(send, 200, headers, flow)
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, reply: Streamed, exchange: Exchange, send: Send, flow: _Flow) -> None:
        events = flow.door.events(flow.asked, exchange.request_id) if flow.door.events else None
        try:
            headers = _named(reply_headers(exchange, whole=False), exchange, flow)
            await _send_head(send, 200, headers + _EVENTS, flow)
            async for piece in self._to_its_end(reply, exchange):
                chunk = events.feed(piece) if events else piece
                if not chunk:
                    continue
                if exchange.first_byte_seconds is None:
                    exchange.first_byte_seconds = time.monotonic() - exchange.began
                exchange.bytes_out += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            flow.done = True
            await send({"type": "http.response.body", "body": b""})
        finally:
            await reply.chunks.aclose()

    async def _to_its_end(self, reply: Streamed, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """A stream's pieces; where a fault of ours breaks it, which its entry says already, the event that says so."""
        try:
            async for piece in reply.chunks:
                yield piece
        except Exception as error:
            yield error_event(self._known(error, exchange), exchange.request_id)

    async def _refuse(self, error: CauceError, exchange: Exchange, receive: Receive, send: Send, flow: _Flow) -> None:
        """An error in the shape of the door, recorded first; nothing more once a reply has begun."""
        if flow.begun:
            return
        exchange.status, exchange.code = error.status, error.code
        upstream_failed = bool(exchange.attempts) and not isinstance(error, UpstreamRejected)
        exchange.outcome = Outcome.FAILED if upstream_failed or error.status == 500 else Outcome.REFUSED
        await self._recorder.record(exchange)
        if isinstance(error, UpstreamError) and exchange.inbound is not None:
            leave_out_quotes(error, exchange.inbound.parts)
        body = flow.door.error_body(error, exchange.request_id)
        headers = _named(reply_headers(exchange, whole=False), exchange, flow)
        headers += [_JSON, (b"content-length", b"%d" % len(body))]
        if (wait := retry_after(error)) is not None:
            headers.append((b"retry-after", wait.encode()))
        if isinstance(error, BudgetExceeded):
            headers.append((b"x-should-retry", b"false"))
        if isinstance(error, WrongMethod):
            headers.append((b"allow", b"POST"))
        if not flow.read:
            headers.append((b"connection", b"close"))
        flow.done = True
        await _send_head(send, error.status, headers, flow)
        await send({"type": "http.response.body", "body": body, "more_body": not flow.read})
        if not flow.read:
            await discard(receive)
            await send({"type": "http.response.body", "body": b""})

    async def _abort(self, exchange: Exchange) -> None:
        """The client left: what was spent until then is recorded. A stream has done that itself."""
        if exchange.status:
            return
        exchange.outcome, exchange.status, exchange.code = Outcome.ABORTED, 499, "client_closed_request"
        await self._recorder.record(exchange)


async def _watch(receive: Receive, request: asyncio.Task[Any] | None, flow: _Flow) -> None:
    """Cancel the request when its client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if not flow.done and request is not None:
        flow.gone = True
        request.cancel()


async def _send_head(send: Send, status: int, headers: Headers, flow: _Flow) -> None:
    flow.begun = True
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that are read here. One sent twice counts as both values: the second cannot hide the first."""
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _READ_ONLY_HEADERS:
            headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def _with_headers(inbound: Inbound, headers: Mapping[bytes, bytes]) -> Inbound:
    """The request with those of its headers that may go on; one in a form that may not is named as lost."""
    if passing.NAMES.isdisjoint(headers):
        return inbound
    of = passing.passed(headers, inbound.caller.id)
    parts = (*inbound.parts, *(Part("field", text) for text in of.texts))
    return dataclasses.replace(inbound, headers=of.headers, parts=parts, lost=(*inbound.lost, *of.lost))


def _spoken(body: bytes, inbound: Inbound, flow: _Flow) -> bytes:
    """A whole reply, streamed or not, as the door says it."""
    door = flow.door
    if inbound.stream:
        return door.events(flow.asked, inbound.request_id).feed(body) if door.events else body
    return orjson.dumps(door.from_chat(orjson.loads(body), flow.asked, inbound.request_id)) if door.from_chat else body


def _named(headers: Headers, exchange: Exchange, flow: _Flow) -> Headers:
    """The reply's headers, with how the caller stands, and the request's id as the door's clients know it."""
    if flow.standings:
        # What the provider says of its own limits is of no use to a caller who has limits here.
        headers = [header for header in headers if not header[0].startswith(b"x-ratelimit-")]
        headers += rate_headers(flow.standings)
    if flow.door.request_id_header == b"x-request-id":
        return headers
    return [*headers, (flow.door.request_id_header, exchange.request_id.encode())]


def _tokens(exchange: Exchange) -> int:
    """What all calls of a request used."""
    usages = [attempt.usage for attempt in exchange.attempts if attempt.usage is not None]
    return sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)


def _no_cache(value: bytes) -> bool:
    return b"no-cache" in value or b"no-store" in value
