"""The ledger's database: SQLite by default, Postgres by URL; the same code and tables for both.

Entries are written by one thread in batches, each batch one statement and one commit: a reply waits for its batch, so
that a request whose reply was complete has its entry after a crash, and its audit record (`chain.py`) with it. Writing
is idempotent by request id.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gateway.errors import ConfigError
from gateway.ledger.audit_record import Record
from gateway.ledger.chain import Chain
from gateway.ledger.daily import Daily
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.tables import HEAD, alembic_version, attempts, entries, insert_many, metadata

_log = logging.getLogger("cauce.ledger")
_BATCH = 512
_RETRY_S = 0.25
_MAX_WAITING = 100_000
_WAL_WAITS_S = (0.02, 0.1, 0.5, 1.0)
_SLOW_S = 1.0  # a healthy database takes milliseconds for a batch
_entry_values = attrgetter(*entries.columns.keys())
_attempt_values = attrgetter(*attempts.columns.keys())


def open_engine(url: str) -> Engine:
    """The database behind `ledger:` in cauce.yaml, its schema brought up to date; raises `ConfigError`."""
    try:
        engine = create_engine(url)
    except (ArgumentError, ModuleNotFoundError) as error:
        hint = "pip install 'cauce[postgres]'" if isinstance(error, ModuleNotFoundError) else "sqlite:///cauce.db"
        raise ConfigError(
            f"ledger: {url.rsplit('@', maxsplit=1)[-1]!r} cannot be opened: {error}. Try {hint}"
        ) from error
    try:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        raise ConfigError(f"ledger: {engine.url.render_as_string()} cannot be used: {error}") from error
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        _use_wal(connection)
        for pragma in ("synchronous=NORMAL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}").close()


def _use_wal(connection: sqlite3.Connection) -> None:
    """WAL: readers never block the writer, and a commit needs no fsync to survive the death of the process."""
    for wait_s in _WAL_WAITS_S:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError:  # another process makes the same new file: here SQLite does not wait by itself
            time.sleep(wait_s)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL").close()


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`; does nothing, and loads nothing, when it is there already."""
    with engine.begin() as connection:
        if _is_at_head(connection):
            return
        if engine.dialect.name == "sqlite":
            # Python's driver opens no transaction for CREATE: without one, a process killed here leaves half a schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if _is_at_head(connection):  # another process was faster
                return
        if inspect(connection).get_table_names():
            _upgrade(connection)
        else:
            _create(connection)


def _is_at_head(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def _create(connection: Connection) -> None:
    """The newest schema from scratch, marked as alembic would mark it, without its import (10 MB, half a second)."""
    metadata.create_all(connection)
    alembic_version.create(connection)
    connection.execute(alembic_version.insert().values(version_num=HEAD))


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - only an old database needs it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@dataclass(frozen=True, slots=True)
class _Row:
    entry: Entry | None
    attempts: Sequence[AttemptEntry]
    audit: Record | None
    written: asyncio.Future[None] | None = None
    loop: asyncio.AbstractEventLoop | None = None


class Ledger:
    """The writer, of the audit's records too.

    `on_failure` hears of each batch that could not be written; it is tried again until it can.
    """

    def __init__(
        self, engine: Engine, *, on_failure: Callable[[Exception], None], time_zone: ZoneInfo | None = None
    ) -> None:
        self.engine = engine
        self._on_failure = on_failure
        self._rows: queue.SimpleQueue[_Row | None] = queue.SimpleQueue()
        self._handed = self._written = 0
        self._batch_since: float | None = None
        self._entries_sql = f"{insert_many(engine, entries)} RETURNING request_id"
        self._daily = Daily(engine, time_zone) if time_zone else None
        self._attempts_sql = insert_many(engine, attempts)
        self._chain = Chain(engine, purpose="serve")
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    def append(self, entry: Entry, rows: Sequence[AttemptEntry], audit: Record | None = None) -> asyncio.Future[None]:
        """Hand an entry to the writer; the future is done when it is committed, its audit record with it."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        if self.waiting >= _MAX_WAITING:
            written.set_exception(OSError("the ledger's queue is full: its database has been away for too long"))
            return written
        self._handed += 1
        self._rows.put(_Row(entry, rows, audit, written, loop))
        return written

    def add(self, rows: Sequence[AttemptEntry], audit: Record | None = None) -> None:
        """Hand over calls that were made after their entry: shadows. Nobody waits for them; a full queue leaves out."""
        if self.waiting < _MAX_WAITING:
            self._handed += 1
            self._rows.put(_Row(None, rows, audit))

    def note(self, audit: Record) -> None:
        """Hand over an audit record that belongs to no request. From any thread; nobody waits for it."""
        self._handed += 1
        self._rows.put(_Row(None, (), audit))

    def forget(self, subjects: Collection[str]) -> None:
        """These callers were erased: nothing of them is used again."""
        self._chain.forget(subjects)
        if self._daily is not None:
            self._daily.forget()

    @property
    def waiting(self) -> int:
        """Entries handed over and not yet committed."""
        return self._handed - self._written

    @property
    def behind(self) -> bool:
        """Whether entries have waited for longer than a healthy database lets them."""
        since = self._batch_since
        return since is not None and time.monotonic() - since > _SLOW_S

    def close(self) -> None:
        """Write what is waiting, then stop."""
        self._rows.put(None)
        self._thread.join(timeout=10)
        if self._thread.is_alive():
            _log.error("the ledger is closed while its database is away: %d entries are lost", self.waiting)
        self.engine.dispose()

    def _write(self) -> None:
        running = True
        while running:
            batch, running = self._take()
            self._batch_since = time.monotonic()
            while batch and not self._commit(batch):
                time.sleep(_RETRY_S)
            self._batch_since = None
            self._written += len(batch)
            _settle(batch)

    def _take(self) -> tuple[list[_Row], bool]:
        """All that is waiting, at least one row; and whether to go on after it."""
        batch: list[_Row] = []
        row = self._rows.get()
        while row is not None:
            batch.append(row)
            if len(batch) >= _BATCH:
                return batch, True
            try:
                row = self._rows.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Row]) -> bool:
        rows = orjson.dumps([_entry_values(row.entry) for row in batch if row.entry]).decode()
        calls = orjson.dumps([_attempt_values(call) for row in batch for call in row.attempts]).decode()
        records = [row.audit for row in batch if row.audit]
        try:
            with self.engine.begin() as connection:
                new = connection.exec_driver_sql(self._entries_sql, (rows,)).scalars().all()
                if self._daily is not None:
                    self._daily.add(connection, [row.entry for row in batch if row.entry], frozenset(new))
                connection.exec_driver_sql(self._attempts_sql, (calls,))
                if records:
                    self._chain.write(connection, records)
        except (SQLAlchemyError, OSError) as error:
            self._on_failure(error)
            return False
        self._chain.committed()
        return True


def _settle(batch: list[_Row]) -> None:
    """Wake the replies of a batch, once for each event loop."""
    loops = {row.loop for row in batch if row.loop}
    for loop in loops:
        futures = [row.written for row in batch if row.written and row.loop is loop]
        try:
            loop.call_soon_threadsafe(_done, futures)
        except RuntimeError:  # the loop is closed: nobody waits any more, and the rows are written
            _log.debug("ledger: the loop of %d entries has ended", len(futures))


def _done(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
