"""The audit's chains held against themselves, in one reading of one moment: what was changed, and where.

A record that says otherwise than its hash was changed (or moved: its place is part of it). One whose `previous` is not
the hash before it stands where another stood. A gap is a record taken out. A head beyond the last record, or a quoted
head that is not there, is an end or a whole chain taken out. A name whose digest is not its token was changed. An entry
of the ledger that needs a record and has none was put in, or its record taken out together with all that came after.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, get_type_hints

import orjson
from sqlalchemy import Connection, Engine, and_, func, select

from gateway.ledger.audit_record import ERASED, ERASURE, FIRST, REQUEST, START, Link, Who, digest, token_of
from gateway.ledger.chain import Tip, quotes
from gateway.ledger.tables import audit, audit_callers, audit_heads, entries

_BATCH = 5_000
_MOST_SHOWN = 200
NEEDS_RECORD: Final = ("internal", "personal", "special", "secret")
HASH: Final = re.compile(r"[0-9a-f]{64}")
_TYPES: Final = get_type_hints(Link)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written. `kind` is changed, order, removed, head, quote, name, entry, anchor."""

    kind: str
    where: str
    message: str


@dataclass(slots=True)
class Checked:
    """What a check has found: all that is counted, and the first problems."""

    chains: int = 0
    records: int = 0
    since_us: int | None = None
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    @property
    def whole(self) -> bool:
        """Whether nothing is amiss."""
        return not self.count

    def add(self, kind: str, where: str, message: str) -> None:
        """One more problem."""
        self.count += 1
        if len(self.problems) < _MOST_SHOWN:
            self.problems.append(Problem(kind, where, message))


@dataclass(slots=True)
class _Seen:
    """What is compared when all chains have been read."""

    tips: dict[str, Tip] = field(default_factory=dict)
    quoted: list[tuple[str, tuple[str, int, str]]] = field(default_factory=list)  # where it is quoted, and what
    tokens: set[str] = field(default_factory=set)
    erased_names: int = 0
    anchors: set[str] = field(default_factory=set)


def check(engine: Engine, *, anchors: Iterable[str] = ()) -> Checked:
    """Read everything and compare. `anchors` are hashes that were kept elsewhere: each must be a record's."""
    checked, seen, wanted = Checked(), _Seen(), set(anchors)
    with engine.connect() as connection:
        _freeze(connection)
        for writer, links in groupby(_links(connection), key=attrgetter("writer")):
            checked.chains += 1
            _check_chain(writer, links, checked, seen, wanted)
        _check_heads(connection, checked, seen)
        _check_quotes(connection, checked, seen)
        _check_names(connection, checked, seen)
        _check_entries(connection, checked)
    for lost in sorted(wanted - seen.anchors):
        checked.add("anchor", lost, "no record has this hash: what came before it was written again, or taken out")
    return checked


def _freeze(connection: Connection) -> None:
    """One moment for all that is read: gateways go on writing meanwhile."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")


def _links(connection: Connection) -> Iterator[Link]:
    wanted = select(audit).order_by(audit.c.writer, audit.c.seq)
    for row in connection.execution_options(yield_per=_BATCH).execute(wanted):
        yield Link(*row)


def _check_chain(writer: str, links: Iterable[Link], checked: Checked, seen: _Seen, wanted: set[str]) -> None:
    tip = Tip(-1, FIRST)
    for link in links:
        checked.records += 1
        if not _is_sound(link):
            checked.add("changed", place(link), "holds what no record can: it was changed")
            tip = Tip(tip.seq + 1, str(link.hash))
            continue
        _check_link(link, tip, checked)
        checked.since_us = link.time_us if checked.since_us is None else min(checked.since_us, link.time_us)
        tip = Tip(link.seq, link.hash)
        if link.caller:
            seen.tokens.add(link.caller)
        if link.event == START:
            seen.quoted += [(place(link), quoted) for quoted in quotes(link.detail)]
        elif link.event == ERASURE:
            seen.erased_names += _names_erased(link.detail)
        if link.hash in wanted:
            seen.anchors.add(link.hash)
    seen.tips[writer] = tip


def _is_sound(link: Link) -> bool:
    """Whether each field has its own type: SQLite keeps anything anywhere."""
    return all(isinstance(getattr(link, name), kind) for name, kind in _TYPES.items())


def _check_link(link: Link, before: Tip, checked: Checked) -> None:
    where = place(link)
    if link.seq != before.seq + 1:
        gap = f"{before.seq + 1}" if link.seq == before.seq + 2 else f"{before.seq + 1} to {link.seq - 1}"
        checked.add("removed", f"{link.writer}:{gap}", f"taken out: {link.writer} goes on with {link.seq}")
    elif link.previous != before.hash:
        checked.add("order", where, "does not follow the record before it: one of them was put in or exchanged")
    if digest([getattr(link, name) for name in Link.__slots__[:-1]]) != link.hash:
        checked.add("changed", where, f"is not what it was when it was written (request {link.request_id or '-'})")
    if link.seq == 0 and link.event != START:
        checked.add("order", where, "a chain begins with a start record, and this is none")


def place(link: Link) -> str:
    """Where a record stands: `writer:seq`."""
    return f"{link.writer}:{link.seq}"


def _names_erased(detail: str) -> int:
    try:
        names = orjson.loads(detail)["names"]
    except (KeyError, TypeError, ValueError):
        return 0  # it was changed, which its hash says
    return names if isinstance(names, int) else 0


def _check_heads(connection: Connection, checked: Checked, seen: _Seen) -> None:
    heads = {row.writer: Tip(row.seq, row.hash) for row in connection.execute(select(audit_heads))}
    for writer, tip in seen.tips.items():
        head = heads.pop(writer, None)
        if head is None:
            checked.add("head", writer, "the chain has lost its head, which says where it ends")
        elif head.seq > tip.seq:
            checked.add("removed", f"{writer}:{tip.seq + 1} to {head.seq}", "taken out at the end of the chain")
        elif head != tip:
            checked.add("head", f"{writer}:{head.seq}", f"the head says otherwise than the last record, {tip.seq}")
    for writer, head in heads.items():
        checked.add("removed", f"{writer}:0 to {head.seq}", "a whole chain was taken out: only its head is left")


def _check_quotes(connection: Connection, checked: Checked, seen: _Seen) -> None:
    for where, (writer, seq, sealed_by) in seen.quoted:
        found = connection.execute(select(audit.c.hash).where(audit.c.writer == writer, audit.c.seq == seq)).scalar()
        if found != sealed_by:
            how = "it is gone" if found is None else "it was written again"
            checked.add("quote", f"{writer}:{seq}", f"{where} quotes another hash for this record: {how}")


def _check_names(connection: Connection, checked: Checked, seen: _Seen) -> None:
    rows = connection.execute(select(audit_callers)).all()
    named: Mapping[str, Any] = {row.token: row for row in rows}
    for token in sorted(seen.tokens - named.keys()):
        checked.add("name", token, "the name of this caller was taken away without an erasure")
    erased = 0
    for token, row in named.items():
        if not row.salt and row.caller == ERASED:
            erased += 1
        elif token_of(row.salt, Who(row.caller, row.team, row.app)) != token:
            checked.add("name", token, "the name of this caller was changed")
    if erased != seen.erased_names:
        message = f"{erased} callers have no name any more, and the erasures on record took {seen.erased_names} away"
        checked.add("name", ERASED, message)


def _check_entries(connection: Connection, checked: Checked) -> None:
    """Entries that need a record and have none, from the first record on."""
    lone = (
        select(entries.c.request_id)
        .join(audit, and_(audit.c.request_id == entries.c.request_id, audit.c.event == REQUEST), isouter=True)
        .where(audit.c.request_id.is_(None), entries.c.data_class.in_(NEEDS_RECORD))
    )
    if checked.since_us is None:
        if number := connection.execute(select(func.count()).select_from(lone.subquery())).scalar_one():
            checked.add("entry", "audit", f"there is no record at all, and {number} entries of the ledger need one")
        return
    for request_id in connection.execute(lone.where(entries.c.time_us >= checked.since_us)).scalars():
        checked.add("entry", request_id, "the ledger has this request and the audit has no record of it")
