from __future__ import annotations

import pytest

from gateway.policy.decide import decide
from gateway.policy.trace import Language, explained, trace
from gateway.types import DataClass, Finding, Signals

from .builders import a_policy, catalogue, with_rules

POLICY = a_policy()


def test_the_rules_are_told_in_order_up_to_the_one_that_matches() -> None:
    tried = trace(Signals(gain=0.5), POLICY)
    assert [(item.rule, item.matched) for item in tried] == [("personal-stays", False), ("hard", True)]
    assert tried[0].why == "data is public; the rule asks for >= personal"
    assert tried[1].why == "it matches: gain >= 0.35"


def test_when_nothing_matches_every_rule_says_why_in_spanish_too() -> None:
    tried = trace(Signals(task="faq", slm_success=0.7), POLICY, language="es")
    assert [item.why for item in tried] == [
        "data es public; la regla pide >= personal",
        "gain es 0; la regla pide >= 0.35",
        "slm_success es 0.7; la regla pide >= 0.8",
    ]


@pytest.mark.parametrize(
    ("when", "language", "why"),
    [
        ("{any: [{task: faq}, {tools: true}]}", "en", "none of these holds: task = faq or tools = true"),
        ("{not: {cloud: up}}", "en", "it must not be that cloud = up"),
        ("{not: {cloud: up}}", "es", "no debe cumplirse que cloud = up"),
        ("{data_kinds: [minors, health]}", "en", "data_kinds is nothing; the rule asks for one of health, minors"),
        ("{budget_left: '< 5'}", "es", "budget_left es sin límite; la regla pide < 5"),
        ("{caller: {team: billing}}", "en", "caller.team is nothing; the rule asks for = billing"),
        ("{data: [special, secret]}", "en", "none of these holds: data == special or data == secret"),
    ],
)
def test_what_was_asked_for_is_said_in_words(when: str, language: Language, why: str) -> None:
    policy = a_policy(with_rules(f"{{name: r, when: {when}, use: local}}"))
    assert trace(Signals(), policy, language=language)[0].why == why


def test_an_explanation_holds_every_signal_and_no_text() -> None:
    signals = Signals(data=DataClass.PERSONAL, findings=(Finding("identity", "ID_DNI", DataClass.PERSONAL, 0, 3, 12),))
    models = catalogue()
    told = explained(signals, decide(signals, policy=POLICY, models=models), policy=POLICY, models=models)
    assert set(told["signals"]) == {
        "slm_success", "gain", "difficulty", "stay_score", "task", "domain", "data", "data_kinds", "language",
        "prompt_tokens", "modality", "tools", "json", "caller", "budget_left", "cloud", "hour", "low_confidence",
        "follow_up", "draw", "held_by",
    }  # fmt: skip
    assert told["decision"]["rule"] == "personal-stays"
    assert told["decision"]["zone"] == "premises"
    assert told["findings"] == [
        {"kind": "identity", "label": "ID_DNI", "data": "personal", "part": 0, "start": 3, "end": 12}
    ]


def test_a_pinned_request_tries_no_rule() -> None:
    models = catalogue()
    decision = decide(Signals(), policy=POLICY, models=models, requested="large")
    assert explained(Signals(), decision, policy=POLICY, models=models)["tried"] == []
