"""The ledger's one writer: entries, audit records, settlements, and what is asked of budgets and rates.

One thread writes all that is waiting in one transaction; a reply waits for its own, so that a request whose reply was
complete has its entry after a crash. With the database away, batches go to the spool (`spool.py`) and replies go on;
they are written, in order, when it is back. What cannot be kept on disk either waits in memory.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.audit_record import Record
from gateway.ledger.batch import Batch, by_request, merged, new_records
from gateway.ledger.book import Answer, Book, Question, Use
from gateway.ledger.chain import Chain, lock
from gateway.ledger.daily import Daily
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.erasure import without_erased
from gateway.ledger.spool import Place, Spool
from gateway.ledger.tables import attempts, entries, insert_many

_log = logging.getLogger("cauce.ledger")
_BATCH: Final = 512
_RETRY_S: Final = 0.25
_MAX_WAITING: Final = 100_000
_SLOW_S: Final = 1.0  # a healthy database takes milliseconds for a batch
_PATIENT_MS: Final = 1_000  # how long SQLite waits for another process's lock before the spool is used
_BRIEF_MS: Final = 50  # and while it is used: every look at the database holds the replies up
_LOOK_FOR_DEAD_S: Final = 30.0
_entry_values = attrgetter(*entries.columns.keys())
_attempt_values = attrgetter(*attempts.columns.keys())


class LedgerAway(OSError):
    """The ledger's database cannot be asked now."""


@dataclass(frozen=True, slots=True)
class _Row:
    entry: Entry | None
    attempts: Sequence[AttemptEntry]
    audit: Record | None
    settled: int | None = None
    written: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    answered: asyncio.Future[Answer]


@dataclass(slots=True)
class _Taken:
    rows: list[_Row] = field(default_factory=list)
    asked: list[_Asked] = field(default_factory=list)
    last: bool = False  # the ledger is being closed


class Ledger:
    """The writer. `on_failure` hears of each write that failed, `on_use` of each budget that changed (in its thread).

    Without a spool, what cannot be written waits in memory.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        on_failure: Callable[[Exception], None],
        spool: Spool | None = None,
        time_zone: ZoneInfo | None = None,
    ) -> None:
        self.engine = engine
        self._on_failure = on_failure
        self.on_use: Callable[[Mapping[str, Use]], None] | None = None
        self._spool = spool
        self._queue: queue.SimpleQueue[_Row | _Asked | None] = queue.SimpleQueue()
        self._backlog: deque[Batch | Place] = deque()
        self._away = False
        self._handed = self._written = self._spooled = 0
        self._rescued: set[str] = (
            set()
        )  # requests that are in the spool and still in the queue, or in a batch that hangs
        self._batch_since: float | None = None
        self._next_try = self._next_look = 0.0
        self._entries_sql = f"{insert_many(engine, entries)} RETURNING request_id"
        self._daily = Daily(engine, time_zone) if time_zone else None
        self._attempts_sql = insert_many(engine, attempts)
        self._chain = Chain(engine, purpose="serve")
        self._book = Book(engine)
        self._lite = engine.dialect.name == "sqlite"
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def append(
        self, entry: Entry, rows: Sequence[AttemptEntry], audit: Record | None = None, settled: int | None = None
    ) -> asyncio.Future[None]:
        """Hand an entry over, with its audit record and what its reservations are settled to (nano-USD).

        The future is done when all of it would survive a crash: in the database, or in the spool.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.waiting - self._spooled >= _MAX_WAITING:
            written.set_exception(OSError("the ledger's queue is full: its database has been away for too long"))
            return written
        self._handed += 1
        self._queue.put(_Row(entry, rows, audit, settled, written))
        return written

    def ask(self, question: Question) -> asyncio.Future[Answer]:
        """What a budget or a rate says; `LedgerAway` when the database does not. Committed when it is answered."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._away or self.hangs or self._queue.qsize() >= _MAX_WAITING:
            answered.set_exception(LedgerAway("the ledger's database is away"))
        else:
            self._queue.put(_Asked(question, answered))
        return answered

    def rescue(
        self, entry: Entry, rows: Sequence[AttemptEntry], audit: Record | None, settled: int | None = None
    ) -> bool:
        """Keep on disk what was handed over and has waited too long: the database hangs. From a thread."""
        if self._spool is None:
            return False
        batch = _batch([_Row(entry, rows, audit, settled)], repeated=True)
        try:
            place = self._spool.append(batch)
        except OSError as error:
            self._on_failure(error)
            return False
        self._rescued.add(entry.request_id)
        self._handed += 1
        self._spooled += 1
        self._backlog.append(place)
        return True

    def add(self, rows: Sequence[AttemptEntry], audit: Record | None = None) -> None:
        """Hand over calls that were made after their entry: shadows. Nobody waits for them; a full queue leaves out."""
        if self.waiting - self._spooled < _MAX_WAITING:
            self._handed += 1
            self._queue.put(_Row(None, rows, audit))

    def note(self, audit: Record) -> None:
        """Hand over an audit record that belongs to no request. From any thread; a full queue leaves it out."""
        self.add((), audit)

    def forget(self, subjects: Collection[str]) -> None:
        """These callers were erased: nothing of them is used again."""
        self._chain.forget(subjects)
        if self._daily is not None:
            self._daily.forget()

    @property
    def waiting(self) -> int:
        """Entries handed over and not yet in the database."""
        return self._handed - self._written - len(self._rescued)

    @property
    def spooled(self) -> int:
        """Those of them that are safe on disk."""
        return self._spooled

    @property
    def spool_used(self) -> float:
        """How full the spool is, 0 to 1."""
        return self._spool.used if self._spool is not None else 0.0

    @property
    def hangs(self) -> bool:
        """Whether the database has not answered for too long: to wait for it would only hold replies up."""
        since = self._batch_since
        return since is not None and time.monotonic() - since > _SLOW_S

    @property
    def state(self) -> str:
        """`ok`; `spooling`: the database is away, entries are safe on disk; `behind`: they wait in memory."""
        if not self._away and not self.hangs:
            return "ok"
        return "spooling" if self._spooled and self._spooled == self.waiting else "behind"

    def close(self) -> None:
        """Write what is waiting, then stop. What is in the spool may stay there for the next start."""
        self._queue.put(None)
        self._thread.join(timeout=10)
        if self._thread.is_alive():
            lost = self.waiting - self._spooled
            _log.error("the ledger is closed while its database is away: %d entries are lost", lost)
        if self._spool is not None:
            if self._spooled:
                _log.warning("%d entries wait in the spool for the next start", self._spooled)
            self._spool.close()
        self.engine.dispose()

    # --- the writer's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        taken = _Taken()
        while not taken.last:
            self._look_for_dead()
            taken = self._take()
            if taken.rows or taken.asked or self._backlog:
                self._batch_since = time.monotonic()
                self._turn(taken)
                self._batch_since = None
        while self._backlog and not (self._away and self._spooled == self.waiting):
            self._catch_up()
            if self._away:
                time.sleep(_RETRY_S)

    def _turn(self, taken: _Taken) -> None:
        """Write what was taken, or keep it; and go on with what was kept before."""
        asked = [one for one in taken.asked if not one.answered.done()]  # who has left holds nothing
        if not self._backlog:
            batch = _batch(taken.rows)
            answers = self._commit(batch, [one.question for one in asked])
            self._see_again(batch)
            if answers is not None:
                self._written += batch.rows
                _tell([row.written for row in taken.rows], None)
                _answer(asked, answers)
                return
            self._keep(batch, taken.rows)
            _tell([one.answered for one in asked], LedgerAway("the ledger's database is away"))
            return
        if taken.rows:
            batch = _batch(taken.rows)
            self._see_again(batch)
            self._keep(batch, taken.rows)
        self._catch_up()
        answers = None if self._away or not asked else self._commit(Batch(), [one.question for one in asked])
        if answers is not None:
            _answer(asked, answers)
        else:
            _tell([one.answered for one in asked], LedgerAway("the ledger's database is away"))

    def _take(self) -> _Taken:
        """All that is waiting; at least one thing, unless something kept before can be written meanwhile."""
        taken = _Taken()
        patience = None if not self._backlog else _RETRY_S if self._away else 0.0
        try:
            thing = self._queue.get(timeout=patience) if patience != 0.0 else self._queue.get_nowait()
            while True:
                if thing is None:
                    taken.last = True
                    return taken
                if isinstance(thing, _Row):
                    taken.rows.append(thing)
                else:
                    taken.asked.append(thing)
                if len(taken.rows) + len(taken.asked) >= _BATCH:
                    return taken
                thing = self._queue.get_nowait()
        except queue.Empty:
            return taken

    def _keep(self, batch: Batch, rows: Sequence[_Row]) -> None:
        """On disk, or else in memory: then its replies are told that nothing holds them yet."""
        if not batch.rows:
            return
        try:
            if self._spool is None:
                raise OSError("there is no spool")  # noqa: TRY301 - the same as one that cannot be written
            self._backlog.append(self._spool.append(batch))
        except (OSError, TypeError, ValueError) as error:
            self._backlog.append(batch)
            self._on_failure(error)
            _tell([row.written for row in rows], OSError("the ledger's database and its spool are away"))
            return
        self._spooled += batch.rows
        _tell([row.written for row in rows], None)

    def _catch_up(self) -> None:
        """The oldest that was kept, or found: a batch in memory, or as many on disk as one transaction takes."""
        if self._away and time.monotonic() < self._next_try:
            return
        first = self._backlog[0]
        if isinstance(first, Batch):
            if self._write_kept(first):
                self._backlog.popleft()
                self._written += first.rows
            return
        places: list[Place] = []
        batches: list[Batch] = []
        for place in list(self._backlog):
            if isinstance(place, Batch) or sum(each.rows for each in places) >= _BATCH:
                break
            places.append(place)
            batches.append(self._read(place))
        batch = merged(batches)
        if not self._write_kept(batch):
            return
        self._see_again(batch)
        for place, read in zip(places, batches, strict=True):
            self._backlog.popleft()
            self._written += place.rows
            self._spooled -= place.rows
            if self._spool is not None and read.rows:
                self._spool.done(place)

    def _read(self, place: Place) -> Batch:
        """What was kept; nothing when it cannot be read: it stays in the file, which is never emptied then."""
        try:
            return self._spool.read(place) if self._spool else Batch()
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.error("a batch of %d entries cannot be read from %s", place.rows, place.file.path)
            self._on_failure(error)
            return Batch()

    def _write_kept(self, batch: Batch) -> bool:
        """Whether the database has it. One entry that cannot be written, ever, does not keep the others from it."""
        if self._commit(batch, (), waited=True) is not None:
            return True
        if self._away:
            return False
        for one in by_request(batch):
            if self._commit(one, (), waited=True) is None:
                if self._away:
                    return False  # all of it again later: what is written twice is booked once
                _log.error(
                    "an entry cannot be written and is left out: %s", [entry.request_id for entry in one.entries]
                )
        return True

    def _see_again(self, batch: Batch) -> None:
        """What was rescued from the queue has come out of it: it is written a second time, and booked once."""
        if self._rescued:
            self._rescued.difference_update(entry.request_id for entry in batch.entries)

    def _look_for_dead(self) -> None:
        """Take on what processes that died have left."""
        if self._spool is None or self._away or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_FOR_DEAD_S
        for place in self._spool.found():
            self._handed += place.rows
            self._spooled += place.rows
            self._backlog.append(place)

    def _commit(self, batch: Batch, questions: Sequence[Question], *, waited: bool = False) -> list[Answer] | None:
        """One transaction; nothing when it failed, or may have."""
        answers: list[Answer] = []
        uses: dict[str, Use] = {}
        try:
            with self.engine.begin() as connection:
                if self._lite:
                    wait_ms = _BRIEF_MS if self._away else _PATIENT_MS
                    if connection.info.get("wait_ms") != wait_ms:
                        connection.exec_driver_sql(f"PRAGMA busy_timeout={wait_ms}").close()
                        connection.info["wait_ms"] = wait_ms
                    if batch.settled or questions:
                        lock(connection)
                batch = without_erased(connection, batch) if waited else batch
                if batch.entries:
                    rows = orjson.dumps([_entry_values(entry) for entry in batch.entries]).decode()
                    new = connection.exec_driver_sql(self._entries_sql, (rows,)).scalars().all()
                    if self._daily is not None:
                        self._daily.add(connection, batch.entries, frozenset(new))
                if batch.attempts:
                    calls = orjson.dumps([_attempt_values(call) for call in batch.attempts]).decode()
                    connection.exec_driver_sql(self._attempts_sql, (calls,))
                records = new_records(connection, batch)
                if records:
                    self._chain.write(connection, records)
                if batch.settled or questions:
                    answers, uses = self._book.write(connection, batch.settled, questions)
        except (SQLAlchemyError, OSError) as error:
            self._away = True
            self._next_try = time.monotonic() + _RETRY_S
            self._on_failure(error)
            return None
        except Exception as error:  # what was given cannot be written: no reason to end the thread that writes all else
            self._away = False
            self._on_failure(error)
            return None
        self._away = False
        if records:
            self._chain.committed()
        if uses and self.on_use is not None:
            self.on_use(uses)
        return answers


def _batch(rows: Sequence[_Row], *, repeated: bool = False) -> Batch:
    return Batch(
        [row.entry for row in rows if row.entry],
        [call for row in rows for call in row.attempts],
        [row.audit for row in rows if row.audit],
        [(row.entry.request_id, row.settled) for row in rows if row.entry and row.settled is not None],
        len(rows),
        repeated,
    )


def _answer(asked: Sequence[_Asked], answers: Sequence[Answer]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Answer], Answer]]] = {}
    for one, answer in zip(asked, answers, strict=True):
        by_loop.setdefault(one.answered.get_loop(), []).append((one.answered, answer))
    for loop, pairs in by_loop.items():
        _call(loop, _set_all, pairs)


def _tell(futures: Sequence[asyncio.Future[Any] | None], error: OSError | None) -> None:
    """Wake whoever waits, once for each event loop."""
    waiting = [future for future in futures if future is not None]
    for loop in {future.get_loop() for future in waiting}:
        _call(loop, _end_all, [future for future in waiting if future.get_loop() is loop], error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *given: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *given)
    except RuntimeError:  # the loop is closed: nobody waits any more, and the rows are written
        _log.debug("ledger: the loop of some entries has ended")


def _set_all(pairs: Sequence[tuple[asyncio.Future[Answer], Answer]]) -> None:
    for future, answer in pairs:
        if not future.done():
            future.set_result(answer)


def _end_all(futures: Sequence[asyncio.Future[Any]], error: OSError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
