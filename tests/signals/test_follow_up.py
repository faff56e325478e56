"""Which turns need those before them, and which stand alone; and which texts are in two languages at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.signals.difficulty import is_follow_up, judged
from gateway.signals.follow_up import follows
from gateway.signals.mixed import is_mixed
from gateway.types import Part

FOLLOW = (
    "hazlo", "commit it", "y lo mismo en Java", "¿y en el otro caso?", "and in Java?", "hazlo más corto",
    "now in French", "tradúcelo al inglés", "más corto, por favor", "run the tests", "otra vez", "what about Sundays?",
    "¿y los domingos?", "en inglés, por favor", "for a five-year-old", "do the same for the other file",
    "explícamelo con un ejemplo", "sí, adelante", "go on", "why?", "¿por qué?", "can you fix it?",
    "¿puedes arreglar eso?", "con eso me vale", "arregla los tests", "gracias, ahora en Python",
    "what does the second one mean?", "pásalo a una tabla", "no, the other one", "make it shorter",
)  # fmt: skip
ALONE = (
    "¿A qué hora abrís los sábados?", "What time do you open on Saturday?", "¿Cuál es la capital de Francia?",
    "What is the capital of Peru?", "¿En qué año nació Cervantes?", "How many grams are there in a pound?",
    "¿Puedo cambiar de tarifa sin permanencia?", "Do you ship to the Canary Islands?", "¿Tenéis tienda en Vigo?",
    "Who wrote Don Quixote?", "Escribe un poema de cuatro versos sobre el mar en invierno y la espera.",
    "What time is it in Tokyo?", "¿Qué diferencia hay entre una hipoteca fija y una variable?",
    "Is it legal to park on a yellow line at night in Madrid?",
)  # fmt: skip


@pytest.mark.parametrize("text", FOLLOW)
def test_a_turn_that_leans_on_another_follows(text: str) -> None:
    assert follows(text)
    assert follows(text.upper())


@pytest.mark.parametrize("text", ALONE)
def test_a_turn_that_says_all_stands_alone(text: str) -> None:
    assert not follows(text)


def test_the_first_turn_follows_nothing() -> None:
    assert not is_follow_up((Part("user", "hazlo"),))
    assert is_follow_up((Part("user", "Escribe un plan."), Part("assistant", "..."), Part("user", "hazlo")))


def test_a_chain_of_follow_ups_is_judged_with_what_it_is_about() -> None:
    turns = [
        "Escribe en Python una función que invierta una lista enlazada.",
        "y en Java",
        "hazlo más corto",
        "otra vez",
    ]
    said = judged([Part("user", text) for text in ("¿A qué hora abrís?", *turns)])
    assert said == "\n".join(turns)


def test_a_long_chain_is_bounded_and_keeps_its_beginning() -> None:
    turns = ["Empieza la tarea larga. " + "x" * 3_000 + " fin de la tarea", *(f"y la parte {n}" for n in range(6))]
    said = judged([Part("user", text) for text in turns])
    assert len(said) < 1_100
    assert "fin de la tarea" in said
    assert said.endswith("y la parte 5")


def test_an_easy_turn_that_stands_alone_is_not_judged_by_a_hard_one_before_it() -> None:
    hard = Part("user", "Demuestra el teorema de Bolzano-Weierstrass paso a paso.")
    assert judged((hard, Part("assistant", "..."), Part("user", ALONE[0]))) == ALONE[0]


@given(st.text(st.characters(exclude_categories=()), max_size=300))
@settings(deadline=None)
def test_any_characters_are_read(text: str) -> None:
    assert follows(text) in {True, False}
    assert is_mixed(text) in {True, False}


MIXED = (
    "Explícame the difference between el recargo de la factura and the fee that is in the contract, para mi madre.",
    "Can you tell me cómo se hace la portabilidad de una línea and what is the price of it? Es para el lunes.",
)
OF_ONE = (
    "Explica la diferencia entre una hipoteca fija y una variable para que lo entienda mi madre.",
    "Explain the difference between a fixed and a variable mortgage so that my mother can follow it.",
    "¿Qué hace el operador and en Python?",
    "What does the word sobremesa mean?",
    "",
    "🦆",
)


@pytest.mark.parametrize("text", MIXED)
def test_two_languages_at_once_are_seen(text: str) -> None:
    assert is_mixed(text)


@pytest.mark.parametrize("text", OF_ONE)
def test_one_language_with_a_foreign_word_is_one_language(text: str) -> None:
    assert not is_mixed(text)
