from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.ledger.cascade import cascade
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.report import Period
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.builders import NOON_NS, an_attempt_entry, an_entry

USED: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}
SMALL = USED | {"model": "small", "kind": "slm", "cost_nano_usd": 100}
LARGE = USED | {"model": "large", "kind": "llm", "cost_nano_usd": 9_000}
JUDGE = USED | {"model": "large", "kind": "judge", "cost_nano_usd": 700, "prompt_tokens": 20, "completion_tokens": 1}


def kept(name: str) -> tuple[Entry, list[AttemptEntry]]:
    """The small model's answer, which a judge accepted."""
    calls = [an_attempt_entry(name, 0, **SMALL), an_attempt_entry(name, 1, **JUDGE)]
    return an_entry(name, route="first", model="small", baseline_nano_usd=9_000, cost_nano_usd=800), calls


def escalated(name: str) -> tuple[Entry, list[AttemptEntry]]:
    """The small model's answer was turned down, and the large one's sent."""
    calls = [an_attempt_entry(name, 0, **SMALL, rejected_by="refusal"), an_attempt_entry(name, 1, **LARGE)]
    entry = an_entry(name, route="first", model="large", escalated=1, baseline_nano_usd=9_000, cost_nano_usd=9_100)
    return entry, calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plain = an_entry("plain", route="local"), [an_attempt_entry("plain")]
    dear = an_entry("dear", route="first", baseline_nano_usd=None), [an_attempt_entry("dear", **SMALL)]
    engine = open_engine(f"sqlite:///{tmp_path}/cauce.db")

    async def write() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)))
        for entry, calls in (kept("a"), kept("b"), escalated("c"), plain, dear):
            await ledger.append(entry, calls)
        ledger.close()

    asyncio.run(write())
    (tmp_path / "cauce.yaml").write_text(f"ledger: sqlite:///{tmp_path}/cauce.db\nlanguage: es\n")
    return tmp_path


def test_what_was_saved_is_held_against_what_checking_and_escalating_cost(folder: Path) -> None:
    (row,) = cascade(open_engine(f"sqlite:///{folder}/cauce.db"), period=Period())
    assert row == {
        "route": "first", "requests": 4, "kept": 3, "escalated": 1, "turned_down_answers": 1, "verifying_calls": 2,
        "wasted_tokens": 15 + 2 * 21, "saved_nano_usd": 2 * 8_900, "turned_down_nano_usd": 100,
        "verifying_nano_usd": 1_400, "net_nano_usd": 2 * 8_900 - 100 - 1_400, "unknown_cost_requests": 1,
    }  # fmt: skip


def test_a_period_without_requests_has_no_cascade(folder: Path) -> None:
    later = Period(start_us=NOON_NS // 1000 + 1)
    assert cascade(open_engine(f"sqlite:///{folder}/cauce.db"), period=later) == []


def test_the_command_says_whether_it_pays_in_the_readers_language(folder: Path) -> None:
    config = ["--config", str(folder / "cauce.yaml")]
    told = CliRunner().invoke(main, ["report", "--cascade", *config], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "first: compensa, 0.000016 USD" in told.output
    listed = CliRunner().invoke(main, ["report", "--cascade", "--json", *config])
    assert orjson.loads(listed.output)[0]["net_nano_usd"] == 16_300
