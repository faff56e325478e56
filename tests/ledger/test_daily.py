from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select, update

from gateway.ledger.adjustments import Adjustment, adjust
from gateway.ledger.daily import day_bounds, rebuild
from gateway.ledger.entry import Entry
from gateway.ledger.report import MONEY, PLAIN, TOKENS, Period, month_period, report
from gateway.ledger.store import open_engine
from gateway.ledger.tables import DAILY_GROUPS, daily, entries
from gateway.ledger.writer import Ledger
from tests.builders import NOON_NS, an_attempt_entry, an_entry

MADRID = ZoneInfo("Europe/Madrid")
NOON_US = NOON_NS // 1000
DAY_US = 86_400_000_000
ALWAYS = Period()


def write(engine: Engine, *made: Entry, zone: ZoneInfo | None = MADRID) -> None:
    async def all_of_them() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)), time_zone=zone)
        await asyncio.gather(*(ledger.append(entry, []) for entry in made))
        await asyncio.gather(*(ledger.append(entry, []) for entry in made[:2]))  # handed over twice
        ledger.close()

    asyncio.run(all_of_them())


def shadow(engine: Engine, request_id: str, cost_nano_usd: int | None) -> None:
    call = an_attempt_entry(request_id, 1, kind="shadow", cost_nano_usd=cost_nano_usd)
    ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)))
    ledger.add([call])
    ledger.close()


def correct(engine: Engine, request_id: str, nano_usd: int) -> None:
    with engine.begin() as connection:
        adjust(connection, [Adjustment(f"price:{request_id}", request_id, NOON_US, "price", nano_usd, "contract")])


def without_daily(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(daily))


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


COSTS = st.none() | st.integers(0, 10**15)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", ""]),
        st.sampled_from(["m", "n"]),
        COSTS,
        st.integers(-60 * 24, 60 * 24).map(lambda hours: NOON_US + hours * DAY_US // 24),
        COSTS,
        st.none() | st.integers(0, 10**9),
        st.sampled_from(["", "shadow", "unknown shadow", "correction", "both"]),
    ),
    max_size=14,
)
GROUPINGS = st.lists(st.sampled_from([*PLAIN, "key", "day", "month"]), max_size=3, unique=True)
PERIODS = st.sampled_from(
    [ALWAYS, month_period("2026-11", MADRID), Period(NOON_US - 3 * DAY_US + 1), Period(None, NOON_US + DAY_US // 2)]
)


def fill(engine: Engine, made: list[tuple[Any, ...]]) -> None:
    made_entries = [
        an_entry(str(n), team=team, model=model, cost_nano_usd=cost, time_us=at, baseline_nano_usd=baseline,
                 baseline_low_nano_usd=baseline, baseline_high_nano_usd=baseline, energy_low_uwh=energy,
                 energy_high_uwh=energy, router_nano_usd=n)
        for n, (team, model, cost, at, baseline, energy, _) in enumerate(made)
    ]  # fmt: skip
    write(engine, *made_entries)
    for n, (*_, later) in enumerate(made):
        if later in {"shadow", "unknown shadow", "both"}:
            shadow(engine, str(n), None if later == "unknown shadow" else 77)
        if later in {"correction", "both"}:
            correct(engine, str(n), -5)


def total(rows: list[dict[str, Any]]) -> dict[str, int]:
    names = ("requests", "unknown_cost_requests", "unknown_energy_requests", *TOKENS, *MONEY)
    return {name: sum(row[name] or 0 for row in rows) for name in names}


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(REQUESTS, GROUPINGS, PERIODS)
def test_any_grouping_sums_to_the_whole_with_daily_sums_and_without(
    new_ledger: Callable[[], str], made: list[tuple[Any, ...]], by: list[str], period: Period
) -> None:
    engine = open_engine(new_ledger())
    fill(engine, made)
    requests = total(report(engine, by=("request",), period=period, zone=MADRID))
    groups = report(engine, by=tuple(by), period=period, zone=MADRID)
    assert total(groups) == requests
    without_daily(engine)
    assert report(engine, by=tuple(by), period=period, zone=MADRID) == groups
    list(rebuild(engine, MADRID))
    assert report(engine, by=tuple(by), period=period, zone=MADRID) == groups
    engine.dispose()


def test_what_was_handed_over_twice_is_summed_once(engine: Engine) -> None:
    write(engine, an_entry("1"), an_entry("2"), an_entry("3"))
    with engine.connect() as connection:
        assert connection.execute(select(func.sum(daily.c.requests))).scalar() == 3


def test_daily_sums_that_hold_other_requests_than_the_ledger_are_not_used(engine: Engine) -> None:
    write(engine, an_entry("1", cost_nano_usd=5))
    write(engine, an_entry("2", cost_nano_usd=7), zone=None)  # by a gateway that keeps no sums
    (row,) = report(engine, by=("team",), period=ALWAYS, zone=MADRID)
    assert (row["requests"], row["cost_nano_usd"]) == (2, 12)


def test_whole_days_are_read_from_their_sums(engine: Engine) -> None:
    write(engine, an_entry("1", cost_nano_usd=5), an_entry("2", cost_nano_usd=7))
    with engine.begin() as connection:  # something that only one of the two says
        connection.execute(update(daily).values(cost_nano_usd=99))
    (row,) = report(engine, by=("team",), period=month_period("2026-11", MADRID), zone=MADRID)
    assert row["cost_nano_usd"] == 99


def test_another_time_zone_has_other_days_and_none_of_these_sums(engine: Engine) -> None:
    write(engine, an_entry("1", time_us=int(dt.datetime(2026, 11, 30, 23, 30, tzinfo=dt.UTC).timestamp() * 1e6)))
    days = {zone: report(engine, by=("day",), period=ALWAYS, zone=ZoneInfo(zone))[0]["day"] for zone in
            ("Europe/Madrid", "America/Bogota", "Asia/Kathmandu")}  # fmt: skip
    assert days == {"Europe/Madrid": "2026-12-01", "America/Bogota": "2026-11-30", "Asia/Kathmandu": "2026-12-01"}


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
def test_a_day_is_as_long_as_the_clocks_say(engine: Engine, day: tuple[int, int, int], hours: int) -> None:
    start, end = day_bounds(int(dt.datetime(*day, 12, tzinfo=MADRID).timestamp() * 1e6), MADRID)
    assert end - start == hours * 3_600_000_000
    write(engine, *(an_entry(str(n), time_us=at) for n, at in enumerate((start - 1, start, end - 1, end))))
    counts = {row["day"]: row["requests"] for row in report(engine, by=("day",), period=ALWAYS, zone=MADRID)}
    assert counts[dt.date(*day).isoformat()] == 2


def test_a_gateway_goes_on_after_its_sums_were_made_again(engine: Engine) -> None:

    async def live() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)), time_zone=MADRID)
        await ledger.append(an_entry("1", cost_nano_usd=5), [])
        list(rebuild(engine, MADRID))
        await ledger.append(an_entry("2", cost_nano_usd=7), [])
        ledger.close()

    asyncio.run(live())
    with engine.connect() as connection:
        assert connection.execute(select(func.sum(daily.c.cost_nano_usd))).scalar() == 12


def test_every_group_of_the_daily_sums_is_a_column_of_the_entries() -> None:
    assert set(DAILY_GROUPS) <= set(entries.c.keys())


def test_a_month_begins_at_midnight_of_the_business() -> None:
    november = month_period("2026-11", MADRID)
    assert november.start_us == int(dt.datetime(2026, 10, 31, 23, tzinfo=dt.UTC).timestamp() * 1e6)


def test_a_correction_makes_an_unknown_cost_known(engine: Engine) -> None:
    write(engine, an_entry("1", cost_nano_usd=None, baseline_nano_usd=100))
    correct(engine, "1", 60)
    (row,) = report(engine, by=("team",), period=ALWAYS, zone=MADRID)
    assert (row["cost_nano_usd"], row["saved_nano_usd"], row["unknown_cost_requests"]) == (60, 40, 0)


def test_a_shadow_of_unknown_cost_makes_its_requests_cost_unknown(engine: Engine) -> None:
    write(engine, an_entry("1", cost_nano_usd=5), an_entry("2", cost_nano_usd=7))
    shadow(engine, "1", None)
    (row,) = report(engine, by=("team",), period=ALWAYS, zone=MADRID)
    assert (row["cost_nano_usd"], row["unknown_cost_requests"]) == (7, 1)
