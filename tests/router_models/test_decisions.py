"""What is measured of decisions: use cases, and the same query typed otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.types import Model
from router_models.train import page
from router_models.train.router_data import Row
from router_models.train.router_decisions import (
    CHANGES,
    Routes,
    UseCase,
    agreement,
    agrees,
    invariance,
    read_use_cases,
)
from tests.policy.builders import EURO, LARGE, SMALL


def a_row(text: str, lang: str = "es") -> Row:
    return Row("id", text, lang, "own", slm=0.9, llm=0.9, task=0, domain=0, weight=1.0)


ROWS = [a_row("¿Cómo activo el roaming?"), a_row("Resume el contrato"), a_row("Fix my regex", "en"), a_row("hi", "en")]


# --- use cases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goes", "ladder", "agreed"),
    [
        ("slm", [SMALL, LARGE], True),
        ("slm", [LARGE, SMALL], False),
        ("llm", [LARGE, SMALL], True),
        ("llm", [SMALL, LARGE], False),
        ("local", [SMALL], True),
        ("local", [SMALL, LARGE], False),
        ("local", [SMALL, EURO], False),
        ("slm", [], False),
        ("local", [], False),
    ],
)
def test_a_use_case_looks_at_the_first_rung_and_local_at_every_rung(
    goes: str, ladder: list[Model], agreed: bool
) -> None:
    assert agrees(goes, ladder) is agreed


def test_agreement_counts_and_names_what_went_elsewhere() -> None:
    cases = [UseCase("easy", "hi", "slm"), UseCase("hard", "prove it", "llm"), UseCase("kept", "my DNI", "local")]
    found = agreement(cases, lambda text: [SMALL, LARGE] if text == "prove it" else [SMALL])
    assert found.rows == {"slm": 1, "llm": 1, "local": 1}
    assert found.agreed == {"slm": 1, "local": 1}
    assert found.others == (("hard", "llm"),)


def test_use_cases_are_read_with_whatever_else_stands_in_them(tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text('- {id: a, lang: es, data: public, goes: slm, text: "¿A qué hora abrís?"}\n', encoding="utf-8")
    assert read_use_cases(file) == [UseCase("a", "¿A qué hora abrís?", "slm")]


@pytest.mark.parametrize(
    "text",
    ["- {id: a, goes: slm}", "- {id: a, text: b, goes: cloud}", "just words", "42", "- [", "- {id: [}", ""],
)
def test_a_file_that_is_no_list_of_use_cases_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cases\.yaml"):
        read_use_cases(file)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        read_use_cases(tmp_path / "nowhere.yaml")


# --- typed otherwise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_keeps_the_query_and_is_the_same_each_time(change: str) -> None:
    for row in ROWS:
        text = CHANGES[change](row)
        assert text == CHANGES[change](row)
        if change not in {"no accents", "one typo", "capitals", "lower case"}:
            assert row.text in text


def test_a_paste_is_about_two_thousand_tokens() -> None:
    for row in ROWS:
        for change in ("2,000 tokens pasted after", "2,000 tokens pasted before"):
            assert 7_000 < len(CHANGES[change](row)) < 9_000


def test_a_typo_is_one_letter_of_the_query() -> None:
    text = CHANGES["one typo"](ROWS[0])
    assert text != ROWS[0].text
    assert abs(len(text) - len(ROWS[0].text)) <= 1


def test_only_queries_that_the_change_alters_count() -> None:
    plain = [Routes("local", "local")] * len(ROWS)
    lines = invariance(lambda _text: Routes("local", "local"), ROWS, plain, "no accents", resamples=5)
    assert [(line.language, line.rows, line.route.value) for line in lines] == [("es", 1, 1.0)]


def test_each_language_has_its_share_of_unchanged_routes() -> None:
    def shouted(text: str) -> Routes:
        return Routes("cloud" if text == "HI" else "local", "local")

    lines = invariance(shouted, ROWS, [Routes("local", "local")] * len(ROWS), "capitals", resamples=20)
    assert {line.language: (line.rows, line.route.value, line.public.value) for line in lines} == {
        "en": (2, 0.5, 1.0),
        "es": (2, 1.0, 1.0),
    }


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_keeps_all_but_the_part_that_is_written(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# A card\n<!-- figures -->\nold\n<!-- /figures -->\n\nEnd.\n", encoding="utf-8")
    page.write(card, "figures", "| new |\n")
    assert card.read_text(encoding="utf-8") == "# A card\n<!-- figures -->\n| new |\n<!-- /figures -->\n\nEnd.\n"
    assert page.written(card, "figures") == "| new |"


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# A card\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no lines `<!-- figures -->`"):
        page.write(card, "figures", "new")
    assert card.read_text(encoding="utf-8") == "# A card\n"
    with pytest.raises(ConfigError, match="cannot be read"):
        page.written(tmp_path / "nowhere.md", "figures")
