"""simulate: the requests of the past decided again under another policy. Entries in, `Simulation` out; no IO.

`replaying.py` goes over the requests; here the buckets that it fills are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from gateway.ledger.prices import PriceBook
from gateway.ledger.replay import Past
from gateway.policy.decide import decide
from gateway.policy.replaying import CACHED, KNOWN, NO_CALL, TIMED, UNKNOWN, Bucket, Fate, Key, Replay
from gateway.policy.rules import DEFAULT, PINNED, Policy
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
from gateway.types import Attempt, Model, Signals, Zone


def simulate(  # noqa: PLR0913 - what a decision and a price need, each named
    batches: Iterable[Sequence[Past]],
    *,
    policy: Policy,
    models: Mapping[str, Model],
    prices: PriceBook,
    zone: ZoneInfo | None = None,
    history: History | None = None,
    language: Language = "en",
) -> Simulation:
    """Replay requests under a policy.

    Its hours are those of `zone`; without one, requests keep the hour that they say. Without a `history`, how long each
    model takes is known from these requests.
    """
    replay = Replay(policy, models, prices, zone, history)
    for batch in batches:
        for past in batch:
            replay.add(past)
    return _Summing(replay, policy, models, language).simulation()


_Item = tuple[Key, Bucket]


class _Summing:
    """The buckets of a pass, put together: by move, by team, as a whole. Every sum is over the same parts."""

    def __init__(self, replay: Replay, policy: Policy, models: Mapping[str, Model], language: Language) -> None:
        self._replay = replay
        self._policy = policy
        self._models = models
        self._language = language
        self._items = [self._timed(item) for item in replay.buckets.items()]

    def _timed(self, item: tuple[tuple[Any, ...], Bucket]) -> _Item:
        """A bucket; one that waited for the speed of its model gets the cost of its time."""
        key, bucket = Key._make(item[0]), item[1]
        if key.after != TIMED:
            return key, bucket
        for model, tokens in bucket.tokens.items():
            speed = self._replay.history.seconds_a_token(model)
            if speed is None:
                return key._replace(after=UNKNOWN), bucket
            charge = self._replay.prices.charge(Attempt(self._models[model], 0, seconds=speed * tokens))
            bucket.after_nano_usd += charge.nano_usd or 0
        return key._replace(after=KNOWN), bucket

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
                _by((item for item in items if item[0].before != CACHED), lambda key: key.origin[2]),
                _by((item for item in items if item[0].after != CACHED), lambda key: key.model),
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

    def _reasons(self, key: Key, past: Past) -> tuple[str, str]:
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

    def _before(self, past: Past, fate: Fate, signals: Signals) -> str:
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

    def _other_model(self, past: Past, fate: Fate, signals: Signals) -> str:
        """Why the same route gives another model."""
        words, requested = WORDS[self._language], past.signals["requested"]
        decision = decide(signals, policy=self._policy, models=self._models, requested=requested)
        reason = next((skip.reason for skip in decision.skipped if skip.model == past.model), "")
        if reason:
            return words["skipped"].format(model=past.model, reason=reason)
        return words["ladder"].format(ladder=" > ".join(model.id for model in fate.ladder) or words["nobody"])


def _place(key: Key) -> Place:
    fate = key.fate
    zone = next((model.zone.label for model in fate.ladder if model.id == key.model), "")
    return Place(fate.rule, fate.route.name, key.model, zone)


def _moved(key: Key) -> bool:
    """Another route, model or zone; another rule alone changes nothing for the request."""
    to = _place(key)
    return key.origin[1:] != (to.route, to.model, to.zone)


def _leaves(zone: int) -> bool:
    return zone > Zone.PREMISES


def _might_leave(key: Key) -> bool:
    """Whether a request that moves stays, and would leave only if its model failed or were turned down."""
    return _moved(key) and _leaves(key.fate.reach) and not _leaves(key.goes_to) and not _leaves(key.was_at)


def _refused(key: Key) -> bool:
    return not key.fate.ladder


def _was_refused(key: Key) -> bool:
    """Whether nobody was called, and no kept answer was sent."""
    return key.was_at == NO_CALL and key.before != CACHED


def _count(items: Iterable[_Item]) -> int:
    return sum(bucket.requests for _, bucket in items)


def _grouped(items: Iterable[_Item], name: Callable[[Key], Any]) -> dict[Any, list[_Item]]:
    groups: dict[Any, list[_Item]] = {}
    for item in items:
        groups.setdefault(name(item[0]), []).append(item)
    return groups


def _by(items: Iterable[_Item], name: Callable[[Key], str]) -> dict[str, int]:
    """How many requests of each name; those without one are in none."""
    return {found: _count(group) for found, group in _grouped(items, name).items() if found}


def _classes(items: Iterable[_Item], chosen: Callable[[Key], bool]) -> dict[str, int]:
    return _by((item for item in items if chosen(item[0])), lambda key: key.data_class)


def _cost(items: Iterable[_Item]) -> Cost:
    """Of some buckets: each side's known sum, and the change where both are known."""
    before = after = change = compared = known_before = known_after = count = 0
    for key, bucket in items:
        count += bucket.requests
        was, will = key.before != UNKNOWN, key.after != UNKNOWN
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
