"""What the ledger costs a request: `python -m tests.ledger.path_bench`. CPU of the event loop's thread, microseconds.

What `record` does: entry and call with costs and energy, audit record, the hand-over to the ledger's writer and the
wake-up when it is written; 64 callers at a time, a new SQLite file, the log off. Metrics are said by themselves. Then
the same for a caller with two hard budgets, which are reserved before and settled with the entry. The writer's thread
is measured beside it: no reply waits for its CPU, but it shares the interpreter's lock. Medians of five rounds, least
and most.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import tempfile
import threading
import time
import timeit
from collections.abc import Awaitable, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.ledger.budgets import Alert, Budgets, LedgerStore
from gateway.ledger.costing import footprint, price_book
from gateway.ledger.entry import attempt_entries, entry_of
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.settings import load_settings
from gateway.stages.record import LedgerRecorder
from gateway.stages.reserve import Purse
from gateway.telemetry.metrics import Metrics
from gateway.types import Caller, DataClass, Decision, Exchange, Signals
from tests.audited import a_story, far
from tests.builders import LARGE, SMALL, a_decision
from tests.ledger.paying import a_budget, under

REQUESTS, CALLERS, ROUNDS = 4_000, 64, 5
ZONE = ZoneInfo("Europe/Madrid")
RICH = 10**15


async def _by_callers(one: Callable[[Exchange], Awaitable[None]], stories: list[Exchange]) -> float:
    """CPU of this thread for all of them, so many at a time; seconds."""
    left = iter(stories)

    async def caller() -> None:
        for story in left:
            await one(story)

    started = time.thread_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return time.thread_time() - started


async def a_round(folder: Path, caller: Caller | None, data: DataClass) -> tuple[float, float, float]:
    """Microseconds a request: of the event loop's thread without metrics and for them, and of the writer's."""
    settings = load_settings(None)
    models = {SMALL.id: SMALL, LARGE.id: LARGE}
    engine = open_engine(f"sqlite:///{folder}/ledger.db")
    failures: list[Exception] = []
    ledger = Ledger(engine, on_failure=failures.append, time_zone=ZONE)
    prices = price_book(settings, models)

    async def alert(_: Alert) -> None:
        raise AssertionError("a rich budget has passed a threshold")

    budgets = Budgets(LedgerStore(engine, ledger.ask), engine, zone=ZONE, alert=alert)
    purse = Purse(budgets, prices=prices, models=models, zone=ZONE, default_completion_tokens=500, refused=print)
    counters = Metrics()
    recorder = LedgerRecorder(
        ledger, prices=prices, metrics=counters, footprint=footprint(settings, models), settle=budgets.settle
    )

    def again(_: Signals) -> Decision:
        raise AssertionError("a rich budget is short")

    async def one(story: Exchange) -> None:
        if caller is not None:
            assert story.inbound is not None
            assert story.signals is not None
            assert story.decision is not None
            await purse.reserve(story.inbound, story.signals, story.decision, story, again=again)
        await recorder.record(story)

    async def nothing(_: Exchange) -> None:
        await asyncio.sleep(0)

    stories = [a_story(data, far(), caller=caller, decision=a_decision(LARGE.id)) for _ in range(REQUESTS + CALLERS)]
    await _by_callers(one, stories[REQUESTS:])  # what is made once is made
    gc.collect()
    gc.freeze()  # so many stories at once are the benchmark's, not a gateway's
    loop = await _by_callers(nothing, stories[:REQUESTS])
    calls = attempt_entries(stories[0], prices)
    entry = entry_of(stories[0], calls, prices)
    metrics = timeit.timeit(lambda: counters.observe(entry, calls), number=REQUESTS, timer=time.thread_time)
    before = _writers_cpu()
    spent = await _by_callers(one, stories[:REQUESTS]) - loop
    writer = _writers_cpu() - before
    gc.unfreeze()
    await budgets.aclose()
    await asyncio.to_thread(ledger.close)
    assert not failures
    return (spent - metrics) / REQUESTS * 1e6, metrics / REQUESTS * 1e6, writer / REQUESTS * 1e6


def _writers_cpu() -> float:
    thread = next(thread for thread in threading.enumerate() if thread.name == "ledger")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def main() -> None:
    """Print the figures."""
    logging.disable(logging.CRITICAL)
    budgets = (a_budget(RICH), a_budget(RICH, "day", scope="key:key_1"))
    cases: dict[str, tuple[Caller | None, DataClass]] = {
        "public": (None, DataClass.PUBLIC),
        "personal (an audit record)": (None, DataClass.PERSONAL),
        "public, two hard budgets": (under(*budgets), DataClass.PUBLIC),
    }
    for name, (caller, data) in cases.items():
        found = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                found.append(asyncio.run(a_round(Path(folder), caller, data)))
        path, metrics, writer = (_said(sorted(one[n] for one in found)) for n in range(3))
        print(f"{name}: ledger {path} on the request path (metrics {metrics}); {writer} in the writer's thread")


def _said(ordered: list[float]) -> str:
    return f"{statistics.median(ordered):.0f} us ({ordered[0]:.0f} to {ordered[-1]:.0f})"


if __name__ == "__main__":
    main()
