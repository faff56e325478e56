"""`cauce router`: on an invented folder, so that a run takes seconds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from router_models import manifest
from router_models.router_runtime import FILES, VERSION
from router_models.train.router_decisions import CHANGES
from tests.router_models.small_data import bench as some_queries
from tests.router_models.small_data import write_folder

# What only training needs is not there in this process.
WITHOUT_TORCH = """
import sys
for name in ("torch", "onnx", "sklearn"):
    sys.modules[name] = None
from gateway.cli.main import main
main(sys.argv[1:])
"""
HAS_TRAINING = importlib.util.find_spec("torch") is not None


def cauce(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("data"))
    (folder / "cases.yaml").write_text(
        "- {id: hours, goes: slm, text: What are your opening hours?}\n"
        "- {id: id-card, goes: local, text: Mi DNI es 12345678Z y no me llega la factura}\n",
        encoding="utf-8",
    )
    (folder / "card.md").write_text("# Card\n<!-- figures -->\n<!-- /figures -->\nThe end.\n", encoding="utf-8")
    return folder


def evaluated(folder: Path, *more: object) -> Result:
    lines = [orjson.dumps({"text": row["text"], "score": len(row["text"])}).decode() for row in some_queries()]
    (folder / "elsewhere.jsonl").write_text("\n".join(lines))
    words = ("--data", folder, "--queries", folder / "queries", "--use-cases", folder / "cases.yaml", "--resamples", 5)
    return cauce(
        "router", "evaluate", "--router", "ours,random,length", *words, "--scores", folder / "elsewhere.jsonl", *more
    )


@pytest.fixture(scope="module")
def told(folder: Path) -> tuple[dict[str, Any], str]:
    """One evaluation: what `--json` says, and the card that it wrote."""
    result = evaluated(folder, "--json", "--card", folder / "card.md")
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout), (folder / "card.md").read_text(encoding="utf-8")


def test_every_bench_has_every_router_and_the_oracle(told: tuple[dict[str, Any], str]) -> None:
    benches = {bench["name"]: bench for bench in told[0]["benches"]}
    assert set(benches) == {"dev", "mmlu"}
    assert benches["mmlu"]["rows"] == 10
    assert benches["mmlu"]["small"] == 0.5
    for bench in benches.values():
        own = ["elsewhere"] if bench["name"] == "mmlu" else []  # it has no scores for the queries of dev
        assert list(bench["routers"]) == ["ours", "random", "length", *own, "oracle"]
        for router in bench["routers"].values():
            assert set(router["apgr"]) == {"value", "low", "high"}
    assert benches["mmlu"]["routers"]["oracle"]["apgr"]["value"] == 0.75  # half of the queries, the right half


def test_the_other_figures_are_there(told: tuple[dict[str, Any], str]) -> None:
    figures = told[0]
    assert [line["source"] for line in figures["parallel"]] == ["made_up"]
    assert [(line["language"], line["rows"]) for line in figures["meaning"]] == [("es", 6)]
    assert [line["name"] for line in figures["calibration"]] == ["sources trained on"]
    assert {line["change"] for line in figures["invariance"]} == set(CHANGES)
    assert figures["agreement"]["rows"] == {"slm": 1, "local": 1}
    assert figures["agreement"]["agreed"]["local"] == 1
    assert [line["tokens"] for line in figures["latency"]] == [20, 200, 4000]
    assert sum(line["file_bytes"] for line in figures["weight"]) > 1_000_000
    assert sum(figures["routes"].values()) == 6


def test_the_card_holds_the_tables_and_names_the_model_that_they_are_of(told: tuple[dict[str, Any], str]) -> None:
    figures, card = told
    assert card.startswith("# Card\n<!-- figures -->\nOf router.onnx ")
    assert card.endswith("<!-- /figures -->\nThe end.\n")
    assert figures["model"] == manifest.sha256(manifest.FOLDER / FILES[0])[:12]
    assert figures["model"] in card
    for title in ("Routers on measured outcomes", "typed otherwise", "Use cases", "Time to read a text", "Size"):
        assert title in card


def test_a_folder_without_outcomes_is_wrong_use(tmp_path: Path) -> None:
    result = cauce("router", "evaluate", "--data", tmp_path)
    assert result.exit_code == 2
    assert "route_train.jsonl.gz is missing; name the folder that holds it with --data" in result.stderr


def test_queries_without_test_files_are_wrong_use(folder: Path) -> None:
    result = cauce("router", "evaluate", "--data", folder, "--router", "random", "--queries", folder / "routing")
    assert result.exit_code == 2
    assert "there is no test-*.jsonl" in result.stderr


def test_an_unknown_router_is_wrong_use(folder: Path) -> None:
    result = cauce("router", "evaluate", "--data", folder, "--router", "ours,dice")
    assert result.exit_code == 2
    assert "'dice' is not one of ours, length, random, tfidf, litellm" in result.stderr


@pytest.mark.parametrize("words", [("train",), ("evaluate", "--router", "tfidf")])
def test_without_what_training_needs_the_command_says_how_to_get_it(words: tuple[str, ...], folder: Path) -> None:
    command = (sys.executable, "-c", WITHOUT_TORCH, "router", words[0], "--data", str(folder), *words[1:])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "`make router`" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'onnxruntime', 'numpy', 'sklearn'}"
    code = f"import sys, gateway.cli.router; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run((sys.executable, "-c", code), check=False).returncode == 0


@pytest.mark.skipif(not HAS_TRAINING, reason="torch is not installed: `make router` installs it")
def test_train_writes_a_model_that_the_gateway_takes(folder: Path, tmp_path: Path) -> None:
    result = cauce("router", "train", "--data", folder, "--queries", folder / "queries", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "router.onnx" in result.stdout
    manifest.verify(tmp_path, FILES, version=VERSION)


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "a"}', '{"text": "a", "score": "high"}'])
def test_scores_from_elsewhere_that_cannot_be_read_are_named_by_line(folder: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "theirs.jsonl").write_text(f'{{"text": "a", "score": 1}}\n{line}\n')
    result = evaluated(folder, "--scores", tmp_path / "theirs.jsonl")
    assert result.exit_code == 2
    assert "theirs.jsonl:2" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="litellm is not installed")
def test_litellms_own_router_can_be_compared() -> None:
    code = (
        "from pathlib import Path; from router_models.train.router_evaluate import rankings; "
        "rank = rankings(None, Path(), ['litellm'])['litellm']; "
        "easy, hard = rank(['hi', 'Think step by step: prove the theorem, then design the distributed algorithm.']); "
        "assert easy < hard"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
