"""What was spent, by whom, on what, and what it would have cost from the baseline. Sums are exact.

Whole days are read from their daily sums (`daily.py`) when these hold as many requests as the entries do; the rest of a
period, and what came after its entries, from the ledger itself. All of it is one snapshot.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Column, ColumnElement, Connection, Engine, RowMapping, and_, func, literal, select

from gateway.ledger.daily import day_bounds
from gateway.ledger.sums import SUMS, daily_sums, entry_sums, late_sums
from gateway.ledger.tables import DAILY_GROUPS, adjustments, attempts, daily, entries

# What a report may be grouped by, with the column or expression behind the name.
PLAIN = (*DAILY_GROUPS, "task")
LOCAL = ("day", "month")
GROUPS = (*PLAIN, "key", *LOCAL, "request")
TOKENS: Final = (
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "image_tokens",
)
MONEY: Final = (
    "cost_nano_usd",
    "baseline_nano_usd",
    "saved_nano_usd",
    "saved_low_nano_usd",
    "saved_high_nano_usd",
    "router_nano_usd",
)
_COLUMNS: Final = {"key": "caller"}
_BUCKET_US: Final = 900_000_000  # a quarter of an hour: every time zone's days begin at one


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time, in microseconds of the epoch; the end is not in it. Nothing: without bound."""

    start_us: int | None = None
    end_us: int | None = None


def month_period(month: str, zone: ZoneInfo) -> Period:
    """`2026-11` as the business counts it; raises `ValueError` for what is not a month."""
    first = dt.datetime.strptime(month, "%Y-%m").replace(tzinfo=zone)
    following = (first.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
    return Period(int(first.timestamp() * 1e6), int(following.timestamp() * 1e6))


def report(engine: Engine, *, by: tuple[str, ...], period: Period, zone: ZoneInfo) -> list[dict[str, Any]]:
    """One row a group, the dearest first, or in order of time; by request, one row a request in order of time."""
    if "request" in by:
        with snapshot(engine) as connection:
            return list(_by_request(connection, period, zone))
    groups = _Groups(by, zone)
    with snapshot(engine) as connection:
        for rows in _sources(connection, groups, period):
            groups.add(rows)
    return groups.rows()


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection whose every read sees the ledger as it is now."""
    lite = engine.dialect.name == "sqlite"
    with engine.connect().execution_options(**({} if lite else {"isolation_level": "REPEATABLE READ"})) as connection:
        if lite:  # its driver begins no transaction for reading
            connection.exec_driver_sql("BEGIN").close()
        yield connection


class _Groups:
    """The groups of a report while they are summed."""

    def __init__(self, by: tuple[str, ...], zone: ZoneInfo) -> None:
        self.by = by
        self.zone = zone
        self.plain = tuple(name for name in by if name not in LOCAL)
        self.local = tuple(name for name in by if name in LOCAL)
        self._sums: dict[tuple[Any, ...], list[int | None]] = {}
        self._days: dict[int, str] = {}

    def columns(self, table: Any) -> list[Column[Any]]:
        """The columns behind the names."""
        return [table.c[_COLUMNS.get(name, name)] for name in self.plain]

    def add(self, rows: Iterable[Any]) -> None:
        """Rows of the plain groups, a moment, and the sums."""
        width = len(self.plain)
        for row in rows:
            key = self._key(row[:width], row[width])
            before = self._sums.get(key)
            sums = [None if value is None else int(value) for value in row[width + 1 :]]
            self._sums[key] = sums if before is None else list(map(_plus, before, sums))

    def _key(self, plain: Iterable[str], time_us: int) -> tuple[Any, ...]:
        if not self.local:
            return tuple(plain)
        day = self._days.get(time_us)
        if day is None:
            day = dt.datetime.fromtimestamp(time_us // 1_000_000, self.zone).strftime("%Y-%m-%d")
            self._days[time_us] = day
        named = {**dict(zip(self.plain, plain, strict=True)), "day": day, "month": day[:7]}
        return tuple(named[name] for name in self.by)

    def rows(self) -> list[dict[str, Any]]:
        """The finished rows."""
        found = [
            _finish({**dict(zip(self.by, key, strict=True)), **dict(zip(SUMS, sums, strict=True))})
            for key, sums in self._sums.items()
        ]
        if self.local:
            return sorted(found, key=lambda row: [str(row[name]) for name in self.by])
        return sorted(found, key=lambda row: (-(row["cost_nano_usd"] or 0), [str(row[name]) for name in self.by]))


def _plus(one: int | None, other: int | None) -> int | None:
    if one is None:
        return other
    return one if other is None else one + other


def _sources(connection: Connection, groups: _Groups, period: Period) -> Iterator[Iterable[Any]]:
    """All rows that a report sums: of whole days, of what is beside them, and of what came later."""
    whole = _whole_days(connection, groups, period)
    if whole is None:
        yield _of_entries(connection, groups, period)
    else:
        yield _of_days(connection, groups, whole)
        for rest in (Period(period.start_us, whole.start_us), Period(whole.end_us, period.end_us)):
            if rest.start_us is None or rest.end_us is None or rest.start_us < rest.end_us:
                yield _of_entries(connection, groups, rest)
    if _any_late(connection):
        yield _of_late(connection, groups, period)


def _whole_days(connection: Connection, groups: _Groups, period: Period) -> Period | None:
    """The whole days of a period, when their sums can be used and hold as many requests as there are entries."""
    if not all(_COLUMNS.get(name, name) in DAILY_GROUPS for name in groups.plain):
        return None
    # One question an end: each is then a look at the index.
    ends = (select(end(entries.c.time_us)).where(within(period)) for end in (func.min, func.max))
    first, last = (connection.execute(end).scalar() for end in ends)
    if first is None or last is None:
        return None
    start, end = day_bounds(first, groups.zone)
    if period.start_us is not None and start < period.start_us:
        start = end
    last_day = day_bounds(last, groups.zone)
    end = last_day[1] if period.end_us is None or last_day[1] <= period.end_us else last_day[0]
    if start >= end:
        return None
    days = Period(start, end)
    summed = select(func.sum(daily.c.requests)).where(*_day_bounds(groups, days))
    counted = select(func.count()).select_from(entries).where(within(days))
    if (connection.execute(summed).scalar() or 0) != connection.execute(counted).scalar():
        return None
    return days


def _day_bounds(groups: _Groups, days: Period) -> tuple[ColumnElement[bool], ...]:
    zone = groups.zone.key
    return daily.c.time_zone == zone, daily.c.day_us >= days.start_us, daily.c.day_us < days.end_us


def _of_days(connection: Connection, groups: _Groups, days: Period) -> Iterable[Any]:
    columns = groups.columns(daily)
    when: Any = daily.c.day_us if groups.local else literal(0)
    grouped = select(*columns, when, *daily_sums()).where(*_day_bounds(groups, days))
    return connection.execute(grouped.group_by(*columns, *([when] if groups.local else ())))


def _of_entries(connection: Connection, groups: _Groups, period: Period) -> Iterable[Any]:
    columns = groups.columns(entries)
    when = bucket() if groups.local else literal(0)
    grouped = select(*columns, when, *entry_sums()).where(within(period))
    found = connection.execute(grouped.group_by(*columns, *([when] if groups.local else ())))
    return found if columns or groups.local else [row for row in found if row.requests]


def _of_late(connection: Connection, groups: _Groups, period: Period) -> Iterable[Any]:
    sums, source = late_sums()
    columns = groups.columns(entries)
    when = bucket() if groups.local else literal(0)
    grouped = source.add_columns(*columns, when, *sums).where(within(period))
    found = connection.execute(grouped.group_by(*columns, *([when] if groups.local else ())))
    return [row for row in found if row.unknown_cost_requests is not None]


def bucket() -> Any:
    """The quarter of an hour of an entry, as microseconds of the epoch."""
    return entries.c.time_us // _BUCKET_US * _BUCKET_US


def _any_late(connection: Connection) -> bool:
    shadow = select(attempts.c.request_id).where(attempts.c.kind == "shadow").limit(1)
    adjusted = select(adjustments.c.request_id).limit(1)
    return any(connection.execute(query).first() is not None for query in (adjusted, shadow))


def within(period: Period, column: Column[Any] = entries.c.time_us) -> ColumnElement[bool]:
    """Whether a moment is in a period."""
    bounds: list[ColumnElement[bool]] = [literal(True)]
    if period.start_us is not None:
        bounds.append(column >= period.start_us)
    if period.end_us is not None:
        bounds.append(column < period.end_us)
    return and_(*bounds)


def _finish(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON shows it. Where no request has a known cost there is none, and none is never 0."""
    made = dict(row)
    if made["unknown_cost_requests"] == made["requests"]:
        made.update(cost_nano_usd=None, saved_nano_usd=None, saved_low_nano_usd=None, saved_high_nano_usd=None)
    impact = {name: made.pop(name) for name in ("energy_low_uwh", "energy_high_uwh", "co2e_low_ug", "co2e_high_ug")}
    if made["unknown_energy_requests"] == made["requests"]:
        impact = dict.fromkeys(impact)
    cost, known = made["cost_nano_usd"], made["requests"] - made["unknown_cost_requests"]
    made["cost_per_1000_nano_usd"] = None if cost is None or not known else round(cost * 1000 / known)
    for name, column in _IMPACT.items():
        made[name] = None if impact[column] is None else impact[column] / 1e6
    made["estimated"] = made.pop("estimated_requests") > 0
    return made


_IMPACT: Final = {
    "energy_wh_low": "energy_low_uwh",
    "energy_wh_high": "energy_high_uwh",
    "co2e_g_low": "co2e_low_ug",
    "co2e_g_high": "co2e_high_ug",
}


# --- by request -----------------------------------------------------------------------------------------------------

_SHOWN: Final = (
    "caller", "org", "team", "app", "model", "route", "rule", "domain", "task", "data_class", "zone", "outcome",
    "status", "code", "cache",
)  # fmt: skip


def _by_request(connection: Connection, period: Period, zone: ZoneInfo) -> Iterator[dict[str, Any]]:
    one = _Groups(("request_id",), zone)
    for rows in (_of_entries(connection, one, period), _of_late(connection, one, period)):
        one.add(rows)
    sums = {row["request_id"]: row for row in one.rows()}
    calls: dict[str, list[dict[str, Any]]] = {}
    wanted = select(attempts).where(attempts.c.request_id.in_(select(entries.c.request_id).where(within(period))))
    for call in connection.execute(wanted.order_by(attempts.c.request_id, attempts.c.number)).mappings():
        plain = _plain(call)
        calls.setdefault(plain.pop("request_id"), []).append(plain)
    shown = select(entries.c.request_id, entries.c.time_us, *(entries.c[name] for name in _SHOWN))
    for row in connection.execute(shown.where(within(period)).order_by(entries.c.time_us)).mappings():
        made = sums[row["request_id"]]
        del made["request_id"]
        yield {
            "request": row["request_id"],
            "time": dt.datetime.fromtimestamp(row["time_us"] / 1e6, zone).isoformat(timespec="milliseconds"),
            **{name: row[name] for name in _SHOWN},
            **made,
            "attempts": calls.get(row["request_id"], []),
        }


def _plain(row: RowMapping) -> dict[str, Any]:
    """A row by plain names: SQLAlchemy's own are a kind of text that JSON writers refuse."""
    return {str(name): value for name, value in row.items()}
