"""The clock of the machine jumps: stamps say what it said, durations are what they were."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from gateway.ledger.audit_record import Record
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.prices import Machine, PriceBook
from gateway.stages.call import begin, end
from gateway.stages.record import LedgerRecorder
from gateway.telemetry.metrics import Metrics
from gateway.types import Exchange
from tests.builders import NOON_NS, SMALL, an_exchange

HOUR_NS = 3_600_000_000_000


class Kept:
    def __init__(self) -> None:
        self.entries: list[tuple[Entry, list[AttemptEntry]]] = []

    def append(
        self, entry: Entry, rows: list[AttemptEntry], audit: Record | None, settled: int | None
    ) -> asyncio.Future[None]:
        self.entries.append((entry, rows))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    hangs = False

    def rescue(self, entry: Entry, rows: list[AttemptEntry], audit: Record | None, settled: int | None) -> bool:
        raise AssertionError("nothing waits")

    def add(self, rows: list[AttemptEntry], audit: Record | None) -> None:
        raise AssertionError("no shadow was cast")


def recorded(exchange: Exchange) -> tuple[Entry, list[AttemptEntry]]:
    kept = Kept()
    prices = PriceBook(machine=Machine(Decimal(0), Decimal(0), Decimal(0)), baseline=None)
    asyncio.run(LedgerRecorder(kept, prices=prices, metrics=Metrics()).record(exchange))
    return kept.entries[0]


def test_a_clock_that_is_set_while_a_request_lives_leaves_its_durations_true() -> None:
    for jump in (-HOUR_NS, HOUR_NS):
        exchange = an_exchange()
        begin(exchange, SMALL)
        exchange.attempts[0].started_ns -= jump
        end(exchange.attempts[0])
        exchange.received_ns = NOON_NS - jump
        entry, (call,) = recorded(exchange)
        assert entry.time_us == (NOON_NS - jump) // 1000
        assert 0 <= call.duration_us <= entry.duration_us < 60_000_000
