"""A provider's invoice against the ledger: each line beside the calls that it is of, and why they differ.

The ledger's side is its paid calls, shadows too, at what is booked for them. A line is compared in tokens first: where
these agree, only the price can differ. `book` makes the ledger say what the invoice says, by adjustments of the kind
`invoice`, spread over a line's calls by their cost, to the nano-dollar.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, func, select

from gateway.ledger.adjustments import Adjustment, adjust
from gateway.ledger.invoice import Line
from gateway.ledger.report import snapshot
from gateway.ledger.tables import adjustments, attempts

INVOICE: Final = "invoice"
_DAY_US: Final = 86_400_000_000
_HOUR_US: Final = 3_600_000_000
_OFFSETS: Final = tuple(range(-12, 15))


@dataclass(slots=True)
class Booked:
    """What the ledger has of a model on a day."""

    calls: list[Any] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    nano_usd: int = 0
    unknown: int = 0  # calls without a known cost
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of the invoice, or of the ledger alone, with why they differ (`why` is empty where they agree)."""

    day: dt.date | None
    model: str
    invoice: Line | None
    ledger: Booked
    why: tuple[str, ...]

    @property
    def nano_usd(self) -> int | None:
        """Invoice less ledger; nothing where the invoice says no amount."""
        if self.invoice is None:
            return -self.ledger.nano_usd
        return None if self.invoice.nano_usd is None else self.invoice.nano_usd - self.ledger.nano_usd


@dataclass(frozen=True, slots=True)
class Reconciled:
    """All lines, with the hours from UTC that the invoice's days are counted in, when it is not UTC."""

    lines: tuple[Difference, ...]
    offset_hours: int

    @property
    def invoiced(self) -> int:
        """Nano-USD of the invoice."""
        return sum(line.invoice.nano_usd or 0 for line in self.lines if line.invoice)

    @property
    def booked(self) -> int:
        """Nano-USD of the ledger."""
        return sum(line.ledger.nano_usd for line in self.lines)


def reconcile(engine: Engine, lines: Sequence[Line], *, provider: str = "") -> Reconciled:
    """Each line of an invoice against the ledger, of one provider or of those that its models were called at."""
    calls = _calls(engine, lines, provider)
    offset = _offset(lines, calls)
    ledger = _by_line(lines, calls, offset)
    found = [
        Difference(line.day, line.model, line, booked, _why(line, booked))
        for line in lines
        for booked in [ledger.pop((line.day, line.model), Booked())]
    ]
    alone = [
        Difference(day, model, None, booked, ("not invoiced",))
        for (day, model), booked in ledger.items()
        if booked.nano_usd or booked.unknown
    ]
    every = sorted((*found, *alone), key=lambda each: (each.day or dt.date.min, each.model))
    return Reconciled(tuple(every), offset)


def _calls(engine: Engine, lines: Sequence[Line], provider: str) -> list[Any]:
    """The paid calls of the invoice's time, with what was adjusted of them (at a request's first call)."""
    later = (
        select(adjustments.c.request_id, func.sum(adjustments.c.nano_usd).label("nano_usd"))
        .group_by(adjustments.c.request_id)
        .subquery()
    )
    names = ("request_id", "number", "model", "upstream_model", "provider", "started_us", "prompt_tokens",
             "cached_tokens", "completion_tokens", "cost_nano_usd", "estimated", "price_source")  # fmt: skip
    wanted = (
        select(*(attempts.c[name] for name in names), later.c.nano_usd.label("adjusted"))
        .join_from(attempts, later, later.c.request_id == attempts.c.request_id, isouter=True)
        .where(attempts.c.price_source.not_in(("machine time", "not sent")))
        .order_by(attempts.c.started_us)
    )
    if provider:
        wanted = wanted.where(attempts.c.provider == provider)
    days = [line.day for line in lines if line.day is not None]
    if days:  # a day more on each side, since nobody knows yet where the provider's days begin
        first, last = (_start(day) for day in (min(days), max(days)))
        wanted = wanted.where(attempts.c.started_us >= first - _DAY_US, attempts.c.started_us < last + 2 * _DAY_US)
    with snapshot(engine) as connection:
        return list(connection.execute(wanted))


def _start(day: dt.date) -> int:
    return int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()) * 1_000_000


def _offset(lines: Sequence[Line], calls: Iterable[Any]) -> int:
    """The hours from UTC in which the invoice's days agree best with the ledger's calls; UTC when nothing is better."""
    every = list(calls)

    def apart(offset: int) -> tuple[int, int]:
        ledger = _by_line(lines, every, offset)
        tokens = sum(
            abs((line.prompt or 0) + (line.completion or 0) - booked.prompt - booked.completion)
            if line.prompt is not None
            else abs((line.nano_usd or 0) - booked.nano_usd)
            for line in lines
            for booked in [ledger.get((line.day, line.model), Booked())]
        )
        return tokens, abs(offset)

    return min(_OFFSETS, key=apart) if any(line.day for line in lines) else 0


def _by_line(lines: Sequence[Line], calls: Iterable[Any], offset: int) -> dict[tuple[dt.date | None, str], Booked]:
    """The ledger's calls by the day and the name of the invoice's lines."""
    days = {line.day for line in lines}
    names = {line.model for line in lines}
    dated = None not in days
    found: dict[tuple[dt.date | None, str], Booked] = {}
    adjusted: set[str] = set()
    for call in calls:
        day = dt.datetime.fromtimestamp((call.started_us + offset * _HOUR_US) / 1e6, dt.UTC).date() if dated else None
        if dated and not min(d for d in days if d) <= (day or dt.date.min) <= max(d for d in days if d):
            continue
        booked = found.setdefault((day, _named(call, names)), Booked())
        booked.calls.append(call)
        booked.prompt += call.prompt_tokens or 0
        booked.cached += call.cached_tokens or 0
        booked.completion += call.completion_tokens or 0
        later = 0 if call.request_id in adjusted else call.adjusted or 0
        adjusted.add(call.request_id)
        booked.nano_usd += (call.cost_nano_usd or 0) + int(later)
        booked.unknown += call.cost_nano_usd is None and not call.adjusted
        booked.estimated += call.estimated
    return found


def _named(call: Any, names: set[str]) -> str:
    """What the invoice calls a call's model: its own name, ours, or a dated snapshot of it (`gpt-4.1-2025-04-14`)."""
    for name in (call.upstream_model, call.model):
        if name in names:
            return str(name)
    snapshot_of = re.compile(rf"{re.escape(call.upstream_model)}-\d[\d-]*")
    dated = [name for name in names if snapshot_of.fullmatch(name)]
    return dated[0] if len(dated) == 1 else str(call.upstream_model)


def _why(line: Line, booked: Booked) -> tuple[str, ...]:
    """What a line and the ledger disagree on, the cause before its consequence."""
    if not booked.calls:
        return ("missing in the ledger",)
    why = []
    same = True
    for name in ("prompt", "completion"):
        said, ours = getattr(line, name), getattr(booked, name)
        if said is not None and said != ours:
            same = False
            which = "missing in the ledger" if said > ours else "more in the ledger"
            why.append(f"{which}: {abs(said - ours)} {name} tokens")
    if line.requests is not None and line.requests != len(booked.calls):
        why.append(f"{line.requests} requests invoiced, {len(booked.calls)} in the ledger")
    if line.cached is not None and line.cached != booked.cached:
        same = False
        why.append(f"cached tokens: {line.cached} invoiced, {booked.cached} in the ledger")
    if booked.estimated:
        why.append(f"{booked.estimated} calls whose usage is an estimate")
    if booked.unknown:
        why.append(f"{booked.unknown} calls of unknown cost")
    if line.nano_usd is None or line.nano_usd == booked.nano_usd:
        return tuple(why)
    # Each call was rounded once to the nano-dollar, the invoice once a line to its own decimals.
    if abs(line.nano_usd - booked.nano_usd) * 2 <= len(booked.calls) + max(line.step_nano_usd, 1):
        why.append("rounding")
    elif same and not booked.unknown and line.prompt is not None:
        ratio = f": invoiced at {line.nano_usd / booked.nano_usd:.4f} times it" if booked.nano_usd else ""
        why.append(f"the price differs{ratio}")
    elif not why:
        why.append("the amount differs")
    return tuple(why)


def book(engine: Engine, found: Reconciled, *, source: str) -> int:
    """Adjust the ledger to an invoice; how many requests were. The same invoice booked twice is booked once.

    A line without calls has nobody to be booked on, and one that is not invoiced may be on the next invoice: both stay.
    """
    now_us = time.time_ns() // 1000
    name = hashlib.sha256(source.encode()).hexdigest()[:12]
    rows: list[Adjustment] = []
    for line in found.lines:
        if line.invoice is None or not line.nano_usd or not line.ledger.calls:
            continue
        for request, nano_usd in _spread(line.nano_usd, line.ledger.calls):
            key = f"{INVOICE}:{name}:{line.day or 'all'}:{line.model}:{request}"
            rows.append(Adjustment(key, request, now_us, INVOICE, nano_usd, f"{source}: {'; '.join(line.why)}"))
    with engine.begin() as connection:
        return adjust(connection, rows)


def _spread(nano_usd: int, calls: Sequence[Any]) -> list[tuple[str, int]]:
    """An amount over calls by their cost, whole nano-dollars that sum to it exactly; a row a request."""
    weights: dict[str, int] = {}
    for call in calls:
        weights[call.request_id] = weights.get(call.request_id, 0) + (call.cost_nano_usd or 0)
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    whole, given, seen = sum(weights.values()), 0, 0
    spread = []
    for request, weight in weights.items():
        seen += weight
        upto = nano_usd * seen // whole
        if upto != given:
            spread.append((request, upto - given))
        given = upto
    return spread
