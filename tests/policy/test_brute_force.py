"""On random policies, what `check` proves agrees with brute force: with what `decide` does to sampled requests."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.cells import Space
from gateway.policy.check import Kept, prove
from gateway.policy.decide import decide, limit_of, rung_models
from gateway.policy.load import Loaded
from gateway.policy.rules import DEFAULT, AllOf, Condition, Policy, compile_condition, conditions_of, held_by, rule
from gateway.policy.signal_values import NOT_SIGNALS, read_signals
from gateway.policy.source import Source, compose
from gateway.types import DataClass, Signals

from .random_policies import CONDITIONS, DRAWS, LOCAL, MODELS, SIGNALS, policies

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def run_again(example: Mapping[str, Any]) -> Signals:
    """A counter-example as `explain --signals` reads it."""
    source = Source("--signals")
    root = compose(orjson.dumps(dict(example)).decode(), source)
    assert root is not None
    values = read_signals(root, source, ignore=NOT_SIGNALS)
    assert not source.problems, source.problems
    return Signals(**values)


def breaks(signals: Signals, policy: Policy, kept: Kept) -> set[str]:
    """The models that this very request would reach, or its copy, and that the guarantee forbids."""
    if signals.data < kept.guarantee.data or (kept.callers and not compile_condition(kept.callers)(signals)):
        return set()
    free = dataclasses.replace(policy, guarantees=(), tightened=())
    decision = decide(signals, policy=free, models=MODELS)
    excepted = kept.guarantee.unless and decision.route.transform and signals.data is DataClass.PERSONAL
    reached = (*(() if excepted else decision.ladder), *decision.shadow)  # a shadow's copy is the text as it is
    return {name for name in reached if MODELS[name].zone > kept.guarantee.stays}


def can_hold(policy: Policy) -> set[str]:
    """The sticky rules where a large model can answer: no other ever holds a conversation."""
    found = set()
    for one in (*policy.rules, *policy.defaults, rule(DEFAULT, AllOf(), policy.default, sticky=policy.sticky)):
        routes = (one.route, *(canary.route for canary in one.canaries))
        models = [model for route in routes for rung in route.rungs for model in rung_models(rung, MODELS)]
        if one.sticky and any(model.kind == "llm" for model in models):
            found.add(one.name)
    return found


def around(samples: Iterable[Signals], held_by: Iterable[str]) -> Iterator[Signals]:
    """Requests with every lot, every rule that may hold them, and personal data or not: where most may go wrong."""
    names = sorted(held_by)
    for signals in samples:
        for draw, name, data in itertools.product(DRAWS, names, {signals.data, DataClass.SECRET}):
            yield dataclasses.replace(signals, draw=draw, held_by=name, data=data)


@settings(max_examples=150, deadline=None, suppress_health_check=_SLOW)
@given(loaded=policies(), samples=st.lists(SIGNALS, min_size=8, max_size=16))
def test_on_random_policies_the_verdict_agrees_with_brute_force(loaded: Loaded, samples: list[Signals]) -> None:
    policy = loaded.policy
    assert policy is not None
    result = prove(loaded, MODELS)
    holding = can_hold(policy) | {""}

    # What is said to be impossible never happens.
    names = {DEFAULT, *(item.name for item in policy.rules)}
    for signals in around(samples, holding):
        decision = decide(signals, policy=policy, models=MODELS)
        assert decision.rule in names
        assert decision.rule not in result.dead_rules or decision.sticky
        assert decision.ceiling is limit_of(signals, policy)
        assert all(MODELS[name].zone <= decision.ceiling for name in decision.shadow)
        farthest = decision.masked or decision.ceiling
        assert all(MODELS[name].zone <= farthest for name in decision.ladder)
        if farthest > decision.ceiling:  # only with a transform, and only a personal text
            assert decision.route.transform
            assert signals.data is DataClass.PERSONAL
            assert farthest is limit_of(signals, policy, pseudonymised=True)
        for kept in result.guarantees:
            assert not (kept.held and breaks(signals, policy, kept))
    # What is said to be possible does happen: each live rule has a request, each broken guarantee its example.
    space = Space([*conditions_of(policy), *(held_by(item.name) for item in policy.rules)])
    for number, item in enumerate(policy.rules):
        before = [space.node(earlier.fires, negated=True) for earlier in policy.rules[:number]]
        afresh = [space.node(held_by(item.name), negated=True)] if item.sticky else []
        witness = space.plainest([space.node(item.fires), *afresh, *before], first=("held_by",))
        assert (witness is None) is (item.name in result.dead_rules)
        if witness is not None:
            assert decide(witness, policy=policy, models=MODELS).rule == item.name
    for kept in result.guarantees:
        if kept.counter_example is not None:
            signals = run_again(kept.counter_example)
            assert kept.counter_example["model"] in breaks(signals, policy, kept)
            assert decide(signals, policy=policy, models=MODELS).rule == kept.counter_example["rule"]
            assert limit_of(signals, policy) < MODELS[kept.counter_example["model"]].zone
            assert signals.held_by in holding


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conditions=st.lists(CONDITIONS, min_size=1, max_size=3))
def test_no_request_is_outside_the_cells(conditions: list[Condition]) -> None:
    """Every combination of truth that samples show is one that the cells can show."""
    space = Space(conditions)
    for truth in itertools.product([False, True], repeat=len(conditions)):
        nodes = [space.node(when, negated=not wanted) for when, wanted in zip(conditions, truth, strict=True)]
        witness = space.plainest(nodes)
        if witness is not None:
            tests = [rule("r", when, LOCAL).matches(witness) for when in conditions]
            assert tuple(tests) == truth
