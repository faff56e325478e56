"""What the privacy model is taught: variants of training messages, and nothing of what it is measured on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from gateway.signals.normalise import normalise
from router_models.encoder import Encoder
from router_models.train.privacy_data import Row, read_own
from router_models.train.privacy_variants import variants

DATA = Path(__file__).parents[2] / "router_models" / "data"
TAUGHT = DATA / "privacy-taught.jsonl.gz"


def a_row(text: str, *spans: tuple[int, int, str]) -> Row:
    return Row("1", text, spans, 1, 2, frozenset(), "own", "es", "", 1.0)


ROWS = [
    a_row("me llamo Berta Olmos, y mi hija tiene asma", (9, 20, "person")),
    a_row("se llama Fermín Casas, pero no quiere médico", (9, 21, "person")),
    *(a_row(f"cuánto cuesta el billete número {n}, y qué horario tiene el tren") for n in range(6)),
]


def test_variants_are_the_same_each_time_and_never_the_message_itself() -> None:
    encoder = Encoder.load()
    first, second = (variants(ROWS, encoder, seed=7, count=5) for _ in range(2))
    assert first == second
    assert first != variants(ROWS, encoder, seed=8, count=5)
    assert len(first) > 20
    assert not {text for _, text in first} & {row.text for row in ROWS}


def test_a_marked_span_is_exchanged_for_another_of_its_kind() -> None:
    made = [text for _, text in variants(ROWS, Encoder.load(), seed=7, count=40)]
    assert any("me llamo Fermín" in text for text in made)


def test_no_dev_or_test_message_was_read_by_the_teacher_and_no_public_text_is_passed_on() -> None:
    own = read_own(DATA / "privacy")
    held_out = {normalise(row.text).text.lower() for split in ("dev", "test") for row in own[split]}
    lines = [json.loads(line) for line in gzip.decompress(TAUGHT.read_bytes()).decode().splitlines()]
    texts = {normalise(line["text"]).text.lower() for line in lines if "text" in line}
    assert len(texts) > 40_000
    assert not texts & held_out
    assert all(("text" in line) != ("digest" in line) for line in lines)
