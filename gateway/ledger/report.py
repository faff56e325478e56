"""What was spent, by whom, on what, and what it would have cost from the baseline. Sums are exact."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, RowMapping, String, Subquery, and_, case, cast, func, literal, select
from sqlalchemy.sql import Select

from gateway.ledger.entry import SHADOW
from gateway.ledger.tables import attempts, entries

# What a report may be grouped by, with the column or expression behind the name.
PLAIN = ("team", "app", "caller", "model", "route", "rule", "domain", "task", "data_class", "zone", "outcome", "policy")
GROUPS = (*PLAIN, "day", "month", "request")
_SUMS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


def _billed() -> Subquery:
    """The entries with what their shadows used and cost: calls that came after the entry, and are paid for too."""
    copy = attempts.alias("copy")
    added = {name: (entries.c[name] + func.coalesce(copy.c[name], 0)).label(name) for name in (*_SUMS, "estimated")}
    cost = entries.c.cost_nano_usd
    with_copy = case((copy.c.request_id.is_(None), cost), else_=cost + copy.c.cost_nano_usd)
    added["cost_nano_usd"] = with_copy.label("cost_nano_usd")
    own = and_(copy.c.request_id == entries.c.request_id, copy.c.kind == SHADOW)
    columns = [added.get(column.name, column) for column in entries.c]
    return select(*columns).join_from(entries, copy, own, isouter=True).subquery("billed")


_BILLED: Final = _billed()


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
    """One row a group, the dearest first; by request, one row a request in order of time."""
    if "request" in by:
        return _by_request(engine, period, zone)
    local = any(name in {"day", "month"} for name in by)
    with engine.connect() as connection:
        if local:
            return _by_local_time(list(connection.execute(_whole(period)).mappings()), by, zone)
        rows = [_plain(row) for row in connection.execute(_grouped(by, period)).mappings()]
    return [_finish(row) for row in sorted(rows, key=lambda row: -(row["cost_nano_usd"] or 0))]


def _where(period: Period) -> ColumnElement[bool]:
    bounds: list[ColumnElement[bool]] = [literal(True)]
    if period.start_us is not None:
        bounds.append(_BILLED.c.time_us >= period.start_us)
    if period.end_us is not None:
        bounds.append(_BILLED.c.time_us < period.end_us)
    return and_(*bounds)


def _saved() -> ColumnElement[Any]:
    """What was saved where both figures are known: a request without them adds nothing, and is counted as unknown."""
    return case(
        (
            and_(_BILLED.c.baseline_nano_usd.is_not(None), _BILLED.c.cost_nano_usd.is_not(None)),
            _BILLED.c.baseline_nano_usd - _BILLED.c.cost_nano_usd,
        ),
    )


def _grouped(by: tuple[str, ...], period: Period) -> Select[Any]:
    groups: list[ColumnElement[Any]] = [_BILLED.c[name] for name in by]
    sums = [func.sum(_BILLED.c[name]).label(name) for name in _SUMS]
    return (
        select(
            *groups,
            func.count().label("requests"),
            *sums,
            func.sum(_BILLED.c.cost_nano_usd).label("cost_nano_usd"),
            func.sum(_BILLED.c.baseline_nano_usd).label("baseline_nano_usd"),
            func.sum(_saved()).label("saved_nano_usd"),
            func.sum(case((_BILLED.c.cost_nano_usd.is_(None), 1), else_=0)).label("unknown_cost_requests"),
            func.max(_BILLED.c.estimated).label("estimated"),
        )
        .where(_where(period))
        .group_by(*groups)
    )


def _whole(period: Period) -> Select[Any]:
    return select(_BILLED, _saved().label("saved_nano_usd")).where(_where(period)).order_by(_BILLED.c.time_us)


def _by_local_time(rows: list[Any], by: tuple[str, ...], zone: ZoneInfo) -> list[dict[str, Any]]:
    """Days and months are the business's own: no database knows its time zone the same way."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        moment = dt.datetime.fromtimestamp(row["time_us"] / 1e6, zone)
        local = {"day": moment.strftime("%Y-%m-%d"), "month": moment.strftime("%Y-%m")}
        key = tuple(local.get(name) or row[name] for name in by)
        _add(groups.setdefault(key, dict(zip(by, key, strict=True))), row)
    return [_finish(group) for _, group in sorted(groups.items())]


def _add(group: dict[str, Any], row: Any) -> None:
    group["requests"] = group.get("requests", 0) + 1
    for name in _SUMS:
        group[name] = group.get(name, 0) + row[name]
    for name in ("cost_nano_usd", "baseline_nano_usd", "saved_nano_usd"):
        value, sofar = row[name], group.get(name)
        group[name] = sofar if value is None else value + (sofar or 0)
    group["unknown_cost_requests"] = group.get("unknown_cost_requests", 0) + (row["cost_nano_usd"] is None)
    group["estimated"] = group.get("estimated", 0) or row["estimated"]


def _finish(row: dict[str, Any]) -> dict[str, Any]:
    """JSON's types: Postgres sums are decimals, and `estimated` is yes or no."""
    for name in (*_SUMS, "cost_nano_usd", "baseline_nano_usd", "saved_nano_usd"):
        row[name] = None if row.get(name) is None else int(row[name])
    row["energy_wh_low"] = row["energy_wh_high"] = None  # no method yet: unknown, not 0
    row["estimated"] = bool(row["estimated"])
    return row


def _by_request(engine: Engine, period: Period, zone: ZoneInfo) -> list[dict[str, Any]]:
    calls = select(attempts).where(
        attempts.c.request_id.in_(select(cast(_BILLED.c.request_id, String)).where(_where(period)))
    )
    by_request: dict[str, list[dict[str, Any]]] = {}
    with engine.connect() as connection:
        rows = list(connection.execute(_whole(period)).mappings())
        for call in connection.execute(calls.order_by(attempts.c.request_id, attempts.c.number)).mappings():
            plain = _plain(call)
            by_request.setdefault(plain.pop("request_id"), []).append(plain)
    return [_request_row(row, by_request.get(row["request_id"], []), zone) for row in rows]


def _plain(row: RowMapping) -> dict[str, Any]:
    """A row by plain names: SQLAlchemy's own are a kind of text that JSON writers refuse."""
    return {str(name): value for name, value in row.items()}


def _request_row(row: Any, calls: list[dict[str, Any]], zone: ZoneInfo) -> dict[str, Any]:
    shown = (
        "caller",
        "team",
        "app",
        "model",
        "route",
        "rule",
        "data_class",
        "zone",
        "outcome",
        "status",
        "code",
        "cache",
    )
    result = {
        "request": row["request_id"],
        "time": dt.datetime.fromtimestamp(row["time_us"] / 1e6, zone).isoformat(timespec="milliseconds"),
        **{name: row[name] for name in shown},
        "requests": 1,
        **{name: row[name] for name in _SUMS},
        "cost_nano_usd": row["cost_nano_usd"],
        "baseline_nano_usd": row["baseline_nano_usd"],
        "saved_nano_usd": row["saved_nano_usd"],
        "estimated": row["estimated"],
    }
    return {**_finish(result), "attempts": calls}
