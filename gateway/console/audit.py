"""What class of data went where: the records, whether their chain is whole, and the month's report."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, Literal

from starlette.responses import Response

from gateway.console import reading
from gateway.console.apart import apart
from gateway.console.computing import verify, written
from gateway.console.visit import Visit
from gateway.ledger.report import Period, month_period
from gateway.telemetry.audit import read

_TYPES: Final = {"md": "text/markdown", "csv": "text/csv", "json": "application/json"}


async def audit(visit: Visit) -> Response:
    """The last records; a form that verifies the chain, and one that downloads the report of a month."""
    checked: dict[str, Any] | None = None
    if visit.request.method == "POST":
        checked = await apart(verify, visit.backend.settings.ledger)
    until = visit.asked("before")
    period = Period(end_us=int(until)) if until.isdigit() and len(until) < 18 else Period()
    rows = await visit.read(_records, visit, period)
    return visit.render(
        "audit.html",
        rows=rows[: reading.PAGE],
        older=_older(rows),
        paged=bool(period.end_us),
        checked=checked,
        month=visit.figures.moment(reading.now_us()).strftime("%Y-%m"),
    )


def _records(visit: Visit, period: Period) -> list[dict[str, Any]]:
    found = read(visit.backend.ledger.engine, period, most=reading.PAGE + 1, newest_first=True)
    return [{**row, "time_us": _time_us(row["time"])} for row in found]


def _older(rows: list[dict[str, Any]]) -> int | None:
    """Where the next page begins: a millisecond twice rather than a record of it never."""
    last = rows[reading.PAGE - 1]["time_us"] if len(rows) > reading.PAGE else None
    return None if last is None else last + 1000


def _time_us(time: str) -> int | None:
    try:
        return int(dt.datetime.fromisoformat(time).timestamp() * 1e6)
    except ValueError:
        return None


async def audit_report(visit: Visit) -> Response:
    """The report of a month, in Spanish or English, for people, spreadsheets or tools."""
    month, form = visit.asked("month"), visit.asked("format", "md")
    chosen: Literal["es", "en"] = "es" if visit.asked("in", visit.language) == "es" else "en"
    try:
        month_period(month, visit.figures.zone)
    except (ValueError, OverflowError):
        return visit.problem(400, visit.t["no_month"], visit.t["no_month_do"])
    if form not in _TYPES:
        form = "md"
    settings = visit.backend.settings
    text = await apart(written, settings.ledger, month, settings.time_zone, chosen, form)
    name = f"cauce-audit-{month}-{chosen}.{form}"
    return Response(
        text,
        media_type=f"{_TYPES[form]}; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )
