"""The cards of the models and of our own data are of the files that are there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router_models import manifest
from router_models.checker_runtime import FILES as CHECKER
from router_models.router_runtime import DOMAINS, FILES, TASKS
from router_models.train import counts, page
from router_models.train.router_data import OWN_QUERIES, PAIRS

ROOT = Path(__file__).parents[2]
CARD = ROOT / "router_models" / "cards" / "router.md"
QUERIES = sorted(OWN_QUERIES.glob("*.jsonl"))


def rows(file: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, file.read_text(encoding="utf-8").splitlines())


def plain(text: str) -> str:
    """The words of a text."""
    return " ".join(re.findall(r"\w+", text.lower()))


# --- cards ------------------------------------------------------------------------------------------------------------


def test_the_figures_of_the_router_are_of_the_model_that_ships() -> None:
    figures = page.written(CARD, "figures")
    told = "cauce router evaluate --card router_models/cards/router.md writes them again"
    assert manifest.sha256(manifest.FOLDER / FILES[0])[:12] in figures, f"the figures are of another model: {told}"


@pytest.mark.parametrize("title", ["Data", "Method", "Figures", "Calibration", "Limits", "Hashes"])
def test_the_card_of_the_router_has_what_a_card_has(title: str) -> None:
    assert f"\n## {title}\n" in CARD.read_text(encoding="utf-8")


def test_the_figures_of_the_checker_are_of_the_model_that_ships_and_the_cascades_are_there() -> None:
    card = CARD.with_name("checker.md")
    told = "python -m router_models.train.checker_report --card router_models/cards/checker.md writes them again"
    assert manifest.sha256(manifest.FOLDER / CHECKER[0])[:12] in page.written(card, "figures"), told
    assert "### gsm8k: 1307 queries" in page.written(card, "cascade"), "make bench-cascade writes them again"


def test_the_counts_of_our_queries_are_those_of_the_files() -> None:
    told = "`make reference` writes them again"
    assert page.written(counts.README, "counts") == counts.tables().strip(), told


def test_every_artefact_is_in_the_manifest_and_every_entry_is_an_artefact() -> None:
    entries = json.loads((manifest.FOLDER / "manifest.json").read_text(encoding="utf-8"))["files"]
    there = {file.name for file in manifest.FOLDER.iterdir()} - {"manifest.json"}
    assert set(entries) == there
    for name, entry in entries.items():
        assert manifest.sha256(manifest.FOLDER / name) == entry["sha256"], name


# --- our queries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", QUERIES, ids=lambda file: file.stem)
def test_every_query_has_the_form_that_the_card_says(file: Path) -> None:
    for row in rows(file):
        assert set(row) == {"text", "lang", "task", "domain", "grade"}, row
        assert row["lang"] == file.stem.removeprefix("test-")[:2], row
        assert row["task"] in TASKS, row
        assert row["domain"] in DOMAINS, row
        assert row["grade"] in {1, 2, 3, 4, 5}, row
        assert row["text"].strip(), row


def test_no_query_of_the_test_files_stands_in_another_file() -> None:
    words = {file: [plain(row["text"]) or row["text"] for row in rows(file)] for file in QUERIES}
    for file, texts in words.items():
        assert len(set(texts)) == len(texts), f"{file.name} has a query twice"
        if file.name.startswith("test-"):
            others = {text for other in QUERIES if other != file for text in words[other]}
            assert set(texts) & others == set(), file.name


def test_a_translation_has_an_id_of_its_own_and_both_languages() -> None:
    found = [row for file in sorted(PAIRS.glob("*.jsonl")) for row in rows(file)]
    assert len({row["id"] for row in found}) == len(found)
    for row in found:
        assert set(row) == {"id", "es", "en"}
        assert row["es"].strip()
        assert row["es"] != row["en"], row


def test_tasks_and_domains_are_explained() -> None:
    text = counts.README.read_text(encoding="utf-8")
    for word in (*TASKS, *DOMAINS):
        assert f"`{word}`" in text, word
