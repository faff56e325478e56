"""Budgets: reserved before, settled after; never passed by calls at the same time. On both databases."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from gateway.ledger.book import Use
from gateway.ledger.budgets import Short, StoreAway, read_uses, span_at, spent_in
from gateway.ledger.limits import read_limits, set_limits
from gateway.ledger.tables import reservations
from tests.ledger.paying import CENT, Clock, a_budget, paying, under


def at(text: str, zone: str = "Europe/Madrid") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_500_requests_at_once_against_a_budget_for_100_serve_100(ledger_engine: Engine) -> None:
    async def run() -> tuple[int, Use]:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(100 * CENT))
            served = await asyncio.gather(*(shop.pay(caller, f"req_{n}", CENT, CENT) for n in range(500)))
            return sum(served), read_uses(ledger_engine, ["team:billing/month/2026-11"])["team:billing/month/2026-11"]

    served, use = asyncio.run(run())
    assert served == 100
    assert use == Use(spent=100 * CENT)
    assert spent_in(ledger_engine, a_budget(0), 0, None) == 100 * CENT  # and the ledger says the same


def test_what_a_request_did_not_use_is_free_again_when_it_is_settled(ledger_engine: Engine) -> None:
    async def run() -> list[bool]:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(10 * CENT))
            return [await shop.pay(caller, f"req_{n}", 6 * CENT, CENT) for n in range(6)]

    assert asyncio.run(run()) == [True, True, True, True, True, False]  # 5 spent: 6 more would pass 10


def test_every_level_over_a_key_must_cover_a_call_and_none_is_held_when_one_does_not(ledger_engine: Engine) -> None:
    async def run() -> tuple[str, dict[str, Use]]:
        async with paying(ledger_engine) as shop:
            levels = [
                a_budget(100 * CENT, scope="org:acme"),
                a_budget(50 * CENT, scope="team:acme/billing"),
                a_budget(3 * CENT, scope="app:acme/billing/bot"),
                a_budget(20 * CENT, "total", scope="key:key_1"),
            ]
            caller = under(*levels, org="acme")
            await shop.budgets.reserve(caller, "req_1", 2 * CENT)
            with pytest.raises(Short) as short:
                await shop.budgets.reserve(caller, "req_2", 2 * CENT)
            assert shop.budgets.left(caller) == pytest.approx(0.01)
            names = [span_at(level, int(shop.clock() * 1e6), ZoneInfo("UTC")).name for level in levels]
            return short.value.budget.scope, read_uses(ledger_engine, names)

    scope, uses = asyncio.run(run())
    assert scope == "app:acme/billing/bot"
    assert {use.reserved for use in uses.values()} == {2 * CENT}
    assert len(uses) == 4


def test_a_soft_budget_refuses_nothing_and_each_threshold_is_told_once(ledger_engine: Engine) -> None:
    async def run() -> list[int]:
        caller = under(a_budget(10 * CENT, hard=False))
        told: list[int] = []
        for process in range(2):  # a second process has the same budgets and tells nothing again
            async with paying(ledger_engine) as shop:
                for n in range(12):
                    assert await shop.pay(caller, f"req_{process}_{n}", CENT, CENT)
                    await shop.budgets.keep()
                await asyncio.sleep(0.05)
            told += [alert.threshold for alert in shop.alerts]
        return told

    assert asyncio.run(run()) == [50, 80, 100]


def test_a_reservation_of_a_process_that_died_is_released_after_its_time(ledger_engine: Engine) -> None:
    async def run() -> None:
        clock, caller = Clock(), under(a_budget(10 * CENT))
        async with paying(ledger_engine, clock=clock, ttl_s=60) as dying:
            await dying.budgets.reserve(caller, "req_lost", 10 * CENT)
        async with paying(ledger_engine, clock=clock) as shop:
            assert not await shop.pay(caller, "req_1", CENT, CENT)
            clock.now += 61
            await shop.budgets.keep()
            assert await shop.pay(caller, "req_2", CENT, CENT)
            # It comes to an end all the same: what it cost counts, what it held has gone already.
            await shop.settle(caller, "req_lost", 2 * CENT)
        uses = read_uses(ledger_engine, ["team:billing/month/2026-11"])
        assert uses["team:billing/month/2026-11"] == Use(spent=3 * CENT)

    asyncio.run(run())
    with ledger_engine.connect() as connection:
        assert connection.execute(select(reservations)).all() == []


def test_a_claim_that_no_ledger_can_hold_ends_no_other(ledger_engine: Engine) -> None:
    async def run() -> Use:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(10 * CENT, hard=False))
            with contextlib.suppress(StoreAway):
                await shop.budgets.reserve(caller, "req_1", 1 << 70)
            assert await shop.pay(caller, "req_2", CENT, CENT)
            return read_uses(ledger_engine, ["team:billing/month/2026-11"])["team:billing/month/2026-11"]

    assert asyncio.run(run()).spent == CENT


def test_who_left_before_a_claim_was_decided_holds_nothing(ledger_engine: Engine) -> None:
    async def run() -> Use:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(10 * CENT))
            assert await shop.pay(caller, "req_1", CENT, CENT)  # the period has begun
            with shop.ledger.engine.begin() as busy:
                busy.execute(select(reservations))
                busy.exec_driver_sql("UPDATE budget_use SET spent_nano_usd = spent_nano_usd")  # the writer waits
                first = asyncio.create_task(shop.budgets.reserve(caller, "req_2", CENT))
                await asyncio.sleep(0.05)  # it is being written: too late for this one
                gone = asyncio.create_task(shop.budgets.reserve(caller, "req_3", 5 * CENT))
                await asyncio.sleep(0.01)
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
            await first
            return read_uses(ledger_engine, ["team:billing/month/2026-11"])["team:billing/month/2026-11"]

    assert asyncio.run(run()).reserved == CENT


def test_settling_twice_counts_once(ledger_engine: Engine) -> None:
    async def run() -> Use:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(10 * CENT))
            await shop.budgets.reserve(caller, "req_1", 5 * CENT)
            await shop.settle(caller, "req_1", 2 * CENT)
            await shop.settle(caller, "req_1", 2 * CENT)
        return read_uses(ledger_engine, ["team:billing/month/2026-11"])["team:billing/month/2026-11"]

    assert asyncio.run(run()) == Use(spent=2 * CENT)


def test_a_month_is_the_businesss_and_its_rest_is_carried_over_when_that_was_agreed(ledger_engine: Engine) -> None:
    async def run() -> list[bool]:
        clock = Clock(at("2026-10-31T23:59:50"))
        async with paying(ledger_engine, clock=clock) as shop:
            plain, carried = a_budget(4 * CENT), a_budget(4 * CENT, scope="key:key_1", carry_over=True)
            served = [await shop.pay(under(plain, carried), "req_1", 3 * CENT, 3 * CENT)]
            served += [await shop.pay(under(plain, carried), "req_2", 3 * CENT, 3 * CENT)]
            clock.now = at("2026-11-01T00:00:10")  # 31 October still in UTC: 23:00:10
            served += [await shop.pay(under(carried, team="sales"), "req_3", 5 * CENT, 5 * CENT)]
            served += [await shop.pay(under(plain), "req_4", 5 * CENT, 5 * CENT)]
            served += [await shop.pay(under(plain), "req_5", 4 * CENT, 4 * CENT)]
            return served

    assert asyncio.run(run()) == [True, False, True, False, True]


def test_a_new_budget_begins_with_what_the_ledger_says_was_spent(ledger_engine: Engine) -> None:
    async def run() -> bool:
        async with paying(ledger_engine) as shop:
            await shop.settle(under(), "req_before", 9 * CENT)
            await shop.settle(under(team="sales"), "req_others", 9 * CENT)
            served = await shop.pay(under(a_budget(10 * CENT)), "req_1", CENT, CENT)
            return served and not await shop.pay(under(a_budget(10 * CENT)), "req_2", CENT, CENT)

    assert asyncio.run(run())


def test_what_is_left_to_a_caller_is_known_without_asking(ledger_engine: Engine) -> None:
    async def run() -> list[float | None]:
        async with paying(ledger_engine) as shop:
            caller = under(a_budget(10 * CENT), a_budget(4 * CENT, "day"))
            left = [shop.budgets.left(under()), shop.budgets.left(caller)]
            await shop.budgets.reserve(caller, "req_1", CENT)
            left.append(shop.budgets.left(caller))
            await shop.settle(caller, "req_1", 3 * CENT)
            await shop.budgets.keep()
            return [*left, shop.budgets.left(caller)]

    assert asyncio.run(run()) == [None, 0.04, 0.03, 0.01]


def test_a_limit_that_is_changed_keeps_its_beginning(ledger_engine: Engine) -> None:
    with ledger_engine.begin() as connection:
        set_limits(connection, [a_budget(2 * CENT)])
    (budget,) = read_limits(ledger_engine)["team:billing"].budgets
    assert (budget.nano_usd, budget.since_us > 5) == (2 * CENT, True)
    with ledger_engine.begin() as connection:
        set_limits(connection, [a_budget(3 * CENT)])
    (changed,) = read_limits(ledger_engine)["team:billing"].budgets
    assert (changed.nano_usd, changed.since_us) == (3 * CENT, budget.since_us)


@given(
    st.sampled_from(["Europe/Madrid", "America/Bogota", "Pacific/Auckland", "UTC"]),
    st.sampled_from(["day", "month"]),
    st.integers(1_500_000_000, 2_000_000_000),
)
def test_periods_follow_each_other_without_gap_or_overlap(zone: str, period: str, moment: int) -> None:
    budget, where = a_budget(1, period), ZoneInfo(zone)
    span = span_at(budget, moment * 1_000_000, where)
    assert span.end_us is not None
    assert span.start_us <= moment * 1_000_000 < span.end_us
    assert span_at(budget, span.end_us, where).start_us == span.end_us
    assert span_at(budget, span.end_us, where).before == span.name
    assert span_at(budget, span.start_us, where) == span
