"""The router model as the gateway runs it: a score for every text, however odd, and no start with a broken artefact."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.signals.difficulty import DifficultyScorer
from gateway.types import Part
from router_models import encoder, manifest, router_runtime
from router_models.encoder import Encoder
from router_models.router_runtime import RouterModel, focus, grams

FILES = (*router_runtime.FILES, *encoder.FILES)


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(manifest.FOLDER, Encoder.load())


@pytest.fixture(scope="module")
def scorer(model: RouterModel) -> DifficultyScorer:
    return DifficultyScorer(model)


# --- odd texts --------------------------------------------------------------------------------------------------------

ODD = {
    "nothing": "",
    "blanks": " \t\n\u00a0\u200b",
    "a megabyte of one letter": "a" * 1_000_000,
    "a megabyte of words": "factura " * 125_000,
    "a megabyte of line breaks": "\n" * 1_000_000,
    "bytes": bytes(range(256)).decode("latin-1") * 20,
    "zeros": "\x00" * 500,
    "one emoji": "🦆",
    "a family of emoji": "👩‍👩‍👧‍👦" * 40,
    "Russian": "Объясните, пожалуйста, как работает квантовый компьютер",
    "Chinese": "请证明根号二是无理数",
    "Arabic": "كيف أفعّل خدمة التجوال؟",
    "right to left marks": "\u202egnihtemos ksa\u202c",
    "a lone surrogate": "\ud83d",
    "surrogates in a sentence": "¿qué \udcff es \ud800 esto?",
    "marks upon marks": "e" + "\u0301" * 5_000,
    "one long word": "anti" * 5_000,
    "digits": "7" * 3_000,
    "an opened bracket": "(" * 4_000,
    "numbers with dots": "1." * 4_000,
    "blanks before a line": ("\t" * 200 + "\n") * 20,
    "options": "\n".join(f"{letter}) " for letter in "ABCDEFGHIJ" * 60),
    "padding before a question": "lorem ipsum " * 4_000 + "\n\n¿Cuál es la capital de Francia?",
    "padding after a question": "¿Cuál es la capital de Francia?\n\n" + "lorem ipsum " * 4_000,
    "padding that shouts what a router looks for": "prove theorem contract diagnosis SELECT " * 3_000,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_every_text_has_a_score(text: str, model: RouterModel) -> None:
    assert_sound(text, model)


def assert_sound(text: str, model: RouterModel) -> None:
    scores = model.read(text)
    assert 0 <= scores.slm_success <= 1
    assert 0 <= scores.llm_success <= 1
    assert -1 <= scores.gain <= 1
    assert scores.doubt >= 0
    assert math.isfinite(scores.doubt)
    assert sum(scores.tasks) == pytest.approx(1)
    assert sum(scores.domains) == pytest.approx(1)
    assert (len(scores.tasks), len(scores.domains)) == (len(router_runtime.TASKS), len(router_runtime.DOMAINS))


@given(text=st.text(st.characters(exclude_categories=()), max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_characters_have_a_score(text: str, model: RouterModel) -> None:
    assert_sound(text, model)


def test_the_same_text_has_the_same_score(model: RouterModel) -> None:
    assert model.read("¿Qué tarifa me conviene?") == model.read("¿Qué tarifa me conviene?")


@pytest.mark.parametrize("text", ["", "  ", "🦆", "...", "ok", "42", "?!", "\ud83d", "7" * 300])
def test_where_little_is_said_the_score_says_that_it_is_unsure(text: str, scorer: DifficultyScorer) -> None:
    assert scorer.score((Part("user", text),)).low_confidence


@pytest.mark.parametrize(
    "name", ["bytes", "zeros", "Russian", "Chinese", "Arabic", "a megabyte of one letter", "a megabyte of words"]
)
def test_what_it_was_not_taught_to_read_is_answered_with_doubt(name: str, scorer: DifficultyScorer) -> None:
    assert scorer.score((Part("user", ODD[name]),)).low_confidence


def test_two_languages_at_once_are_answered_with_doubt(scorer: DifficultyScorer) -> None:
    text = "Explain the difference between una hipoteca fija y una variable para que lo entienda, and what is the risk."
    assert scorer.score((Part("user", text),)).low_confidence


def test_an_ordinary_question_is_not_unsure(scorer: DifficultyScorer) -> None:
    assert not scorer.score((Part("user", "¿Cómo activo el roaming antes de viajar?"),)).low_confidence
    assert not scorer.score((Part("user", "How do I reset the password of my account?"),)).low_confidence


def test_a_request_without_any_text_has_a_score(scorer: DifficultyScorer) -> None:
    difficulty = scorer.score(())
    assert 0 <= difficulty.slm_success <= 1
    assert difficulty.low_confidence


# --- long texts -------------------------------------------------------------------------------------------------------


def test_of_a_long_text_both_ends_are_read() -> None:
    text = "¿Puedes resumir esto?\n" + "una línea cualquiera\n" * 500 + "en tres frases, por favor"
    read = focus(text)
    assert read.startswith("¿Puedes resumir esto?")
    assert read.endswith("en tres frases, por favor")
    assert len(read) < 2_000


def test_a_long_text_is_cut_at_a_line() -> None:
    lines = [f"línea {number}" for number in range(1_000)]
    assert set(focus("\n".join(lines)).split("\n")) <= set(lines)


def test_a_short_text_is_read_whole() -> None:
    text = "a" * 1_800
    assert focus(text) == text


def test_what_lies_between_the_ends_does_not_count(model: RouterModel) -> None:
    def asked(middle: str) -> str:
        return "Traduce al inglés la carta que sigue.\n" + "x y z\n" * 300 + middle + "x y z\n" * 300

    assert model.read(asked("prove the theorem\n")) == model.read(asked(""))


@given(st.lists(st.integers(0, 64_000), max_size=400))
@settings(deadline=None)
def test_a_text_has_at_least_one_bucket_and_none_out_of_range(ids: list[int]) -> None:
    buckets = grams(np.array(ids, np.int32))
    assert 1 <= len(buckets) <= 2 * 256
    assert buckets.min() >= 0
    assert buckets.max() < router_runtime.BUCKETS


# --- artefacts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """The shipped artefacts, each of which a test may replace."""
    for name in FILES:
        (tmp_path / name).symlink_to(manifest.FOLDER / name)
    entries = json.loads((manifest.FOLDER / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(entries), encoding="utf-8")
    return tmp_path


def missing(file: Path) -> None:
    file.unlink()


def truncated(file: Path) -> None:
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2])


def altered(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.unlink()
    file.write_bytes(whole)


def of_another_version(file: Path) -> None:
    page = file.with_name("manifest.json")
    entries = json.loads(page.read_text(encoding="utf-8"))
    entries["files"][file.name]["version"] = "0"
    page.write_text(json.dumps(entries), encoding="utf-8")


def unlisted(file: Path) -> None:
    page = file.with_name("manifest.json")
    entries = json.loads(page.read_text(encoding="utf-8"))
    del entries["files"][file.name]
    page.write_text(json.dumps(entries), encoding="utf-8")


def test_whole_artefacts_load(artifacts: Path) -> None:
    assert DifficultyScorer.load(artifacts).score((Part("user", "hola"),)).task in router_runtime.TASKS


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (missing, "is missing"),
        (truncated, "bytes, not .* truncated"),
        (altered, "sha256 differs"),
        (of_another_version, "is of version '0'"),
        (unlisted, "is missing"),
    ],
)
def test_a_harmed_artefact_stops_the_load_and_is_named(
    name: str, harm: Callable[[Path], None], said: str, artifacts: Path
) -> None:
    harm(artifacts / name)
    with pytest.raises(ConfigError, match=f"{name}: .*{said}.*cauce router train"):
        DifficultyScorer.load(artifacts)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"format": 2, "files": {}}', '{"format": 1}', "null", "\xff"]
)
def test_a_manifest_that_cannot_be_read_stops_the_load_and_is_named(content: str | None, artifacts: Path) -> None:
    page = artifacts / "manifest.json"
    page.unlink()
    if content is not None:
        page.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"manifest\.json: "):
        DifficultyScorer.load(artifacts)
