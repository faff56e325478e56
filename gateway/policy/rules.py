"""A policy as the gateway keeps it: frozen, its conditions data, each rule with a function that tests it.

`load.py` makes one out of a file, `decide.py` follows it on every request, `check.py` proves things of it. All three
read the same conditions, so that what is proved is what runs.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.policy.vocabulary import SIGNALS
from gateway.types import DataClass, Guarantee, Route, Signals

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
    **{name: f"s.{name}" for name in SIGNALS if name != "caller"},
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
class Rule:
    """When, and then which route. `matches` is `when`, compiled."""

    name: str
    when: Condition
    route: Route
    matches: Test = field(compare=False, repr=False)


def rule(name: str, when: Condition, route: Route) -> Rule:
    """A rule with its condition compiled."""
    return Rule(name, when, route, compile_condition(when))


@dataclass(frozen=True, slots=True)
class Policy:
    """All of a policy file. `revision` is a hash of what it says; comments and layout do not change it."""

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


def revision_of(policy: Policy) -> str:
    """A short hash of everything that a policy says."""
    content = {
        "version": policy.version,
        "description": policy.description,
        "guarantees": [[g.data.label, g.stays.label] for g in policy.guarantees],
        "routes": {name: _route_content(route) for name, route in policy.routes.items()},
        "rules": [[r.name, condition_content(r.when), r.route.name] for r in policy.rules],
        "default": policy.default.name,
        "aliases": dict(policy.aliases),
        "privacy": [policy.unreadable.label, policy.failure.label, policy.operating_point],
        "time_zone": policy.time_zone,
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def _route_content(route: Route) -> list[object]:
    checks = [[check.name, check.threshold] for check in route.checks]
    return [list(route.rungs), checks, route.mode and route.mode.value, route.cache]


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
