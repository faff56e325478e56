"""What the console reads of the ledger. Every query is bounded: by time and an index, or by a number of rows."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, RowMapping, case, func, select

from gateway.ledger.entry import SHADOW
from gateway.ledger.tables import attempts, entries

PAGE: Final = 50
HOUR_US: Final = 3_600_000_000
_RECENT: Final = 2_000  # requests that the figures of the models are made from
FILTERS: Final = ("outcome", "data_class", "zone", "model", "rule", "team")
_LISTED: Final = (
    "request_id", "time_us", "caller", "team", "app", "rule", "route", "model", "zone", "data_class", "task",
    "language", "outcome", "status", "code", "cache", "escalated", "stream", "cost_nano_usd", "duration_us",
)  # fmt: skip


@dataclass(slots=True)
class Totals:
    """How many requests, and how many of each kind."""

    requests: int = 0
    answered: int = 0
    stayed: int = 0
    protected: int = 0  # of a class that is personal or above
    cached: int = 0
    escalated: int = 0

    def add(self, row: RowMapping) -> None:
        """One group of requests."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + int(row[name] or 0))


@dataclass(slots=True)
class Span:
    """A stretch of time: its totals, and requests by hour and zone. Money is `ledger/report.py`'s."""

    start_us: int
    end_us: int
    totals: Totals = field(default_factory=Totals)
    zones: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))


def span(engine: Engine, start_us: int, end_us: int) -> Span:
    """Everything that was asked in a stretch of time. One pass over the index of times."""
    e = entries.c
    hour = (e.time_us // HOUR_US).label("hour")
    sums: dict[str, ColumnElement[Any]] = {
        "requests": func.count(),
        "answered": _count(e.outcome.in_(("ok", "cached"))),
        "stayed": _count(e.zone == "premises"),
        "protected": _count(e.data_class.in_(("personal", "special", "secret"))),
        "cached": _count(e.outcome == "cached"),
        "escalated": func.sum(e.escalated),
    }
    wanted = (
        select(hour, e.zone, *(column.label(name) for name, column in sums.items()))
        .where(e.time_us >= start_us, e.time_us < end_us)
        .group_by(hour, e.zone)
    )
    found = Span(start_us, end_us)
    with engine.connect() as connection:
        for row in connection.execute(wanted).mappings():
            found.totals.add(row)
            found.zones[row["zone"] or "none"][row["hour"]] += row["requests"]
    return found


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0))


def decisions(
    engine: Engine, filters: Mapping[str, str], *, before: tuple[int, str] | None = None, most: int = PAGE
) -> list[dict[str, Any]]:
    """Requests, the newest first; `before`: those that come after this time and id in that order."""
    e = entries.c
    wanted = select(*(e[name] for name in _LISTED)).order_by(e.time_us.desc(), e.request_id.desc()).limit(most)
    for name, value in filters.items():
        wanted = wanted.where(e[name] == value)
    if before is not None:
        time_us, request_id = before
        wanted = wanted.where(e.time_us <= time_us).where((e.time_us < time_us) | (e.request_id < request_id))
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(wanted).mappings()]


def one(engine: Engine, request_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """A request's entry and its calls in order; nothing when there is none."""
    with engine.connect() as connection:
        entry = connection.execute(select(entries).where(entries.c.request_id == request_id)).mappings().one_or_none()
        if entry is None:
            return None
        calls = connection.execute(
            select(attempts).where(attempts.c.request_id == request_id).order_by(attempts.c.number)
        ).mappings()
        return dict(entry), [dict(call) for call in calls]


@dataclass(slots=True)
class ModelFigures:
    """How a model's last calls went. Times are microseconds."""

    calls: int = 0
    failed: int = 0
    turned_down: int = 0
    shadows: int = 0
    completion_tokens: int = 0
    cost: int = 0
    last_us: int = 0
    codes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    durations: list[int] = field(default_factory=list)
    first_tokens: list[int] = field(default_factory=list)

    def add(self, call: Any) -> None:
        """One call."""
        self.calls += 1
        self.last_us = max(self.last_us, call.started_us)
        self.shadows += call.kind == SHADOW
        self.turned_down += bool(call.rejected_by)
        self.completion_tokens += call.completion_tokens or 0
        self.cost += call.cost_nano_usd or 0
        if call.outcome in {"ok", "aborted"}:
            self.durations.append(call.duration_us)
        else:
            self.failed += 1
            self.codes[call.outcome] += 1
        if call.first_token_us is not None:
            self.first_tokens.append(call.first_token_us)


def models(engine: Engine) -> tuple[dict[str, ModelFigures], int]:
    """The calls of the last requests by model, and how many requests that were."""
    recent = select(entries.c.request_id).order_by(entries.c.time_us.desc()).limit(_RECENT).subquery()
    a = attempts.c
    wanted = select(
        a.model, a.kind, a.outcome, a.rejected_by, a.started_us, a.duration_us, a.first_token_us, a.completion_tokens,
        a.cost_nano_usd,
    ).join(recent, recent.c.request_id == a.request_id)  # fmt: skip
    found: dict[str, ModelFigures] = defaultdict(ModelFigures)
    with engine.connect() as connection:
        for call in connection.execute(wanted):
            found[call.model].add(call)
        requests = connection.execute(select(func.count()).select_from(recent)).scalar_one()
    return dict(found), requests


def quantile(values: Iterable[int], share: float) -> int | None:
    """The value that this share of the values does not pass."""
    ordered: Sequence[int] = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def now_us() -> int:
    """Microseconds of the epoch."""
    return time.time_ns() // 1000
