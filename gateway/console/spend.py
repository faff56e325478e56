"""What was spent and saved, by whom and on what; and the same as a file for a spreadsheet."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import Response

from gateway.console import reading
from gateway.console.charts import Chart, Series, lines
from gateway.console.visit import Visit
from gateway.ledger.report import Period, month_period, report

BY: Final = ("team", "app", "caller", "model", "route", "rule", "domain", "data_class", "zone", "day")
_MOST_ROWS: Final = 500
_FORMULA: Final = ("=", "+", "-", "@", "\t")


async def spend(visit: Visit) -> Response:
    """A month: totals against the baseline, by day, and a table by whatever is chosen."""
    month, period, by = _chosen(visit)
    engine, zone = visit.backend.ledger.engine, visit.figures.zone
    whole = await visit.read(report, engine, by=(), period=period, zone=zone)
    days = await visit.read(report, engine, by=("day",), period=period, zone=zone)
    rows = days if by == "day" else await visit.read(report, engine, by=(by,), period=period, zone=zone)
    return visit.render(
        "spend.html",
        month=month,
        by=by,
        choices=BY,
        whole=whole[0] if whole else None,
        rows=rows[:_MOST_ROWS],
        left_out=max(0, len(rows) - _MOST_ROWS),
        chart=money_chart(visit, period, days),
        baseline=visit.backend.prices.baseline_id,
    )


def money_chart(visit: Visit, period: Period, days: Sequence[Mapping[str, Any]]) -> Chart | None:
    """What was spent each day up to today, and what the baseline would have cost."""
    first = visit.figures.moment(period.start_us or 0).date()
    last = visit.figures.moment(min(period.end_us or 0, reading.now_us() + 1) - 1).date()
    by_day = {row["day"]: row for row in days}
    dates = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
    known = [by_day.get(date.isoformat(), {}) for date in dates]
    series = [
        Series(visit.t["cost"], [row.get("cost_nano_usd") or 0 for row in known]),
        Series(visit.t["baseline"], [row.get("baseline_nano_usd") or 0 for row in known]),
    ]
    labels = [date.strftime("%d/%m") for date in dates]
    return lines(visit.t["money_by_day"], labels, series, lambda nano: visit.figures.money(round(nano)))


async def spend_csv(visit: Visit) -> Response:
    """The table of the page as CSV; money is integer nano-USD, as in `cauce report --format csv`."""
    month, period, by = _chosen(visit)
    rows = await visit.read(report, visit.backend.ledger.engine, by=(by,), period=period, zone=visit.figures.zone)
    name = f"cauce-{month}-{by}.csv"
    return Response(
        as_csv(rows),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a report, with every column that a plain cell can hold."""
    if not rows:
        return ""
    names = [name for name, value in rows[0].items() if not isinstance(value, list | dict)]  # `attempts`
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in names} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: names come from whoever makes keys."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _chosen(visit: Visit) -> tuple[str, Period, str]:
    """The month and the grouping of the address; this month and teams where it names none that there are."""
    now = visit.figures.moment(reading.now_us()).strftime("%Y-%m")
    by = visit.asked("by") if visit.asked("by") in BY else "team"
    month = visit.asked("month", now)
    try:
        return month, month_period(month, visit.figures.zone), by
    except (ValueError, OverflowError):
        return now, month_period(now, visit.figures.zone), by
