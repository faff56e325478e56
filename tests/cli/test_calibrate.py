"""`cauce router calibrate`: from outcomes to a calibration and a policy that `cauce check` takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.settings import Settings
from router_models import calibration

CONFIG = """
discover: false
models:
  gemma: {provider: fake, model: g, zone: premises, kind: slm}
  gpt: {provider: fake, model: l, zone: world, kind: llm}
"""
POLICY = """version: 1
guarantees: [{data: personal, stays: premises}]
routes: {local: {try: [slm]}, cloud: {try: [llm, slm]}}
rules:
  - {name: stays, when: {data: ">= personal"}, use: local}
  - {name: hard, when: {gain: ">= 0.25"}, use: cloud} # kept
default: local
"""
EASY = ("¿A qué hora abre la tienda {n}?", "What time does shop {n} open?")
HARD = ("Demuestra el lema {n} sobre sucesiones acotadas.", "Prove lemma {n} on bounded sequences.")


def outcomes(count: int = 80, **more: Any) -> list[dict[str, Any]]:
    """Easy and hard queries in two languages; the large model gets all, the small one the easy ones."""
    rows = []
    for n in range(count):
        kind = (EASY, HARD)[n % 2][n // 2 % 2]
        rows.append({"text": kind.format(n=n), "slm": 1 - n % 2, "llm": 1, **more})
    return rows


def write(file: Path, rows: Iterable[object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    os.chdir(tmp_path)
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    (tmp_path / "p.yaml").write_text(POLICY)
    write(tmp_path / "outcomes.jsonl", outcomes())
    yield tmp_path
    os.chdir(before)


def calibrate(*words: object, outcomes: object = "outcomes.jsonl", slm: str = "gemma") -> Result:
    command = ["router", "calibrate", "--outcomes", outcomes, "--slm", slm, "--policy", "p.yaml", *words]
    return CliRunner().invoke(main, [str(word) for word in command])


def test_a_share_is_turned_into_a_calibration_and_a_policy_that_holds(folder: Path) -> None:
    result = calibrate("--max-llm-share", "40%", "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["rule"] == "hard"
    assert told["refused"] == []
    assert "-  - {name: hard" in told["diff"]
    assert all(one["point"]["share_bound"] <= 0.4 for one in told["thresholds"])
    assert calibration.load(folder / "calibration.json", ["gemma"]).outcomes == 80
    assert CliRunner().invoke(main, ["check", "p-calibrated.yaml"]).exit_code == 0
    assert (folder / "p.yaml").read_text() == POLICY


def test_the_gateway_scores_with_it(folder: Path) -> None:
    from gateway.policy.load import load_policy  # noqa: PLC0415
    from gateway.reading import build_classifier  # noqa: PLC0415 - after the folder stands

    assert calibrate("--max-llm-share", "40%").exit_code == 0
    settings = Settings(models={"gemma": {"provider": "fake", "model": "g", "zone": "premises", "kind": "slm"}})
    policy = load_policy(folder / "p.yaml")
    text = "What time does the shop open on Sunday?"
    bare = build_classifier(settings, policy)(text)
    fitted = build_classifier(settings.model_copy(update={"calibration": "calibration.json"}), policy)(text)
    made = calibration.load(folder / "calibration.json", ["gemma"])
    assert fitted.slm_success == pytest.approx(
        calibration.chance(made.slm_success(calibration.logit(bare.slm_success)))
    )
    assert fitted.gain == pytest.approx(made.gain(bare.gain))
    assert fitted.slm_success != bare.slm_success


def test_people_read_what_it_was_worth_the_curve_and_the_difference(folder: Path) -> None:
    result = calibrate("--max-quality-loss", "10%")
    assert result.exit_code == 0, result.output
    for words in (
        "APGR of gain",
        "lost at most",
        "Goal: at most 10.0% less quality",
        "+  - {name: hard",
        "cauce policy apply",
    ):
        assert words in result.stdout


def test_a_budget_is_a_share_of_the_calls(folder: Path) -> None:
    result = calibrate("--monthly-budget", 500, "--requests-per-month", 100_000, "--usd-per-large-call", 0.02, "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert "so 25.0% of them" in told["goal"]
    assert all(one["point"]["share_bound"] <= 0.25 for one in told["thresholds"])


def test_nothing_is_replaced_without_write(folder: Path) -> None:
    (folder / "calibration.json").write_text("precious")
    refused = calibrate("--max-llm-share", "40%")
    assert refused.exit_code == 2
    assert "calibration.json: exists already: --write replaces it" in refused.stderr
    assert (folder / "calibration.json").read_text() == "precious"
    assert not (folder / "p-calibrated.yaml").exists()


def test_another_models_entry_stays_in_the_file(folder: Path) -> None:
    calibration.write(folder / "calibration.json", {"phi": calibration.Calibration("phi")})
    assert calibrate("--max-llm-share", "40%", "--write").exit_code == 0
    assert set(calibration.read(folder / "calibration.json")) == {"gemma", "phi"}


def test_cases_that_hold_the_old_threshold_are_named(folder: Path) -> None:
    (folder / "p.cases.yaml").write_text("- {note: the old one, signals: {gain: 0.25}, expect: {rule: hard}}\n")
    told = orjson.loads(calibrate("--max-llm-share", "5%", "--json").stdout)
    assert len(told["refused"]) == 1
    assert "the old one" in told["refused"][0]


def test_messages_are_judged_as_the_gateway_judges_them(folder: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": row.pop("text")}], **row} for row in outcomes()]
    write(folder / "m.jsonl", rows)
    alike = [
        calibrate("--max-llm-share", "40%", "--write", "--json", outcomes=name)
        for name in ("m.jsonl", "outcomes.jsonl")
    ]
    assert orjson.loads(alike[0].stdout) == orjson.loads(alike[1].stdout)


def test_the_curve_is_drawn(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert calibrate("--max-llm-share", "40%", "--plot", "curve.png").exit_code == 0
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "a line is an object"),
        ('{"text": "a"}', "neither `slm` nor `llm`"),
        ('{"text": "a", "slm": 2}', "slm: 2 is no score"),
        ('{"text": "a", "slm": true}', "slm: True is no score"),
        ('{"slm": 1}', "either `text`, or `messages`"),
        ('{"messages": [{"role": "user"}], "slm": 1}', "either `text`, or `messages`"),
        ('{"text": "a", "slm": 1, "language": 7}', "language: a code"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, row: str, said: str) -> None:
    (folder / "bad.jsonl").write_text(f'{{"text": "a", "slm": 1}}\n{row}\n')
    result = calibrate("--max-llm-share", "40%", outcomes="bad.jsonl")
    assert result.exit_code == 2
    assert "bad.jsonl:2" in result.stderr
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name one goal"),
        (("--max-llm-share", "30%", "--max-quality-loss", "2%"), "name one goal"),
        (("--max-llm-share", "30"), "write 30%"),
        (("--monthly-budget", "5", "--config", "cauce.yaml"), "there is no"),
        (("--max-llm-share", "30%", "--rule", "nope"), "rule 'nope' does not ask"),
    ],
)
def test_wrong_use_is_answered_with_what_is_right(folder: Path, words: tuple[str, ...], said: str) -> None:
    result = calibrate(*words)
    assert result.exit_code == 2, result.output
    assert said in result.stderr


def test_a_model_that_is_no_small_model_here_is_wrong_use(folder: Path) -> None:
    result = calibrate("--max-llm-share", "30%", slm="gpt")
    assert result.exit_code == 2
    assert "'gpt' is not one of the small models of cauce.yaml: gemma" in result.stderr


def test_too_few_outcomes_are_refused(folder: Path) -> None:
    write(folder / "few.jsonl", outcomes(20))
    result = calibrate("--max-llm-share", "30%", outcomes="few.jsonl")
    assert result.exit_code == 2
    assert "holds 20 outcomes of 'gemma', and fewer than 30 say nothing" in result.stderr


def test_a_quality_loss_needs_both_models(folder: Path) -> None:
    write(folder / "small.jsonl", [{"text": row["text"], "slm": row["slm"]} for row in outcomes()])
    result = calibrate("--max-quality-loss", "5%", outcomes="small.jsonl")
    assert result.exit_code == 2
    assert "both models" in result.stderr
