"""Erasure: what the ledger says of a caller is taken away, and a record stays that it was.

The entries keep their money, class and rule; key id, organisation, team, app and tags become `erased`. In the audit the
tokens stay and lose their names, so the chains hold. Running gateways see the erasure within seconds and empty their
answer cache, the whole of it: its keys are digests that say no caller, and a list of who asked what would be one more
thing to erase, kept for every answer so that a rare command spares the others a miss.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Text, case, cast, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.audit_record import ERASED, ERASURE, Record, subject_of
from gateway.ledger.batch import Batch
from gateway.ledger.chain import lock, write_now
from gateway.ledger.entry import Entry
from gateway.ledger.tables import (
    audit_callers,
    budget_alerts,
    budget_use,
    daily,
    entries,
    erasures,
    feedback,
    keys,
    limits,
    rate_windows,
    reservations,
)

_log = logging.getLogger("cauce.audit")
_ERASED_TAGS = f'["{ERASED}"]'
_ERASED_WHO = {"caller": ERASED, "team": ERASED, "app": ERASED}


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased, and the hash of the record that says so."""

    subject: str
    entries: int
    names: int
    keys: int
    hash: str


def is_known(engine: Engine, caller: str) -> bool:
    """Whether anything is stored for a caller."""
    with engine.connect() as connection:
        return any(
            connection.execute(select(column).where(column == caller, column != ERASED).limit(1)).first() is not None
            for column in (keys.c.id, audit_callers.c.caller, entries.c.caller, feedback.c.caller)
        )


def erase(engine: Engine, caller: str, *, by: str) -> Erased:
    """Take away whose the entries of a caller are; all of it and its proof, or nothing.

    What is kept for a caller in a table that comes later is taken away here too.
    """
    now_us = time.time_ns() // 1000
    with engine.connect() as connection:
        _overwrite_freed_pages(connection)
        with connection.begin():
            lock(connection)
            counts = {
                "entries": _erase_entries(connection, caller),
                "names": _erase_names(connection, caller),
                "keys": _erase_key(connection, caller, now_us),
            }
            connection.execute(delete(feedback).where(feedback.c.caller == caller))
            _erase_limits(connection, caller, now_us)
            subject = subject_of(caller)
            connection.execute(insert(erasures).values(subject=subject, time_us=now_us))
            detail = orjson.dumps({"subject": subject, "by": by, **counts}).decode()
            record = Record(ERASURE, now_us, outcome=ERASED, detail=detail)
            proof = write_now(engine, connection, [record], purpose="erase")
    _empty_log(engine)
    return Erased(subject, **counts, hash=proof.hash)


def _erase_entries(connection: Connection, caller: str) -> int:
    connection.execute(update(daily).where(daily.c.caller == caller).values(**_ERASED_WHO, org=ERASED))
    done = connection.execute(
        update(entries)
        .where(entries.c.caller == caller)
        .values(**_ERASED_WHO, org=ERASED, tags=_ERASED_TAGS, signals=_without_tags(connection))
    )
    return done.rowcount


def _without_tags(connection: Connection) -> Any:
    """The stored signals, their copy of the tags replaced; an entry without signals has none."""
    signals = entries.c.signals
    if connection.dialect.name == "sqlite":
        replaced: Any = func.json_set(signals, "$.tags", func.json(_ERASED_TAGS))
    else:
        path: Any = literal_column("'{tags}'")
        tags: Any = literal_column(f"'{_ERASED_TAGS}'::jsonb")
        replaced = cast(func.jsonb_set(cast(signals, JSONB), path, tags), Text)
    return case((signals == "{}", signals), else_=replaced)


def _erase_names(connection: Connection, caller: str) -> int:
    done = connection.execute(
        update(audit_callers).where(audit_callers.c.caller == caller).values(salt="", **_ERASED_WHO)
    )
    return done.rowcount


def _erase_key(connection: Connection, caller: str, now_us: int) -> int:
    """A key that opens nothing any more keeps its id and hash, to stay refused. One that does needs what it says."""
    over = or_(keys.c.revoked_us.is_not(None), keys.c.expires_us <= now_us)
    done = connection.execute(
        update(keys).where(keys.c.id == caller, over).values(org=ERASED, team=ERASED, app=ERASED, tags=_ERASED_TAGS)
    )
    return done.rowcount


def _erase_limits(connection: Connection, caller: str, now_us: int) -> None:
    """What its own budget and rates were, and what was counted on them. A key that is still valid is held to them."""
    valid = select(keys.c.id).where(
        keys.c.id == caller, keys.c.revoked_us.is_(None), or_(keys.c.expires_us.is_(None), keys.c.expires_us > now_us)
    )
    if connection.execute(valid).first() is not None:
        return
    scope = f"key:{caller}"
    connection.execute(delete(limits).where(limits.c.scope == scope))
    for table in (budget_use, budget_alerts, reservations):
        connection.execute(delete(table).where(table.c.name.startswith(f"{scope}/", autoescape=True)))
    connection.execute(delete(rate_windows).where(rate_windows.c.name.contains(f"{scope}/", autoescape=True)))


def without_erased(connection: Connection, batch: Batch) -> Batch:
    """A batch that waited (on disk, while the database was away), without the names of callers erased meanwhile."""
    when = {row.subject: row.time_us for row in connection.execute(select(erasures).order_by(erasures.c.time_us))}
    if not when:
        return batch
    gone = {one.request_id for one in batch.entries if one.time_us <= when.get(subject_of(one.caller), -1)}
    kept = [_nameless(one) if one.request_id in gone else one for one in batch.entries]
    records = [
        dataclasses.replace(one, who=None)
        if one.who is not None and one.time_us <= when.get(subject_of(one.who.caller), -1)
        else one
        for one in batch.audit
    ]
    return dataclasses.replace(batch, entries=kept, audit=records)


def _nameless(entry: Entry) -> Entry:
    signals = orjson.loads(entry.signals)
    if signals:
        signals["tags"] = [ERASED]
    return dataclasses.replace(
        entry,
        caller=ERASED,
        team=ERASED,
        app=ERASED,
        org=ERASED,
        tags=_ERASED_TAGS,
        signals=orjson.dumps(signals).decode(),
    )


def _overwrite_freed_pages(connection: Connection) -> None:
    """SQLite leaves old values in pages that it has no use for now, unless it is told to overwrite them."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete=ON").close()
        connection.rollback()


def _empty_log(engine: Engine) -> None:
    """And in its write-ahead log, until that is emptied; a gateway that reads just now puts that off."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()


class Erasures:
    """The erasures as a running gateway sees them: `look` gives those that are new since it was last asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = _all(engine)

    def look(self) -> frozenset[str]:
        """The digests of callers erased since then; none with the database away, and they are seen later."""
        try:
            found = _all(self._engine)
        except SQLAlchemyError as error:
            _log.error("erasures could not be read: %s", type(error).__name__)
            return frozenset()
        new, self._seen = found - self._seen, found
        return frozenset(subject for subject, _ in new)


def _all(engine: Engine) -> frozenset[tuple[str, int]]:
    with engine.connect() as connection:
        return frozenset((row.subject, row.time_us) for row in connection.execute(select(erasures)))
