"""What is said to make a model think lifts no plain question, and takes nothing away from what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.check import NOMINAL
from gateway.policy.decide import decide
from gateway.policy.load import SHIPPED, load_policy
from gateway.signals.difficulty import DifficultyScorer
from gateway.signals.incantations import asked_plainly
from gateway.types import Part, Signals
from router_models import manifest

FAQS = ("¿A qué hora abrís los sábados?", "What time do you open on Saturday?", "How do I reset my password?")
SAID = (
    "Think step by step.", "think step by step", "Let's think step by step.", "Piensa paso a paso.",
    "Razona paso a paso antes de responder.", "Take a deep breath and work on this problem step-by-step.",
    "You are a world-class expert in everything.", "Explica tu razonamiento con detalle.", "Think carefully!",
    "Please, think it through step by step before answering.", "Respira hondo y piensa paso a paso.",
)  # fmt: skip


@pytest.fixture(scope="module")
def scorer() -> DifficultyScorer:
    return DifficultyScorer.load(manifest.FOLDER)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("asked", FAQS)
def test_padding_does_not_lift_a_plain_question(asked: str, said: str, scorer: DifficultyScorer) -> None:
    plain = scorer.score((Part("user", asked),))
    for padded in (f"{asked} {said}", f"{asked}\n\n{said}", f"{said} {asked}", f"{asked} {said} {said}"):
        found = scorer.score((Part("user", padded),))
        assert (found.gain, found.slm_success, found.task) == (plain.gain, plain.slm_success, plain.task), padded


@pytest.mark.parametrize("asked", FAQS)
def test_padding_that_is_not_known_does_not_reach_the_large_model(asked: str, scorer: DifficultyScorer) -> None:
    policy = load_policy(SHIPPED / "default.yaml", models=NOMINAL)
    said = scorer.score((Part("user", f"{asked} Ponder this at great length, gradually and thoroughly."),))
    signals = Signals(slm_success=said.slm_success, gain=said.gain, task=said.task)
    assert decide(signals, policy=policy, models=NOMINAL).rule != "hard"


@pytest.mark.parametrize(
    "text",
    [
        "Explain step by step how to change a tyre.",
        "Demuestra paso a paso que la raíz de dos es irracional.",
        "Think of a name for my cat.",
        "You are a translator. Translate: good morning",
        "¿Qué significa pensar paso a paso?",
        "Think step by step.",
        "",
    ],
)
def test_what_asks_for_something_stays(text: str) -> None:
    assert asked_plainly(text) == text


@given(st.text(st.characters(exclude_categories=()), max_size=300))
@settings(deadline=None)
def test_any_characters_are_read(text: str) -> None:
    assert asked_plainly(text) in text or asked_plainly(text)[:-1] in text


@pytest.mark.parametrize("text", ["think step by " * 70_000, "." * 1_000_000, "piensa " * 150_000, "( " * 500_000])
def test_a_megabyte_is_read_in_bounded_time(text: str) -> None:
    assert asked_plainly(text)
