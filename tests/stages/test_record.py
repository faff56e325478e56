"""record: what is owed is written, whatever becomes of what is only measured."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.prices import Machine, PriceBook
from gateway.stages.record import LedgerRecorder
from gateway.telemetry.metrics import Metrics
from gateway.types import Exchange
from tests.builders import an_attempt, an_exchange
from tests.stages.test_clock import Kept


class Broken:
    """Traces that cannot be made."""

    def record(self, exchange: Exchange, entry: Entry, attempts: Sequence[AttemptEntry]) -> None:
        raise ValueError("Port out of range 0-65535")

    def record_shadow(self, exchange: Exchange, span_id: str, call: AttemptEntry) -> None:
        raise AssertionError


def test_a_fault_in_what_is_measured_costs_no_entry_and_no_budget() -> None:
    kept, settled = Kept(), dict[str, int]()
    recorder = LedgerRecorder(
        kept,
        prices=PriceBook(machine=Machine(Decimal(0), Decimal(0), Decimal(0)), baseline=None),
        metrics=Metrics(),
        settle=settled.__setitem__,
        traces=Broken(),
    )
    asyncio.run(recorder.record(an_exchange(an_attempt(), reserved_nano_usd=5)))
    assert len(kept.entries) == 1
    assert settled == {"req_1": 0}
