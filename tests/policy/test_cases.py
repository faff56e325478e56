from __future__ import annotations

import pytest

from gateway.errors import BadRequest
from gateway.policy.cases import CaseResult, Cases, parse_cases, run_case
from gateway.types import Caller, Cloud, DataClass, Signals

from .builders import a_policy, catalogue, with_rules

POLICY = a_policy()


def cases(text: str) -> Cases:
    return parse_cases(text, POLICY, file="p.cases.yaml")


def result(case: str, found: Signals | None = None) -> CaseResult:
    read = cases(f"- {case}")
    assert not read.problems, "\n".join(map(str, read.problems))
    return run_case(read.cases[0], policy=POLICY, models=catalogue(), classify=lambda _request: found or Signals())


@pytest.mark.parametrize(
    "expect",
    [
        "{rule: hard}",
        "{rule: [hard, default], route: cloud}",
        "{model: large, zone: world, ceiling: world}",
        "{data: public, task: reason, language: es, domain: general}",
        "{not_rule: default, not_model: small, not_zone: [eu, premises], not_data: personal}",
    ],
)
def test_a_case_passes_when_everything_expected_is_so(expect: str) -> None:
    assert result(f"{{signals: {{gain: 0.9, task: reason, language: es}}, expect: {expect}}}").failures == ()


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("{rule: easy-faq}", "hard stands before it and matches too"),
        ("{rule: personal-stays}", "data is public; the rule asks for >= personal"),
        ("{not_rule: hard}", "anything but hard"),
        ("{zone: premises}", "zone is world, expected premises"),
        ("{task: code}", "task is faq"),
    ],
)
def test_a_failing_case_says_why(expect: str, said: str) -> None:
    failures = result(f"{{signals: {{gain: 0.9, task: faq, slm_success: 0.9}}, expect: {expect}}}").failures
    assert len(failures) == 1
    assert said in failures[0]


def test_signals_stand_over_what_was_found_in_the_text() -> None:
    assert (
        result(
            "{text: hi, signals: {data: special}, expect: {rule: personal-stays, task: faq}}", Signals(task="faq")
        ).failures
        == ()
    )


def test_a_case_may_ask_for_a_model_as_a_caller_would() -> None:
    assert result("{model: big, signals: {}, expect: {rule: pinned, model: large}}").failures == ()
    assert "no model 'nope'" in result("{model: nope, signals: {}, expect: {rule: pinned}}").failures[0]


def test_the_zone_of_a_case_without_any_model_is_how_far_it_may_go() -> None:
    assert result("{model: big, signals: {data: secret}, expect: {zone: premises, model: None}}").failures == ()


def test_every_signal_can_be_given() -> None:
    read = cases(
        """
- signals: {slm_success: 0.4, gain: 0.1, stay_score: 0.2, task: code, domain: law, data: internal, data_kinds: [health],
    language: eu, prompt_tokens: 9, modality: image, tools: true, json: true,
    caller: {key: k, team: t, app: a, tags: [x]}, budget_left: 2.5, cloud: down, hour: 23, low_confidence: true}
  expect: {rule: default}
- {signals: {difficulty: 0.25, budget_left: null}, expect: {rule: default}}
"""
    )
    assert not read.problems
    assert Signals(**read.cases[0].signals) == Signals(
        0.4, 0.1, 0.2, "code", "law", DataClass.INTERNAL, frozenset({"health"}), "eu", 9, "image", True, True,
        Caller("k", "t", "a", ("x",)), 2.5, Cloud.DOWN, 23, True,
    )  # fmt: skip
    assert read.cases[1].signals == {"slm_success": 0.75}


FOLLOWED = a_policy(
    with_rules(
        """{name: stays, when: {data: ">= personal"}, use: local}
        {name: r, when: {}, use: local, canary: {cloud: 5%}, shadow: {to: llm, share: 2%}, sticky: conversation}"""
    )
)


@pytest.mark.parametrize(
    "case",
    [
        "{signals: {draw: 0.01}, expect: {rule: r, canary: cloud, route: cloud, shadow: none}}",
        "{signals: {draw: 0.99}, expect: {canary: none, route: local, shadow: large, not_shadow: none}}",
        "{signals: {}, expect: {canary: none, shadow: None, sticky: false}}",
        "{signals: {held_by: r}, expect: {rule: r, sticky: true}}",
        "{signals: {held_by: r, data: secret}, expect: {rule: stays, sticky: false}}",
        "{text: hi, expect: {canary: none}}",
        "{text: hi, signals: {draw: 0.01}, expect: {canary: cloud}}",
    ],
)
def test_a_case_may_say_what_follows_a_conversation(case: str) -> None:
    read = parse_cases(f"- {case}", FOLLOWED)
    assert not read.problems, "\n".join(map(str, read.problems))
    drawn = Signals(draw=0.02)  # of the text: a case is no conversation, and is drawn for nothing by chance
    assert run_case(read.cases[0], policy=FOLLOWED, models=catalogue(), classify=lambda _request: drawn).failures == ()


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("{canary: cloud}", "canary is None, expected cloud (rule r)"),
        ("{shadow: large}", "shadow is None, expected large (rule r)"),
        ("{sticky: true}", "sticky is false, expected true (rule r)"),
    ],
)
def test_a_case_that_fails_there_says_so(expect: str, said: str) -> None:
    case = parse_cases(f"- {{signals: {{}}, expect: {expect}}}", FOLLOWED).cases[0]
    found = run_case(case, policy=FOLLOWED, models=catalogue(), classify=lambda _request: Signals())
    assert found.failures == (said,)


def test_a_text_that_cannot_be_classified_fails_its_case() -> None:
    def refuse(_request: object) -> Signals:
        raise BadRequest("no content")

    case = cases("- {text: hi, expect: {rule: hard}}").cases[0]
    assert run_case(case, policy=POLICY, models=catalogue(), classify=refuse).failures == ("no content",)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("- {text: hi}", "missing"),
        ("- {expect: {rule: hard}}", "missing"),
        ("- {text: hi, messages: [], expect: {rule: hard}}", "value"),
        ("- {text: hi, expect: {rule: hrad}}", "unknown_rule"),
        ("- {text: hi, expect: {route: clod}}", "unknown_route"),
        ("- {text: hi, expect: {zone: home}}", "value"),
        ("- {text: hi, expect: {canary: cloud}}", "unknown_canary"),
        ("- {text: hi, expect: {sticky: yes}}", "value"),
        ("- {signals: {draw: 1}, expect: {rule: hard}}", "range"),
        ("- {text: hi, expect: {rul: hard}}", "unknown_key"),
        ("- {text: hi, expect: {}}", "value"),
        ("- {messages: [hi], expect: {rule: hard}}", "type"),
        ("- {signals: {gian: 1}, expect: {rule: hard}}", "unknown_signal"),
        ("- {signals: {gain: 7}, expect: {rule: hard}}", "range"),
        ("- {signals: {hour: 2.5}, expect: {rule: hard}}", "type"),
        ("- {signals: {tools: yes}, expect: {rule: hard}}", "type"),
        ("{text: hi}", "type"),
        ("- words", "type"),
    ],
)
def test_a_wrong_case_is_a_problem_of_its_line(text: str, kind: str) -> None:
    read = cases(text)
    assert [p.kind for p in read.problems] == [kind]
    assert not read.cases
