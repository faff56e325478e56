"""The business's month so far, by team, for the metrics: from the daily sums alone, so it costs a look at an index."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, select

from gateway.ledger.daily import midnight
from gateway.ledger.tables import daily


@dataclass(frozen=True, slots=True)
class Month:
    """How much of it has passed, 0 to 1, and each team's cost and baseline in nano-USD, unknown ones left out."""

    elapsed: float
    teams: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def month_so_far(engine: Engine, zone: ZoneInfo, now: dt.datetime) -> Month:
    """What the ledger says of the month that `now` is in. In another time zone than the sums', nothing."""
    today = now.astimezone(zone).date()
    first = today.replace(day=1)
    start, end = midnight(first, zone), midnight((first + dt.timedelta(days=32)).replace(day=1), zone)
    elapsed = (int(now.timestamp() * 1e6) - start) / (end - start)
    sums = (
        select(daily.c.team, func.sum(daily.c.cost_nano_usd), func.sum(daily.c.baseline_nano_usd))
        .where(daily.c.time_zone == zone.key, daily.c.day_us >= start, daily.c.day_us < end)
        .group_by(daily.c.team)
        .order_by(func.sum(daily.c.cost_nano_usd).desc())
    )
    with engine.connect() as connection:
        rows = connection.execute(sums).all()
    return Month(elapsed, {team: (int(cost or 0), int(baseline or 0)) for team, cost, baseline in rows})
