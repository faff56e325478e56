"""Why a query has its gain: parts that are worked out from the model, in one sentence of the reader's language."""

from __future__ import annotations

import numpy as np
import pytest

from router_models import manifest
from router_models.encoder import Encoder
from router_models.router_runtime import TASKS, Inputs, RouterModel, Scores
from router_models.why import Why, sentence, why

HARD = "Demuestra que toda sucesión acotada tiene una subsucesión convergente."


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(manifest.FOLDER, Encoder.load())


def told(model: RouterModel, text: str) -> Why:
    return why(text, inputs=model.inputs, score=model.score)


def test_a_words_part_is_what_the_gain_loses_without_it(model: RouterModel) -> None:
    found = told(model, HARD)
    assert found.gain == pytest.approx(model.read(HARD).gain)
    without = model.read(HARD.replace("Demuestra", "")).gain
    assert found.words["demuestra"] == pytest.approx(found.gain - without)
    assert list(map(abs, found.words.values())) == sorted(map(abs, found.words.values()), reverse=True)


def test_a_model_that_looks_at_length_alone_is_said_to(model: RouterModel) -> None:
    """A stand-in whose gain is one input: the explanation must find that input's group and no other."""
    place = 2 * 128  # the first number of the shape: characters

    def score(inputs: Inputs) -> Scores:
        said = model.score(inputs)
        return Scores(0.5, 0.5, float(inputs.dense[place]) / 4, 0.0, said.tasks, said.domains)

    found = why("palabra " * 60, inputs=model.inputs, score=score)
    assert next(iter(found.groups)) == "length"
    assert all(part == pytest.approx(0) for name, part in found.groups.items() if name != "length")
    assert "its length" in sentence(found, "en")
    assert "su longitud" in sentence(found, "es")


def test_the_sentence_names_the_nearest_task_and_is_one(model: RouterModel) -> None:
    found = told(model, HARD)
    task = max(zip(model.read(HARD).tasks, range(99), strict=False))[1]
    for language, words in (("en", "it is most like"), ("es", "a lo que más se parece es a")):
        said = sentence(found, language)  # type: ignore[arg-type]
        assert f"{words} {next(iter(found.tasks))}" in said
        assert said.endswith(".")
        assert ". " not in said
    assert next(iter(found.tasks)) == TASKS[task]
    assert np.isfinite(found.plain)


@pytest.mark.parametrize("text", ["", "🦆", "\x00" * 100, "a" * 100_000, "palabra " * 20_000, "\ud800"])
def test_odd_texts_are_explained_too(text: str, model: RouterModel) -> None:
    assert sentence(told(model, text), "es")
