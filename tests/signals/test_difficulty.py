"""Which text of a conversation is judged for difficulty, and what the judgement says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.vocabulary import DOMAINS, TASKS
from gateway.signals.difficulty import DifficultyScorer, judged
from gateway.types import Part
from router_models import manifest
from router_models.router_runtime import DOMAINS as MODEL_DOMAINS
from router_models.router_runtime import TASKS as MODEL_TASKS

INSTRUCTIONS = "Eres un clasificador. Devuelve JSON con la etiqueta."
QUESTION = "Explica la diferencia entre una hipoteca fija y una variable con un ejemplo de cada una."


def user(text: str) -> Part:
    return Part("user", text)


def assistant(text: str) -> Part:
    return Part("assistant", text)


@pytest.fixture(scope="module")
def scorer() -> DifficultyScorer:
    return DifficultyScorer.load(manifest.FOLDER)


# --- which text -------------------------------------------------------------------------------------------------------


def test_the_last_turn_of_the_user_is_judged() -> None:
    assert judged((user("hola"), assistant("¿en qué ayudo?"), user(QUESTION))) == QUESTION
    assert judged((user(QUESTION),)) == QUESTION


@pytest.mark.parametrize("follow_up", ["hazlo más corto", "and in Java?", "¿y en el otro caso?"])
def test_a_short_follow_up_is_judged_with_the_turn_before_it(follow_up: str) -> None:
    said = judged((user("otra cosa"), user(QUESTION), assistant("Una hipoteca fija..."), user(follow_up)))
    assert said == f"{QUESTION}\n{follow_up}"


def test_a_turn_that_stands_alone_is_judged_alone() -> None:
    assert judged((user("Escribe un poema"), assistant("..."), user(QUESTION))) == QUESTION


def test_of_a_long_turn_before_it_the_end_counts() -> None:
    said = judged((user("a" * 5_000 + "el final"), user("¿y si no?")))
    assert said.endswith("el final\n¿y si no?")
    assert len(said) < 1_000


def test_what_the_model_answered_is_not_judged() -> None:
    assert "respuesta" not in judged((user(QUESTION), assistant("respuesta " * 50), user("sigue")))


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_instructions_of_an_application_stand_before_the_question(role: str) -> None:
    assert judged((Part(role, INSTRUCTIONS), user(QUESTION))) == f"{INSTRUCTIONS}\n\n{QUESTION}"


def test_of_long_instructions_the_beginning_counts() -> None:
    said = judged((Part("system", INSTRUCTIONS + " regla" * 1_000), user(QUESTION)))
    assert said.startswith(INSTRUCTIONS)
    assert said.endswith(QUESTION)
    assert len(said) < 800


@pytest.mark.parametrize("role", ["tool", "tools", "schema", "field"])
def test_tools_and_fields_are_not_judged(role: str) -> None:
    assert judged((user(QUESTION), Part(role, '{"name": "search"}'))) == QUESTION


def test_an_empty_last_turn_leaves_the_one_before_it() -> None:
    assert judged((user(QUESTION), user("  \n"))) == QUESTION


def test_where_no_user_speaks_the_last_text_is_judged() -> None:
    assert judged((Part("system", "uno"), assistant("dos"))) == "dos"
    assert judged(()) == ""


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=80)), max_size=6))
def test_what_is_judged_was_said(turns: list[tuple[str, str]]) -> None:
    parts = [Part(role, text) for role, text in turns]
    said = judged(parts)
    asked = [part.text for part in parts if part.role == "user" and part.text.strip()]
    assert said == "" if not parts else said is not None
    if asked:
        assert said.endswith(asked[-1])


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_words_of_the_model_are_those_of_the_policies() -> None:
    assert set(MODEL_TASKS) == set(TASKS)
    assert set(MODEL_DOMAINS) == set(DOMAINS)


def test_a_hard_question_gains_more_than_an_easy_one_in_both_languages(scorer: DifficultyScorer) -> None:
    for easy, hard in (
        ("¿A qué hora abrís los sábados?", "Demuestra que toda sucesión acotada tiene una subsucesión convergente."),
        ("What time do you open on Saturday?", "Prove that every bounded sequence has a convergent subsequence."),
    ):
        low, high = scorer.score((user(easy),)), scorer.score((user(hard),))
        assert low.slm_success > high.slm_success
        assert low.gain < high.gain


def test_a_follow_up_is_about_what_was_asked_before_it(scorer: DifficultyScorer) -> None:
    code = user("Escribe en Python una función que invierta una lista enlazada y sus pruebas.")
    assert scorer.score((code, assistant("def invierte..."), user("ahora en Java"))).domain == "code"


@pytest.mark.parametrize("paste", ["{question}\n\n{text}", "{text}\n\n{question}"])
@pytest.mark.parametrize(
    ("question", "task"),
    [("Traduce este texto al inglés.", "translate"), ("Resume este texto en tres frases.", "summarize")],
)
def test_a_long_paste_does_not_hide_what_is_asked(
    paste: str, question: str, task: str, scorer: DifficultyScorer
) -> None:
    text = (manifest.FOLDER.parent / "data" / "pasted" / "es.txt").read_text(encoding="utf-8") * 2
    assert scorer.score((user(paste.format(question=question, text=text)),)).task == task


def test_instructions_say_what_is_to_be_done_with_a_bare_text(scorer: DifficultyScorer) -> None:
    review = user("La batería dura poco, pero la pantalla es una maravilla y llegó en dos días.")
    told = scorer.score((Part("system", "Clasifica cada opinión como positiva, neutra o negativa."), review))
    assert told.task == "classify"
