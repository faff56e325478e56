"""The answer checker: what it is trained on, that training repeats, and how it is read. Training needs torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.errors import ConfigError
from gateway.signals.answers import LazyChecker
from router_models import manifest
from router_models.checker_runtime import FILES, VERSION, AnswerChecker, PairReader, width
from router_models.encoder import Encoder
from router_models.train.checker_data import FOLDER, read_pairs
from router_models.train.checker_questions import Known, is_right, questions
from tests.router_models.small_data import write_lines


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few answers to real questions, every second right."""
    folder = tmp_path_factory.mktemp("answers")
    asked: list[dict[str, Any]] = [
        {
            "kind": known.kind,
            "lang": known.language,
            "question": known.text,
            "answer": f"I think that it is {known.right if number % 2 else 'a fish'}.",
            "finish": "stop",
            "mean_logprob": -0.1 * (number % 7),
            "right": bool(number % 2),
        }
        for number, known in enumerate(list(questions())[::17])
    ]
    write_lines(folder / "small.jsonl", asked)
    write_lines(folder / "own.jsonl", map(json.loads, (FOLDER / "own.jsonl").read_text().splitlines()[:8]))
    return folder


@pytest.mark.parametrize(
    ("kind", "right", "answer", "good"),
    [
        ("capital", "Lima", "La capital es LIMA, claro.", True),
        ("capital", "Lima", "La capital es Climax.", False),
        ("sum", "1200", "It is 1,200.", True),
        ("sum", "12", "It is 120.", False),
        ("fact", "7|seven", "There are seven.", True),
        ("fact", "carbon dioxide|CO2", "Carbon dioxide, of course", True),
        ("symbol", "Na", "The symbol is Na.", True),
        ("symbol", "Na", "no idea, na.", False),
        ("label", "positive", "Positive, not negative", False),
    ],
)
def test_an_answer_is_right_when_it_holds_the_word_or_number(kind: str, right: str, answer: str, good: bool) -> None:
    assert is_right(Known(kind, "en", "?", right), answer) is good


def test_the_questions_are_the_same_each_time_and_the_stored_answers_are_theirs() -> None:
    first = list(questions())
    assert first == list(questions())
    rows = [json.loads(line) for line in (FOLDER / "smollm2-135m.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == [known.text for known in first]
    assert [row["right"] for row in rows] == [is_right(k, row["answer"]) for k, row in zip(first, rows, strict=True)]


def test_no_question_is_one_of_a_test_file() -> None:
    files = FOLDER.parent.glob("queries/test-*.jsonl")
    tests = {json.loads(line)["text"] for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    assert tests
    assert not {pair.question for pair in read_pairs()} & tests


def test_every_question_has_good_and_bad_answers_told_in_the_same_manner(answers: Path) -> None:
    told = [pair for pair in read_pairs(answers) if pair.source == "told"]
    assert {pair.language for pair in told} == {"es", "en"}
    assert abs(sum(pair.good for pair in told) / len(told) - 0.5) < 0.1


def test_a_folder_without_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no answers"):
        read_pairs(tmp_path)


# --- as it ships ----------------------------------------------------------------------------------------------------


def test_the_shipped_checker_reads_any_pair(encoder: Encoder) -> None:
    manifest.verify(manifest.FOLDER, FILES, version=VERSION)
    model = AnswerChecker.load(manifest.FOLDER, encoder)
    for question, answer in (("", ""), ("¿Qué es?", "x" * 50_000), ("\ud800", "🙂" * 40), ("a" * 9_000, "1 2 3")):
        assert 0 < model.chance(question, answer) < 1
    assert PairReader(encoder)("¿Cuánto es?", "Cinco").shape == (width(encoder),)


def test_the_shipped_checker_prefers_an_answer_to_the_question_said_back(encoder: Encoder) -> None:
    model = AnswerChecker.load(manifest.FOLDER, encoder)
    asked = "¿Cómo cambio la contraseña del wifi de casa?"
    good = "Entra en la configuración del router desde el navegador, abre el apartado wifi y escribe la clave nueva."
    assert model.chance(asked, good) > model.chance(asked, asked)


def test_the_checker_is_read_at_its_first_use_and_passes_all_where_it_cannot_be(tmp_path: Path) -> None:
    checker = LazyChecker(manifest.FOLDER)
    assert not checker.loaded
    assert checker("¿Qué hora es?", "Las tres.") is not None
    assert checker.loaded
    broken = LazyChecker(tmp_path)
    assert broken("¿Qué hora es?", "Las tres.") is None
    with pytest.raises(ConfigError, match="manifest is missing"):
        broken.load()


# --- training -------------------------------------------------------------------------------------------------------


class Silent:
    """A watcher that says nothing."""

    def begins(self, what: str, steps: int) -> None: ...

    def step(self, said: str = "") -> None: ...


def test_the_same_answers_give_the_same_bytes_and_the_graph_says_what_the_networks_say(
    answers: Path, tmp_path: Path, encoder: Encoder
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: `make router` installs it")
    from router_models.train import checker  # noqa: PLC0415 - imports torch

    for name in ("one", "two"):
        checker.train(tmp_path / name, answers=answers, epochs=2, watcher=Silent())
    assert (tmp_path / "one" / FILES[0]).read_bytes() == (tmp_path / "two" / FILES[0]).read_bytes()
    manifest.verify(tmp_path / "one", FILES, version=VERSION)

    pairs = read_pairs(answers)
    inputs = checker.read_all(pairs, PairReader(encoder))
    fitted = checker.fit(inputs, pairs, epochs=1)
    fitted.slope, fitted.offset = 0.7, -0.2
    model = AnswerChecker(fitted.onnx(), encoder)
    said = 1 / (1 + np.exp(-(0.7 * fitted.logits(inputs[:5]) - 0.2)))
    assert [model.chance(pair.question, pair.answer) for pair in pairs[:5]] == pytest.approx(said, abs=1e-5)


def test_no_pair_is_scored_by_what_saw_its_kind(answers: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: `make router` installs it")
    from router_models.train import checker  # noqa: PLC0415 - imports torch

    pairs = read_pairs(answers)
    folds = checker.folds_of(pairs)
    for group in {pair.group for pair in pairs}:
        assert len({int(fold) for fold, pair in zip(folds, pairs, strict=True) if pair.group == group}) == 1
