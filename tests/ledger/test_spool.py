"""The spool: what was promised is on disk, what was half written was not, and another process goes on with it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.ledger.audit_record import REQUEST, Record, Who
from gateway.ledger.batch import Batch, merged
from gateway.ledger.spool import Spool, SpoolFull
from gateway.ledger.store import open_engine
from gateway.ledger.tables import audit, entries
from gateway.ledger.writer import Ledger
from tests.builders import an_attempt_entry, an_entry

RECORD = Record(REQUEST, 1, "req_1", Who("key_1", "billing", "bot"))
BATCH = Batch([an_entry()], [an_attempt_entry()], [RECORD], [("req_1", 7)], 1)


def test_a_batch_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1_000_000)
    assert spool.read(spool.append(BATCH)) == BATCH
    spool.close()


def test_a_file_of_a_process_that_died_is_found_without_its_half_line(tmp_path: Path) -> None:
    dead = Spool(tmp_path, max_bytes=1_000_000)
    dead.append(BATCH)
    dead.close()  # with something in it: what the death of a process does, the lock is free
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes() + b'{"rows": 1, "entr')
    spool = Spool(tmp_path, max_bytes=1_000_000)
    (place,) = spool.found()
    assert spool.read(place).entries == BATCH.entries
    assert list(Spool(tmp_path, max_bytes=1_000_000).found()) == []  # it is held now
    spool.done(place)
    assert list(tmp_path.glob("*.jsonl")) == []


def test_nobody_else_on_the_machine_reads_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1_000_000)
    spool.append(BATCH)
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    spool.close()


def test_a_full_spool_takes_no_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10)
    with pytest.raises(SpoolFull):
        spool.append(BATCH)
    spool.close()


def test_what_a_process_kept_while_the_database_was_locked_the_next_one_writes_once(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db")

    async def keep() -> None:
        ledger = Ledger(engine, on_failure=lambda _error: None, spool=Spool(tmp_path / "spool", max_bytes=1_000_000))
        with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await ledger.append(an_entry(), [an_attempt_entry()], RECORD)
            assert (ledger.state, ledger.spooled) == ("spooling", 1)
            await asyncio.to_thread(ledger.close)
            other.execute("ROLLBACK")

    async def write() -> None:
        ledger = Ledger(engine, on_failure=lambda _error: None, spool=Spool(tmp_path / "spool", max_bytes=1_000_000))
        await ledger.append(an_entry("req_2"), [])
        await asyncio.to_thread(ledger.close)

    asyncio.run(keep())
    asyncio.run(write())
    asyncio.run(write())
    with engine.connect() as connection:
        assert set(connection.execute(select(entries.c.request_id)).scalars()) == {"req_1", "req_2"}
        assert connection.execute(select(audit.c.request_id).where(audit.c.event == REQUEST)).scalars().all() == [
            "req_1"
        ]
    engine.dispose()


def test_an_entry_that_cannot_be_written_keeps_no_other_from_the_ledger(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    failures: list[Exception] = []

    async def run() -> None:
        ledger = Ledger(engine, on_failure=failures.append, spool=Spool(tmp_path / "spool", max_bytes=1_000_000))
        impossible = an_attempt_entry("req_2", cost_nano_usd=1 << 70)
        handed = [ledger.append(an_entry(f"req_{n}"), [impossible] if n == 2 else []) for n in range(4)]
        async with asyncio.timeout(5):
            await asyncio.gather(*handed, return_exceptions=True)
            await ledger.append(an_entry("req_after"), [])
        await asyncio.to_thread(ledger.close)
        assert ledger.waiting == 0

    asyncio.run(run())
    assert failures
    with engine.connect() as connection:
        written = set(connection.execute(select(entries.c.request_id)).scalars())
    assert written == {"req_0", "req_1", "req_3", "req_after"}
    engine.dispose()


def test_what_was_kept_twice_is_once_in_what_is_written_together() -> None:
    gate = Record("gate", 2)
    other = Batch([an_entry("req_2")], [an_attempt_entry("req_2")], [gate], [], 1)
    both = merged([BATCH, other, BATCH])
    assert [entry.request_id for entry in both.entries] == ["req_1", "req_2"]
    assert [call.request_id for call in both.attempts] == ["req_1", "req_2"]
    assert list(both.audit) == [gate, RECORD]
    assert (list(both.settled), both.rows, both.repeated) == ([("req_1", 7)], 3, True)
