"""What is kept of a request: labels, counts, times and money. Never a text of it.

The order of a row's values is the order of the table's columns (`tables.py`): both are made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from gateway.errors import UpstreamFailed, UpstreamPaused, UpstreamTimeout, UpstreamUnreachable
from gateway.ledger.energy import NOT_KNOWN, Footprint
from gateway.ledger.prices import NEVER_BILLED, PriceBook
from gateway.types import Attempt, Cloud, Exchange, Model, Signals, Usage, Zone

SHADOW: Final = "shadow"  # a copy for comparison, whose answer nobody was sent
RETRY: Final = "retry"  # made again after a failure
HEDGE: Final = "hedge"  # made beside a call that was slow to begin
_ANSWERED: Final = frozenset({"ok", "aborted"})  # outcomes of a call whose answer may be the one that was sent
VERIFYING: Final = ("judge", "sample")  # calls that a check made
SECOND_CALLS: Final = (SHADOW, RETRY, HEDGE, *VERIFYING)
# How a call ends when the upstream, or the way to it, is not there.
_AWAY: Final = frozenset({UpstreamUnreachable.code, UpstreamTimeout.code, UpstreamPaused.code, UpstreamFailed.code})


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
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
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
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    router_nano_usd: int | None = 0  # machine time of classifying it
    baseline_low_nano_usd: int | None = None
    baseline_high_nano_usd: int | None = None
    energy_low_uwh: int | None = None
    energy_high_uwh: int | None = None
    co2e_low_ug: int | None = None
    co2e_high_ug: int | None = None


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """One upstream call of a request."""

    request_id: str
    number: int
    model: str
    upstream_model: str
    provider: str
    zone: str
    kind: str  # the model's, or what else the call was (`SECOND_CALLS`)
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
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    prompt_audio_tokens: int | None = None
    completion_audio_tokens: int | None = None
    prompt_image_tokens: int | None = None
    completion_image_tokens: int | None = None
    price_tier: str = ""  # the provider's service tier, where it has a price of its own
    energy_low_uwh: int | None = None
    energy_high_uwh: int | None = None
    co2e_low_ug: int | None = None
    co2e_high_ug: int | None = None


@dataclass(frozen=True, slots=True)
class _NoUsage:
    """The counts of a call whose usage is not known."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    prompt_audio_tokens: int | None = None
    completion_audio_tokens: int | None = None
    prompt_image_tokens: int | None = None
    completion_image_tokens: int | None = None
    tier: str = ""


_NO_USAGE: Final = _NoUsage()


def answering_model(exchange: Exchange) -> Model | None:
    """Whose answer is sent: the cache's, or the accepted attempt's, else the last one's that answered."""
    if exchange.cached_model is not None:
        return exchange.cached_model
    answered = [a for a in exchange.attempts if a.outcome in _ANSWERED and not a.verifies]
    if not answered:
        return None
    return next((attempt.model for attempt in answered if attempt.verdict.accepted), answered[-1].model)


def is_offline(exchange: Exchange, model: Model) -> bool:
    """Whether a model on the premises answered while none in the cloud could be reached."""
    if model.zone is not Zone.PREMISES:
        return False
    if exchange.signals is not None and exchange.signals.cloud is Cloud.DOWN:
        return True
    return any(each.model.zone is not Zone.PREMISES and each.outcome in _AWAY for each in exchange.attempts)


def attempt_entries(exchange: Exchange, prices: PriceBook, footprint: Footprint | None = None) -> list[AttemptEntry]:
    """One entry for each upstream call, priced."""
    return [
        attempt_entry(exchange.request_id, n, attempt, prices, footprint) for n, attempt in enumerate(exchange.attempts)
    ]


def attempt_entry(
    request_id: str, number: int, attempt: Attempt, prices: PriceBook, footprint: Footprint | None = None
) -> AttemptEntry:
    """One upstream call, priced; with what it used of energy, where there is a `footprint` to say."""
    model, usage = attempt.model, attempt.usage
    charge = prices.charge(attempt)
    impact = footprint.of(attempt) if footprint is not None else NOT_KNOWN
    used = usage or _NO_USAGE
    return AttemptEntry(
        request_id,
        number,
        model.id,
        model.model,
        model.provider,
        model.zone.label,
        attempt.verifies or (SHADOW if attempt.shadow else attempt.role or model.kind),
        attempt.outcome,
        attempt.verdict.check,
        attempt.started_ns // 1000,
        int(attempt.seconds * 1e6),
        _microseconds(attempt.first_token_seconds),
        used.prompt_tokens,
        used.cached_tokens,
        used.completion_tokens,
        used.reasoning_tokens,
        int(used.estimated),
        charge.nano_usd,
        charge.source,
        charge.valid_from,
        used.cache_write_tokens,
        used.cache_write_1h_tokens,
        used.prompt_audio_tokens,
        used.completion_audio_tokens,
        used.prompt_image_tokens,
        used.completion_image_tokens,
        used.tier,
        impact.energy_low_uwh,
        impact.energy_high_uwh,
        impact.co2e_low_ug,
        impact.co2e_high_ug,
    )


def entry_of(exchange: Exchange, attempts: list[AttemptEntry], prices: PriceBook) -> Entry:
    """The entry of a request, its tokens and cost summed over its attempts."""
    signals, decision, caller = exchange.signals, exchange.decision, exchange.caller
    model = answering_model(exchange)
    usage = _sent_usage(exchange, model)
    baseline = prices.baseline(usage, exchange.received_ns)
    low, high = prices.baseline_range(usage, exchange.received_ns, model)
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
        int(len({attempt.model for attempt in attempts if attempt.kind not in VERIFYING}) > 1),
        _known(attempts, "prompt_tokens"),
        _known(attempts, "cached_tokens"),
        _known(attempts, "completion_tokens"),
        _known(attempts, "reasoning_tokens"),
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
        _known(attempts, "cache_write_tokens"),
        _known(attempts, "prompt_audio_tokens", "completion_audio_tokens"),
        _known(attempts, "prompt_image_tokens", "completion_image_tokens"),
        prices.machine.cost(exchange.classify_seconds),
        low,
        high,
        _whole(attempts, "energy_low_uwh"),
        _whole(attempts, "energy_high_uwh"),
        _whole(attempts, "co2e_low_ug"),
        _whole(attempts, "co2e_high_ug"),
    )


def _known(attempts: list[AttemptEntry], *names: str) -> int | None:
    """The tokens of a kind that were reported; 0 without calls, nothing when no call that used any reported them."""
    if len(attempts) == 1 and len(names) == 1:  # most requests
        only: int | None = getattr(attempts[0], names[0])
        return 0 if only is None and attempts[0].outcome in NEVER_BILLED else only
    counts: list[int | None] = [getattr(attempt, name) for attempt in attempts for name in names]
    known = [count for count in counts if count is not None]
    if known or all(attempt.outcome in NEVER_BILLED for attempt in attempts):
        return sum(known)
    return None


def _whole(attempts: list[AttemptEntry], name: str) -> int | None:
    """A sum over all calls; nothing when one of them is not known."""
    total = 0
    for attempt in attempts:
        value: int | None = getattr(attempt, name)
        if value is None:
            return None
        total += value
    return total


def total(attempts: list[AttemptEntry]) -> int | None:
    """What the attempts cost together; nothing when one of them is not known: unknown is never 0."""
    cost = 0
    for attempt in attempts:
        if attempt.cost_nano_usd is None:
            return None
        cost += attempt.cost_nano_usd
    return cost


def _sent_usage(exchange: Exchange, model: Model | None) -> Usage | None:
    """The tokens of the answer that was sent: what the baseline is priced by."""
    if exchange.cached_model is not None:
        return exchange.cached_usage
    own = [a for a in exchange.attempts if model is not None and a.model is model and not a.verifies]
    sent = [a for a in own if a.usage is not None and a.outcome in _ANSWERED]
    return sent[-1].usage if sent else None


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
            "follow_up": signals.follow_up,
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
