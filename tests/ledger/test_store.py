from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from sqlalchemy import Engine, Inspector, create_engine, inspect, select

from gateway.errors import ConfigError
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.store import driver_url, migrate, open_engine
from gateway.ledger.tables import HEAD, alembic_version, attempts, entries, metadata
from gateway.ledger.writer import Ledger
from tests.builders import an_attempt_entry, an_entry


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


def write(engine: Engine, *rows: tuple[Entry, list[AttemptEntry]]) -> list[Exception]:
    failures: list[Exception] = []

    async def run() -> None:
        ledger = Ledger(engine, on_failure=failures.append)
        await asyncio.gather(*(ledger.append(entry, calls) for entry, calls in rows))
        ledger.close()

    asyncio.run(run())
    return failures


def test_an_entry_is_read_back_as_it_was_written(engine: Engine) -> None:
    entry = an_entry(cost_nano_usd=2**60, first_byte_us=None, tags='["a b"]', team="Facturación ñ")
    write(engine, (entry, [an_attempt_entry(), an_attempt_entry(number=1, cost_nano_usd=None)]))

    with engine.connect() as connection:
        row = connection.execute(select(entries)).one()
        calls = connection.execute(select(attempts).order_by(attempts.c.number)).all()
    assert Entry(**row._mapping) == entry
    assert [AttemptEntry(**call._mapping) for call in calls] == [
        an_attempt_entry(),
        an_attempt_entry(number=1, cost_nano_usd=None),
    ]


def test_writing_an_entry_twice_books_it_once(engine: Engine) -> None:
    write(engine, (an_entry(), [an_attempt_entry()]), (an_entry(), [an_attempt_entry()]))
    with engine.connect() as connection:
        assert len(connection.execute(select(entries)).all()) == 1
        assert len(connection.execute(select(attempts)).all()) == 1


def test_many_entries_at_once_are_all_written(engine: Engine) -> None:
    write(engine, *((an_entry(f"req_{n}"), [an_attempt_entry(f"req_{n}")]) for n in range(2_000)))
    with engine.connect() as connection:
        assert len(connection.execute(select(entries.c.request_id)).all()) == 2_000


def test_what_could_not_be_written_is_written_when_the_database_is_back(engine: Engine) -> None:
    failures: list[Exception] = []

    async def run() -> None:
        ledger = Ledger(engine, on_failure=failures.append)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE entries RENAME TO gone")
        written = ledger.append(an_entry(), [])
        while not failures:  # noqa: ASYNC110 - the writer is a thread: it can set no event of this loop
            await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="away"):
            await written  # nothing holds it but memory, and its reply need not wait for that
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO entries")
        ledger.close()

    asyncio.run(run())
    with engine.connect() as connection:
        assert connection.execute(select(entries.c.request_id)).scalars().all() == ["req_1"]


def _indexes(database: Inspector, table: str) -> list[tuple[object, ...]]:
    """Name, columns and condition of each index of a table."""
    found = database.get_indexes(table)
    return [
        (index["name"], index["column_names"], [str(rule) for rule in index.get("dialect_options", {}).values()])
        for index in found
    ]


def test_the_migrations_make_the_same_tables_as_a_new_ledger(engine: Engine, new_ledger: Callable[[], str]) -> None:
    migrated = create_engine(driver_url(new_ledger()))
    with migrated.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE somebody_elses (id INTEGER)")  # not empty: alembic does the work
    migrate(migrated)

    made, new = inspect(migrated), inspect(engine)
    for table in (*metadata.sorted_tables, alembic_version):
        assert [c["name"] for c in made.get_columns(table.name)] == [c.name for c in table.columns]
        assert [str(c["type"]) for c in made.get_columns(table.name)] == [
            str(c["type"]) for c in new.get_columns(table.name)
        ]
        assert made.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]
        assert _indexes(made, table.name) == _indexes(new, table.name)
    with migrated.connect() as old, engine.connect() as fresh:
        versions = [each.execute(select(alembic_version)).scalars().all() for each in (old, fresh)]
    assert versions == [[HEAD], [HEAD]]
    migrated.dispose()


def test_columns_stand_in_the_order_of_the_fields() -> None:
    assert [f.name for f in dataclasses.fields(Entry)] == [c.name for c in entries.columns]
    assert set(get_type_hints(Entry).values()) <= {str, int, int | None}


def test_opening_a_ledger_twice_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    write(open_engine(url), (an_entry(), []))
    with open_engine(url).connect() as connection:
        assert len(connection.execute(select(entries)).all()) == 1


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/nothing/ledger.db", "madeup://x"])
def test_a_ledger_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="ledger"):
        open_engine(url)
