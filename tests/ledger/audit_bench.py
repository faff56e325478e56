"""What an audit record costs: `python -m tests.ledger.audit_bench`. CPU of one thread, in microseconds a record."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import timeit
from decimal import Decimal

from gateway.ledger.audit_record import Record
from gateway.ledger.chain import Chain
from gateway.ledger.entry import attempt_entries, entry_of
from gateway.ledger.prices import Machine, PriceBook
from gateway.ledger.store import open_engine
from gateway.telemetry.audit import record_of
from gateway.types import DataClass
from tests.audited import a_story

RECORDS = 10_000


def on_the_request_path(data: DataClass) -> tuple[float, Record | None]:
    """Making the record."""
    story = a_story(data)
    book = PriceBook(machine=Machine(Decimal(0), Decimal(0), Decimal(0)), baseline=None)
    calls = attempt_entries(story, book)
    entry = entry_of(story, calls, book)
    seconds = min(timeit.repeat(lambda: record_of(story, entry, calls), number=RECORDS, repeat=5))
    return seconds / RECORDS * 1e6, record_of(story, entry, calls)


def in_the_ledgers_thread(record: Record, batch: int) -> float:
    """Sealing and inserting it, so many to a transaction."""
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/ledger.db")
        chain = Chain(engine, purpose="bench")
        for first in range(0, RECORDS, batch):
            records = [dataclasses.replace(record, request_id=f"req_{first + n:032x}") for n in range(batch)]
            with engine.begin() as connection:
                started = time.thread_time()
                chain.write(connection, records)
                seconds += time.thread_time() - started
            chain.committed()
        engine.dispose()
    return seconds / RECORDS * 1e6


if __name__ == "__main__":
    made, record = on_the_request_path(DataClass.PERSONAL)
    assert record is not None
    print(f"request path: {made:.1f}, public {on_the_request_path(DataClass.PUBLIC)[0]:.1f}")
    for size in (1, 32, 250):
        print(f"ledger's thread, batches of {size}: {in_the_ledgers_thread(record, size):.1f}")
