"""Random policies and requests: everything that the language can say, over few values, so that they meet."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from gateway.policy.load import Loaded
from gateway.policy.rules import (
    DEFAULT,
    AllOf,
    AnyOf,
    Canary,
    Compare,
    Condition,
    Holds,
    Not,
    OneOf,
    Policy,
    Rule,
    Shadow,
    rule,
    tightened,
)
from gateway.types import Caller, Cloud, DataClass, Guarantee, Route, Signals, Zone

from .builders import EURO, LARGE, SMALL, catalogue

LOCAL, BOTH, ABROAD = Route("local", ("slm",)), Route("both", ("slm", "llm")), Route("abroad", ("euro", "slm"))
MASKED = Route("masked", ("llm", "slm"), transform="pseudonymise")
ROUTES = (LOCAL, BOTH, ABROAD, MASKED)
MODELS = catalogue(
    SMALL,
    dataclasses.replace(EURO, tools=False),
    dataclasses.replace(LARGE, context_tokens=100, modalities=frozenset({"text"})),
)
TEAMS = ("a", "b", "")
_THRESHOLDS = st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.5, 0.7, 0.9, 1.0])
_OPS = st.sampled_from([">=", ">", "<=", "<", "==", "!="])
_ROUTES = st.sampled_from(ROUTES)


def _leaf() -> st.SearchStrategy[Condition]:
    return st.one_of(
        st.builds(Compare, st.sampled_from(["gain", "slm_success", "difficulty", "stay_score"]), _OPS, _THRESHOLDS),
        st.builds(Compare, st.just("data"), _OPS, st.sampled_from(DataClass)),
        st.builds(Compare, st.just("prompt_tokens"), _OPS, st.sampled_from([0, 5, 100])),
        st.builds(Compare, st.just("budget_left"), _OPS, st.sampled_from([0.0, 5.0])),
        st.builds(OneOf, st.just("task"), st.frozensets(st.sampled_from(["faq", "code", "open_qa"]), min_size=1)),
        st.builds(OneOf, st.just("cloud"), st.frozensets(st.sampled_from(["up", "down", "degraded"]), min_size=1)),
        st.builds(OneOf, st.just("hour"), st.frozensets(st.integers(0, 23), min_size=1, max_size=12)),
        st.builds(OneOf, st.just("tools"), st.frozensets(st.booleans(), min_size=1, max_size=1)),
        st.builds(OneOf, st.just("caller.team"), st.frozensets(st.sampled_from(TEAMS), min_size=1)),
        st.builds(Holds, st.just("caller.tags"), st.frozensets(st.sampled_from(["x", "y"]), min_size=1)),
        st.builds(Holds, st.just("data_kinds"), st.frozensets(st.sampled_from(["health", "minors"]), min_size=1)),
    )


CONDITIONS = st.recursive(
    _leaf(),
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)
_VALUES = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.32, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
DRAWS = (0.0, 0.05, 0.3, 0.5, 0.8, 0.9799, 0.98)
SIGNALS = st.builds(
    Signals,
    gain=_VALUES | st.just(-0.5),
    slm_success=_VALUES,
    stay_score=_VALUES,
    data=st.sampled_from(DataClass),
    data_kinds=st.frozensets(st.sampled_from(["health", "minors", "dob"])),
    prompt_tokens=st.sampled_from([0, 1, 5, 6, 100, 101]),
    budget_left=st.sampled_from([None, -1.0, 0.0, 3.0, 5.0, 9.0]),
    task=st.sampled_from(["faq", "code", "open_qa", "math"]),
    cloud=st.sampled_from(Cloud),
    hour=st.integers(0, 23),
    tools=st.booleans(),
    modality=st.sampled_from(["text", "image"]),
    caller=st.builds(
        Caller, team=st.sampled_from([*TEAMS, "c"]), tags=st.sampled_from([(), ("x",), ("y", "x"), ("z",)])
    ),
)
_NEAR = st.sampled_from([Zone.PREMISES, Zone.EU])
_GUARANTEES = st.lists(
    st.builds(Guarantee, st.sampled_from(DataClass), _NEAR)
    | st.builds(Guarantee, st.just(DataClass.PERSONAL), _NEAR, st.just("pseudonymised")),
    max_size=2,
).map(tuple)
_CALLERS = st.builds(OneOf, st.just("caller.team"), st.frozensets(st.sampled_from(TEAMS), min_size=1))
_SHADOWS = st.none() | st.builds(
    Shadow, st.sampled_from(["llm", "slm@eu", "euro", "large"]), st.sampled_from([0, 0.5, 0.98])
)


@st.composite
def _canaries(draw: st.DrawFn) -> tuple[Canary, ...]:
    low, found = 0.0, []
    for route in draw(st.lists(_ROUTES, max_size=2, unique_by=lambda route: route.name)):
        high = draw(st.sampled_from([edge for edge in (0.05, 0.3, 0.8) if edge > low] or [0.9]))
        found.append(Canary(route, low, high))
        low = high
    return tuple(found)


@st.composite
def _rule(draw: st.DrawFn, name: str, callers: Condition | None = None) -> Rule:
    plain = draw(st.booleans())
    more: dict[str, Any] = {}
    if not plain:
        more = {"canaries": draw(_canaries()), "shadow": draw(_SHADOWS), "sticky": draw(st.booleans())}
    when = draw(CONDITIONS)
    if draw(st.booleans()):  # as people write them: with a promise kept, but for what a conversation may become
        when = AllOf((Compare("data", "<", draw(st.sampled_from(DataClass))), when))
    return rule(name, when, draw(_ROUTES), callers=callers, **more)


@st.composite
def policies(draw: st.DrawFn) -> Loaded:
    """Rules, some of an overlay, with canaries, shadows and sticky ones; guarantees for all and for some."""
    sticky = draw(st.booleans())
    above: list[Rule] = []
    defaults: list[Rule] = []
    promised = []
    for number in range(draw(st.integers(0, 2))):
        callers = draw(_CALLERS)
        above += [draw(_rule(f"a{number}", callers))] if draw(st.booleans()) else []
        if draw(st.booleans()):
            defaults.append(rule(DEFAULT, AllOf(), draw(_ROUTES), callers=callers, sticky=sticky))
        promised.append(tightened(callers, draw(_GUARANTEES)))
    own = [draw(_rule(f"r{number}")) for number in range(draw(st.integers(1, 4)))]
    policy = Policy(
        "random",
        draw(_ROUTES),
        (*above, *own),
        {route.name: route for route in ROUTES},
        draw(_GUARANTEES),
        defaults=tuple(defaults),
        tightened=tuple(promised),
        sticky=sticky,
    )
    return Loaded(policy)
