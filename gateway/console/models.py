"""The catalogue, whether each model is there, how its last calls went; and the keys and what they have spent."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from starlette.responses import Response

from gateway.console import reading
from gateway.console.playground import estimate
from gateway.console.visit import Visit
from gateway.ledger.keys import list_keys
from gateway.ledger.report import Period, month_period, report
from gateway.upstreams.base import Health

_ASK_S: Final = 3.0


async def models(visit: Visit) -> Response:
    """Every model: zone, context, price, health, latency and errors of its last calls."""
    backend = visit.backend
    figures, requests = await visit.read(reading.models, backend.ledger.engine)
    names = list(backend.models)
    states = await asyncio.gather(*(_health(visit, name) for name in names))
    rows: list[dict[str, Any]] = []
    for name, state in zip(names, states, strict=True):
        model, seen = backend.models[name], figures.get(name)
        price = None if model.kind == "embedding" else estimate(model, backend.prices, 1000)
        rows.append(
            {
                "model": model,
                "state": state,
                "price": price,
                "seen": seen,
                "p50": reading.quantile(seen.durations, 0.5) if seen else None,
                "p95": reading.quantile(seen.durations, 0.95) if seen else None,
                "first_p50": reading.quantile(seen.first_tokens, 0.5) if seen else None,
            }
        )
    return visit.render("models.html", rows=rows, requests=requests, state=backend.ready()[1])


async def _health(visit: Visit, name: str) -> Health:
    try:
        async with asyncio.timeout(_ASK_S):
            return await visit.backend.upstreams[name].health()
    except TimeoutError:
        return Health(False, f"no answer in {_ASK_S:g} s")


async def keys(visit: Visit) -> Response:
    """Every key: whose it is, what it may do, what it has spent this month. Never a key itself."""
    backend, now = visit.backend, reading.now_us()
    zone = visit.figures.zone
    month = visit.figures.moment(now).strftime("%Y-%m")
    stored = await visit.read(list_keys, backend.ledger.engine)
    period: Period = month_period(month, zone)
    spent = await visit.read(report, backend.ledger.engine, by=("caller",), period=period, zone=zone)
    return visit.render(
        "keys.html",
        stored=stored,
        month=month,
        spent={row["caller"]: row for row in spent},
        now=int(time.time() * 1e6),
    )
