"""What finance asks of a period beside its sums: shares, movers, the machine's idle time, break-even, and lengths."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, and_, func, select

from gateway.ledger.entry import SHADOW
from gateway.ledger.prices import Machine
from gateway.ledger.report import Period, month_period, report, snapshot, within
from gateway.ledger.tables import attempts, entries

_HOURS_A_MONTH: Final = Decimal(730)
_LEAST_PAIRS: Final = 30  # fewer copies than that say nothing of a spread


def chargeback(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its share of the known cost of all; the shares add up to one."""
    whole = sum(row["cost_nano_usd"] or 0 for row in rows)
    return [
        {**row, "share": None if row["cost_nano_usd"] is None or not whole else row["cost_nano_usd"] / whole}
        for row in rows
    ]


def before(period: Period, month: str | None, zone: ZoneInfo) -> Period:
    """The period of the same kind before this one: the month before, or as long a stretch. Raises `ValueError`."""
    if month:
        year, number = map(int, month.split("-"))
        return month_period(f"{year - (number == 1)}-{12 if number == 1 else number - 1:02d}", zone)
    if period.start_us is None:
        raise ValueError("a period without a beginning has none before it")
    end = period.end_us if period.end_us is not None else time.time_ns() // 1000
    return Period(2 * period.start_us - end, period.start_us)


def movers(
    engine: Engine, *, by: tuple[str, ...], now: Period, earlier: Period, zone: ZoneInfo
) -> list[dict[str, Any]]:
    """Groups by how much their cost changed between two periods, the largest change first."""
    sides = [
        {tuple(row[name] for name in by): row for row in report(engine, by=by, period=period, zone=zone)}
        for period in (now, earlier)
    ]
    rows = []
    for key in sides[0].keys() | sides[1].keys():
        here, there = (side.get(key) for side in sides)
        cost = 0 if here is None else here["cost_nano_usd"]
        past = 0 if there is None else there["cost_nano_usd"]
        change = None if cost is None or past is None else cost - past
        rows.append(
            {
                **dict(zip(by, key, strict=True)),
                "requests": here["requests"] if here else 0,
                "requests_before": there["requests"] if there else 0,
                "cost_nano_usd": cost,
                "cost_before_nano_usd": past,
                "change_nano_usd": change,
                "change": None if change is None or not past else change / past,
            }
        )
    return sorted(rows, key=lambda row: (-abs(row["change_nano_usd"] or 0), [str(row[name]) for name in by]))


def break_even(engine: Engine, *, period: Period, machine: Machine) -> dict[str, Any]:
    """What the local machine cost, how much of its time nobody used, and from how many requests on it is cheaper.

    The machine is one, and paid for around the clock: `usd_per_hour` for every hour, power for the seconds that it
    answers. The cloud's cost of a request is the mean baseline of those that it answered. `break_even_requests` a
    month is the machine's month over what each request saves beside its power; nothing when none saves.
    """
    local = and_(attempts.c.price_source == "machine time", within(period))
    calls = select(func.count(), func.sum(attempts.c.duration_us)).join_from(
        attempts, entries, entries.c.request_id == attempts.c.request_id
    )
    answered = and_(within(period), attempts.c.model == entries.c.model, attempts.c.outcome == "ok")
    cloud = (
        select(func.count(), func.sum(entries.c.baseline_nano_usd))
        .join_from(attempts, entries, entries.c.request_id == attempts.c.request_id)
        .where(local, answered, attempts.c.kind != SHADOW, entries.c.baseline_nano_usd.is_not(None))
    )
    with snapshot(engine) as connection:
        count, busy_us = connection.execute(calls.where(local)).one()
        compared, baseline = connection.execute(cloud).one()
        ends = (select(end(entries.c.time_us)).where(within(period)) for end in (func.min, func.max))
        first, last = (connection.execute(end).scalar() for end in ends)
    start = period.start_us if period.start_us is not None else first or 0
    stop = min(period.end_us or time.time_ns() // 1000, time.time_ns() // 1000) if count else last or start
    hours, busy = Decimal(max(0, stop - start)) / 3_600_000_000, Decimal(int(busy_us or 0)) / 1_000_000
    free = replace(machine, usd_per_hour=Decimal(0))
    power = free.cost(float(busy))
    a_month = int(machine.usd_per_hour * _HOURS_A_MONTH * 1_000_000_000)
    per_request = Decimal(power) / count if count else None
    cloud_request = Decimal(int(baseline)) / compared if compared else None
    gain = None if per_request is None or cloud_request is None else cloud_request - per_request
    idle = max(Decimal(0), 1 - busy / 3600 / hours) if hours else None
    fixed = int(machine.usd_per_hour * hours * 1_000_000_000)
    return {
        "local_calls": count,
        "busy_seconds": float(busy),
        "hours": float(hours),
        "idle_share": None if idle is None else float(idle),
        "machine_nano_usd": fixed,
        "idle_nano_usd": None if idle is None else int(fixed * idle),
        "power_nano_usd": power,
        "local_per_request_nano_usd": None if not count else int((fixed + power) / Decimal(count)),
        "cloud_per_request_nano_usd": None if cloud_request is None else int(cloud_request),
        "machine_month_nano_usd": a_month,
        "break_even_requests": None if gain is None or gain <= 0 else int(-(-a_month // gain)),
    }


def lengths(engine: Engine, *, period: Period, baseline: str) -> dict[str, Any]:
    """How long the baseline's answers are beside those that were sent, measured in the copies that shadows made.

    The 5th and the 95th percentile of its tokens over theirs are what `baseline_tokens_low` and `_high` may be set to;
    nothing with fewer than 30 copies.
    """
    copy = attempts.alias("copy")
    both = and_(copy.c.request_id == attempts.c.request_id, copy.c.kind == SHADOW, copy.c.model == baseline)
    wanted = (
        select(copy.c.completion_tokens, attempts.c.completion_tokens)
        .join_from(attempts, copy, both)
        .join(entries, and_(entries.c.request_id == attempts.c.request_id, entries.c.model == attempts.c.model))
        .where(within(period), attempts.c.kind != SHADOW, attempts.c.outcome == "ok", copy.c.outcome == "ok")
        .where(attempts.c.completion_tokens > 0, copy.c.completion_tokens > 0)
    )
    with snapshot(engine) as connection:
        ratios = [there / here for there, here in connection.execute(wanted)]
    cuts = statistics.quantiles(ratios, n=20) if len(ratios) >= _LEAST_PAIRS else None
    return {
        "baseline": baseline,
        "copies": len(ratios),
        "baseline_tokens_low": cuts and round(min(1.0, cuts[0]), 3),
        "median": statistics.median(ratios) if cuts else None,
        "baseline_tokens_high": cuts and round(max(1.0, cuts[-1]), 3),
    }
