"""Requests of the past for tests: lived through a policy as the pipeline lives them, or put together by hand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import orjson

from gateway.errors import UpstreamRejected, UpstreamTimeout
from gateway.ledger.entry import AttemptEntry, attempt_entries, attempt_entry, entry_of
from gateway.ledger.prices import Machine, Price, PriceBook
from gateway.ledger.replay import Call, Past
from gateway.policy.decide import decide
from gateway.policy.rules import AUTO, Policy
from gateway.policy.simulate import simulate
from gateway.policy.simulation import Simulation
from gateway.types import ACCEPTED, Attempt, Exchange, Model, Outcome, Signals, Usage, Verdict
from tests.builders import NOON_NS, an_inbound
from tests.policy.builders import catalogue

MACHINE = Machine(Decimal("0.036"), Decimal(0), Decimal(0))  # 10,000 nano-USD a second
OK, LOW, AWAY, WRONG = "ok", "low", UpstreamTimeout.code, UpstreamRejected.code

USUAL = Usage(10, 5)


def prices(**usd: tuple[int, int]) -> PriceBook:
    """Own prices in whole USD a million tokens of prompt and answer; the machine for who has none."""
    own = {
        name: (Price(ask * 10**9, answer * 10**9, ask * 10**9, dt.date(2026, 1, 1), "test"),)
        for name, (ask, answer) in usd.items()
    }
    return PriceBook(machine=MACHINE, baseline=None, own=own)


def lived(
    signals: Signals,
    policy: Policy,
    /,
    *outcomes: str,
    models: Mapping[str, Model] | None = None,
    requested: str = AUTO,
    request_id: str = "req_1",
    usage: Usage | None = USUAL,
    book: PriceBook | None = None,
    **changes: Any,
) -> Past:
    """A request that a policy decided, and how each call of its ladder went: at the end of `outcomes` they answer."""
    catalogued = models or catalogue()
    decision = decide(signals, policy=policy, models=catalogued, requested=requested)
    inbound = an_inbound(model=requested, caller=signals.caller)
    exchange = Exchange(request_id, "chat", NOON_NS, signals.caller, inbound, signals, decision)
    exchange.outcome, exchange.status = (Outcome.OK, 200) if decision.ladder else (Outcome.REFUSED, 503)
    exchange.code = "" if decision.ladder else "no_allowed_model"
    coming = iter(outcomes)
    for name in decision.ladder:
        outcome = next(coming, OK)
        attempt = Attempt(catalogued[name], NOON_NS, 0.5, outcome="ok" if outcome in {OK, LOW} else outcome)
        attempt.usage = usage if attempt.outcome == "ok" else None
        checks = decision.route.checks
        attempt.verdict = Verdict(False, checks[-1].name) if outcome == LOW and checks else ACCEPTED
        exchange.attempts.append(attempt)
        if outcome == WRONG or (attempt.outcome == "ok" and attempt.verdict.accepted):
            break
    pricing = book or prices(large=(2, 8))
    past = as_read(exchange, pricing)
    asked = {attempt.model.id for attempt in exchange.attempts}
    copied = next((name for name in decision.shadow if name not in asked), None)
    if copied is not None and past.model:
        copy = Attempt(catalogued[copied], NOON_NS, 0.8, usage=Usage(10, 40), shadow=True)
        past = past._replace(calls=(*past.calls, as_call(attempt_entry(past.request_id, len(asked), copy, pricing))))
    return past._replace(**changes)


def as_read(exchange: Exchange, book: PriceBook) -> Past:
    """What a replay reads of an exchange that was written down."""
    calls = attempt_entries(exchange, book)
    entry = entry_of(exchange, calls, book)
    plain = {name: getattr(entry, name) for name in Past._fields if name not in {"signals", "calls"}}
    return Past(**plain, signals=orjson.loads(entry.signals), calls=tuple(map(as_call, calls)))


def as_call(row: AttemptEntry) -> Call:
    """What a replay reads of an attempt."""
    return Call(*(getattr(row, name) for name in Call._fields))


def simulated(pasts: Iterable[Past], policy: Policy, **changes: Any) -> Simulation:
    """A simulation with usual models and prices."""
    given: dict[str, Any] = {"models": catalogue(), "prices": prices(large=(2, 8)), **changes}
    return simulate([list(pasts)], policy=policy, **given)
