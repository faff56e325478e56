"""The first page: what the gateway has done, whether all is well, and how to begin."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from gateway.console import reading
from gateway.console.charts import Chart, Series, bars
from gateway.console.reading import HOUR_US, Span
from gateway.console.visit import Visit
from gateway.ledger.report import Period, report

PERIODS: Final = {"24h": 24, "7d": 168, "30d": 720}
_DAYS_FROM: Final = 72  # a longer period is drawn by day
_ZONES: Final = ("premises", "eu", "world", "none")


async def overview(visit: Visit) -> Response:
    """What was asked and where it went, what it cost and saved, what needs attention."""
    backend = visit.backend
    hours = PERIODS.get(visit.asked("period"), 24)
    now = reading.now_us()
    found = await visit.read(reading.span, backend.ledger.engine, now - hours * HOUR_US, now)
    whole = await visit.read(
        report, backend.ledger.engine, by=(), period=Period(found.start_us, found.end_us), zone=visit.figures.zone
    )
    latest = await visit.read(reading.decisions, backend.ledger.engine, {}, most=6)
    _, state = backend.ready()
    policy = backend.policy.current()
    return visit.render(
        "overview.html",
        periods=PERIODS,
        hours=hours,
        found=found,
        total=found.totals,
        money=whole[0] if whole else None,
        latest=latest,
        state=state,
        policy=policy,
        refusal=str(backend.policy.refusal) if backend.policy.refusal else "",
        models=list(backend.models.values()),
        curl=backend.curl,
        chart=requests_chart(visit, found, by_day=hours > _DAYS_FROM),
    )


def requests_chart(visit: Visit, found: Span, *, by_day: bool) -> Chart | None:
    """Requests by hour or day, a colour for each zone."""
    labels, slots = _slots(visit, found, by_day=by_day)
    zones = [zone for zone in _ZONES if zone in found.zones]
    series = [Series(visit.t[f"zone_{zone}"], _filled(found.zones[zone], slots, len(labels))) for zone in zones]
    title = visit.t["requests_by_day" if by_day else "requests_by_hour"]
    return bars(title, labels, series, visit.figures.number)


def _slots(visit: Visit, found: Span, *, by_day: bool) -> tuple[list[str], dict[int, int]]:
    """The labels of a chart, and which of them each hour of the epoch belongs to, in the business's time."""
    labels: list[str] = []
    slots: dict[int, int] = {}
    for hour in range(found.start_us // HOUR_US, found.end_us // HOUR_US + 1):
        moment = visit.figures.moment(hour * HOUR_US)
        label = moment.strftime("%d/%m") if by_day else moment.strftime("%H:00")
        if not labels or labels[-1] != label:
            labels.append(label)
        slots[hour] = len(labels) - 1
    return labels, slots


def _filled(values: dict[int, int], slots: dict[int, int], count: int) -> list[float]:
    sums = [0.0] * count
    for hour, value in values.items():
        if hour in slots:
            sums[slots[hour]] += value
    return sums
