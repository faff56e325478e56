"""What is kept of a request: labels, counts, times and money. Never a text of it.

The order of a row's values is the order of the table's columns (`tables.py`): both are made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from gateway.ledger.prices import Charge, PriceBook
from gateway.types import Attempt, Exchange, Model, Signals

SHADOW: Final = "shadow"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. Times are microseconds, of the epoch (UTC) or a duration's; money is nano-USD, None if unknown."""

    request_id: str
    time_us: int
    caller: str
    team: str
    app: str
    tags: str  # a JSON list
    endpoint: str
    stream: int
    policy: str
    policy_revision: str
    rule: str
    route: str
    model: str
    zone: str
    data_class: str
    data_kinds: str  # a JSON list
    task: str
    domain: str
    language: str
    outcome: str
    status: int
    code: str
    cache: str
    escalated: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    estimated: int
    cost_nano_usd: int | None
    baseline_nano_usd: int | None
    baseline_model: str
    duration_us: int
    classify_us: int
    first_byte_us: int | None
    signals: str  # JSON: every score and label that the policy looked at, unrounded: it may be replayed
    org: str = ""
    reserved_nano_usd: int | None = None  # what its caller's budgets held for it; nothing: there was no budget


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """One upstream call of a request."""

    request_id: str
    number: int
    model: str
    upstream_model: str
    provider: str
    zone: str
    kind: str  # the model's, or `shadow`: a copy for comparison, whose answer nobody was sent
    outcome: str
    rejected_by: str  # the check that turned its answer down
    started_us: int
    duration_us: int
    first_token_us: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    estimated: int
    cost_nano_usd: int | None
    price_source: str
    price_from: str


def answering_model(exchange: Exchange) -> Model | None:
    """Whose answer is sent: the cache's, or the accepted attempt's, else the last one's that answered."""
    if exchange.cached_model is not None:
        return exchange.cached_model
    answered = [attempt for attempt in exchange.attempts if attempt.outcome in {"ok", "aborted"}]
    if not answered:
        return None
    return next((attempt.model for attempt in answered if attempt.verdict.accepted), answered[-1].model)


def attempt_entries(exchange: Exchange, prices: PriceBook) -> list[AttemptEntry]:
    """One entry for each upstream call, priced."""
    return [attempt_entry(exchange.request_id, n, attempt, prices) for n, attempt in enumerate(exchange.attempts)]


def attempt_entry(request_id: str, number: int, attempt: Attempt, prices: PriceBook) -> AttemptEntry:
    """One upstream call, priced."""
    model, usage = attempt.model, attempt.usage
    charge = prices.charge(attempt)
    return AttemptEntry(
        request_id,
        number,
        model.id,
        model.model,
        model.provider,
        model.zone.label,
        SHADOW if attempt.shadow else model.kind,
        attempt.outcome,
        attempt.verdict.check,
        attempt.started_ns // 1000,
        int(attempt.seconds * 1e6),
        _microseconds(attempt.first_token_seconds),
        usage.prompt_tokens if usage else None,
        usage.cached_tokens if usage else None,
        usage.completion_tokens if usage else None,
        usage.reasoning_tokens if usage else None,
        int(usage.estimated) if usage else 0,
        charge.nano_usd,
        charge.source,
        charge.valid_from,
    )


def entry_of(exchange: Exchange, attempts: list[AttemptEntry], prices: PriceBook) -> Entry:
    """The entry of a request, its tokens and cost summed over its attempts."""
    signals, decision, caller = exchange.signals, exchange.decision, exchange.caller
    model = answering_model(exchange)
    baseline = _baseline(exchange, model, prices)
    return Entry(
        exchange.request_id,
        exchange.received_ns // 1000,
        caller.id,
        caller.team,
        caller.app,
        _json(exchange.inbound.tags if exchange.inbound else caller.tags),
        exchange.endpoint,
        int(exchange.stream),
        decision.policy if decision else "",
        decision.policy_revision if decision else "",
        decision.rule if decision else "",
        decision.route.name if decision else "",
        model.id if model else "",
        model.zone.label if model else "",
        signals.data.label if signals else "",
        _json(sorted(signals.data_kinds)) if signals else "[]",
        signals.task if signals else "",
        signals.domain if signals else "",
        signals.language if signals else "",
        str(exchange.outcome),
        exchange.status,
        exchange.code,
        str(exchange.cache),
        int(len({attempt.model for attempt in attempts}) > 1),
        sum(attempt.prompt_tokens or 0 for attempt in attempts),
        sum(attempt.cached_tokens or 0 for attempt in attempts),
        sum(attempt.completion_tokens or 0 for attempt in attempts),
        sum(attempt.reasoning_tokens or 0 for attempt in attempts),
        int(any(attempt.estimated for attempt in attempts)),
        total(attempts),
        baseline.nano_usd,
        prices.baseline_id,
        int(exchange.seconds * 1e6),
        int(exchange.classify_seconds * 1e6),
        _microseconds(exchange.first_byte_seconds),
        _signals(signals, _asked(exchange)) if signals else "{}",
        caller.org,
        exchange.reserved_nano_usd,
    )


def total(attempts: list[AttemptEntry]) -> int | None:
    """What the attempts cost together; nothing when one of them is not known: unknown is never 0."""
    cost = 0
    for attempt in attempts:
        if attempt.cost_nano_usd is None:
            return None
        cost += attempt.cost_nano_usd
    return cost


def _baseline(exchange: Exchange, model: Model | None, prices: PriceBook) -> Charge:
    """What the same answer would have cost from the baseline model, by the tokens of the answer that was sent."""
    if exchange.cached_model is not None:
        return prices.baseline(exchange.cached_usage, exchange.received_ns)
    sent = [a for a in exchange.attempts if model is not None and a.model is model and a.usage is not None]
    return prices.baseline(sent[-1].usage if sent else None, exchange.received_ns)


def _asked(exchange: Exchange) -> str:
    """The name that the policy was asked for; only one that it knew, since any other could be a text."""
    return exchange.inbound.model if exchange.inbound and exchange.decision else ""


def _signals(signals: Signals, requested: str) -> str:
    return _json(
        {
            "slm_success": signals.slm_success,
            "gain": signals.gain,
            "stay_score": signals.stay_score,
            "task": signals.task,
            "domain": signals.domain,
            "data": signals.data.label,
            "data_kinds": sorted(signals.data_kinds),
            "language": signals.language,
            "prompt_tokens": signals.prompt_tokens,
            "modality": signals.modality,
            "tools": signals.tools,
            "json": signals.json,
            "budget_left": signals.budget_left,
            "cloud": str(signals.cloud),
            "hour": signals.hour,
            "low_confidence": signals.low_confidence,
            "draw": signals.draw,
            "held_by": signals.held_by,
            "tags": signals.caller.tags,
            "requested": requested,
        }
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e6)
