"""The month so far is the ledger's: the business's month, by team, without another team's or month's."""

from __future__ import annotations

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from gateway.ledger.month import Month, month_so_far
from gateway.ledger.writer import Ledger
from tests.builders import an_entry

MADRID = ZoneInfo("Europe/Madrid")


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=MADRID)


def written(engine: Engine, *spent: tuple[str, str, int | None]) -> None:
    """Entries of these moments, teams and costs."""

    async def write() -> None:
        ledger = Ledger(engine, on_failure=lambda _error: None, time_zone=MADRID)
        for number, (when, team, cost) in enumerate(spent):
            time_us = int(at(when).timestamp() * 1e6)
            entry = an_entry(f"req_{number}", time_us=time_us, team=team, cost_nano_usd=cost, baseline_nano_usd=100)
            await ledger.append(entry, [])
        await asyncio.to_thread(ledger.close)

    asyncio.run(write())


def test_the_month_so_far_is_the_businesss_month_by_team(ledger_engine: Engine) -> None:
    written(
        ledger_engine,
        ("2026-10-31T23:59:59", "a", 1_000),  # in Madrid still October, in UTC too
        ("2026-11-01T00:00:01", "a", 10),  # in UTC still October
        ("2026-11-15T12:00:00", "a", 20),
        ("2026-11-15T12:00:00", "b", 5),
        ("2026-11-15T12:00:00", "b", None),
        ("2026-12-01T00:00:01", "a", 2_000),
    )
    month = month_so_far(ledger_engine, MADRID, at("2026-11-16T00:00:00"))
    assert month == Month(0.5, {"a": (30, 200), "b": (5, 200)})


def test_a_month_without_an_entry_has_passed_all_the_same(ledger_engine: Engine) -> None:
    month = month_so_far(ledger_engine, MADRID, at("2026-10-25T12:00:00"))  # 25 h long: the clocks go back
    assert month.teams == {}
    assert month.elapsed == pytest.approx((24 * 24 + 13) / (31 * 24 + 1))
