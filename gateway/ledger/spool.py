"""Where entries wait on disk while the ledger's database is away: one file of JSON lines for each process.

    append (fsync) -> the reply goes out      later: read in order -> database -> the file is emptied

A line is a batch, and a line that was not written to its end was promised to nobody. A file is locked by its process;
one that nobody holds is of a process that died, and whoever finds it writes it to the database. Writing a batch twice
books it once, so a crash between database and file loses and doubles nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
from filelock import FileLock, Timeout

from gateway.ledger.audit_record import Record, Who
from gateway.ledger.batch import Batch
from gateway.ledger.entry import AttemptEntry, Entry

_log = logging.getLogger("cauce.ledger")
_SUFFIX: Final = ".jsonl"


class SpoolFull(OSError):
    """The file has reached its bound."""


@dataclass(slots=True)
class _File:
    """One process's file, held open and locked."""

    path: Path
    stream: BinaryIO
    lock: FileLock
    size: int = 0
    waiting: int = 0  # lines that are not in the database yet


@dataclass(frozen=True, slots=True)
class Place:
    """One batch in a file."""

    file: _File = field(repr=False)
    offset: int = 0
    length: int = 0
    rows: int = 0
    repeated: bool = False


class Spool:
    """This process's file in a folder, made when it is first needed. Any thread may append."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._own: _File | None = None
        self._guard = threading.Lock()

    @property
    def used(self) -> float:
        """How full this process's file is, 0 to 1."""
        own = self._own
        return own.size / self._max_bytes if own is not None else 0.0

    def append(self, batch: Batch) -> Place:
        """Keep a batch; on return it would survive a crash. Raises `OSError`."""
        line = _written(batch) + b"\n"
        with self._guard:
            own = self._own = self._own or self._made()
            if own.size + len(line) > self._max_bytes:
                raise SpoolFull(f"{own.path} holds {own.size} bytes, its bound")
            try:
                own.stream.seek(own.size)
                own.stream.write(line)
                own.stream.flush()
                os.fsync(own.stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    own.stream.truncate(own.size)
                raise
            place = Place(own, own.size, len(line), batch.rows, batch.repeated)
            own.size += len(line)
            own.waiting += 1
            return place

    def read(self, place: Place) -> Batch:
        """A batch that was kept. Raises `OSError`."""
        with self._guard:
            place.file.stream.seek(place.offset)
            line = place.file.stream.read(place.length)
        return _read(line, repeated=place.repeated)

    def done(self, place: Place) -> None:
        """The batch is in the database. A file whose last one it was is emptied, and one that was found goes."""
        with self._guard:
            file = place.file
            file.waiting -= 1
            if file.waiting:
                return
            if file is not self._own:
                _remove(file)
                return
            with contextlib.suppress(OSError):
                file.stream.truncate(0)
                file.size = 0

    def found(self) -> Iterator[Place]:
        """The batches in files of processes that died, which are this process's from now on."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if self._own is not None and path == self._own.path:
                continue
            file = _taken(path)
            if file is None:
                continue
            places = list(_places(file))
            file.waiting = len(places)
            if places:
                _log.warning("%d batches of a process that died wait in %s", len(places), path)
                yield from places
            else:
                _remove(file)

    def close(self) -> None:
        """Let go of the file: an empty one is removed, any other waits for the next process."""
        with self._guard:
            own, self._own = self._own, None
            if own is None:
                return
            if own.waiting:
                own.stream.close()
                own.lock.release()
            else:
                _remove(own)

    def _made(self) -> _File:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        lock = _lock_of(path)
        lock.acquire(timeout=0)
        # It names callers, and lies where the operator may not have thought of who reads along.
        return _File(path, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b"), lock)


def _lock_of(path: Path) -> FileLock:
    # The writer's thread opens what another may close: the lock belongs to the process.
    return FileLock(path.with_suffix(".lock"), thread_local=False)


def _taken(path: Path) -> _File | None:
    """A file that nobody holds, held; nothing when its process lives."""
    lock = _lock_of(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return None
    try:
        return _File(path, path.open("r+b"), lock)
    except OSError:  # another process was faster: it is written and gone
        lock.release()
        return None


def _remove(file: _File) -> None:
    with contextlib.suppress(OSError):
        file.stream.close()
        file.path.unlink(missing_ok=True)
        file.lock.release()
        Path(file.lock.lock_file).unlink(missing_ok=True)


def _places(file: _File) -> Iterator[Place]:
    offset = 0
    for line in file.stream:
        try:
            rows = int(orjson.loads(line)["rows"]) if line.endswith(b"\n") else 0
        except (ValueError, KeyError, TypeError):
            rows = 0
        if rows:
            yield Place(file, offset, len(line), rows, repeated=True)
        offset += len(line)


def _written(batch: Batch) -> bytes:
    return orjson.dumps(
        {
            "rows": batch.rows,
            "entries": batch.entries,
            "attempts": batch.attempts,
            "audit": [{**dataclasses.asdict(record), "who": record.who and list(record.who)} for record in batch.audit],
            "settled": batch.settled,
        }
    )


def _read(line: bytes, *, repeated: bool) -> Batch:
    """What `_written` wrote, perhaps as an older version: fields that it did not know have their defaults."""
    document: dict[str, Any] = orjson.loads(line)
    return Batch(
        [Entry(**_known(Entry, row)) for row in document["entries"]],
        [AttemptEntry(**_known(AttemptEntry, row)) for row in document["attempts"]],
        [_record(row) for row in document["audit"]],
        [(request_id, cost) for request_id, cost in document["settled"]],
        document["rows"],
        repeated,
    )


def _record(row: dict[str, Any]) -> Record:
    who = row.pop("who", None)
    return Record(**_known(Record, row), who=Who(*who) if who else None)


def _known(kind: type[Any], row: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in dataclasses.fields(kind)}
    return {name: value for name, value in row.items() if name in names}
