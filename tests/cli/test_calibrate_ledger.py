"""`cauce router calibrate --outcomes ledger`: what callers said through /v1/feedback, without a text."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from gateway.cli.main import main
from gateway.ledger.feedback import keep
from gateway.ledger.store import open_engine
from gateway.ledger.tables import attempts, entries
from router_models import calibration
from tests.builders import an_attempt_entry, an_entry
from tests.cli.test_calibrate import CONFIG, POLICY


def fill(folder: Path) -> None:
    """120 requests of the last days: easy ones answered by the small model, hard ones by the large; half are liked."""
    engine = open_engine(f"sqlite:///{folder / 'cauce.db'}")
    now_us = time.time_ns() // 1000
    with engine.begin() as connection:
        for n in range(120):
            model, kind, gain = ("gemma", "slm", 0.02 + n / 1000) if n % 2 else ("gpt", "llm", 0.3 + n / 1000)
            signals = orjson.dumps({"slm_success": 0.95 - gain, "gain": gain, "language": "es"}).decode()
            when = now_us - n * 3_600_000_000
            entry = an_entry(f"req_{n}", model=model, signals=signals, time_us=when)
            call = an_attempt_entry(f"req_{n}", model=model, kind=kind, cost_nano_usd=20_000_000, started_us=when)
            connection.execute(insert(entries).values(**dataclasses.asdict(entry)))
            connection.execute(insert(attempts).values(**dataclasses.asdict(call)))
    for n in range(120):
        assert keep(engine, f"req_{n}", "anonymous", 1.0 if n % 2 == 0 else float(n % 4 == 1))
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    os.chdir(tmp_path)
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    (tmp_path / "p.yaml").write_text(POLICY)
    fill(tmp_path)
    yield tmp_path
    os.chdir(before)


def calibrate(*words: object) -> Result:
    command = ["router", "calibrate", "--outcomes", "ledger", "--slm", "gemma", "--policy", "p.yaml", "--json", *words]
    return CliRunner().invoke(main, [str(word) for word in command])


def test_what_callers_said_fits_the_small_model_that_answered_them(folder: Path) -> None:
    result = calibrate("--max-llm-share", "60%")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["outcomes"] == 60
    made = calibration.load(folder / "calibration.json", ["gemma"])
    assert made.slm_success.offset < 0  # half of its answers were liked, and 0.87 of them were to be
    assert made.head is None


def test_a_budget_is_counted_by_what_the_ledger_says(folder: Path) -> None:
    told = orjson.loads(calibrate("--monthly-budget", 5).stdout)
    assert "0.02 USD a large call" in told["goal"]


def test_a_second_fit_is_laid_over_the_first(folder: Path) -> None:
    (folder / "cauce.yaml").write_text(f"{CONFIG}calibration: calibration.json\n")
    first = calibration.Calibration("gemma", calibration.Line(0.5, 2.0), calibration.Line(0.1, 0.5))
    calibration.write(folder / "calibration.json", {"gemma": first})
    old = time.time() - 30 * 86_400
    os.utime(folder / "calibration.json", (old, old))
    assert calibrate("--max-llm-share", "60%", "--write").exit_code == 0
    both = calibration.load(folder / "calibration.json", ["gemma"])
    (folder / "calibration.json").unlink()
    assert calibrate("--max-llm-share", "60%", "--write").exit_code == 0
    alone = calibration.load(folder / "calibration.json", ["gemma"])
    assert both.slm_success.slope == pytest.approx(2 * alone.slm_success.slope, abs=1e-3)
    assert both.gain.offset == pytest.approx(alone.gain.offset + alone.gain.slope * 0.1, abs=1e-3)


def test_scores_from_before_the_calibration_in_force_are_left_out(folder: Path) -> None:
    (folder / "cauce.yaml").write_text(f"{CONFIG}calibration: calibration.json\n")
    calibration.write(folder / "calibration.json", {"gemma": calibration.Calibration("gemma")})
    result = calibrate("--max-llm-share", "60%", "--write")
    assert result.exit_code == 2
    assert "holds 0 outcomes" in result.stderr
