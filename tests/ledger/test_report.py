from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from gateway.ledger.entry import Entry
from gateway.ledger.report import PLAIN, Period, month_period, report
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.builders import NOON_NS, an_attempt_entry, an_entry

MADRID = ZoneInfo("Europe/Madrid")
ALWAYS = Period()


def holding(engine: Engine, *entries: Entry) -> Engine:
    async def write() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)))
        calls = (ledger.append(entry, [an_attempt_entry(entry.request_id)]) for entry in entries)
        await asyncio.gather(*calls)
        ledger.close()

    asyncio.run(write())
    return engine


def rows(engine: Engine, *by: str, period: Period = ALWAYS) -> list[dict[str, Any]]:
    return report(engine, by=by, period=period, zone=MADRID)


def test_spend_is_grouped_and_the_dearest_comes_first(ledger_engine: Engine) -> None:
    engine = holding(
        ledger_engine,
        an_entry("1", team="a", cost_nano_usd=5),
        an_entry("2", team="b", cost_nano_usd=7),
        an_entry("3", team="a", cost_nano_usd=1),
    )
    assert [(r["team"], r["requests"], r["cost_nano_usd"]) for r in rows(engine, "team")] == [("b", 1, 7), ("a", 2, 6)]


def test_an_unknown_cost_is_counted_as_unknown(ledger_engine: Engine) -> None:
    engine = holding(
        ledger_engine, an_entry("1", cost_nano_usd=None), an_entry("2", cost_nano_usd=4, baseline_nano_usd=10)
    )
    (row,) = rows(engine, "model")
    assert (row["cost_nano_usd"], row["unknown_cost_requests"], row["saved_nano_usd"]) == (4, 1, 6)


def test_only_unknown_costs_sum_to_unknown_and_not_to_zero(ledger_engine: Engine) -> None:
    (row,) = rows(holding(ledger_engine, an_entry("1", cost_nano_usd=None)), "model")
    assert row["cost_nano_usd"] is None


def test_a_day_is_the_day_of_the_business(ledger_engine: Engine) -> None:
    late = int(dt.datetime(2026, 11, 30, 23, 30, tzinfo=dt.UTC).timestamp() * 1e6)  # half past midnight in Madrid
    engine = holding(ledger_engine, an_entry("1", time_us=late))
    assert [r["day"] for r in rows(engine, "day")] == ["2026-12-01"]
    assert rows(engine, "model", period=month_period("2026-11", MADRID)) == []
    assert len(rows(engine, "model", period=month_period("2026-12", MADRID))) == 1


def test_by_request_shows_each_with_its_attempts(ledger_engine: Engine) -> None:
    (row,) = rows(holding(ledger_engine, an_entry("req_9", team="a")), "request")
    assert (row["request"], row["team"], row["outcome"], len(row["attempts"])) == ("req_9", "a", "ok", 1)
    assert row["time"].startswith("2026-11-24T13:00:00")


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", ""]),
            st.sampled_from(["m", "n"]),
            st.none() | st.integers(0, 10**15),
            st.integers(0, 90),
        ),
        max_size=12,
    ),
    st.lists(st.sampled_from([*PLAIN, "day", "month"]), min_size=1, max_size=3, unique=True),
)
def test_the_groups_of_any_grouping_sum_to_the_whole(
    new_ledger: Callable[[], str], made: list[tuple[str, str, int | None, int]], by: list[str]
) -> None:
    engine = holding(
        open_engine(new_ledger()),
        *(
            an_entry(
                str(n), team=team, model=model, cost_nano_usd=cost, time_us=NOON_NS // 1000 + days * 86_400_000_000
            )
            for n, (team, model, cost, days) in enumerate(made)
        ),
    )
    groups = rows(engine, *by)
    assert sum(g["requests"] for g in groups) == len(made)
    assert sum(g["cost_nano_usd"] or 0 for g in groups) == sum(cost or 0 for _, _, cost, _ in made)
    assert sum(g["unknown_cost_requests"] for g in groups) == sum(cost is None for _, _, cost, _ in made)
    engine.dispose()


@pytest.mark.parametrize("month", ["2026-13", "november", "2026"])
def test_what_is_not_a_month_is_refused(month: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|unconverted"):
        month_period(month, MADRID)
