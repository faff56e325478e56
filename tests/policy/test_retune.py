"""Another threshold in a policy's text: only that changes, and what comes out is a policy that can be proved."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError
from gateway.policy.check import NOMINAL, prove
from gateway.policy.decide import decide
from gateway.policy.load import SHIPPED, Loaded, parse_policy
from gateway.policy.retune import OTHERS, retuned
from gateway.types import Signals

DEFAULT = (SHIPPED / "default.yaml").read_text(encoding="utf-8")


def parsed(text: str) -> Loaded:
    loaded = parse_policy(text)
    assert loaded.problems == ()
    return loaded


def rule_of(text: str, **signals: object) -> str:
    policy = parsed(text).policy
    assert policy is not None
    return decide(Signals(**signals), policy=policy, models=NOMINAL).rule  # type: ignore[arg-type]


def test_one_number_changes_and_every_other_character_stays() -> None:
    text, rule = retuned(DEFAULT, {OTHERS: 0.31}, file="default.yaml")
    assert rule == "hard"
    assert text == DEFAULT.replace('gain: ">= 0.25"', 'gain: ">= 0.31"')


def test_languages_may_have_thresholds_of_their_own() -> None:
    text, _ = retuned(DEFAULT, {"es": 0.4, "en": 0.2, OTHERS: 0.3}, file="default.yaml")
    assert rule_of(text, gain=0.35, language="es") != "hard"
    assert rule_of(text, gain=0.25, language="en") == "hard"
    assert rule_of(text, gain=0.25, language="fr") != "hard"
    assert rule_of(text, gain=0.3, language="fr") == "hard"
    assert prove(parsed(text), NOMINAL).errors == ()


def test_a_language_that_asks_for_what_all_ask_for_is_not_named() -> None:
    text, _ = retuned(DEFAULT, {"es": 0.3, OTHERS: 0.3}, file="default.yaml")
    assert 'gain: ">= 0.3"' in text
    assert "language: es" not in text


def test_what_was_retuned_can_be_retuned_again() -> None:
    once, _ = retuned(DEFAULT, {"es": 0.4, OTHERS: 0.3}, file="default.yaml")
    again, rule = retuned(once, {OTHERS: 0.25}, file="default.yaml")
    assert (again, rule) == (DEFAULT, "hard")


def test_a_condition_beside_the_threshold_stays() -> None:
    head = "version: 1\nroutes: {a: {try: [slm]}}\nrules:\n  - name: r\n    when:\n      task: code\n"
    text = f'{head}      gain: ">= 0.1" # x\n    use: a\ndefault: a\n'
    new, _ = retuned(text, {"es": 0.4, OTHERS: 0.3}, file="p.yaml")
    assert "task: code" in new
    assert new.endswith("# x\n    use: a\ndefault: a\n")
    assert rule_of(new, gain=0.35, task="code", language="en") == "r"
    assert rule_of(new, gain=0.35, task="code", language="es") == "default"


@pytest.mark.parametrize(
    ("rules", "rule", "said"),
    [
        ("[]", None, "no rule asks"),
        ("[{name: a, when: {gain: '< 0.2'}, use: a}]", None, "no rule asks"),
        ("[{name: a, when: {gain: '>= 0.2'}, use: a}, {name: b, when: {gain: '>= 0.1'}, use: a}]", None, "a, b"),
        ("[{name: a, when: {gain: '>= 0.2'}, use: a}]", "b", "rule 'b' does not ask"),
    ],
)
def test_where_it_is_not_clear_which_threshold_is_meant_it_is_asked(rules: str, rule: str | None, said: str) -> None:
    text = f"version: 1\nroutes: {{a: {{try: [slm]}}}}\nrules: {rules}\ndefault: a\n"
    with pytest.raises(ConfigError, match=said):
        retuned(text, {OTHERS: 0.3}, file="p.yaml", rule=rule)
