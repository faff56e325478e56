"""The checks in a policy: what may be written, what is proved of those that ask a model, and how they are explained."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from gateway.policy.check import prove
from gateway.policy.decide import decide
from gateway.policy.load import load_policy, parse_policy, unknown_rungs
from gateway.policy.schema import schema
from gateway.policy.trace import explained
from gateway.policy.verifiers import CHECKS
from gateway.types import Check, DataClass, VerifyBudget
from tests.builders import some_signals

from .builders import LARGE, SMALL, VECTORS, a_policy, catalogue, loaded


def text(verify: str, *, more: str = "", rule: str = "{name: all, when: {}, use: checked}") -> str:
    return f"""
version: 1
guarantees: [{{data: personal, stays: premises}}]
routes:
  local: {{try: [slm]}}
  checked: {{try: [slm], verify: {verify}{more}}}
rules:
  - {rule}
default: local
"""


def problems(verify: str, *, more: str = "") -> list[str]:
    return [str(problem) for problem in parse_policy(text(verify, more=more)).problems]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("finish", Check("finish")),
        ("{confidence: 0.6}", Check("confidence", 0.6)),
        ("checker", Check("checker", 0.3)),
        ("{checker: 0.5}", Check("checker", 0.5)),
        ("{samples: 3}", Check("samples", 0.5, "", 3)),
        ("{samples: {times: 2, agree: 0.7, model: small}}", Check("samples", 0.7, "small", 2)),
        ("{judge: llm}", Check("judge", 0.6, "llm")),
        ("{judge: {model: large, at_least: 0.8}}", Check("judge", 0.8, "large")),
    ],
)
def test_what_is_written_of_a_check_is_what_is_asked_and_the_editor_accepts_it(written: str, read: Check) -> None:
    assert a_policy(text(f"[{written}]")).routes["checked"].checks == (read,)
    assert jsonschema_rs.validator_for(schema()).is_valid(YAML(typ="safe", pure=True).load(text(f"[{written}]")))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[refusals]", "Did you mean 'refusal'?"),
        ("[{finish: 0.3}]", "takes no value"),
        ("[confidence]", "takes a threshold from 0 to 1"),
        ("[{checker: 1.5}]", "expected a threshold from 0 to 1, found '1.5'"),
        ("[judge]", "it takes a value: `{judge: llm}`"),
        ("[{judge: {at_least: 0.5}}]", "`model:` is missing"),
        ("[{judge: {model: llm, atleast: 0.5}}]", "there is no 'atleast'. Did you mean 'at_least'?"),
        ("[{judge: [llm]}]", "expected a mapping"),
        ("[samples]", "it takes a value: `{samples: 2}`"),
        ("[{samples: 0}]", "expected a whole number from 1 to 5, found '0'"),
        ("[{samples: many}]", "expected a whole number from 1 to 5, found 'many'"),
        ("[{samples: {times: 2, agree: 2}}]", "expected a threshold from 0 to 1"),
        ("[finish, finish]", "'finish' stands twice"),
    ],
)
def test_what_is_wrong_with_a_check_is_said_at_its_place(written: str, said: str) -> None:
    (problem,) = problems(written)
    assert said in problem
    assert "policy.yaml:6:" in problem


def test_a_budget_and_a_draft_belong_to_the_route() -> None:
    route = a_policy(text("[finish]", more=", verify_budget: {tokens: 900, ms: 800}, draft: true")).routes["checked"]
    assert (route.verify_budget, route.draft) == (VerifyBudget(900, 800), True)
    (problem,) = problems("[finish]", more=", verify_budget: {tokens: 0}")
    assert "verify_budget: tokens: expected a whole number from 1" in problem


def test_what_a_route_says_of_verifying_is_part_of_the_revision() -> None:
    said = ["[{judge: llm}]", "[{judge: slm}]", "[{judge: {model: llm, at_least: 0.7}}]", "[{samples: 2}]"]
    revisions = {a_policy(text(one)).revision for one in said}
    revisions.add(a_policy(text(said[0], more=", draft: true")).revision)
    revisions.add(a_policy(text(said[0], more=", verify_budget: {ms: 1}")).revision)
    assert len(revisions) == 6


@pytest.mark.parametrize("asking", ["{judge: larg}", "{samples: {times: 1, model: larg}}"])
def test_a_judge_that_no_model_is_is_an_unknown_name(asking: str) -> None:
    (problem,) = unknown_rungs(loaded(text(f"[{asking}]")), catalogue())
    assert problem.kind == "unknown_model"
    assert "Did you mean 'large'?" in problem.message
    assert problem.line == 6
    (problem,) = unknown_rungs(loaded(text("[{judge: vectors}]")), catalogue(SMALL, VECTORS))
    assert "makes embeddings" in problem.message


@pytest.mark.parametrize("part", ["judge", "samples"])
def test_a_check_that_would_ask_a_model_too_far_away_breaks_the_guarantee(part: str) -> None:
    asking = {"judge": "{judge: llm}", "samples": "{samples: {times: 1, model: large}}"}[part]
    proof = prove(loaded(text(f"[finish, {asking}]")), catalogue())
    (kept,) = proof.guarantees
    assert not kept.held
    assert kept.counter_example is not None
    assert kept.counter_example["data"] == "personal"
    assert kept.counter_example[part] in {"llm", "large"}
    (error,) = proof.errors
    assert part in error.message
    assert "is in world" in error.message


@pytest.mark.parametrize("asking", ["{judge: llm@premises}", "{judge: small}", "{samples: 2}"])
def test_a_check_that_asks_inside_the_guarantee_holds_it(asking: str) -> None:
    assert prove(loaded(text(f"[{asking}]")), catalogue(SMALL, LARGE)).guarantees[0].held


def test_a_judge_of_rules_that_personal_data_never_reaches_holds_the_guarantee() -> None:
    public = text("[{judge: llm}]", rule='{name: open, when: {data: "< personal"}, use: checked}')
    assert not prove(loaded(public), catalogue()).errors


def test_a_decision_names_the_judges_that_the_ceiling_allows() -> None:
    policy, models = a_policy(text("[finish, {judge: llm}]")), catalogue()
    assert decide(some_signals(), policy=policy, models=models).asked == ((), ("large",))
    personal = some_signals(data=DataClass.PERSONAL)
    assert decide(personal, policy=policy, models=models).asked == ((), ())
    assert decide(some_signals(), policy=a_policy(text("[finish]")), models=models).asked == ()


def test_the_explanation_says_each_check_in_both_languages() -> None:
    policy, models = a_policy(text("[refusal, {judge: llm}, {samples: 2}]")), catalogue()
    decision = decide(some_signals(), policy=policy, models=models)
    said: dict[str, Any] = {
        language: explained(some_signals(), decision, policy=policy, models=models, language=language)["checks"]
        for language in ("es", "en")
    }
    assert [line.split(":")[0] for line in said["es"]] == ["refusal", "judge 0.6 (llm)", "samples 0.5 x2"]
    assert "una negativa" in said["es"][0]
    assert "a refusal" in said["en"][0]
    for kind in CHECKS.values():
        assert kind.help != kind.help_es


def test_the_policy_that_the_readme_shows_loads(tmp_path: Any) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text("[finish, repeats, tools, {confidence_margin: 0.2}]", more=", draft: false"))
    assert load_policy(file, models=catalogue()).routes["checked"].draft is False
