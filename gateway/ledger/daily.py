"""Sums of the entries by day of the business and by who and what: a month's report reads these, not ten million rows.

Written in the transaction of the entries that they are sums of, so both are there or neither. A row belongs to one
writer and grows while its day and group go on; groups are found in memory, so a group may have several rows, whose sum
counts: nothing is looked up or locked. What comes after an entry (shadows, adjustments) is not in it; reports add it.
A report trusts the sums of a period only when they hold as many requests as the entries do (`report.py`);
`cauce report --rebuild` makes them again from the entries.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Column, Connection, Engine, delete, func, insert, literal, select

from gateway.ledger.entry import Entry
from gateway.ledger.sums import entry_sums
from gateway.ledger.tables import (
    DAILY_GROUPS,
    DAILY_KNOWN,
    DAILY_SUMS,
    daily,
    entries,
)

_MOST_GROUPS: Final = 8_192  # in memory; a busy day with more of them gets more rows
_NAMES: Final = tuple(column.name for column in daily.columns)
_GROWING: Final = ("requests", "estimated_requests", *(known for known, _ in DAILY_KNOWN), *DAILY_SUMS)
_group_of = attrgetter(*DAILY_GROUPS)
_DAY_US: Final = 86_400_000_000


class Calendar:
    """Days of a time zone, as microseconds of the epoch."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._start = self._end = 0

    def day(self, time_us: int) -> int:
        """When the day of a moment began."""
        if not self._start <= time_us < self._end:
            self._start, self._end = day_bounds(time_us, self.zone)
        return self._start


def day_bounds(time_us: int, zone: ZoneInfo) -> tuple[int, int]:
    """The day that holds a moment: its beginning, and the next one's; 23 to 25 hours apart."""
    day = dt.datetime.fromtimestamp(time_us // 1_000_000, zone).date()
    return midnight(day, zone), midnight(day + dt.timedelta(days=1), zone)


def midnight(day: dt.date, zone: ZoneInfo) -> int:
    """When a day begins."""
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp()) * 1_000_000


class Daily:
    """The sums that one writer keeps. Used by one thread."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._writer = secrets.token_hex(6)
        self._calendar = Calendar(zone)
        self._zone = zone.key
        self._rows: dict[tuple[Any, ...], int] = {}
        self._next = 0
        self._sql = _upsert(engine)

    def add(self, connection: Connection, rows: Sequence[Entry], new: Collection[str]) -> None:
        """Add the entries with these ids to the sums, in the transaction that wrote them; the others were there."""
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for entry in rows:
            if entry.request_id not in new:
                continue
            key = (self._calendar.day(entry.time_us), *_group_of(entry))
            sums = _sums(entry)
            before = groups.get(key)
            groups[key] = sums if before is None else list(map(_plus, before, sums))
        if groups:
            lines = [[self._writer, self._row(key), self._zone, *key, *sums] for key, sums in groups.items()]
            connection.exec_driver_sql(self._sql, (orjson.dumps(lines).decode(),))

    def _row(self, key: tuple[Any, ...]) -> int:
        if len(self._rows) >= _MOST_GROUPS:
            self._rows.clear()
        number = self._rows.get(key)
        if number is None:
            self._next += 1
            number = self._rows[key] = self._next
        return number

    def forget(self) -> None:
        """Begin new rows: a caller was erased, and what comes now may not be added to what was."""
        self._rows.clear()


def _plus(one: int | None, other: int | None) -> int | None:
    if one is None:
        return other
    return one if other is None else one + other


def _sums(entry: Entry) -> list[int | None]:
    """An entry's part of the sums, in the order of the columns."""
    cost = entry.cost_nano_usd
    spent = None if cost is None else cost + (entry.router_nano_usd or 0)
    saved = [
        None if baseline is None or spent is None else baseline - spent
        for baseline in (entry.baseline_nano_usd, entry.baseline_low_nano_usd, entry.baseline_high_nano_usd)
    ]
    known = [int(getattr(entry, name) is None) for _, name in DAILY_KNOWN]
    return [1, entry.estimated, *known, *(getattr(entry, name) for name in DAILY_SUMS[:-3]), *saved]


def _upsert(engine: Engine) -> str:
    """One statement for any number of rows: a new row, or more in one that there is."""
    names = ", ".join(_NAMES)
    lite = engine.dialect.name == "sqlite"
    values = ", ".join(
        f"value ->> {i}" if lite else f"(value ->> {i})::{'bigint' if column.type.python_type is int else 'text'}"
        for i, column in enumerate(daily.columns)
    )
    grown = ", ".join(
        f"{name} = CASE WHEN excluded.{name} IS NULL THEN daily.{name} "
        f"ELSE coalesce(daily.{name}, 0) + excluded.{name} END"
        for name in _GROWING
    )
    source = "json_each(?)" if lite else "jsonb_array_elements(%s::jsonb) AS t(value)"
    return (
        f"INSERT INTO daily ({names}) SELECT {values} FROM {source} WHERE true "  # noqa: S608 - our own names
        f"ON CONFLICT (writer, number) DO UPDATE SET {grown}"
    )


# --- made from the entries ------------------------------------------------------------------------------------------


def rebuild(engine: Engine, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """Make the sums again, a day at a time, in one transaction; yields days done and days in all.

    Gateways that write at the same time wait for it (SQLite, Postgres), and go on after it with rows of their own.
    """
    writer = f"rebuild-{secrets.token_hex(4)}"
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE").close()
        else:
            connection.exec_driver_sql("LOCK TABLE entries IN SHARE ROW EXCLUSIVE MODE").close()
        connection.execute(delete(daily))
        days = list(_days(connection, zone))
        for done, day in enumerate(days, 1):
            _rebuild_day(connection, day, zone, writer=f"{writer}-{done}")
            yield done, len(days)
        connection.commit()


def _rebuild_day(connection: Connection, day: tuple[int, int], zone: ZoneInfo, *, writer: str) -> None:
    groups: list[Column[Any]] = [entries.c[name] for name in DAILY_GROUPS]
    made = (
        select(literal(writer), func.row_number().over(), literal(zone.key), literal(day[0]), *groups, *entry_sums())
        .where(entries.c.time_us >= day[0], entries.c.time_us < day[1])
        .group_by(*groups)
    )
    connection.execute(insert(daily).from_select(list(_NAMES), made))


def _days(connection: Connection, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    ends = (select(end(entries.c.time_us)) for end in (func.min, func.max))
    first, last = (connection.execute(end).scalar() for end in ends)
    while first is not None and last is not None and first <= last:
        bounds = day_bounds(first, zone)
        yield bounds
        first = bounds[1]
