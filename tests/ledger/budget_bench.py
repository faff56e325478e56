"""Requests at once on the edge of a budget, from several processes: `python -m tests.ledger.budget_bench`.

Four processes of 500 requests each ask for a cent of a budget for 100; says how many were served, and how long it took.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time

from gateway.ledger.budgets_redis import RedisStore, connect
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.ledger.paying import CENT, Clock, a_budget, paying, under

PROCESSES, REQUESTS, SERVED = 4, 500, 100


def one_process(number: int, url: str, redis: str) -> int:
    """How many of its requests were served."""
    clock = Clock()

    def store(_ledger: Ledger) -> RedisStore:
        return RedisStore(connect(redis), clock=clock)

    async def run() -> int:
        caller = under(a_budget(SERVED * CENT))
        async with paying(open_engine(url), clock=clock, store=store if redis else None) as shop:
            asked = (shop.pay(caller, f"req_{number}_{n}", CENT, CENT) for n in range(REQUESTS))
            return sum(await asyncio.gather(*asked))

    return asyncio.run(run())


def main(url: str, redis: str) -> None:
    """Run it and say what came of it."""
    open_engine(url).dispose()
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        served = pool.starmap(one_process, [(number, url, redis) for number in range(PROCESSES)])
    where = "Redis" if redis else "the ledger"
    print(f"{PROCESSES} x {REQUESTS} requests, a budget for {SERVED}, in {where}: {sum(served)} served, by {served}")
    print(f"over by {sum(served) - SERVED} requests; {time.monotonic() - started:.1f} s with the processes' start")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(f"sqlite:///{folder}/ledger.db", sys.argv[1] if len(sys.argv) > 1 else "")
