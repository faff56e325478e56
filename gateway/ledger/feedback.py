"""What callers said of their answers: a score a request, no text. `cauce router calibrate` learns from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
from sqlalchemy import Engine, and_, delete, func, insert, select

from gateway.ledger.entry import SHADOW, VERIFYING
from gateway.ledger.report import Period
from gateway.ledger.tables import attempts, entries, feedback

# Checks whose refusal says that an answer was bad; `confidence` only says that it could be.
_BAD = frozenset({"finish", "empty", "language", "json"})


def keep(engine: Engine, request_id: str, caller: str, score: float) -> bool:
    """Keep a caller's score, 0 to 1, in the place of an earlier one; False when the request is not that caller's."""
    with engine.begin() as connection:
        owned = select(entries.c.request_id).where(entries.c.request_id == request_id, entries.c.caller == caller)
        if connection.execute(owned).first() is None:
            return False
        connection.execute(delete(feedback).where(feedback.c.request_id == request_id))
        row = {"request_id": request_id, "caller": caller, "time_us": time.time_ns() // 1000, "score": score}
        connection.execute(insert(feedback).values(**row))
    return True


@dataclass(frozen=True, slots=True)
class Scored:
    """One request with a score: the router's signals of that time, and what the small and a large model's answer got.

    The one that did not answer has none.
    """

    language: str
    slm_success: float
    gain: float
    slm: float | None
    llm: float | None


def outcomes(engine: Engine, slm: str, period: Period) -> Iterator[Scored]:
    """The scored requests of a period that this small model or a large one answered.

    Where a check turned the small model's answer down and a large one answered, the small one's outcome is 0.
    """
    call = and_(attempts.c.request_id == entries.c.request_id, attempts.c.kind.not_in((SHADOW, *VERIFYING)))
    wanted = (
        select(
            entries.c.request_id, entries.c.signals, entries.c.model, feedback.c.score,
            attempts.c.model.label("called"), attempts.c.kind, attempts.c.rejected_by,
        )
        .join_from(feedback, entries, feedback.c.request_id == entries.c.request_id)
        .join(attempts, call, isouter=True)  # an answer out of the cache has no call
        .order_by(entries.c.request_id, attempts.c.number)
    )  # fmt: skip
    if period.start_us is not None:
        wanted = wanted.where(entries.c.time_us >= period.start_us)
    if period.end_us is not None:
        wanted = wanted.where(entries.c.time_us < period.end_us)
    found: dict[str, Scored] = {}
    with engine.connect() as connection:
        for row in connection.execute(wanted):
            signals = orjson.loads(row.signals)
            if "gain" not in signals:
                continue
            kept = found.get(row.request_id)
            small, large = (kept.slm, kept.llm) if kept else (None, None)
            if row.called is None:
                small = row.score if row.model == slm else None
            elif row.called == slm:
                small = row.score if row.model == slm else 0.0 if row.rejected_by in _BAD else None
            elif row.kind == "llm" and row.model == row.called:
                large = row.score
            found[row.request_id] = Scored(
                str(signals.get("language", "")), float(signals["slm_success"]), float(signals["gain"]), small, large
            )
    yield from (one for one in found.values() if one.slm is not None or one.llm is not None)


def large_calls(engine: Engine, period: Period) -> tuple[int, float, float]:
    """How many requests there were, the mean USD of a large model's call with a known price, and over how many days.

    Zeros where there are none.
    """
    asked = select(func.count(), func.min(entries.c.time_us), func.max(entries.c.time_us))
    paid = select(func.avg(attempts.c.cost_nano_usd)).where(
        attempts.c.kind == "llm", attempts.c.outcome == "ok", attempts.c.cost_nano_usd.is_not(None)
    )
    if period.start_us is not None:
        asked = asked.where(entries.c.time_us >= period.start_us)
        paid = paid.where(attempts.c.started_us >= period.start_us)
    with engine.connect() as connection:
        requests, first, last = connection.execute(asked).one()
        nano_usd = connection.execute(paid).scalar_one()
    days = max((last - first) / 86_400e6, 1.0) if requests else 0.0
    return int(requests), float(nano_usd or 0) / 1e9, days
