"""Budgets and rates in the ledger's database: what is asked for is decided inside the transaction of a batch.

    claim: spent + reserved + wanted <= amount + carried over?  then reserved += wanted, and a reservation is written
    settle: the reservation goes, reserved -= what it held, spent += what the request cost
    hit: used in this minute, and what counts of the minute before, + wanted <= a minute's amount?  then used += wanted

The rows concerned are locked first and in one order (SQLite: the whole database, by the caller), so that claims of many
processes are as if made one after another. A reservation whose process died is released after its time to live: it then
holds nothing, and stays for a day, in case that its request comes to an end all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine

_DAY_US: Final = 86_400_000_000
_MINUTE_S: Final = 60
_MOST_RELEASED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a budget's period is used, in nano-USD."""

    carried: int = 0
    spent: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One budget that a claim is made on. `name` has the period in it; `limit` is nothing for a soft one.

    `opening` is what the period begins with, where nobody has asked for it yet.
    """

    name: str
    limit: int | None
    opening: Use | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Hold `nano_usd` for a request on every line, or on none."""

    request_id: str
    nano_usd: int
    lines: tuple[Line, ...]
    expires_us: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of a claim: `short` names the line that had too little; `unopened` those that nobody has begun."""

    short: str = ""
    unopened: tuple[str, ...] = ()
    uses: Mapping[str, Use] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """Take `amount` of what is allowed a minute under a name; 0 only looks."""

    name: str
    limit: int
    amount: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of a hit, and the two minutes: what was used in the one before, and in this one."""

    taken: bool
    before: int
    now: int


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of what died: reservations past their time, and minutes that are over."""

    now_us: int


Question = Claim | Hit | Release
Answer = Claimed | Counted | None


class Book:
    """The statements of one database. Everything runs inside the caller's transaction."""

    def __init__(self, engine: Engine) -> None:
        self._lite = engine.dialect.name == "sqlite"
        self._mark = "?" if self._lite else "%s"
        each = "SELECT value FROM json_each(?)" if self._lite else "SELECT jsonb_array_elements_text(%s::jsonb)"
        lock_rows = "" if self._lite else " ORDER BY name FOR UPDATE"
        m = self._mark
        # The names in these are our own.
        self._settle = f"DELETE FROM reservations WHERE request_id IN ({each}) RETURNING request_id, name, nano_usd"  # noqa: S608
        self._open = f"INSERT INTO budget_use VALUES ({m}, {m}, {m}, 0) ON CONFLICT DO NOTHING"  # noqa: S608
        self._uses = (
            "SELECT name, carried_nano_usd, spent_nano_usd, reserved_nano_usd FROM budget_use "  # noqa: S608
            f"WHERE name IN ({each}){lock_rows}"
        )
        self._use = f"UPDATE budget_use SET spent_nano_usd = {m}, reserved_nano_usd = {m} WHERE name = {m}"  # noqa: S608
        self._reserve = f"INSERT INTO reservations VALUES ({m}, {m}, {m}, {m})"  # noqa: S608
        self._window = f"INSERT INTO rate_windows VALUES ({m}, 0, {m}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._windows = f"SELECT name, used FROM rate_windows WHERE name IN ({each}){lock_rows}"  # noqa: S608
        self._count = f"UPDATE rate_windows SET used = {m} WHERE name = {m}"  # noqa: S608
        self._expired = (
            "SELECT request_id, name, nano_usd FROM reservations "  # noqa: S608
            f"WHERE expires_us < {m} AND nano_usd > 0 ORDER BY name LIMIT {_MOST_RELEASED}"
        )
        self._let_go = f"UPDATE reservations SET nano_usd = 0 WHERE request_id = {m} AND name = {m} AND nano_usd > 0"  # noqa: S608

    def write(
        self, connection: Connection, settled: Sequence[tuple[str, int]], questions: Sequence[Question]
    ) -> tuple[list[Answer], dict[str, Use]]:
        """Settle requests (id, nano-USD), then answer questions in order. The answers, and every use that changed."""
        sheet = _Sheet()
        releases = [question for question in questions if isinstance(question, Release)]
        freed = self._freed(connection, settled, releases)
        claims = [question for question in questions if isinstance(question, Claim)]
        self._open_uses(connection, [line for claim in claims for line in claim.lines])
        names = {name for name, _, _ in freed} | {line.name for claim in claims for line in claim.lines}
        if names:
            sheet.uses = {row[0]: Use(*row[1:]) for row in self._rows(connection, self._uses, names)}
        sheet.free(freed)
        hits = [question for question in questions if isinstance(question, Hit)]
        self._load_windows(connection, sheet, hits)
        answers = [sheet.answer(question) for question in questions]
        self._store(connection, sheet)
        return answers, {name: sheet.uses[name] for name in names if name in sheet.uses}

    def _freed(
        self, connection: Connection, settled: Sequence[tuple[str, int]], releases: Sequence[Release]
    ) -> list[tuple[str, int, int]]:
        """What leaves the reservations: a budget's name, what was held, what was spent."""
        freed: list[tuple[str, int, int]] = []
        if settled:
            costs = dict(settled)
            gone = self._rows(connection, self._settle, costs)
            freed += [(name, held, costs[request_id]) for request_id, name, held in gone]
        for release in releases:
            for request_id, name, held in connection.exec_driver_sql(self._expired, (release.now_us,)).all():
                if connection.exec_driver_sql(self._let_go, (request_id, name)).rowcount:
                    freed.append((name, held, 0))
            old = f"DELETE FROM reservations WHERE nano_usd = 0 AND expires_us < {self._mark}"  # noqa: S608
            connection.exec_driver_sql(old, (release.now_us - _DAY_US,))
            over = f"DELETE FROM rate_windows WHERE expires_us < {self._mark}"  # noqa: S608
            connection.exec_driver_sql(over, (release.now_us,))
        return freed

    def _open_uses(self, connection: Connection, lines: Iterable[Line]) -> None:
        for line in sorted(lines, key=lambda line: line.name):
            if line.opening is not None:
                begun = (line.name, line.opening.carried, line.opening.spent)
                connection.exec_driver_sql(self._open, begun)

    def _load_windows(self, connection: Connection, sheet: _Sheet, hits: Sequence[Hit]) -> None:
        if not hits:
            return
        names = sorted({hit.name for hit in hits})
        end_us = (sheet.minute + 3) * _MINUTE_S * 1_000_000
        for name in names:
            connection.exec_driver_sql(self._window, (f"{name} {sheet.minute}", end_us))
        wanted = [f"{name} {minute}" for name in names for minute in (sheet.minute - 1, sheet.minute)]
        sheet.windows = {row[0]: row[1] for row in self._rows(connection, self._windows, wanted)}

    def _store(self, connection: Connection, sheet: _Sheet) -> None:
        for name in sorted(sheet.changed):
            use = sheet.uses[name]
            connection.exec_driver_sql(self._use, (use.spent, use.reserved, name))
        if sheet.reserved:
            connection.exec_driver_sql(self._reserve, sheet.reserved)
        for name in sorted(sheet.counted):
            connection.exec_driver_sql(self._count, (sheet.windows[name], name))

    def _rows(self, connection: Connection, sql: str, names: Iterable[str]) -> Sequence[Any]:
        return connection.exec_driver_sql(sql, (orjson.dumps(sorted(names)).decode(),)).all()


@dataclass(slots=True)
class _Sheet:
    """The locked rows, as they change while the questions of a batch are answered."""

    uses: dict[str, Use] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    reserved: list[tuple[str, str, int, int]] = field(default_factory=list)
    now: float = field(default_factory=time.time)
    windows: dict[str, int] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)

    @property
    def minute(self) -> int:
        return int(self.now // _MINUTE_S)

    def free(self, freed: Iterable[tuple[str, int, int]]) -> None:
        for name, held, spent in freed:
            use = self.uses.get(name)
            if use is not None:
                self.uses[name] = Use(use.carried, use.spent + spent, use.reserved - held)
                self.changed.add(name)

    def answer(self, question: Question) -> Answer:
        if isinstance(question, Claim):
            return self._claim(question)
        return self._hit(question) if isinstance(question, Hit) else None

    def _claim(self, claim: Claim) -> Claimed:
        unopened = tuple(line.name for line in claim.lines if line.name not in self.uses)
        if unopened:
            return Claimed(unopened=unopened)
        uses = {line.name: self.uses[line.name] for line in claim.lines}
        for line in claim.lines:
            use = uses[line.name]
            if line.limit is not None and use.spent + use.reserved + claim.nano_usd > line.limit + use.carried:
                return Claimed(short=line.name, uses=uses)
        for line in claim.lines:
            use = uses[line.name]
            uses[line.name] = self.uses[line.name] = Use(use.carried, use.spent, use.reserved + claim.nano_usd)
            self.changed.add(line.name)
            self.reserved.append((claim.request_id, line.name, claim.nano_usd, claim.expires_us))
        return Claimed(uses=uses)

    def _hit(self, hit: Hit) -> Counted:
        current = f"{hit.name} {self.minute}"
        before, used = self.windows.get(f"{hit.name} {self.minute - 1}", 0), self.windows.get(current, 0)
        left_of_before = 1 - (self.now % _MINUTE_S) / _MINUTE_S
        if not hit.amount or int(before * left_of_before) + used + hit.amount > hit.limit:
            return Counted(not hit.amount, before, used)
        self.windows[current] = used + hit.amount
        self.counted.add(current)
        return Counted(True, before, used + hit.amount)
