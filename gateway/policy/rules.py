"""A policy as the gateway keeps it: frozen, its conditions data, each rule with a function that tests it.

`load.py` makes one out of a file, `decide.py` follows it on every request, `check.py` proves things of it. All three
read the same conditions, so that what is proved is what runs.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.policy.vocabulary import EVERY
from gateway.types import Check, DataClass, Guarantee, Route, Signals, VerifyBudget

Test = Callable[[Signals], bool]

DEFAULT: Final = "default"
PINNED: Final = "pinned"
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Compare:
    """A signal with an order against one value: `gain >= 0.35`, `data < personal`."""

    signal: str
    op: str  # >= > <= < == !=
    value: float


@dataclass(frozen=True, slots=True)
class OneOf:
    """A signal whose value is one of these. `caller.team` and its like name a field of the caller."""

    signal: str
    values: frozenset[str | int | bool]


@dataclass(frozen=True, slots=True)
class Holds:
    """A signal that is a set and has at least one of these: `data_kinds`, `caller.tags`."""

    signal: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part; without parts it is always true."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Leaf = Compare | OneOf | Holds
Condition = Leaf | AllOf | AnyOf | Not

OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
# Where the compiled expression finds each signal.
_SOURCES: Final = {
    **{name: f"s.{name}" for name in EVERY if name != "caller"},
    "difficulty": "(1.0 - s.slm_success)",
    "budget_left": "(inf if s.budget_left is None else s.budget_left)",
    "caller.key": "s.caller.id",
    "caller.team": "s.caller.team",
    "caller.app": "s.caller.app",
    "caller.tags": "s.caller.tags",
}


def reader(signal: str) -> Callable[[Signals], Any]:
    """What gives a signal's value, as conditions compare it: an unset budget is without end."""
    return _function(_SOURCES[signal], {"inf": math.inf})


def compile_condition(condition: Condition) -> Test:
    """A function that tests it, made of one Python expression: closures of closures took three times as long.

    Nothing that a file says gets into the source: signals come from the vocabulary, and values are bound by name.
    """
    bound: dict[str, Any] = {"inf": math.inf}
    return _function(_expression(condition, bound), bound)


def _function(expression: str, bound: Mapping[str, Any]) -> Callable[[Signals], Any]:
    code = compile(f"lambda s: {expression}", "<condition>", "eval")
    function: Callable[[Signals], Any] = eval(code, {"__builtins__": {}, **bound})  # noqa: S307 - only our own words
    return function


def _expression(condition: Condition, bound: dict[str, Any]) -> str:
    if isinstance(condition, AllOf | AnyOf):
        if not condition.parts:
            return str(isinstance(condition, AllOf))
        word = " and " if isinstance(condition, AllOf) else " or "
        return f"({word.join(_expression(part, bound) for part in condition.parts)})"
    if isinstance(condition, Not):
        return f"(not {_expression(condition.part, bound)})"
    read, name = _SOURCES[condition.signal], f"v{len(bound)}"
    if isinstance(condition, Compare):
        if condition.op not in OPERATORS:
            raise ValueError(f"{condition.op!r} is no comparison")
        bound[name] = condition.value
        return f"{read} {condition.op} {name}"
    bound[name] = condition.values
    return f"{read} in {name}" if isinstance(condition, OneOf) else f"(not {name}.isdisjoint({read}))"


@dataclass(frozen=True, slots=True)
class Canary:
    """A share of a rule's conversations that takes another route: those drawn from `low` up to `high`."""

    route: Route
    low: float
    high: float

    @property
    def condition(self) -> Condition:
        """The conversations that it takes."""
        return AllOf((Compare("draw", ">=", self.low), Compare("draw", "<", self.high)))


@dataclass(frozen=True, slots=True)
class Shadow:
    """A copy for a model, or the first that fits of a kind, of each conversation drawn from `low` up."""

    rung: str
    low: float = 0.0

    @property
    def condition(self) -> Condition:
        """The conversations that it copies."""
        return Compare("draw", ">=", self.low)


@dataclass(frozen=True, slots=True)
class Rule:
    """When, and then which route. `fires` is `when` with what else makes it match, and `matches` is that, compiled."""

    name: str
    when: Condition
    route: Route
    fires: Condition
    matches: Test = field(compare=False, repr=False)
    canaries: tuple[Canary, ...] = ()
    shadow: Shadow | None = None
    sticky: bool = False
    until: Condition | None = None  # what lets a conversation go that the rule holds
    released: Test | None = field(default=None, compare=False, repr=False)  # `until`, compiled


def rule(  # noqa: PLR0913 - all that a rule may say, each named
    name: str,
    when: Condition,
    route: Route,
    *,
    callers: Condition | None = None,
    canaries: tuple[Canary, ...] = (),
    shadow: Shadow | None = None,
    sticky: bool = False,
    until: Condition | None = None,
) -> Rule:
    """A rule with its condition compiled: a sticky one also takes what it holds, an overlay's one its callers only."""
    kept = held_by(name) if until is None else AllOf((held_by(name), Not(until)))
    fires: Condition = AnyOf((when, kept)) if sticky and when != AllOf() else when
    if callers is not None:
        when, fires = (callers if part == AllOf() else AllOf((callers, part)) for part in (when, fires))
    return Rule(name, when, route, fires, compile_condition(fires), canaries, shadow, sticky, until, compiled(until))


def compiled(until: Condition | None) -> Test | None:
    """What lets go of a conversation, as a function; nothing: it stays while it goes on."""
    return None if until is None else compile_condition(until)


def held_by(name: str) -> Condition:
    """The conversations that a rule, or the default, moved to a large model and keeps there."""
    return OneOf("held_by", frozenset({name}))


@dataclass(frozen=True, slots=True)
class Tightened:
    """What an overlay promises its callers beyond the policy's guarantees. `concerns` is `callers`, compiled."""

    callers: Condition
    guarantees: tuple[Guarantee, ...]
    concerns: Test = field(compare=False, repr=False)


def tightened(callers: Condition, guarantees: tuple[Guarantee, ...]) -> Tightened:
    """An overlay's guarantees with their callers compiled."""
    return Tightened(callers, guarantees, compile_condition(callers))


@dataclass(frozen=True, slots=True)
class Policy:
    """All of a policy file. `revision` is a hash of what it says; comments and layout do not change it.

    `rules` are in the order in which they are tried: overlays', own, included. `defaults` are overlays' own.
    """

    name: str
    default: Route
    rules: tuple[Rule, ...] = ()
    routes: Mapping[str, Route] = field(default_factory=dict)
    guarantees: tuple[Guarantee, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    version: int = 1
    unreadable: DataClass = DataClass.SPECIAL  # the class of what no detector can read
    failure: DataClass = DataClass.SPECIAL  # the class of a text whose scan failed
    operating_point: str = "balanced"
    time_zone: str = ""  # of the signal `hour`; none: the one of cauce.yaml
    revision: str = ""
    defaults: tuple[Rule, ...] = ()
    tightened: tuple[Tightened, ...] = ()
    sticky: bool = False  # whether the default keeps a conversation with a large model
    until: Condition | None = None  # and what lets it go
    released: Test | None = field(default=None, compare=False, repr=False)  # `until`, compiled
    files: tuple[str, ...] = ()  # what it was read from: its own file, then those that it includes


def conditions_of(policy: Policy) -> Iterator[Condition]:
    """Everything that a decision depends on, but for what the models can take."""
    for one in (*policy.rules, *policy.defaults):
        yield one.fires
        if one.until is not None:
            yield one.until
        yield from (canary.condition for canary in one.canaries)
        if one.shadow is not None:
            yield one.shadow.condition
    yield from (overlay.callers for overlay in policy.tightened)
    if policy.sticky:
        yield held_by(DEFAULT)
        if policy.until is not None:
            yield policy.until


def revision_of(policy: Policy) -> str:
    """A short hash of everything that a policy says."""
    content = {
        "version": policy.version,
        "description": policy.description,
        "guarantees": _guarantees_content(policy.guarantees),
        "routes": {name: _route_content(route) for name, route in policy.routes.items()},
        "rules": [_rule_content(one) for one in policy.rules],
        "default": [policy.default.name, _sticky_content(policy.sticky, policy.until)],
        "overlays": [
            [_rule_content(one) for one in policy.defaults],
            [[condition_content(o.callers), _guarantees_content(o.guarantees)] for o in policy.tightened],
        ],
        "aliases": dict(policy.aliases),
        "privacy": [policy.unreadable.label, policy.failure.label, policy.operating_point],
        "time_zone": policy.time_zone,
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def _guarantees_content(guarantees: tuple[Guarantee, ...]) -> list[list[str]]:
    return [[one.data.label, one.stays.label, *filter(None, [one.unless])] for one in guarantees]


def _rule_content(one: Rule) -> list[object]:
    canaries = [[canary.route.name, canary.low, canary.high] for canary in one.canaries]
    shadow = [one.shadow.rung, one.shadow.low] if one.shadow else None
    return [
        one.name,
        condition_content(one.when),
        one.route.name,
        canaries,
        shadow,
        _sticky_content(one.sticky, one.until),
    ]


def _sticky_content(sticky: bool, until: Condition | None) -> object:
    return sticky if until is None else ["until", condition_content(until)]


def _route_content(route: Route) -> list[object]:
    checks = [_check_content(check) for check in route.checks]
    said: list[object] = [list(route.rungs), checks, route.mode and route.mode.value, route.cache]
    # What most routes do not say is left out: their revision stays what it was before it could be said.
    if route.transform:
        said.append(route.transform)
    more = [route.draft, route.verify_budget.tokens, route.verify_budget.ms]
    return said if more == [False, *_USUAL_BUDGET] else [*said, more]


_USUAL_BUDGET: Final = (VerifyBudget().tokens, VerifyBudget().ms)


def _check_content(check: Check) -> list[object]:
    asked = [check.model, check.times] if check.model or check.times else []
    return [check.name, check.threshold, *asked]


def condition_content(condition: Condition) -> list[object]:
    """A condition as plain values, the same for the same condition however it was written."""
    if isinstance(condition, Compare):
        return ["compare", condition.signal, condition.op, condition.value]
    if isinstance(condition, OneOf | Holds):
        return [type(condition).__name__.lower(), condition.signal, sorted(map(str, condition.values))]
    if isinstance(condition, Not):
        return ["not", condition_content(condition.part)]
    word = "all" if isinstance(condition, AllOf) else "any"
    return [word, *(condition_content(part) for part in condition.parts)]
