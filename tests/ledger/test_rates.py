"""Requests and tokens a minute, over the ledger's database and over Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from limits.aio.storage import Storage
from sqlalchemy import Engine, func, select

from gateway.errors import LimitExceeded
from gateway.ledger.book import Hit
from gateway.ledger.budgets_redis import connect
from gateway.ledger.rates import LedgerStorage, Rates, redis_storage
from gateway.ledger.tables import rate_windows
from gateway.ledger.writer import Ledger
from gateway.types import Rate
from tests.ledger.paying import paying
from tests.services import Server, redis_server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextlib.asynccontextmanager
async def over_ledger(engine: Engine) -> AsyncIterator[Storage]:
    ledger = Ledger(engine, on_failure=lambda _error: None)
    try:
        yield LedgerStorage(ledger.ask)
    finally:
        await asyncio.to_thread(ledger.close)


async def ask(rates: Rates, over: list[Rate], tokens: int = 1) -> bool:
    try:
        await rates.admit(over, tokens)
    except LimitExceeded as error:
        assert error.retry_after_s is None or error.retry_after_s >= 1
        return False
    return True


async def measure(storage: Storage, name: str) -> None:
    """A few requests at once; a minute may begin meanwhile, so a limit is passed by no more than its own share."""
    refused: list[tuple[str, str]] = []
    rates = Rates(storage, refused=lambda scope, kind: refused.append((scope, kind)), away=lambda error: None)
    few = [Rate(f"team:{name}", "requests", 40)]
    served = sum(await asyncio.gather(*(ask(rates, few) for _ in range(120))))
    assert 40 <= served <= 80
    assert refused == [(f"team:{name}", "requests")] * (120 - served)

    tokens = [Rate(f"key:{name}", "tokens", 10_000)]
    assert await ask(rates, tokens, 6_000)
    assert not await ask(rates, tokens, 60_000)  # it would never fit
    rates.add(tokens, 9_000)  # the answer was longer than what was taken for it
    await rates.aclose()
    (standing,) = await rates.admit(tokens, 0)
    assert (standing.limit, standing.kind) == (10_000, "tokens")
    assert standing.remaining < 10_000


def test_a_limit_holds_for_requests_at_once_in_the_ledger(ledger_engine: Engine) -> None:
    async def run() -> None:
        async with over_ledger(ledger_engine) as storage:
            await measure(storage, "billing")

    asyncio.run(run())


@pytest.mark.needs("redis-server")
def test_a_limit_holds_for_requests_at_once_in_redis(redis: Server) -> None:
    async def run() -> None:
        client = connect(redis.url)
        await measure(redis_storage(client, redis.url), "shared")
        await client.aclose()

    asyncio.run(run())


def test_two_processes_on_one_ledger_share_a_limit(ledger_engine: Engine) -> None:
    async def run() -> int:
        async with over_ledger(ledger_engine) as one, over_ledger(ledger_engine) as other:
            both = [Rates(each, refused=lambda scope, kind: None, away=lambda error: None) for each in (one, other)]
            over = [Rate("org:acme", "requests", 30)]
            return sum(await asyncio.gather(*(ask(both[n % 2], over) for n in range(100))))

    assert 30 <= asyncio.run(run()) <= 60


def test_the_tightest_limit_is_what_a_caller_is_told(ledger_engine: Engine) -> None:
    async def run() -> None:
        async with over_ledger(ledger_engine) as storage:
            rates = Rates(storage, refused=lambda scope, kind: None, away=lambda error: None)
            over = [Rate("team:t", "requests", 100), Rate("key:k", "requests", 5), Rate("key:k", "tokens", 50)]
            standings = {each.kind: each for each in await rates.admit(over, 20)}
            assert (standings["requests"].limit, standings["requests"].remaining) == (5, 4)
            assert (standings["tokens"].limit, standings["tokens"].remaining) == (50, 30)

    asyncio.run(run())


@pytest.mark.needs("redis-server")
def test_minutes_that_are_over_leave_the_ledger_also_where_nobody_has_a_budget(ledger_engine: Engine) -> None:
    async def run() -> int:
        async with paying(ledger_engine) as shop:
            await shop.ledger.ask(Hit("requests/team:a", 10, 1))
            shop.clock.now = time.time() + 600
            await shop.budgets.keep()
        with ledger_engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(rate_windows)).scalar_one())

    assert asyncio.run(run()) == 0


def test_with_the_store_away_each_process_holds_the_limit_by_itself(tmp_path: Path) -> None:
    async def run(server: Server) -> None:
        away: list[Exception] = []
        client = connect(server.url)
        rates = Rates(redis_storage(client, server.url), refused=lambda scope, kind: None, away=away.append)
        over = [Rate("team:t", "requests", 3)]
        assert await ask(rates, over)
        server.kill()
        assert [await ask(rates, over) for _ in range(5)] == [True, True, True, False, False]
        assert len(away) == 5
        server.restart()
        assert await ask(rates, over)
        await client.aclose()

    with redis_server(tmp_path) as server:
        asyncio.run(run(server))
