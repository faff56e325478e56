"""Budgets that gateways share over Redis: the same rules as in the ledger, and none is passed while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.ledger.book import Use
from gateway.ledger.budgets import StoreAway
from gateway.ledger.budgets_redis import RedisStore, connect
from gateway.ledger.store import open_engine
from tests.ledger.paying import CENT, Clock, Paying, a_budget, paying, under
from tests.services import Server, redis_server

pytestmark = pytest.mark.needs("redis-server")
NAME = "team:billing/month/2026-11"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.dispose()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with redis_server(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def shop_over(engine: Engine, server: Server, clock: Clock, ttl_s: float = 900.0) -> AsyncIterator[Paying]:
    def store(_ledger: object) -> RedisStore:
        return RedisStore(connect(server.url), clock=clock)

    async with paying(engine, clock=clock, ttl_s=ttl_s, store=store) as shop:
        yield shop


def test_two_gateways_at_once_serve_what_the_budget_is_for(engine: Engine, redis: Server) -> None:
    async def run() -> tuple[int, Use]:
        clock, caller = Clock(), under(a_budget(100 * CENT), a_budget(500 * CENT, "day", scope="key:key_1"))
        async with shop_over(engine, redis, clock) as one, shop_over(engine, redis, clock) as other:
            both = (one, other)
            served = await asyncio.gather(*(both[n % 2].pay(caller, f"req_{n}", CENT, CENT) for n in range(500)))
            await asyncio.sleep(0.2)
            await one.budgets.keep()
            assert one.budgets.left(caller) == 0
            store = RedisStore(connect(redis.url))
            uses = await store.read([NAME])
            await store.aclose()
            return sum(served), uses[NAME]

    assert asyncio.run(run()) == (100, Use(spent=100 * CENT))


def test_a_reservation_of_a_gateway_that_died_is_released_after_its_time(engine: Engine, redis: Server) -> None:
    async def run() -> None:
        clock, caller = Clock(), under(a_budget(10 * CENT))
        async with shop_over(engine, redis, clock, ttl_s=60) as dying:
            await dying.budgets.reserve(caller, "req_lost", 10 * CENT)
        async with shop_over(engine, redis, clock) as shop:
            assert not await shop.pay(caller, "req_1", CENT, CENT)
            clock.now += 61
            assert await shop.pay(caller, "req_2", CENT, CENT)
            await shop.settle(caller, "req_lost", 2 * CENT)  # it comes to an end all the same
            await asyncio.sleep(0.1)
            await shop.budgets.keep()
            assert shop.budgets.left(caller) == pytest.approx(0.07)

    asyncio.run(run())


def test_a_redis_that_has_forgotten_begins_with_what_the_ledger_says(engine: Engine, redis: Server) -> None:
    async def run() -> None:
        clock, caller = Clock(), under(a_budget(10 * CENT))
        async with shop_over(engine, redis, clock) as shop:
            assert await shop.pay(caller, "req_1", 9 * CENT, 9 * CENT)
            await asyncio.sleep(0.1)
            redis.kill()
            redis.restart()
            assert not await shop.pay(caller, "req_2", 2 * CENT, 2 * CENT)
            assert await shop.pay(caller, "req_3", CENT, CENT)

    asyncio.run(run())


def test_with_redis_away_nothing_is_promised_and_what_was_spent_meanwhile_is_settled_later(
    engine: Engine, redis: Server
) -> None:
    async def run() -> None:
        clock, caller = Clock(), under(a_budget(10 * CENT))
        async with shop_over(engine, redis, clock) as shop:
            await shop.budgets.reserve(caller, "req_1", 4 * CENT)
            redis.process.send_signal(19)  # SIGSTOP: it hangs, and remembers
            await shop.settle(caller, "req_1", 3 * CENT)
            with pytest.raises(StoreAway):
                await shop.budgets.reserve(caller, "req_2", CENT)
            await asyncio.sleep(0.2)
            redis.process.send_signal(18)
            await shop.budgets.keep()
            assert shop.budgets.left(caller) == pytest.approx(0.07)

    asyncio.run(run())
