from __future__ import annotations

import pytest

from router_models.courtesy import plain


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("Hola, ¿a qué hora abrís?", "¿a qué hora abrís?"),
        ("buenos días. necesito el PUK porfa", "necesito el PUK"),
        ("¿abrís el lunes? Muchas gracias de antemano.", "¿abrís el lunes?"),
        ("Hi there, reset my router pls", "reset my router"),
        ("Where is my parcel? Thank you very much!", "Where is my parcel?"),
        ("«traduce esto»", "traduce esto"),
        ('"translate this"', "translate this"),
    ],
)
def test_courtesies_and_enclosing_quotes_are_left_out(typed: str, asked: str) -> None:
    assert plain(typed) == asked


@pytest.mark.parametrize(
    "typed",
    ["Hierro en sangre alto", "holanda capital", 'Traduce "hola"', '"a" or "b"', "history of tea", "x", "", "?"],
)
def test_what_only_looks_like_a_courtesy_stays(typed: str) -> None:
    assert plain(typed) == typed


@pytest.mark.parametrize("typed", ["hola", "Gracias", "thanks!", "Buenas tardes"])
def test_a_text_that_is_nothing_else_stays(typed: str) -> None:
    assert plain(typed)
