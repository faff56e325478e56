from __future__ import annotations

import dataclasses

import pytest

from gateway.errors import UnknownModel
from gateway.policy.decide import decide
from gateway.types import DataClass, Decision, Signals, Zone

from .builders import EURO, LARGE, SMALL, VECTORS, a_policy, catalogue

POLICY = a_policy()
MODELS = catalogue(SMALL, LARGE, VECTORS)


def decision(requested: str | None = "auto", **signals: object) -> Decision:
    return decide(dataclasses.replace(Signals(), **signals), policy=POLICY, models=MODELS, requested=requested)  # type: ignore[arg-type]


def test_the_first_rule_that_matches_wins() -> None:
    assert decision(data=DataClass.PERSONAL, gain=0.9).rule == "personal-stays"
    assert decision(gain=0.9, task="faq", slm_success=0.9).rule == "hard"
    assert decision(task="faq", slm_success=0.9).rule == "easy-faq"


def test_without_a_match_the_default_answers() -> None:
    chosen = decision()
    assert (chosen.rule, chosen.route.name, chosen.ladder) == ("default", "small-first", ("small", "large"))


def test_a_decision_names_its_policy_and_revision() -> None:
    assert (decision().policy, decision().policy_revision) == ("test", POLICY.revision)


def test_a_rung_of_a_kind_is_every_model_of_it_in_order() -> None:
    models = catalogue(LARGE, EURO, SMALL)
    chosen = decide(Signals(), policy=POLICY, models=models)
    assert chosen.ladder == ("euro", "small", "large")


def test_a_models_name_goes_before_a_kind() -> None:
    policy = a_policy("version: 1\nroutes: {r: {try: [small, slm, llm]}}\ndefault: r\n")
    chosen = decide(Signals(), policy=policy, models=catalogue(EURO, SMALL, LARGE))
    assert chosen.ladder == ("small", "euro", "large")


def test_models_beyond_the_ceiling_are_left_out_and_said() -> None:
    chosen = decision("cloud", data=DataClass.SPECIAL)
    assert chosen.ceiling is Zone.PREMISES
    assert chosen.ladder == ("small",)
    assert chosen.skipped[0].model == "large"
    assert "special data stays inside premises" in chosen.skipped[0].reason


def test_naming_a_model_pins_it_but_never_loosens_a_guarantee() -> None:
    assert decision("large").ladder == ("large",)
    assert decision("large").rule == "pinned"
    assert decision("large", data=DataClass.PERSONAL).ladder == ()


@pytest.mark.parametrize("requested", ["auto", "", None, "gpt-4o"])
def test_auto_nothing_and_an_alias_of_auto_let_the_policy_choose(requested: str | None) -> None:
    assert decision(requested, gain=0.9).rule == "hard"


def test_an_alias_may_mean_a_route_or_a_model() -> None:
    assert decision("fast").route.name == "local"
    assert decision("big").ladder == ("large",)


@pytest.mark.parametrize(("requested", "said"), [("larg", "'large'"), ("vectors", "embeddings"), ("zzz", "auto")])
def test_a_name_that_means_nothing_is_refused_with_what_there_is(requested: str, said: str) -> None:
    with pytest.raises(UnknownModel, match=said):
        decision(requested)


def test_an_alias_to_a_model_that_is_gone_is_refused_by_name() -> None:
    with pytest.raises(UnknownModel, match="alias 'big'"):
        decide(Signals(), policy=POLICY, models=catalogue(SMALL), requested="big")


def test_a_kind_without_models_is_an_empty_rung() -> None:
    chosen = decide(Signals(), policy=POLICY, models=catalogue(SMALL))
    assert chosen.ladder == ("small",)
    assert chosen.skipped[0].model == "llm"


def test_a_model_that_was_removed_is_left_out_and_said() -> None:
    policy = a_policy("version: 1\nroutes: {r: {try: [gone, slm]}}\ndefault: r\n")
    chosen = decide(Signals(), policy=policy, models=catalogue(SMALL))
    assert chosen.ladder == ("small",)
    assert "configured" in chosen.skipped[0].reason


@pytest.mark.parametrize(
    ("signals", "word"),
    [
        (Signals(prompt_tokens=5000), "5000 tokens"),
        (Signals(modality="image"), "image"),
        (Signals(tools=True), "tools"),
    ],
)
def test_models_that_cannot_take_a_request_are_left_out_and_said(signals: Signals, word: str) -> None:
    tiny = dataclasses.replace(SMALL, context_tokens=4096, tools=False)
    able = dataclasses.replace(LARGE, modalities=frozenset({"text", "image"}))
    chosen = decide(signals, policy=POLICY, models=catalogue(tiny, able))
    assert chosen.ladder == ("large",)
    assert word in chosen.skipped[0].reason


def test_embedding_models_never_answer_a_chat() -> None:
    policy = a_policy("version: 1\nroutes: {r: {try: [vectors, slm]}}\ndefault: r\n")
    assert decide(Signals(), policy=policy, models=MODELS).ladder == ("small",)


def test_the_strictest_guarantee_sets_the_ceiling() -> None:
    policy = a_policy(
        """
        version: 1
        guarantees: [{data: personal, stays: eu}, {data: special, stays: premises}]
        routes: {r: {try: [slm, llm]}}
        default: r
        """
    )
    models = catalogue(SMALL, EURO, LARGE)
    assert decide(Signals(data=DataClass.PERSONAL), policy=policy, models=models).ladder == ("small", "euro")
    assert decide(Signals(data=DataClass.SECRET), policy=policy, models=models).ladder == ("small",)


def test_a_kind_can_be_kept_inside_a_zone() -> None:
    policy = a_policy("version: 1\nroutes: {r: {try: [slm@premises, llm@eu]}}\ndefault: r\n")
    near = dataclasses.replace(LARGE, id="near", zone=Zone.EU)
    assert decide(Signals(), policy=policy, models=catalogue(EURO, SMALL, LARGE, near)).ladder == ("small", "near")
