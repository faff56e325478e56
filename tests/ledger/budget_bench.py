"""Requests at once on the edge of a budget, from several processes: `python -m tests.ledger.budget_bench`.

Four processes of 500 requests each ask for a cent of a budget for 100, beginning at one moment, a few at a time so that
all of them are at the edge; says how many each served, and what was spent beyond the budget.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier

from gateway.ledger.budgets import spent_in
from gateway.ledger.budgets_redis import RedisStore, connect
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.ledger.paying import CENT, Clock, a_budget, paying, under

PROCESSES, REQUESTS, SERVED, AT_ONCE = 4, 500, 100, 4
_together: list[Barrier] = []


def _begin(barrier: Barrier) -> None:
    _together.append(barrier)


def one_process(number: int, url: str, redis: str) -> int:
    """How many of its requests were served."""
    clock = Clock()

    def store(_ledger: Ledger) -> RedisStore:
        return RedisStore(connect(redis), clock=clock)

    async def run() -> int:
        caller = under(a_budget(SERVED * CENT))
        async with paying(open_engine(url), clock=clock, store=store if redis else None) as shop:
            numbers = iter(range(REQUESTS))

            async def some() -> int:
                return sum([await shop.pay(caller, f"req_{number}_{n}", CENT, CENT) for n in numbers])

            _together[0].wait()  # started, with everything imported and the database open
            return sum(await asyncio.gather(*(some() for _ in range(AT_ONCE))))

    return asyncio.run(run())


def main(url: str, redis: str) -> None:
    """Run it and say what came of it."""
    open_engine(url).dispose()
    started = time.monotonic()
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(PROCESSES, _begin, (spawned.Barrier(PROCESSES),)) as pool:
        served = pool.starmap(one_process, [(number, url, redis) for number in range(PROCESSES)], chunksize=1)
    seconds = time.monotonic() - started
    where = "Redis" if redis else "the ledger"
    print(f"{PROCESSES} x {REQUESTS} requests, a budget for {SERVED}, in {where}: {sum(served)} served, by {served}")
    engine = open_engine(url)
    spent = spent_in(engine, a_budget(0), 0, None)
    engine.dispose()
    over = (spent - SERVED * CENT) / 1e9
    print(f"over by {sum(served) - SERVED} requests, {over:g} USD by the ledger; {seconds:.1f} s with the starts")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(f"sqlite:///{folder}/ledger.db", sys.argv[1] if len(sys.argv) > 1 else "")
