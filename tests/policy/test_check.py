from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.check import Proof, check_file, prove
from gateway.policy.load import Loaded
from gateway.policy.rules import AllOf, Compare, Condition, Policy, rule
from gateway.types import Guarantee, Model, Route, Signals

from .builders import DEFAULT_TEXT, EURO, LARGE, SMALL, catalogue, loaded, with_rules


def proof(text: str, *models: Model) -> Proof:
    return prove(loaded(text), catalogue(*models) if models else None)


def test_the_default_policy_keeps_its_promise() -> None:
    result = proof(DEFAULT_TEXT.replace("big: large", "big: local"))
    assert not result.errors
    assert result.guarantees[0].held
    assert result.guarantees[0].counter_example is None


def test_a_rule_that_lets_personal_data_out_is_shown_with_the_plainest_request() -> None:
    result = proof(with_rules('{name: hard, when: {gain: ">= 0.35"}, use: cloud}'))
    assert [p.kind for p in result.errors] == ["guarantee"]
    assert result.guarantees[0].counter_example == {
        "data": "personal", "gain": 0.35, "rule": "hard", "route": "cloud", "model": "nominal-llm", "zone": "world",
    }  # fmt: skip


def test_a_rung_behind_the_first_counts_as_much() -> None:
    text = with_rules('{name: own, when: {data: ">= personal"}, use: local}').replace(
        "{try: [slm]}", "{try: [slm, llm]}"
    )
    assert not proof(text).guarantees[0].held


def test_a_small_model_abroad_breaks_a_rule_that_only_says_slm() -> None:
    text = with_rules('{name: personal-stays, when: {data: ">= personal"}, use: local}')
    result = proof(text, EURO, LARGE, SMALL)
    example = result.guarantees[0].counter_example
    assert example is not None
    assert (example["rule"], example["model"], example["zone"]) == ("personal-stays", "euro", "eu")


def test_the_default_route_is_proved_for_what_the_rules_leave() -> None:
    open_default = with_rules("{name: faq, when: {task: faq}, use: local}", default="cloud")
    example = proof(open_default).guarantees[0].counter_example
    assert example is not None
    assert example["rule"] == "default"
    assert proof(with_rules('{name: p, when: {data: ">= personal"}, use: local}', default="cloud")).guarantees[0].held


@pytest.mark.parametrize(("target", "held"), [("auto", True), ("local", True), ("cloud", False), ("large", False)])
def test_an_alias_is_a_path_like_any_other(target: str, held: bool) -> None:
    text = (
        with_rules('{name: p, when: {data: ">= personal"}, use: local}', default="cloud")
        + f"aliases: {{gpt: {target}}}\n"
    )
    result = proof(text, SMALL, LARGE)
    assert result.guarantees[0].held is held
    if not held:
        assert result.guarantees[0].counter_example is not None
        assert result.guarantees[0].counter_example["requested"] == "gpt"


def test_a_model_that_cannot_take_the_request_breaks_nothing() -> None:
    text = with_rules(
        """{name: big, when: {prompt_tokens: "> 8000", data: ">= personal"}, use: cloud}
        {name: stays, when: {data: ">= personal"}, use: local}"""
    )
    short = dataclasses.replace(LARGE, context_tokens=8000)
    assert proof(text, SMALL, short).guarantees[0].held
    assert not proof(text, SMALL, dataclasses.replace(short, context_tokens=8001)).guarantees[0].held


def test_a_guarantee_that_no_model_can_meet_is_an_error() -> None:
    result = proof(with_rules('{name: p, when: {data: ">= personal"}, use: local}'), LARGE)
    assert "guarantee_unmeetable" in {p.kind for p in result.errors}


def test_a_rule_behind_a_wider_one_is_dead_and_names_it() -> None:
    result = proof(
        with_rules(
            """{name: other, when: {task: code}, use: local}
            {name: wide, when: {data: ">= internal"}, use: local}
            {name: narrow, when: {data: special, task: faq}, use: local}"""
        )
    )
    assert result.dead_rules == ("narrow",)
    assert "'wide' stands before it" in result.errors[0].message


def test_a_rule_is_dead_when_others_take_its_requests_together() -> None:
    result = proof(
        with_rules(
            """{name: unrelated, when: {tools: true}, use: local}
            {name: low, when: {gain: "< 0.5"}, use: local}
            {name: high, when: {gain: ">= 0.5"}, use: local}
            {name: late, when: {task: faq}, use: local}"""
        )
    )
    assert result.dead_rules == ("late",)
    assert "'low', 'high' together" in result.errors[0].message
    assert "default_unreached" in {note.kind for note in result.notes}


def test_a_rule_at_odds_with_itself_is_dead() -> None:
    result = proof(with_rules("{name: never, when: {all: [{gain: '> 0.5'}, {gain: '< 0.4'}]}, use: local}"))
    assert "contradicts itself" in result.errors[0].message


@pytest.mark.parametrize(
    ("first", "second", "dead"),
    [
        ("{difficulty: '> 0.25'}", "{slm_success: '< 0.75'}", True),
        ("{difficulty: '> 0.25'}", "{slm_success: '<= 0.75'}", False),
        ("{gain: '> 0.1'}", "{gain: '>= 0.1'}", False),
        ("{gain: '>= 0.1'}", "{gain: '> 0.1'}", True),
        ("{prompt_tokens: '>= 9'}", "{prompt_tokens: '> 8'}", True),
        ("{prompt_tokens: '> 9'}", "{prompt_tokens: '> 8'}", False),
        ("{hour: '00:00-12:00'}", "{hour: '6-11'}", True),
        ("{language: '!= es'}", "{language: [en, fr]}", True),
        ("{cloud: [up, down]}", "{cloud: '!= degraded'}", True),
        ("{modality: [text, image]}", "{modality: [text, audio]}", False),
        ("{data_kinds: [health, minors]}", "{data_kinds: minors}", True),
        ("{data_kinds: minors}", "{data_kinds: [health, minors]}", False),
        ("{caller: {team: [a, b]}}", "{caller: {team: a, app: x}}", True),
        ("{caller: {tags: vip}}", "{caller: {tags: [gold, vip]}}", False),
        ("{budget_left: '< 5'}", "{budget_left: '< 4'}", True),
        ("{not: {any: [{task: faq}, {tools: true}]}}", "{task: code, tools: false}", True),
    ],
)
def test_the_proof_knows_every_kind_of_signal(first: str, second: str, dead: bool) -> None:
    result = proof(with_rules(f"{{name: a, when: {first}, use: local}}\n{{name: b, when: {second}, use: local}}"))
    assert result.dead_rules == (("b",) if dead else ())


def test_kinds_without_models_and_unused_routes_are_notes() -> None:
    result = proof(with_rules('{name: p, when: {data: ">= personal"}, use: local}'), SMALL)
    assert not result.errors
    assert {note.kind for note in result.notes} == {"empty_kind", "unused_route"}


def test_a_policy_without_a_promise_is_noted() -> None:
    text = with_rules("{name: faq, when: {task: faq}, use: cloud}", guarantees="[]")
    assert "no_guarantee" in {note.kind for note in proof(text).notes}


def test_a_name_with_two_meanings_is_noted_with_the_one_that_counts() -> None:
    text = with_rules("{name: p, when: {}, use: local}").replace("cloud:", "small:") + "aliases: {large: local}\n"
    notes = [note.message for note in proof(text, SMALL, LARGE).notes if note.kind == "same_name"]
    assert ["gets the model" in note for note in notes] == [True, False]
    assert ["gets the alias" in note for note in notes] == [False, True]


def test_an_unknown_model_is_an_error_at_its_rung() -> None:
    result = proof(with_rules("{name: r, when: {}, use: local}").replace("[llm, slm]", "[lrge]"), SMALL, LARGE)
    assert [(p.kind, p.line) for p in result.errors] == [("unknown_model", 6)]
    assert "'large'" in result.errors[0].message


def tiles(count: int) -> list[Condition]:
    """Boxes that together cover four axes of many thresholds exactly once."""
    chance = random.Random(7)
    names = ("gain", "slm_success", "stay_score", "prompt_tokens")
    boxes = [{"gain": (-1.0, 1.0), "slm_success": (0.0, 1.0), "stay_score": (0.0, 1.0), "prompt_tokens": (0, 100_000)}]
    while len(boxes) < count:
        box = boxes.pop(chance.randrange(len(boxes)))
        name = chance.choice(names)
        low, high = box[name]
        middle = (
            (low + high) // 2 if name == "prompt_tokens" else round(low + (high - low) * chance.uniform(0.3, 0.7), 6)
        )
        if not low < middle < high:
            boxes.append(box)
            continue
        boxes += [{**box, name: (low, middle)}, {**box, name: (middle, high)}]
    return [
        AllOf(
            tuple(
                part
                for name, (low, high) in box.items()
                for part in (
                    Compare(name, ">=", low),
                    Compare(name, "<=" if high in {1.0, 100_000} else "<", high),
                )
                if not (name == "prompt_tokens" and high == 100_000 and part.op == "<=")
            )
        )
        for box in boxes
    ]


def policy_of(conditions: list[Condition], routes: list[Route], guarantees: tuple[Guarantee, ...] = ()) -> Loaded:
    rules = tuple(rule(f"r{n}", when, route) for n, (when, route) in enumerate(zip(conditions, routes, strict=True)))
    by_name = {route.name: route for route in routes} | {LOCAL.name: LOCAL}
    return Loaded(Policy("random", LOCAL, rules, by_name, guarantees))


LOCAL, BOTH, ABROAD = Route("local", ("slm",)), Route("both", ("slm", "llm")), Route("abroad", ("euro", "slm"))


@pytest.mark.parametrize("count", [50, 200])
def test_a_fine_tiling_leaves_nothing_and_without_any_one_tile_it_does(count: int) -> None:
    boxes = tiles(count)
    random.Random(1).shuffle(boxes)
    always = AllOf(())
    assert prove(policy_of([*boxes, always], [LOCAL] * (count + 1))).dead_rules == (f"r{count}",)
    for missing in (0, count // 2, count - 1):
        most = [box for number, box in enumerate(boxes) if number != missing]
        assert prove(policy_of([*most, always], [LOCAL] * count)).dead_rules == ()


# --- whole files ----------------------------------------------------------------------------------------------------


def never(_policy: Policy) -> Any:
    raise AssertionError("no case has a text: nothing is to be classified")


def test_a_file_is_checked_with_the_cases_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(DEFAULT_TEXT.replace("big: large", "big: local"))
    (tmp_path / "p.cases.yaml").write_text(
        """
- {note: stays, signals: {data: personal}, expect: {rule: personal-stays, zone: premises}}
- {note: wrong, signals: {gain: 0.2}, expect: {rule: hard}}
"""
    )
    report = check_file(file, models=catalogue(), classify=never)

    assert not report.ok
    assert [e.kind for e in report.errors] == ["case"]
    assert "hard does not match, gain is 0.2; the rule asks for >= 0.35" in report.errors[0].message
    assert {n.message for n in report.notes if n.kind == "uncovered"} == {
        "no case fires rule 'hard'",
        "no case fires rule 'easy-faq'",
    }
    values = report.as_values()
    assert values["cases"] == {"passed": 1, "failed": 1}
    assert values["errors"][0].keys() == {"line", "column", "kind", "message"}


def test_a_policy_without_cases_is_noted_and_good(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(DEFAULT_TEXT.replace("big: large", "big: local"))
    report = check_file(file, models=None, classify=never)
    assert report.ok
    assert "no_cases" in {note.kind for note in report.notes}


def test_texts_are_classified_once_built(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(DEFAULT_TEXT.replace("big: large", "big: local"))
    (tmp_path / "p.cases.yaml").write_text(
        """
- {note: one, text: hello, expect: {rule: easy-faq, task: faq}}
- {note: two, messages: [{role: user, content: hi}], signals: {data: special}, expect: {not_rule: easy-faq}}
"""
    )
    built: list[str] = []
    seen: list[object] = []

    def build(policy: Policy) -> Any:
        built.append(policy.name)

        def classify(request: object) -> Signals:
            seen.append(request)
            return Signals(task="faq", slm_success=0.9)

        return classify

    assert check_file(file, models=catalogue(), classify=build).ok
    assert built == ["p"]
    assert seen == ["hello", [{"role": "user", "content": "hi"}]]
