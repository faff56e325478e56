"""record: `Exchange` to ledger, audit, metrics and log. Every request, refused and aborted ones too.

Its own failure is counted, not raised: an answer that was paid for is not lost because a disk is full.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from gateway.ledger.audit_record import Record
from gateway.ledger.energy import Footprint
from gateway.ledger.entry import AttemptEntry, Entry, attempt_entries, attempt_entry, entry_of
from gateway.ledger.prices import PriceBook
from gateway.telemetry.audit import copy_record, record_of
from gateway.telemetry.logs import fields
from gateway.telemetry.metrics import Metrics
from gateway.types import Attempt, Exchange

_log = logging.getLogger("cauce.request")
_WAIT_S = 2.0  # how long a reply waits for its entry before it goes out without


class Appends(Protocol):
    """What the recorder needs of a ledger."""

    def append(self, entry: Entry, rows: list[AttemptEntry], audit: Record | None) -> asyncio.Future[None]:
        """Hand an entry and its audit record over; done when both are committed."""
        ...

    def add(self, rows: list[AttemptEntry], audit: Record | None) -> None:
        """Hand over calls that were made after their entry; nobody waits for them."""
        ...


class LedgerRecorder:
    """Writes the story of each request down, once."""

    def __init__(
        self, ledger: Appends, *, prices: PriceBook, metrics: Metrics, footprint: Footprint | None = None
    ) -> None:
        self._ledger = ledger
        self._footprint = footprint
        self._prices = prices
        self._metrics = metrics

    def cost(self, exchange: Exchange) -> int | None:
        """Nano-USD of all attempts of a request; nothing when one is not known."""
        cost = 0
        for attempt in exchange.attempts:
            nano_usd = self._prices.charge(attempt).nano_usd
            if nano_usd is None:
                return None
            cost += nano_usd
        return cost

    async def record(self, exchange: Exchange) -> None:
        """Returns when the entry is committed, or after two seconds without the ledger. Never raises."""
        exchange.seconds = time.monotonic() - exchange.began
        attempts = attempt_entries(exchange, self._prices, self._footprint)
        entry = entry_of(exchange, attempts, self._prices)
        self._metrics.observe(entry, attempts)
        self._metrics.observe_verdicts(exchange.attempts)
        if _log.isEnabledFor(logging.INFO):
            _log.info(entry.outcome, extra=fields(**_line(entry)))
        written = self._ledger.append(entry, attempts, record_of(exchange, entry, attempts))
        try:
            async with asyncio.timeout(_WAIT_S):
                await asyncio.shield(written)
        except (TimeoutError, OSError):
            self._metrics.ledger_failures.inc()

    def record_shadow(self, exchange: Exchange, attempt: Attempt) -> None:
        """A copy's call, under its request: the entry has been written, so it comes after the entry's own calls."""
        call = attempt_entry(exchange.request_id, len(exchange.attempts), attempt, self._prices, self._footprint)
        self._metrics.observe_shadow(exchange.decision.route.name if exchange.decision else "", call)
        self._ledger.add([call], copy_record(exchange, call))


def _line(entry: Entry) -> dict[str, object]:
    return {
        "request_id": entry.request_id,
        "caller": entry.caller,
        "route": entry.route,
        "rule": entry.rule,
        "model": entry.model,
        "zone": entry.zone,
        "data_class": entry.data_class,
        "status": entry.status,
        "code": entry.code,
        "cache": entry.cache,
        "cost_nano_usd": entry.cost_nano_usd,
        "milliseconds": entry.duration_us // 1000,
    }
