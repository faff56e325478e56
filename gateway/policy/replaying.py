"""The pass of `simulate` over the requests of the past: each decided again, and put with those that go its way.

Fast enough for millions: a request is decided once for each cell of the signals that the policy can tell apart, and
everything that follows is summed in buckets of requests that go the same way. What had been called for a request is
known to answer, fail or be turned down as it did then; what had not is taken to answer.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.errors import BadRequest, UnknownModel, UpstreamRejected
from gateway.ledger.entry import SECOND_CALLS, SHADOW, VERIFYING
from gateway.ledger.prices import PriceBook
from gateway.ledger.replay import Call, Past
from gateway.policy.cells import leaves_of
from gateway.policy.decide import decide
from gateway.policy.rules import Compare, Holds, Policy, conditions_of
from gateway.policy.signal_values import from_values
from gateway.policy.simulation import History, Scores
from gateway.policy.verifiers import ASKING
from gateway.policy.vocabulary import EVERY
from gateway.types import Attempt, Model, Route, Signals, Usage, Zone

_ANSWERED: Final = frozenset({"ok", "aborted"})
NO_CALL: Final = -1  # farther than nowhere: the text stayed in the gateway
_ZONES: Final = {zone.label: zone.value for zone in Zone}
_FARTHEST: Final = Zone.WORLD.value
_QUARTER_US: Final = 900_000_000  # every time zone is some quarters of an hour away
_Timed = tuple[tuple[str, int], ...]  # models that cost time, with the tokens of their answers
KNOWN, UNKNOWN, TIMED, CACHED = "known", "unknown", "timed", "cached"


@dataclass(frozen=True, slots=True, eq=False)
class Fate:
    """What the policy decides for one cell. `unknown`: the name that was asked for means nothing to it."""

    rule: str
    route: Route
    ladder: tuple[Model, ...]
    checks: frozenset[str]
    shadow: tuple[Model, ...] = ()
    unknown: str = ""

    @property
    def reach(self) -> int:
        """The farthest zone of the ladder."""
        return max((model.zone for model in self.ladder), default=NO_CALL)


class _End(NamedTuple):
    """How a request would end: who answers, how far its text goes, what is spent on calls that it had.

    `rungs` of the ladder are called; `called` is who was not called then.
    """

    model: Model | None
    farthest: int
    spent_nano_usd: int | None
    rungs: int
    called: Model | None = None


class Key(NamedTuple):
    """What the requests of a bucket have in common."""

    team: str
    data_class: str
    origin: tuple[str, str, str, str]  # rule, route, model, zone
    was_at: int  # the farthest zone that its text was in
    fate: Fate
    model: str
    goes_to: int
    before: str
    after: str


@dataclass(slots=True)
class Bucket:
    """Sums over the requests of a key. `tokens`: of answers whose cost is the time of a model, by its name."""

    example: Past
    requests: int = 0
    before_nano_usd: int = 0
    after_nano_usd: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    scores: Scores = field(default_factory=Scores)


class _LeftOut(Exception):
    """A request that cannot be replayed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# --- cells ----------------------------------------------------------------------------------------------------------


class _Cells:
    """Which requests the policy cannot tell apart, under these models: they share a key, and so a decision."""

    def __init__(self, policy: Policy, models: Mapping[str, Model]) -> None:
        starts: dict[str, set[float]] = {}
        plain = {"data", "modality", "tools", "requested"}
        self._caller: set[str] = set()
        leaves = [leaf for condition in conditions_of(policy) for leaf in leaves_of(condition)]
        for leaf in leaves:
            if leaf.signal.startswith("caller."):
                self._caller.add(leaf.signal.removeprefix("caller."))
            elif isinstance(leaf, Compare) and leaf.signal != "data":
                starts.setdefault(leaf.signal, set()).update(_starts(leaf.value))
            elif not isinstance(leaf, Holds):
                plain.add(leaf.signal)
        for model in models.values():
            if model.context_tokens is not None:
                starts.setdefault("prompt_tokens", set()).update(_starts(model.context_tokens))
        self.by_hour = "hour" in plain or "hour" in starts
        self._sets = any(isinstance(leaf, Holds) for leaf in leaves)
        self._plain = itemgetter(*sorted(plain))
        self._numbers = [(_reader(name), sorted(found)) for name, found in starts.items()]

    def key(self, past: Past, values: Mapping[str, Any]) -> tuple[object, ...]:
        """The cell of a request; raises `KeyError` or `TypeError` where a signal is missing."""
        numbers = [bisect_right(starts, read(values)) for read, starts in self._numbers]
        key = (*self._plain(values), *numbers)
        if self._sets:
            key += (*values["data_kinds"], None, *values["tags"])
        if self._caller:
            key += (past.caller, past.team, past.app)
        return key


def _starts(value: float) -> tuple[float, float]:
    """Where cells begin at a threshold: at it, and just after it."""
    return value, math.nextafter(value, math.inf)


def _reader(name: str) -> Callable[[Mapping[str, Any]], float]:
    if name == "difficulty":
        return lambda values: float(1.0 - values["slm_success"])
    if name == "budget_left":
        return lambda values: math.inf if values[name] is None else values[name]
    return itemgetter(name)


# --- the pass -------------------------------------------------------------------------------------------------------


class Replay:
    """The pass over the past: what it has found so far."""

    def __init__(
        self,
        policy: Policy,
        models: Mapping[str, Model],
        prices: PriceBook,
        zone: ZoneInfo | None,
        history: History | None,
    ) -> None:
        self.prices = prices
        self.history = history or History()
        self.buckets: dict[tuple[Any, ...], Bucket] = {}
        self.left_out: Counter[str] = Counter()
        self.revisions: Counter[tuple[str, str]] = Counter()
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._policy = policy
        self._models = models
        self._zone = zone
        self._learns = history is None
        self._cells = _Cells(policy, models)
        self._fates: dict[tuple[object, ...], Fate] = {}
        self._hours: dict[int, int] = {}
        self._kinds = {model.id: model.kind for model in models.values()}

    def add(self, past: Past) -> None:
        """One request."""
        if self._learns:
            for call in past.calls:
                if call.kind not in VERIFYING:  # its tokens are those of a grade, not of an answer
                    self.history.add(call)
        try:
            fate, scores = self._fate(past)
        except _LeftOut as left:
            self.left_out[left.reason] += 1
            return
        cached = past.outcome == "cached"
        shadow = past.calls[-1] if past.calls and past.calls[-1].kind == SHADOW else None
        end = (_cached_again(past, fate) if cached else None) or _climb(past, fate)
        copy = _copy_for(past, fate, end) if fate.shadow else None
        how, spent, tokens = self._cost(past, end, copy, shadow) if end.called or copy else _spent(end, cached)
        before = past.cost_nano_usd if shadow is None else _sum(past.cost_nano_usd, shadow.cost_nano_usd)
        key = (  # a `Key`, made into one later
            past.team,
            past.data_class,
            past[_RULE:_ZONE_END],
            _farthest(past.calls),
            fate,
            end.model.id if end.model else "",
            max(end.farthest, copy.zone) if copy else end.farthest,
            CACHED if cached else UNKNOWN if before is None else KNOWN,
            how,
        )
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = Bucket(past)
        bucket.requests += 1
        bucket.before_nano_usd += before or 0
        bucket.after_nano_usd += spent
        for model, count in tokens:
            bucket.tokens[model] = bucket.tokens.get(model, 0) + count
        if end.model is not None and past.model:
            self._score(bucket.scores, past, end.model.kind, scores)
        self._book(past)

    def _book(self, past: Past) -> None:
        self.revisions[past.policy, past.policy_revision] += 1
        if self.first_us is None or past.time_us < self.first_us:
            self.first_us = past.time_us
        if self.last_us is None or past.time_us > self.last_us:
            self.last_us = past.time_us

    def _fate(self, past: Past) -> tuple[Fate, tuple[float, float, bool]]:
        """What the policy decides, looked up by its cell and worked out the first time; and the router's scores."""
        values = self._values(past)
        try:
            key, scores = self._cells.key(past, values), _SCORES(values)
            fate = self._fates.get(key)
            if fate is not None:
                return fate, scores
            signals = signals_of(past, values)
        except (KeyError, TypeError, BadRequest):
            raise _LeftOut("incomplete_signals") from None
        fate = self._fates[key] = self._decided(signals, values["requested"])
        return fate, scores

    def _values(self, past: Past) -> Mapping[str, Any]:
        """The stored signals, with the hour as the new policy counts it."""
        if not past.signals:
            raise _LeftOut("not_classified")
        if not past.rule:
            raise _LeftOut("not_decided")
        if not past.calls and past.outcome != "cached" and past.code != "no_allowed_model":
            raise _LeftOut(past.code or past.outcome)
        if not self._cells.by_hour or self._zone is None:
            return past.signals
        return {**past.signals, "hour": self._hour(past.time_us, self._zone)}

    def signals(self, past: Past) -> Signals:
        """The signals of a request that was replayed."""
        return signals_of(past, self._values(past))

    def _hour(self, time_us: int, zone: ZoneInfo) -> int:
        quarter = time_us // _QUARTER_US
        if quarter not in self._hours:
            self._hours[quarter] = dt.datetime.fromtimestamp(quarter * (_QUARTER_US // 1_000_000), zone).hour
        return self._hours[quarter]

    def _decided(self, signals: Signals, requested: str) -> Fate:
        try:
            decision = decide(signals, policy=self._policy, models=self._models, requested=requested)
        except UnknownModel:
            return Fate("", Route("", ()), (), frozenset(), unknown=requested)
        ladder = tuple(self._models[name] for name in decision.ladder)
        shadow = tuple(self._models[name] for name in decision.shadow)
        checks = frozenset(check.name for check in decision.route.checks)
        return Fate(decision.rule, decision.route, ladder, checks, shadow)

    def _cost(self, past: Past, end: _End, copy: Model | None, shadow: Call | None) -> tuple[str, int, _Timed]:
        """How the cost is known, what is known of it, and the tokens that are still to be priced by their time."""
        usage, spent = _usage(past), end.spent_nano_usd
        fresh = [end.called] if end.called else []
        if copy is not None and shadow is not None and shadow.model == copy.id:
            spent = _sum(spent, shadow.cost_nano_usd)
        elif copy is not None:
            fresh.append(copy)
        if spent is None or (fresh and usage is None):
            return UNKNOWN, 0, ()
        timed = []
        for model in fresh:
            if usage is not None and self.prices.by_time(model):
                timed.append((model.id, usage.completion_tokens))
                continue
            charged = self.prices.charge(Attempt(model, past.time_us * 1000, usage=usage)).nano_usd
            if charged is None:
                return UNKNOWN, 0, ()
            spent += charged
        return TIMED if timed else KNOWN, spent, tuple(timed)

    def _score(self, sums: Scores, past: Past, kind: str, scores: tuple[float, float, bool]) -> None:
        call = _call_to(past.model, past.calls)
        was = call.kind if call and call.kind not in SECOND_CALLS else self._kinds.get(past.model, "")
        if not was:
            return
        success, gain, unsure = scores
        large = min(1.0, max(0.0, success + gain))
        old = large if was == "llm" else success
        new = large if kind == "llm" else success
        sums.requests += 1
        sums.unsure += unsure
        sums.before += old
        sums.after += new
        if was != kind:
            sums.squares += (new - old) ** 2
            sums.chance += old * (1 - old) + new * (1 - new)


_RULE: Final = Past._fields.index("rule")
_ZONE_END: Final = Past._fields.index("zone") + 1
_NOT_STORED: Final = frozenset({"difficulty", "caller", "follow_up"})
_SCORES: Final = itemgetter("slm_success", "gain", "low_confidence")


def signals_of(past: Past, values: Mapping[str, Any]) -> Signals:
    """The signals of a request of the past; raises `KeyError` or `BadRequest` where they are not whole."""
    stored = {name: values[name] for name in EVERY if name not in _NOT_STORED}
    stored["follow_up"] = values.get("follow_up", False)  # entries of before have none
    caller = {"key": past.caller, "team": past.team, "app": past.app, "tags": values["tags"]}
    return from_values({**stored, "caller": caller})


def _copy_for(past: Past, fate: Fate, end: _End) -> Model | None:
    """Who gets a copy: the first of the shadow that was not asked, once there is an answer."""
    if end.model is None or not (end.called or past.outcome == "ok"):
        return None
    asked = fate.ladder[: end.rungs]
    return next((model for model in fate.shadow if model not in asked), None)


def _cached_again(past: Past, fate: Fate) -> _End | None:
    """A kept answer is found by rule, route and models: where those are the same, it is found again."""
    if past.outcome != "cached" or (fate.rule, fate.route.name, fate.route.cache) != (past.rule, past.route, True):
        return None
    model = next((model for model in fate.ladder if model.id == past.model), None)
    return _End(model, NO_CALL, 0, 0) if model is not None else None


def _climb(past: Past, fate: Fate) -> _End:
    """Up the new ladder, with what is known of each of its models: the first that is not is taken to answer."""
    spent: int | None = 0
    farthest = NO_CALL
    draft: Model | None = None
    rungs = 0
    for model in fate.ladder:
        rungs += 1
        farthest = max(farthest, model.zone)
        call = _call_to(model.id, past.calls)
        if call is None:
            return _End(model, farthest, spent, rungs, called=model)
        for each in past.calls:
            if each.model == model.id and (each is call or each.kind not in _NO_RUNG):  # its retries and hedges too
                spent = _sum(spent, each.cost_nano_usd)
        if call.outcome in _ANSWERED:
            draft = model
            if call.rejected_by not in fate.checks:
                break
        elif _ends_here(past, call):
            break
    if not fate.checks.isdisjoint(ASKING):  # what the same checks spent then; of other ones nothing is known
        for each in past.calls:
            if each.kind in VERIFYING:
                spent = _sum(spent, each.cost_nano_usd)
    return _End(draft, farthest, spent, rungs)


_NO_RUNG: Final = frozenset({SHADOW, *VERIFYING})


def _ends_here(past: Past, call: Call) -> bool:
    """Whether no other model was asked after this failure: the request was wrong in itself, or its stream had begun."""
    return call.outcome == UpstreamRejected.code or (past.outcome == "cut" and call is past.calls[-1])


def _spent(end: _End, cached: bool) -> tuple[str, int, _Timed]:
    if end.spent_nano_usd is None:
        return UNKNOWN, 0, ()
    return CACHED if cached else KNOWN, end.spent_nano_usd, ()


def _call_to(model: str, calls: Sequence[Call]) -> Call | None:
    """The last call to a model that asked for an answer: a judge's grade is none."""
    for call in reversed(calls):
        if call.model == model and call.kind not in VERIFYING:
            return call
    return None


def _usage(past: Past) -> Usage | None:
    """The tokens of the answer that was sent; nothing when not known."""
    call = _call_to(past.model, past.calls)
    if call is None or call.prompt_tokens is None or call.completion_tokens is None:
        return None
    return Usage(call.prompt_tokens, call.completion_tokens, call.cached_tokens or 0)


def _farthest(calls: Sequence[Call]) -> int:
    """The farthest zone that the text was in."""
    if len(calls) == 1:  # nearly always
        return _ZONES.get(calls[0].zone, _FARTHEST)
    return max((_ZONES.get(call.zone, _FARTHEST) for call in calls), default=NO_CALL)


def _sum(one: int | None, other: int | None) -> int | None:
    """Both; nothing when one of them is not known."""
    return None if one is None or other is None else one + other
