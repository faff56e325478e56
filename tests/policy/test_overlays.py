"""Overlays: what is otherwise for one team, app or key, on top of the policy and never below its guarantees."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.embedding import choose
from gateway.policy.check import Proof, prove
from gateway.policy.decide import decide
from gateway.policy.load import parse_policy
from gateway.policy.trace import trace
from gateway.types import ANONYMOUS, Caller, DataClass, Decision, Signals, Zone

from .builders import LARGE, SMALL, VECTORS, a_policy, catalogue, loaded

MODELS = catalogue(SMALL, LARGE)
LEGAL, SALES = Caller("key_1", "legal", "drafts"), Caller("key_2", "sales", "bot")
TEXT = """
version: 1
guarantees: [{data: special, stays: premises}]
routes: {local: {try: [slm]}, cloud: {try: [llm, slm]}}
overlays:
  - for: {team: legal}
    guarantees: [{data: internal, stays: premises}]
    rules:
      - {name: legal-stays, when: {data: ">= internal"}, use: local}
      - {name: legal-hard, when: {gain: ">= 0.1"}, use: cloud}
    default: cloud
  - {for: {key: [key_2, key_9], app: bot}, default: cloud}
rules:
  - {name: stays, when: {data: ">= special"}, use: local}
  - {name: hard, when: {gain: ">= 0.35"}, use: cloud}
  - {name: faq, when: {task: faq}, use: local}
default: local
"""


def decision(caller: Caller = ANONYMOUS, **signals: object) -> Decision:
    asked = dataclasses.replace(Signals(caller=caller), **signals)  # type: ignore[arg-type]
    return decide(asked, policy=a_policy(TEXT), models=MODELS)


def proof(text: str) -> Proof:
    return prove(loaded(text), MODELS)


def test_an_overlays_rules_are_tried_before_the_policys_own() -> None:
    assert decision(LEGAL, gain=0.2).rule == "legal-hard"
    assert decision(SALES, gain=0.2).rule == "default"
    assert decision(LEGAL, task="faq").rule == "faq"


def test_an_overlays_default_comes_after_all_rules() -> None:
    assert decision(LEGAL).route.name == "cloud"
    assert decision(SALES).route.name == "cloud"
    assert decision(SALES).rule == "default"
    assert decision().route.name == "local"
    assert decision(dataclasses.replace(SALES, app="other")).route.name == "local"


def test_an_overlays_guarantee_holds_for_its_callers_only() -> None:
    assert decision(LEGAL, data=DataClass.INTERNAL).ceiling is Zone.PREMISES
    assert decision(SALES, data=DataClass.INTERNAL).ceiling is Zone.WORLD
    named = decide(
        Signals(caller=LEGAL, data=DataClass.INTERNAL), policy=a_policy(TEXT), models=MODELS, requested="large"
    )
    assert named.ladder == ()


def test_an_overlays_guarantee_holds_for_embeddings_too() -> None:
    def ladder(caller: Caller) -> tuple[str, ...]:
        asked = Signals(caller=caller, data=DataClass.INTERNAL)
        return choose(asked, policy=a_policy(TEXT), models=catalogue(VECTORS), requested="vectors").ladder

    assert ladder(SALES) == ("vectors",)
    assert ladder(LEGAL) == ()


def test_what_overlays_say_is_proved_too() -> None:
    good = proof(TEXT)
    assert good.errors == ()
    assert [kept.held for kept in good.guarantees] == [True, True]
    broken = proof(TEXT.replace('      - {name: legal-stays, when: {data: ">= internal"}, use: local}\n', ""))
    example = broken.guarantees[1].counter_example
    assert example is not None
    assert example["caller"] == {"team": "legal"}
    assert {p.kind for p in broken.errors} == {"guarantee"}
    said = "breaks the guarantee that internal data stays inside premises for caller.team = legal"
    assert any(said in p.message and "'legal-hard'" in p.message for p in broken.errors)


def test_a_default_of_an_overlay_is_a_path_of_its_own() -> None:
    broken = proof(TEXT.replace('when: {data: ">= special"}', "when: {data: secret}"))
    where = {(p.line, p.message.split(" breaks")[0]) for p in broken.errors}
    assert (12, "the default for caller.key one of key_2, key_9 and caller.app = bot") in where


def test_a_rule_that_its_own_overlay_takes_whole_is_dead() -> None:
    assert proof(TEXT.replace('">= 0.1"', '">= 0.1", data: ">= internal"')).dead_rules == ("legal-hard",)


def test_a_proof_says_for_whom_a_guarantee_is() -> None:
    values = [kept.as_values() for kept in proof(TEXT).guarantees]
    assert "for" not in values[0]
    assert values[1]["for"] == {"team": ["legal"]}


def test_the_trace_says_that_another_was_meant() -> None:
    tried = trace(Signals(task="faq"), a_policy(TEXT))
    assert [item.rule for item in tried] == ["legal-stays", "legal-hard", "stays", "hard", "faq"]
    assert tried[0].why == "caller.team is nothing; the rule asks for = legal"


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("for: {team: legal}", "for: {tem: legal}", "unknown_key", "'team'"),
        ("for: {team: legal}", "for: {tags: vip}", "unknown_key", "key, team, app"),
        ("for: {team: legal}", "for: legal", "type", "expected fields"),
        ("for: {team: legal}", "for: {team: []}", "value", "matches nobody"),
        ("for: {team: legal}", "x-for: {team: legal}", "missing", "`for:` is missing"),
        ("default: cloud}", "default: clod}", "unknown_route", "'cloud'"),
        (", default: cloud}", "}", "missing", "it says nothing"),
        ("name: legal-hard", "name: hard", "duplicate_name", "line 10 already"),
        ("data: internal, stays: premises", "data: special, stays: world", "looser", "may only be tightened"),
        ("data: internal, stays: premises", "data: secret, stays: eu", "looser", "keeps it inside premises"),
        ("overlays:", "overlay:", "unknown_key", "'overlays'"),
    ],
)
def test_a_slip_is_told_where_it_stands(old: str, new: str, kind: str, said: str) -> None:
    text = TEXT.replace(old, new)
    found = parse_policy(text, file="p.yaml").problems
    assert [problem.kind for problem in found] == [kind]
    assert said in found[0].message


def test_an_overlay_is_in_the_revision() -> None:
    other = [TEXT.replace("team: legal", "team: law"), TEXT.replace("default: cloud}", "default: local}")]
    other.append(TEXT.replace("data: internal, stays: premises", "data: internal, stays: eu"))
    assert len({a_policy(text).revision for text in [TEXT, *other]}) == 4
