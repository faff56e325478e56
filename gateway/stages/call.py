"""call: one rung of the ladder, through the gate. A retry is another call, and another `Attempt`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from gateway.errors import UpstreamError
from gateway.gate import Destination, Gate, Released
from gateway.pseudonyms.restore import Restorer
from gateway.telemetry.trace import new_span_id, traceparent
from gateway.types import (
    Answer,
    Aside,
    Attempt,
    Decision,
    Exchange,
    Inbound,
    Masked,
    Model,
    Outcome,
    Signals,
)
from gateway.upstreams.base import Call, Upstream
from gateway.upstreams.passing import EVERYONES
from gateway.upstreams.restoring import Restoring

PSEUDONYMISED: Final = "pseudonymised"


def open_door(  # noqa: PLR0913 - what the gate and the call need, each named
    inbound: Inbound,
    model: Model,
    *,
    gate: Gate,
    signals: Signals,
    decision: Decision,
    logprobs: int,
    number: int = 0,
) -> Released[Call]:
    """The caller's body, released to one model, beyond the ceiling with placeholders; raises `GateRefused`."""
    body, data, limit = inbound.body, signals.data, decision.ceiling
    masked = masked_for(model, inbound, decision)
    if masked is not None:
        body, data, limit = masked.body, masked.data, decision.masked or limit
    unknown = inbound.hints - model.hints
    body = without_hints(body, unknown) if unknown else body
    # Beyond the ceiling a text goes only pseudonymised, which a header cannot be: there, none that says anything.
    names = model.headers if model.zone <= decision.ceiling else model.headers & EVERYONES
    headers = {name: value for name, value in inbound.headers.items() if name in names}
    aside = Aside()
    if inbound.trace is not None:
        aside.span_id = new_span_id()
        if "traceparent" in names:
            headers["traceparent"] = traceparent(inbound.trace, aside.span_id)
    call = Call(inbound.request_id, body, inbound.stream, logprobs, headers, aside, number)
    return gate.release(call, data=data, limit=limit, destination=Destination(model.id, model.zone))


def masked_for(model: Model, inbound: Inbound, decision: Decision) -> Masked | None:
    """What stands for the body where this model may not have it as it is; nothing where it may, or nothing does."""
    return inbound.masked if model.zone > decision.ceiling else None


def answering(upstream: Upstream, inbound: Inbound, decision: Decision) -> Upstream:
    """The upstream itself, or one that puts back into its answers what placeholders stood for."""
    masked = masked_for(upstream.model, inbound, decision)
    return upstream if masked is None else Restoring(upstream, Restorer(masked.values))


def without_hints(body: Mapping[str, object], unknown: frozenset[str]) -> dict[str, object]:
    """The body without the fields that this model's API does not have: its own, its messages', parts' and tools'."""
    left = {name: value for name, value in body.items() if name not in unknown}
    for name in ("messages", "tools"):
        if isinstance(entries := left.get(name), list):
            left[name] = [_without(entry, unknown) for entry in entries]
    return left


def _without(value: object, unknown: frozenset[str]) -> object:
    if not isinstance(value, dict):
        return value
    left = {name: item for name, item in value.items() if name not in unknown}
    if isinstance(parts := left.get("content"), list):
        left["content"] = _plain([_without(part, unknown) for part in parts])
    return left


def _plain(parts: list[object]) -> object:
    """A text alone as a string, which every server takes."""
    only = parts[0] if len(parts) == 1 else None
    return only["text"] if isinstance(only, dict) and only.keys() == {"type", "text"} else parts


def begin(exchange: Exchange, model: Model, aside: Aside | None = None, role: str = "") -> Attempt:
    """Book an attempt before it is made, so that an aborted one is in the story too."""
    attempt = Attempt(model, started_ns=time.time_ns(), outcome=Outcome.ABORTED, aside=aside or Aside(), role=role)
    decision, inbound = exchange.decision, exchange.inbound
    if decision is not None and inbound is not None and masked_for(model, inbound, decision) is not None:
        attempt.transform = PSEUDONYMISED
    exchange.attempts.append(attempt)
    return attempt


def end(attempt: Attempt, outcome: str = "ok") -> None:
    """Close an attempt with its time and how it went."""
    attempt.seconds = time.monotonic() - attempt.began
    attempt.outcome = outcome


async def call_whole(upstream: Upstream, released: Released[Call], attempt: Attempt) -> Answer:
    """The whole answer of one upstream; raises `UpstreamError`."""
    try:
        answer = await upstream.complete(released)
    except UpstreamError as error:
        end(attempt, error.code)
        raise
    except asyncio.CancelledError:
        end(attempt, Outcome.ABORTED)
        raise
    end(attempt)
    attempt.usage = answer.usage
    return answer
