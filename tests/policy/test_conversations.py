"""Canaries, shadows and sticky rules: what a policy does with some of the conversations."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.policy.check import Proof, prove
from gateway.policy.decide import decide
from gateway.policy.load import parse_policy
from gateway.policy.rules import Policy
from gateway.policy.trace import Language, trace
from gateway.types import DataClass, Decision, Signals, Zone

from .builders import EURO, LARGE, SMALL, a_policy, catalogue, loaded, with_rules

MODELS = catalogue(SMALL, LARGE)
STAYS = '{name: stays, when: {data: ">= personal"}, use: local}'


def a_rule(words: str, *, default: str = "local") -> Policy:
    return a_policy(with_rules(f"{STAYS}\n{{name: r, when: {{task: faq}}, use: local, {words}}}", default=default))


def decision(policy: Policy, **signals: object) -> Decision:
    return decide(dataclasses.replace(Signals(task="faq"), **signals), policy=policy, models=MODELS)  # type: ignore[arg-type]


def proof(rules: str, *, default: str = "local") -> Proof:
    return prove(loaded(with_rules(rules, default=default)), MODELS)


# --- canary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lot", "canary"), [(0.0, True), (0.0499, True), (0.05, False), (0.5, False), (0.9999, False)])
def test_a_canary_takes_its_share_of_the_conversations(lot: float, canary: bool) -> None:
    chosen = decision(a_rule("canary: {cloud: 5%}"), draw=lot)
    assert (chosen.rule, chosen.canary) == ("r", canary)
    assert chosen.route.name == ("cloud" if canary else "local")
    assert chosen.ladder[0] == ("large" if canary else "small")


def test_several_canaries_share_what_they_say_and_overlap_nowhere() -> None:
    text = with_rules("{name: r, when: {}, use: local, canary: {cloud: 5%, other: 0.25 %}}")
    policy = a_policy(text.replace("  cloud:", "  other: {try: [large]}\n  cloud:"))
    taken = [decision(policy, draw=lot / 10_000).route.name for lot in range(10_000)]
    assert (taken.count("cloud"), taken.count("other"), taken.count("local")) == (500, 25, 9_475)


def test_a_canary_is_proved_like_any_rung_and_its_counter_example_says_the_lot() -> None:
    result = proof("{name: r, when: {task: faq}, use: local, canary: {cloud: 5%}}")
    assert result.guarantees[0].counter_example == {
        "data": "personal", "task": "faq", "draw": 0.01,
        "rule": "r", "route": "cloud", "model": "large", "zone": "world",
    }  # fmt: skip
    assert "rung 'llm' (large) of its canary 'cloud' is in world" in result.errors[0].message
    assert not proof(f"{STAYS}\n{{name: r, when: {{task: faq}}, use: local, canary: {{cloud: 5%}}}}").errors


def test_a_route_that_only_a_canary_takes_is_used() -> None:
    notes = proof(f"{STAYS}\n{{name: r, when: {{task: faq}}, use: local, canary: {{cloud: 5%}}}}").notes
    assert "unused_route" not in {note.kind for note in notes}


# --- shadow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "lot", "shadow"),
    [
        ("shadow: llm", 0.0, ("large",)),
        ("shadow: large", 0.5, ("large",)),
        ("shadow: {to: llm, share: 2%}", 0.9799, ()),
        ("shadow: {to: llm, share: 2%}", 0.98, ("large",)),
        ("shadow: {to: llm@eu, share: 2%}", 0.98, ()),
    ],
)
def test_a_shadow_gets_a_copy_of_its_share_of_the_conversations(
    words: str, lot: float, shadow: tuple[str, ...]
) -> None:
    chosen = decision(a_rule(words), draw=lot)
    assert chosen.shadow == shadow
    assert chosen.ladder == ("small",)


def test_no_copy_goes_beyond_the_ceiling() -> None:
    policy = a_policy(with_rules("{name: r, when: {}, use: local, shadow: llm}"))
    assert decision(policy).shadow == ("large",)
    assert decision(policy, data=DataClass.PERSONAL).shadow == ()


def test_a_request_that_names_its_model_has_no_shadow() -> None:
    policy = a_rule("shadow: llm")
    assert decide(Signals(task="faq"), policy=policy, models=MODELS, requested="small").shadow == ()


def test_a_shadow_is_proved_like_any_rung() -> None:
    result = proof("{name: r, when: {task: faq}, use: local, shadow: {to: llm, share: 2%}}")
    assert result.guarantees[0].counter_example == {
        "data": "personal", "task": "faq", "draw": 0.98,
        "rule": "r", "shadow": "llm", "model": "large", "zone": "world",
    }  # fmt: skip
    assert "its shadow 'llm' (large) is in world" in result.errors[0].message
    assert not proof(f"{STAYS}\n{{name: r, when: {{task: faq}}, use: local, shadow: llm}}").errors


def test_a_shadow_that_is_no_model_is_an_error_where_it_stands() -> None:
    result = proof(f"{STAYS}\n{{name: r, when: {{}}, use: local, shadow: {{to: lrge}}}}")
    assert [(p.kind, p.line) for p in result.errors] == [("unknown_model", 9)]
    assert "rule r: shadow: there is no model 'lrge'" in result.errors[0].message
    assert "'large'" in result.errors[0].message


# --- sticky ---------------------------------------------------------------------------------------------------------

MOVES = f"""{STAYS}
    {{name: hard, when: {{gain: ">= 0.35"}}, use: cloud, sticky: conversation}}
    {{name: easy, when: {{task: faq}}, use: local}}"""


def test_a_conversation_that_moved_up_does_not_fall_back_in_mid_task() -> None:
    policy = a_policy(with_rules(MOVES))
    assert decision(policy).rule == "easy"
    held = decision(policy, held_by="hard")
    assert (held.rule, held.sticky, held.ladder[0]) == ("hard", True, "large")
    first = decision(policy, gain=0.5)
    assert (first.rule, first.sticky, first.holds) == ("hard", False, True)


def test_a_rule_that_stands_before_a_sticky_one_still_wins() -> None:
    held = decision(a_policy(with_rules(MOVES)), held_by="hard", data=DataClass.SPECIAL)
    assert (held.rule, held.ladder) == ("stays", ("small",))


def test_what_holds_a_conversation_and_is_gone_from_the_policy_holds_nothing() -> None:
    assert decision(a_policy(with_rules(MOVES)), held_by="of-yesterday").rule == "easy"
    assert decision(a_policy(with_rules(MOVES.replace(", sticky: conversation", ""))), held_by="hard").rule == "easy"


def test_a_conversation_that_was_escalated_begins_with_the_large_model() -> None:
    text = with_rules(STAYS, default="small-first").replace("  cloud:", "  small-first: {try: [slm, llm]}\n  cloud:")
    policy = a_policy(text + "sticky: conversation\n")
    assert decision(policy).ladder == ("small", "large")
    assert decision(policy).holds
    held = decision(policy, held_by="default")
    assert (held.rule, held.sticky, held.ladder) == ("default", True, ("large", "small"))


def test_a_rule_may_say_otherwise_than_its_policy() -> None:
    policy = a_policy(with_rules(MOVES.replace("conversation", "none")) + "sticky: conversation\n")
    assert [rule.sticky for rule in policy.rules] == [True, False, True]


def test_a_conversation_may_become_personal_and_the_proof_knows() -> None:
    cautious = '{name: hard, when: {gain: ">= 0.35", data: "< personal"}, use: cloud, sticky: conversation}'
    result = proof(f"{cautious}\n{STAYS}")
    assert result.guarantees[0].counter_example == {
        "data": "personal", "held_by": "hard", "rule": "hard", "route": "cloud", "model": "large", "zone": "world",
    }  # fmt: skip
    assert not proof(f"{STAYS}\n{cautious}").errors
    assert not proof(f"{cautious.replace('conversation', 'none')}\n{STAYS}").errors


def test_a_sticky_rule_that_only_holds_and_never_begins_is_dead() -> None:
    result = proof(f'{STAYS}\n{{name: a, when: {{gain: ">= 0.3"}}, use: cloud}}\n{MOVES.splitlines()[1]}')
    assert result.dead_rules == ("hard",)


def test_a_sticky_rule_without_a_large_model_keeps_nothing_and_is_noted() -> None:
    abroad = '{name: near, when: {data: "< personal"}, use: near, sticky: conversation}'
    text = with_rules(f"{abroad}\n{STAYS}").replace("  cloud:", "  near: {try: [euro]}\n  cloud:")
    result = prove(loaded(text), catalogue(SMALL, EURO, LARGE))
    assert "idle_sticky" in {note.kind for note in result.notes}
    assert "near" not in {(kept.counter_example or {}).get("rule") for kept in result.guarantees}


# --- in words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "signals", "language", "why"),
    [
        (
            "canary: {cloud: 5%}",
            {"draw": 0.01},
            "en",
            "it matches: task = faq; 5% of the conversations go by cloud, and this is one",
        ),
        (
            "canary: {cloud: 2.5%}",
            {"draw": 0.01},
            "es",
            "se cumple: task = faq; el 2,5 % de las conversaciones va por cloud, y esta es una de ellas",
        ),
        ("canary: {cloud: 5%}", {"draw": 0.2}, "en", "it matches: task = faq"),
        (
            "shadow: {to: llm, share: 2%}",
            {"draw": 0.99},
            "es",
            "se cumple: task = faq; "
            "una copia del 2 % de las conversaciones va a llm tras la respuesta, también de esta",
        ),
        (
            "sticky: conversation",
            {"held_by": "r", "task": "code"},
            "en",
            "an earlier turn moved this conversation here, and it stays",
        ),
        (
            "sticky: conversation",
            {"held_by": "r"},
            "es",
            "un turno anterior trajo aquí esta conversación, y aquí sigue",
        ),
    ],
)
def test_what_a_rule_does_with_this_conversation_is_said(
    words: str, signals: dict[str, object], language: Language, why: str
) -> None:
    asked = dataclasses.replace(Signals(task="faq"), **signals)  # type: ignore[arg-type]
    assert trace(asked, a_rule(words), language=language)[-1].why == why


# --- wrong ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ("canary: {clod: 5%}", "unknown_route", "'cloud'"),
        ("canary: {cloud: 0.05}", "type", "'5%'"),
        ("canary: {cloud: 5}", "type", "'5%'"),
        ("canary: {cloud: some}", "type", "5% or 0.25%"),
        ("canary: {cloud: 0.001%}", "type", "0.25%"),
        ("canary: {cloud: 0%}", "range", "0.01% to 100%"),
        ("canary: {cloud: 101%}", "range", "0.01% to 100%"),
        ("canary: {cloud: 100%}", "range", "stay below 100%"),
        ("canary: {local: 5%}", "value", "own route"),
        ("canary: {}", "value", "expected a route"),
        ("canary: cloud", "type", "a mapping"),
        ("cannary: {cloud: 5%}", "unknown_key", "'canary'"),
        ("shadow: {share: 5%}", "missing", "`to:`"),
        ("shadow: {to: llm, shar: 5%}", "unknown_key", "'share'"),
        ("shadow: {to: llm, share: 0%}", "range", "0.01%"),
        ("shadow: [llm]", "type", "expected a text"),
        ("sticky: yes", "value", "conversation, none"),
        ("sticky: conversaton", "value", "'conversation'"),
    ],
)
def test_a_slip_is_told_with_what_was_expected(words: str, kind: str, said: str) -> None:
    found = parse_policy(with_rules(f"{{name: r, when: {{}}, use: local, {words}}}"), file="p.yaml").problems
    assert [problem.kind for problem in found] == [kind]
    assert said in found[0].message
    assert found[0].line == 8


@pytest.mark.parametrize("signal", ["draw", "held_by"])
def test_a_condition_cannot_ask_for_the_conversation(signal: str) -> None:
    (found,) = parse_policy(with_rules(f"{{name: r, when: {{{signal}: 1}}, use: local}}")).problems
    assert "`canary:`" in found.message


def test_all_of_it_is_in_the_revision() -> None:
    words = [
        "canary: {cloud: 5%}",
        "canary: {cloud: 6%}",
        "shadow: llm",
        "shadow: {to: llm, share: 6%}",
        "sticky: none",
    ]
    revisions = {a_rule(word).revision for word in [*words, "sticky: conversation"]}
    assert len(revisions) == len(words) + 1
    assert decision(a_rule("sticky: none")).ceiling is Zone.WORLD


# --- sticky, until --------------------------------------------------------------------------------------------------

RELEASES = MOVES.replace("sticky: conversation", "sticky: {until: {follow_up: false, prompt_tokens: '< 3000'}}")


def test_a_turn_that_stands_alone_leaves_and_one_that_follows_stays() -> None:
    policy = a_policy(with_rules(RELEASES))
    assert decision(policy, held_by="hard", follow_up=True).rule == "hard"
    left = decision(policy, held_by="hard", follow_up=False)
    assert (left.rule, left.sticky, left.ladder[0]) == ("easy", False, "small")


def test_a_prompt_cache_that_is_worth_keeping_keeps_the_conversation() -> None:
    policy = a_policy(with_rules(RELEASES))
    assert decision(policy, held_by="hard", follow_up=False, prompt_tokens=3_000).sticky
    assert not decision(policy, held_by="hard", follow_up=False, prompt_tokens=2_999).sticky


def test_a_default_lets_go_too() -> None:
    text = with_rules(STAYS, default="small-first").replace("  cloud:", "  small-first: {try: [slm, llm]}\n  cloud:")
    policy = a_policy(text + "sticky: {until: {follow_up: false}}\n")
    assert decision(policy, held_by="default", follow_up=True).ladder == ("large", "small")
    assert decision(policy, held_by="default", follow_up=False).ladder == ("small", "large")


def test_what_lets_go_is_proved_and_in_the_revision() -> None:
    when = "{gain: '>= 0.35', data: '< personal'}"
    cautious = f"{{name: hard, when: {when}, use: cloud, sticky: {{until: {{follow_up: false}}}}}}"
    result = proof(f"{cautious}\n{STAYS}")
    assert (result.guarantees[0].counter_example or {})["held_by"] == "hard"
    assert (result.guarantees[0].counter_example or {})["follow_up"] is True
    assert not proof(f"{cautious.replace('}}}', ', data: personal}}}')}\n{STAYS}").guarantees[0].held
    assert not proof(f"{STAYS}\n{cautious}").errors
    kinds = ("conversation", "{until: {follow_up: false}}", "{until: {follow_up: true}}")
    assert len({a_rule(f"sticky: {kind}").revision for kind in kinds}) == 3


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("sticky: {}", "missing"),
        ("sticky: {unless: {}}", "unknown_key"),
        ("sticky: {until: {held_by: x}}", "unknown_signal"),
    ],
)
def test_a_slip_in_what_lets_go_is_told(words: str, kind: str) -> None:
    found = parse_policy(with_rules(f"{{name: r, when: {{}}, use: local, {words}}}"), file="p.yaml").problems
    assert kind in [problem.kind for problem in found]
