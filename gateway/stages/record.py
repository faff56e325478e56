"""record: `Exchange` to ledger, audit, metrics and log. Every request, refused and aborted ones too.

Its own failure is counted, not raised: an answer that was paid for is not lost because a disk is full.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.ledger.audit_record import Record
from gateway.ledger.energy import Footprint
from gateway.ledger.entry import AttemptEntry, Entry, attempt_entries, attempt_entry, entry_of
from gateway.ledger.prices import MACHINE_TIME, PriceBook
from gateway.telemetry.audit import copy_record, record_of
from gateway.telemetry.logs import fields, places
from gateway.telemetry.metrics import Metrics
from gateway.types import Attempt, Exchange

_log = logging.getLogger("cauce.request")
_WAIT_S = 2.0  # how long a reply waits for its entry before it is kept elsewhere
_HANGING_S = 0.05  # the same, when the database is known to hang


class Appends(Protocol):
    """What the recorder needs of a ledger."""

    @property
    def hangs(self) -> bool:
        """Whether its database has not answered for too long."""
        ...

    def append(
        self, entry: Entry, rows: list[AttemptEntry], audit: Record | None, settled: int | None
    ) -> asyncio.Future[None]:
        """Hand an entry over with its audit record and what its reservations settle to; done when all is safe."""
        ...

    def rescue(self, entry: Entry, rows: list[AttemptEntry], audit: Record | None, settled: int | None) -> bool:
        """Keep elsewhere what has waited too long; false when it cannot be kept. From a thread."""
        ...

    def add(self, rows: list[AttemptEntry], audit: Record | None) -> None:
        """Hand over calls that were made after their entry; nobody waits for them."""
        ...


class Tells(Protocol):
    """What the recorder needs of traces."""

    def record(self, exchange: Exchange, entry: Entry, attempts: Sequence[AttemptEntry]) -> None:
        """The spans of a request that has ended."""
        ...

    def record_shadow(self, exchange: Exchange, span_id: str, call: AttemptEntry) -> None:
        """The span of a copy's call."""
        ...


class LedgerRecorder:
    """Writes the story of each request down, once."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        ledger: Appends,
        *,
        prices: PriceBook,
        metrics: Metrics,
        footprint: Footprint | None = None,
        settle: Callable[[str, int], None] | None = None,
        traces: Tells | None = None,
    ) -> None:
        self._ledger = ledger
        self._footprint = footprint
        self._prices = prices
        self._metrics = metrics
        self._settle = settle
        self._traces = traces

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
        """Returns when the entry would survive a crash, or nothing can keep it. Never raises."""
        exchange.seconds = time.monotonic() - exchange.began
        attempts = attempt_entries(exchange, self._prices, self._footprint)
        entry = entry_of(exchange, attempts, self._prices)
        audit, settled = record_of(exchange, entry, attempts), settled_to(exchange, attempts)
        written = self._ledger.append(entry, attempts, audit, settled)
        if settled is not None and self._settle is not None:
            self._settle(exchange.request_id, settled)
        try:
            self._tell(exchange, entry, attempts)
        except Exception as error:  # what is measured may be wrong, what is owed is written
            _log.error("a request could not be measured", extra=fields(error=type(error).__name__, at=places(error)))
        patience_s = _HANGING_S if self._ledger.hangs else _WAIT_S
        patience = asyncio.get_running_loop().call_later(patience_s, _give_up, written)
        try:
            await written  # whoever stops waiting for it, the ledger goes on
        except TimeoutError:  # the database does not even say no
            self._metrics.ledger_failures.inc()
            await asyncio.to_thread(self._ledger.rescue, entry, attempts, audit, settled)
        except OSError:
            self._metrics.ledger_failures.inc()
        finally:
            patience.cancel()

    def _tell(self, exchange: Exchange, entry: Entry, attempts: list[AttemptEntry]) -> None:
        """To metrics, traces and the log."""
        self._metrics.observe(entry, attempts)
        self._metrics.observe_story(exchange)
        if self._traces is not None:
            self._traces.record(exchange, entry, attempts)
        if _log.isEnabledFor(logging.INFO):
            _log.info(entry.outcome, extra=fields(**_line(entry)))

    def record_shadow(self, exchange: Exchange, attempt: Attempt) -> None:
        """A copy's call, under its request: the entry has been written, so it comes after the entry's own calls."""
        call = attempt_entry(exchange.request_id, len(exchange.attempts), attempt, self._prices, self._footprint)
        self._metrics.observe_shadow(exchange.decision.route.name if exchange.decision else "", call)
        if self._traces is not None:
            self._traces.record_shadow(exchange, attempt.aside.span_id, call)
        self._ledger.add([call], copy_record(exchange, call))


def _give_up(written: asyncio.Future[None]) -> None:
    """End the wait for an entry: cheaper than `asyncio.timeout`, and every request pays for it."""
    if not written.done():
        written.set_exception(TimeoutError())


def settled_to(exchange: Exchange, attempts: list[AttemptEntry]) -> int | None:
    """What the reservations of a request become: what was billed, machine time left out.

    Where a bill is not known it is what was reserved, at least: unknown is never 0. Nothing when nothing is reserved.
    """
    reserved = exchange.reserved_nano_usd
    if reserved is None:
        return None
    billed = [call.cost_nano_usd for call in attempts if call.price_source != MACHINE_TIME]
    known = sum(cost for cost in billed if cost is not None)
    return max(known, reserved) if None in billed else known


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
