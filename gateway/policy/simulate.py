"""simulate: the requests of the past decided again under another policy. Entries in, `Simulation` out; no IO.

Fast enough for millions: a request is decided once for each cell of the signals that the policy can tell apart, and
everything that follows is summed in buckets of requests that go the same way. What had been called for a request is
known to answer, fail or be turned down as it did then; what had not is taken to answer.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.errors import BadRequest, UnknownModel, UpstreamRejected
from gateway.ledger.prices import PriceBook
from gateway.ledger.replay import Call, Past
from gateway.policy.cells import leaves_of
from gateway.policy.decide import decide
from gateway.policy.rules import DEFAULT, PINNED, Compare, Holds, Policy
from gateway.policy.signal_values import from_values
from gateway.policy.simulation import (
    ASSUMPTIONS,
    WORDS,
    Cost,
    History,
    Language,
    Move,
    Place,
    Privacy,
    Refusals,
    Revision,
    Scores,
    Simulation,
    Team,
)
from gateway.policy.trace import trace, why_not
from gateway.policy.vocabulary import SIGNALS
from gateway.types import Attempt, Model, Route, Signals, Usage, Zone

_ANSWERED: Final = frozenset({"ok", "aborted"})
_NO_CALL: Final = -1  # farther than nowhere: the text stayed in the gateway
_ZONES: Final = {zone.label: zone.value for zone in Zone}
_FARTHEST: Final = Zone.WORLD.value
_QUARTER_US: Final = 900_000_000  # every time zone is some quarters of an hour away
_KNOWN, _UNKNOWN, _TIMED, _CACHED = "known", "unknown", "timed", "cached"


def simulate(  # noqa: PLR0913 - what a decision and a price need, each named
    batches: Iterable[Sequence[Past]],
    *,
    policy: Policy,
    models: Mapping[str, Model],
    prices: PriceBook,
    zone: ZoneInfo,
    history: History | None = None,
    language: Language = "en",
) -> Simulation:
    """Replay requests under a policy, whose hours are those of `zone`.

    `history` stands in where the requests bring none: without it, each model's history is that of these requests.
    """
    replay = _Replay(policy, models, prices, zone, history)
    for batch in batches:
        for past in batch:
            replay.add(past)
    return _Summing(replay, policy, models, language).simulation()


@dataclass(frozen=True, slots=True, eq=False)
class _Fate:
    """What the policy decides for one cell. `unknown`: the name that was asked for means nothing to it."""

    rule: str
    route: Route
    ladder: tuple[Model, ...]
    checks: frozenset[str]
    unknown: str = ""

    @property
    def reach(self) -> int:
        """The farthest zone of the ladder."""
        return max((model.zone for model in self.ladder), default=_NO_CALL)


class _End(NamedTuple):
    """How a request would end: who answers, how far its text goes, what is spent on calls that it had, who is new."""

    model: Model | None
    farthest: int
    spent_nano_usd: int | None
    called: Model | None = None


class _Key(NamedTuple):
    """What the requests of a bucket have in common."""

    team: str
    data_class: str
    origin: tuple[str, str, str, str]  # rule, route, model, zone
    was_at: int  # the farthest zone that its text was in
    fate: _Fate
    model: str
    goes_to: int
    before: str
    after: str


@dataclass(slots=True)
class _Bucket:
    """Sums over the requests of a key. `tokens`: of answers whose cost is the time of the model that is called."""

    example: Past
    requests: int = 0
    before_nano_usd: int = 0
    after_nano_usd: int = 0
    tokens: int = 0
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
        for leaf in (leaf for rule in policy.rules for leaf in leaves_of(rule.when)):
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
        self._sets = any(isinstance(leaf, Holds) for rule in policy.rules for leaf in leaves_of(rule.when))
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


class _Replay:
    """The pass over the past: what it has found so far."""

    def __init__(
        self,
        policy: Policy,
        models: Mapping[str, Model],
        prices: PriceBook,
        zone: ZoneInfo,
        history: History | None,
    ) -> None:
        self.prices = prices
        self.history = history or History()
        self.buckets: dict[_Key, _Bucket] = {}
        self.left_out: Counter[str] = Counter()
        self.revisions: Counter[tuple[str, str]] = Counter()
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._policy = policy
        self._models = models
        self._zone = zone
        self._learns = history is None
        self._cells = _Cells(policy, models)
        self._fates: dict[tuple[object, ...], _Fate] = {}
        self._hours: dict[int, int] = {}
        self._kinds = {model.id: model.kind for model in models.values()}

    def add(self, past: Past) -> None:
        """One request."""
        if self._learns:
            for call in past.calls:
                self.history.add(call)
        try:
            fate, scores = self._fate(past)
        except _LeftOut as left:
            self.left_out[left.reason] += 1
            return
        end = _cached_again(past, fate) or _climb(past, fate)
        cached = past.outcome == "cached"
        how, spent, tokens = self._cost(past, end) if end.called else _spent(end, cached)
        before = past.cost_nano_usd
        key = _Key(
            past.team,
            past.data_class,
            (past.rule, past.route, past.model, past.zone),
            _farthest(past.calls),
            fate,
            end.model.id if end.model else "",
            end.farthest,
            _CACHED if cached else _UNKNOWN if before is None else _KNOWN,
            how,
        )
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = _Bucket(past)
        bucket.requests += 1
        bucket.before_nano_usd += before or 0
        bucket.after_nano_usd += spent
        bucket.tokens += tokens
        if end.model is not None and past.model:
            self._score(bucket.scores, past, end.model.kind, scores)
        self._book(past)

    def _book(self, past: Past) -> None:
        self.revisions[past.policy, past.policy_revision] += 1
        if self.first_us is None or past.time_us < self.first_us:
            self.first_us = past.time_us
        if self.last_us is None or past.time_us > self.last_us:
            self.last_us = past.time_us

    def _fate(self, past: Past) -> tuple[_Fate, tuple[float, float, bool]]:
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
        if not (self._cells.by_hour and past.time_us):
            return past.signals
        return {**past.signals, "hour": self._hour(past.time_us)}

    def signals(self, past: Past) -> Signals:
        """The signals of a request that was replayed."""
        return signals_of(past, self._values(past))

    def _hour(self, time_us: int) -> int:
        quarter = time_us // _QUARTER_US
        if quarter not in self._hours:
            self._hours[quarter] = dt.datetime.fromtimestamp(quarter * (_QUARTER_US // 1_000_000), self._zone).hour
        return self._hours[quarter]

    def _decided(self, signals: Signals, requested: str) -> _Fate:
        try:
            decision = decide(signals, policy=self._policy, models=self._models, requested=requested)
        except UnknownModel:
            return _Fate("", Route("", ()), (), frozenset(), unknown=requested)
        ladder = tuple(self._models[name] for name in decision.ladder)
        return _Fate(decision.rule, decision.route, ladder, frozenset(check.name for check in decision.route.checks))

    def _cost(self, past: Past, end: _End) -> tuple[str, int, int]:
        """How the cost of a new call is known, what is known of it, and the tokens that are still to be priced."""
        usage, model = _usage(past), end.called
        if model is None or usage is None or end.spent_nano_usd is None:
            return _UNKNOWN, 0, 0
        if self.prices.by_time(model):
            return _TIMED, end.spent_nano_usd, usage.completion_tokens
        charged = self.prices.charge(Attempt(model, past.time_us * 1000, usage=usage)).nano_usd
        return (_UNKNOWN, 0, 0) if charged is None else (_KNOWN, end.spent_nano_usd + charged, 0)

    def _score(self, sums: Scores, past: Past, kind: str, scores: tuple[float, float, bool]) -> None:
        call = _call_to(past.model, past.calls)
        was = call.kind if call else self._kinds.get(past.model, "")
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


_SCORES: Final = itemgetter("slm_success", "gain", "low_confidence")


def signals_of(past: Past, values: Mapping[str, Any]) -> Signals:
    """The signals of a request of the past; raises `KeyError` or `BadRequest` where they are not whole."""
    stored = {name: values[name] for name in SIGNALS if name not in {"difficulty", "caller"}}
    caller = {"key": past.caller, "team": past.team, "app": past.app, "tags": values["tags"]}
    return from_values({**stored, "caller": caller})


def _cached_again(past: Past, fate: _Fate) -> _End | None:
    """A kept answer is found by rule, route and models: where those are the same, it is found again."""
    if past.outcome != "cached" or (fate.rule, fate.route.name, fate.route.cache) != (past.rule, past.route, True):
        return None
    model = next((model for model in fate.ladder if model.id == past.model), None)
    return _End(model, _NO_CALL, 0) if model is not None else None


def _climb(past: Past, fate: _Fate) -> _End:
    """Up the new ladder, with what is known of each of its models: the first that is not is taken to answer."""
    spent: int | None = 0
    farthest = _NO_CALL
    draft: Model | None = None
    for model in fate.ladder:
        if model.zone > farthest:
            farthest = model.zone
        call = _call_to(model.id, past.calls)
        if call is None:
            return _End(model, farthest, spent, called=model)
        spent = None if spent is None or call.cost_nano_usd is None else spent + call.cost_nano_usd
        if call.outcome in _ANSWERED:
            draft = model
            if call.rejected_by not in fate.checks:
                break
        elif _ends_here(past, call):
            break
    return _End(draft, farthest, spent)


def _ends_here(past: Past, call: Call) -> bool:
    """Whether no other model was asked after this failure: the request was wrong in itself, or its stream had begun."""
    return call.outcome == UpstreamRejected.code or (past.outcome == "cut" and call is past.calls[-1])


def _spent(end: _End, cached: bool) -> tuple[str, int, int]:
    if end.spent_nano_usd is None:
        return _UNKNOWN, 0, 0
    return _CACHED if cached else _KNOWN, end.spent_nano_usd, 0


def _call_to(model: str, calls: Sequence[Call]) -> Call | None:
    """The last call to a model."""
    for call in reversed(calls):
        if call.model == model:
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
    return max((_ZONES.get(call.zone, _FARTHEST) for call in calls), default=_NO_CALL)


# --- sums -----------------------------------------------------------------------------------------------------------

_Item = tuple[_Key, _Bucket]


class _Summing:
    """The buckets of a pass, put together: by move, by team, as a whole. Every sum is over the same parts."""

    def __init__(self, replay: _Replay, policy: Policy, models: Mapping[str, Model], language: Language) -> None:
        self._replay = replay
        self._policy = policy
        self._models = models
        self._language = language
        self._items: list[_Item] = [(key, bucket) for key, bucket in map(self._timed, replay.buckets.items())]

    def _timed(self, item: _Item) -> _Item:
        """A bucket that waited for the speed of its model, with the cost of its time."""
        key, bucket = item
        if key.after != _TIMED:
            return item
        speed = self._replay.history.seconds_a_token(key.model)
        if speed is None:
            return key._replace(after=_UNKNOWN), bucket
        charge = self._replay.prices.charge(Attempt(self._models[key.model], 0, seconds=speed * bucket.tokens))
        bucket.after_nano_usd += charge.nano_usd or 0
        return key._replace(after=_KNOWN), bucket

    def simulation(self) -> Simulation:
        """All that was found."""
        replay, items = self._replay, self._items
        scores = Scores()
        for _, bucket in items:
            scores.add(bucket.scores)
        return Simulation(
            policy=self._policy.name,
            policy_revision=self._policy.revision,
            requests=_count(items),
            moved=_count(item for item in items if _moved(item[0])),
            first_us=replay.first_us,
            last_us=replay.last_us,
            left_out=dict(replay.left_out.most_common()),
            revisions=tuple(Revision(*names, count) for names, count in replay.revisions.most_common()),
            cost=_cost(items),
            quality=scores.quality(),
            latency=replay.history.latency(
                _by((item for item in items if item[0].before != _CACHED), lambda key: key.origin[2]),
                _by((item for item in items if item[0].after != _CACHED), lambda key: key.model),
            ),
            privacy=Privacy(
                _classes(items, lambda key: _leaves(key.goes_to) and not _leaves(key.was_at)),
                _classes(items, _might_leave),
                _classes(items, lambda key: _leaves(key.was_at) and not _leaves(key.goes_to)),
            ),
            refusals=Refusals(
                _count(item for item in items if _was_refused(item[0])),
                _count(item for item in items if _refused(item[0])),
                _classes(items, lambda key: _refused(key) and not _was_refused(key)),
                _classes(items, lambda key: _was_refused(key) and not _refused(key)),
                _by(items, lambda key: key.fate.unknown),
            ),
            moves=self._moves(),
            teams=self._teams(),
            assumptions=ASSUMPTIONS[self._language],
        )

    def _teams(self) -> tuple[Team, ...]:
        return tuple(
            Team(
                team,
                _count(items),
                _count(item for item in items if _moved(item[0])),
                _count(item for item in items if _leaves(item[0].goes_to) and not _leaves(item[0].was_at)),
                _count(item for item in items if _refused(item[0])),
                _cost(items),
            )
            for team, items in sorted(_grouped(self._items, lambda key: key.team).items())
        )

    def _moves(self) -> tuple[Move, ...]:
        moved = [item for item in self._items if _moved(item[0])]
        groups = _grouped(moved, lambda key: (Place(*key.origin), _place(key)))
        found = []
        for (origin, to), items in groups.items():
            key, bucket = items[0]
            why, before = self._reasons(key, bucket.example)
            found.append(Move(origin, to, _count(items), _cost(items), why, before, bucket.example.request_id))
        return tuple(sorted(found, key=lambda move: -move.requests))

    def _reasons(self, key: _Key, past: Past) -> tuple[str, str]:
        """Why a request goes where it goes now, and what became of the rule that took it then."""
        words, fate = WORDS[self._language], key.fate
        if fate.unknown:
            return words["unknown"], ""
        signals = self._replay.signals(past)
        if fate.rule == PINNED:
            same = past.rule == PINNED and past.route == fate.route.name
            return words["pinned"], self._other_model(past, fate, signals) if same else words["was_pinned"]
        tried = trace(signals, self._policy, language=self._language)
        why = tried[-1].why if tried and tried[-1].matched else words["default"]
        return why, self._before(past, fate, signals)

    def _before(self, past: Past, fate: _Fate, signals: Signals) -> str:
        words = WORDS[self._language]
        if past.rule == fate.rule:
            same = past.route == fate.route.name
            return self._other_model(past, fate, signals) if same else words["route"].format(rule=past.rule)
        if past.rule in {DEFAULT, PINNED}:
            return words[f"was_{past.rule}"]
        rule = next((rule for rule in self._policy.rules if rule.name == past.rule), None)
        if rule is None:
            return words["gone"].format(rule=past.rule)
        unmet = why_not(rule.when, signals, language=self._language)
        return words["unmet"].format(rule=rule.name, why=unmet) if unmet else words["later"].format(rule=rule.name)

    def _other_model(self, past: Past, fate: _Fate, signals: Signals) -> str:
        """Why the same route gives another model."""
        words, requested = WORDS[self._language], past.signals["requested"]
        decision = decide(signals, policy=self._policy, models=self._models, requested=requested)
        reason = next((skip.reason for skip in decision.skipped if skip.model == past.model), "")
        if reason:
            return words["skipped"].format(model=past.model, reason=reason)
        return words["ladder"].format(ladder=" > ".join(model.id for model in fate.ladder) or words["nobody"])


def _place(key: _Key) -> Place:
    fate = key.fate
    zone = next((model.zone.label for model in fate.ladder if model.id == key.model), "")
    return Place(fate.rule, fate.route.name, key.model, zone)


def _moved(key: _Key) -> bool:
    """Another route, model or zone; another rule alone changes nothing for the request."""
    to = _place(key)
    return key.origin[1:] != (to.route, to.model, to.zone)


def _leaves(zone: int) -> bool:
    return zone > Zone.PREMISES


def _might_leave(key: _Key) -> bool:
    """Whether a request that moves stays, and would leave only if its model failed or were turned down."""
    return _moved(key) and _leaves(key.fate.reach) and not _leaves(key.goes_to) and not _leaves(key.was_at)


def _refused(key: _Key) -> bool:
    return not key.fate.ladder


def _was_refused(key: _Key) -> bool:
    """Whether nobody was called, and no kept answer was sent."""
    return key.was_at == _NO_CALL and key.before != _CACHED


def _count(items: Iterable[_Item]) -> int:
    return sum(bucket.requests for _, bucket in items)


def _grouped(items: Iterable[_Item], name: Callable[[_Key], Any]) -> dict[Any, list[_Item]]:
    groups: dict[Any, list[_Item]] = {}
    for item in items:
        groups.setdefault(name(item[0]), []).append(item)
    return groups


def _by(items: Iterable[_Item], name: Callable[[_Key], str]) -> dict[str, int]:
    """How many requests of each name; those without one are in none."""
    return {found: _count(group) for found, group in _grouped(items, name).items() if found}


def _classes(items: Iterable[_Item], chosen: Callable[[_Key], bool]) -> dict[str, int]:
    return _by((item for item in items if chosen(item[0])), lambda key: key.data_class)


def _cost(items: Iterable[_Item]) -> Cost:
    """Of some buckets: each side's known sum, and the change where both are known."""
    before = after = change = compared = known_before = known_after = count = 0
    for key, bucket in items:
        count += bucket.requests
        was, will = key.before != _UNKNOWN, key.after != _UNKNOWN
        if was:
            known_before += bucket.requests
            before += bucket.before_nano_usd
        if will:
            known_after += bucket.requests
            after += bucket.after_nano_usd
        if was and will:
            compared += bucket.requests
            change += bucket.after_nano_usd - bucket.before_nano_usd
    return Cost(
        before if known_before or not count else None,
        count - known_before,
        after if known_after or not count else None,
        count - known_after,
        change if compared or not count else None,
        compared,
    )
