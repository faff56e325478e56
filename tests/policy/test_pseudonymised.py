from __future__ import annotations

import pytest

from gateway.policy.cases import parse_cases, run_case
from gateway.policy.check import prove
from gateway.policy.decide import decide
from gateway.policy.load import parse_policy
from gateway.policy.rules import revision_of
from gateway.policy.trace import decision_values
from gateway.types import DataClass, Signals, Zone

from .builders import EURO, LARGE, SMALL, a_policy, catalogue, loaded, with_rules
from .test_schema import accepts

EXCEPTED = "[{data: personal, stays: premises, unless: pseudonymised}]"
STAYS = """
{name: special-stays, when: {data: ">= special"}, use: local}
{name: masked, when: {data: personal, gain: ">= 0.35"}, use: masked}
{name: stays, when: {data: personal}, use: local}
"""
ANY_CLASS = """
{name: masked, when: {data: ">= personal", gain: ">= 0.35"}, use: masked}
{name: stays, when: {data: ">= personal"}, use: local}
"""


def policy_text(rules: str = STAYS, guarantees: str = EXCEPTED) -> str:
    text = with_rules(rules, guarantees=guarantees, default="cloud")
    return text.replace("  cloud:", "  masked: {try: [llm, slm], transform: pseudonymise}\n  cloud:")


def held(text: str) -> list[bool]:
    return [kept.held for kept in prove(loaded(text), catalogue()).guarantees]


def test_a_guarantee_with_an_exception_holds_for_a_route_that_pseudonymises() -> None:
    result = prove(loaded(policy_text()), catalogue())
    assert not result.errors
    assert [kept.where for kept in result.guarantees] == ["premises unless pseudonymised"]
    assert result.guarantees[0].as_values()["unless"] == "pseudonymised"


@pytest.mark.parametrize(
    ("rules", "guarantees"),
    [
        (STAYS.replace("use: masked", "use: cloud"), EXCEPTED),  # no transform on the way
        (STAYS.replace('{data: ">= special"}', "{data: secret}"), EXCEPTED),  # special data reaches the default
        (ANY_CLASS, EXCEPTED),
        (STAYS, "[{data: personal, stays: premises}]"),  # no exception
        (STAYS.replace("use: masked}", "use: masked, shadow: llm}"), EXCEPTED),  # a copy is the text as it is
        (STAYS.replace("use: masked}", "use: masked, canary: {cloud: 5%}}"), EXCEPTED),
        (STAYS, EXCEPTED[:-1] + ", {data: internal, stays: eu}]"),  # another promise has no exception
    ],
)
def test_it_breaks_without_the_transform_and_for_anything_beyond_personal(rules: str, guarantees: str) -> None:
    assert not all(held(policy_text(rules, guarantees)))


def test_an_exception_leaves_the_other_promises_as_they_are() -> None:
    policy = a_policy(policy_text(guarantees=EXCEPTED[:-1] + ", {data: internal, stays: eu}]"))
    decision = decide(signals(0.9), policy=policy, models=catalogue(SMALL, EURO, LARGE))
    assert decision.masked is Zone.EU
    assert "large" not in decision.ladder


def signals(gain: float, data: DataClass = DataClass.PERSONAL) -> Signals:
    return Signals(gain=gain, data=data)


def test_a_personal_text_may_go_farther_masked_and_no_other() -> None:
    policy, models = a_policy(policy_text()), catalogue()
    decision = decide(signals(0.9), policy=policy, models=models)
    assert (decision.rule, decision.ceiling, decision.masked) == ("masked", Zone.PREMISES, Zone.WORLD)
    assert decision.ladder == ("large", "small")
    assert decision_values(decision, models)["transform"] == "pseudonymise"
    for data in (DataClass.SPECIAL, DataClass.SECRET):
        named = decide(signals(0.9, data), policy=policy, models=models, requested="masked")
        assert (named.masked, named.ladder) == (None, ("small",))
    public = decide(signals(0.9, DataClass.PUBLIC), policy=policy, models=models, requested="masked")
    assert (public.masked, public.ceiling, public.ladder) == (None, Zone.WORLD, ("large", "small"))


def test_a_model_named_by_the_caller_gets_no_exception() -> None:
    decision = decide(signals(0.9), policy=a_policy(policy_text()), models=catalogue(), requested="large")
    assert (decision.masked, decision.ladder) == (None, ())


@pytest.mark.parametrize("data", ["public", "internal", "special", "secret"])
def test_only_personal_data_can_be_excepted(data: str) -> None:
    result = parse_policy(policy_text(guarantees=f"[{{data: {data}, stays: premises, unless: pseudonymised}}]"))
    assert result.policy is None
    assert "goes with `data: personal` only" in result.problems[0].message


def test_what_changes_nothing_is_noted() -> None:
    plain = prove(loaded(policy_text(STAYS.replace("masked", "local"), "[{data: personal, stays: premises}]")), None)
    assert "idle_transform" in [note.kind for note in plain.notes]
    unused = prove(loaded(with_rules(STAYS.replace("use: masked", "use: local"), guarantees=EXCEPTED)), None)
    assert "idle_exception" in [note.kind for note in unused.notes]


def test_the_transform_and_the_exception_are_part_of_the_revision() -> None:
    texts = [policy_text(), policy_text(guarantees="[{data: personal, stays: premises}]")]
    texts.append(policy_text().replace(", transform: pseudonymise", ""))
    assert len({revision_of(a_policy(text)) for text in texts}) == 3


def test_a_case_can_expect_the_transform() -> None:
    policy = a_policy(policy_text())
    cases = parse_cases(
        "- {signals: {data: personal, gain: 0.9}, expect: {transform: pseudonymise, zone: world}}\n"
        "- {signals: {data: special, gain: 0.9}, expect: {transform: none, zone: premises}}\n"
        "- {signals: {gain: 0.9}, expect: {transform: pseudonymise}}\n",
        policy,
    )
    assert not cases.problems
    results = [run_case(case, policy=policy, models=catalogue(), classify=lambda _: signals(0)) for case in cases.cases]
    assert [bool(result.failures) for result in results] == [False, False, True]


@pytest.mark.parametrize("privacy", ["strict", "balanced"])
def test_an_operating_point_can_stand_alone(privacy: str) -> None:
    text = policy_text() + f"privacy: {privacy}\n"
    assert a_policy(text).operating_point == privacy
    assert accepts(text)
