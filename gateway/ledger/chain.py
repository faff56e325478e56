"""The audit's chains: append-only, each record sealed by the next, written with the ledger's entries.

    audit (writer, seq) -> previous hash, hash        audit_heads: writer -> its last seq and hash

**One chain for each process that writes**, not one for all: a chain has a single writer, so it cannot fork, and no
gateway waits for another's commit, nor for one that hangs in the middle of its own. A chain begins with a `start`
record, which quotes the heads of all other chains as they then were (those that have moved since they were last
quoted). Taking away a whole chain, or the end of one that has been quoted, thus breaks a later one. `cauce audit
anchor` is such a start record: its hash stands for everything before it, so a copy of it kept elsewhere says later
whether any of that is otherwise now.

**What it proves.** Whoever changes, takes out, puts in or moves single records is found out. Whoever can write the
whole database can write new chains, heads and all: against that helps only a hash that was kept where they cannot
reach. And records after the newest anchor can be cut off by whoever also sets the head back.

**The commit.** `write` is part of the transaction of a batch of entries, so a request is in both or in neither.
When a commit fails nobody knows whether it happened: the next try looks whether the head is there already.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, insert, select

from gateway import __version__
from gateway.ledger.audit_record import FIRST, START, Record, Who, new_salt, sealed, subject_of, token_of
from gateway.ledger.tables import audit, audit_callers, audit_heads, insert_many


@dataclass(frozen=True, slots=True)
class Tip:
    """The last record of a chain."""

    seq: int
    hash: str


class Chain:
    """One writer's chain. `purpose` says what the process does. One thread writes; any may call `forget`."""

    def __init__(self, engine: Engine, *, purpose: str) -> None:
        self.writer = secrets.token_hex(8)
        self._purpose = purpose
        self._tip = Tip(-1, FIRST)
        self._tokens: dict[Who, str] = {}
        self._tried: Tip | None = None
        self._tried_records: Sequence[Record] = ()
        self._new_tokens: dict[Who, str] = {}
        self._insert = insert_many(engine, audit)
        mark = "?" if engine.dialect.name == "sqlite" else "%s"
        self._set_head = (
            f"INSERT INTO audit_heads (writer, seq, hash) VALUES ({mark}, {mark}, {mark}) "  # noqa: S608 - our own names
            "ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
        )

    def write(self, connection: Connection, records: Sequence[Record]) -> Tip:
        """Add records inside the caller's transaction; `committed` must follow it. The chain's new end."""
        if self._tried is not None and _head(connection, self.writer) == self._tried:
            if records == self._tried_records:
                return self._tried  # the commit that seemed to fail did not
            self.committed()  # nor did that of other records
        self._new_tokens = {}
        tip, rows = self._tip, []
        for record in records if tip.seq >= 0 else (self._start(connection), *records):
            token = self._token(connection, record.who) if record.who else ""
            row = sealed(record, writer=self.writer, seq=tip.seq + 1, token=token, previous=tip.hash)
            tip = Tip(tip.seq + 1, row[-1])
            rows.append(row)
        connection.exec_driver_sql(self._insert, (orjson.dumps(rows).decode(),))
        connection.exec_driver_sql(self._set_head, (self.writer, tip.seq, tip.hash))
        self._tried, self._tried_records = tip, records
        return tip

    def committed(self) -> None:
        """What `write` added is there to stay."""
        if self._tried is not None:
            self._tip, self._tried, self._tried_records = self._tried, None, ()
            self._tokens.update(self._new_tokens)

    def forget(self, subjects: Collection[str]) -> None:
        """Callers who were erased: what they ask from now on gets a new token."""
        for who in list(self._tokens):
            if subject_of(who.caller) in subjects:
                self._tokens.pop(who, None)

    def _token(self, connection: Connection, who: Who) -> str:
        token = self._tokens.get(who) or self._new_tokens.get(who)
        if token is None:
            token = self._new_tokens[who] = _stored_token(connection, who) or _new_token(connection, who)
        return token

    def _start(self, connection: Connection) -> Record:
        detail = {"for": self._purpose, "version": __version__, "heads": _unquoted(connection)}
        return Record(START, time.time_ns() // 1000, detail=orjson.dumps(detail).decode())


def write_now(engine: Engine, connection: Connection, records: Sequence[Record], *, purpose: str) -> Tip:
    """A chain of its own for a command that writes once, inside the caller's transaction."""
    return Chain(engine, purpose=purpose).write(connection, records)


def anchor(engine: Engine) -> Tip:
    """Quote all heads now; the hash of the record that does stands for every record before it."""
    with engine.begin() as connection:
        lock(connection)
        return write_now(engine, connection, (), purpose="anchor")


def lock(connection: Connection) -> None:
    """Begin to write before the first look: SQLite refuses to write what it has only read when another was faster."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def quotes(detail: str) -> list[tuple[str, int, str]]:
    """The heads that a start record quotes: writer, seq, hash."""
    try:
        return [(str(writer), int(seq), str(sealed_by)) for writer, seq, sealed_by in orjson.loads(detail)["heads"]]
    except (KeyError, TypeError, ValueError):
        return []  # it was changed, which its hash says


def _head(connection: Connection, writer: str) -> Tip | None:
    row = connection.execute(
        select(audit_heads.c.seq, audit_heads.c.hash).where(audit_heads.c.writer == writer)
    ).one_or_none()
    return None if row is None else Tip(row.seq, row.hash)


def _unquoted(connection: Connection) -> list[list[Any]]:
    """The heads that have moved since a start record last quoted them."""
    starts = select(audit.c.detail).join(audit_heads, audit_heads.c.writer == audit.c.writer).where(audit.c.seq == 0)
    quoted: dict[str, int] = {}
    for detail in connection.execute(starts).scalars():
        for writer, seq, _ in quotes(detail):
            quoted[writer] = max(seq, quoted.get(writer, -1))
    heads = connection.execute(select(audit_heads).order_by(audit_heads.c.writer)).all()
    return [[head.writer, head.seq, head.hash] for head in heads if head.seq > quoted.get(head.writer, -1)]


def _stored_token(connection: Connection, who: Who) -> str | None:
    named = audit_callers.c
    wanted = select(named.token).where(named.caller == who.caller, named.team == who.team, named.app == who.app)
    return connection.execute(wanted.limit(1)).scalar_one_or_none()


def _new_token(connection: Connection, who: Who) -> str:
    salt = new_salt()
    token = token_of(salt, who)
    connection.execute(insert(audit_callers).values(token=token, salt=salt, **who._asdict()))
    return token
