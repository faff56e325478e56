"""A corrected price, booked: what each request costs by the prices of today's file, as adjustments beside its entry.

A price for a day is looked up as it is known now; where it differs from what was booked, the difference is an
adjustment of the kind `price`. Machine time is not priced again: its rates are settings, not dated prices.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Engine, func, select

from gateway.ledger.adjustments import Adjustment, adjust
from gateway.ledger.entry import SHADOW
from gateway.ledger.prices import NEVER_BILLED, PriceBook
from gateway.ledger.report import Period, within
from gateway.ledger.tables import adjustments, attempts, entries
from gateway.types import Model, Usage, Zone

PRICE: Final = "price"
_BATCH: Final = 2_000
_KINDS: Final = (
    "cache_write_tokens", "cache_write_1h_tokens", "prompt_audio_tokens", "completion_audio_tokens",
    "prompt_image_tokens", "completion_image_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repriced:
    """What a re-pricing found: requests looked at, those whose cost changes and by how much, and those left unknown."""

    requests: int = 0
    changed: int = 0
    nano_usd: int = 0
    unknown: int = 0


def reprice(  # noqa: PLR0913 - all by name
    engine: Engine, *, prices: PriceBook, models: Mapping[str, Model], period: Period, model: str = "", apply: bool
) -> Iterator[Repriced]:
    """Price the calls of a period again, of one model or of all; yields what was found so far, a batch at a time."""
    now_us = time.time_ns() // 1000
    found = Repriced()
    for batch in _requests(engine, period, model):
        with engine.begin() as connection:
            booked = _booked(connection, [each[0].request_id for each in batch])
            rows = [_repriced(calls, booked.get(calls[0].request_id, (0, 0, None)), prices, models) for calls in batch]
            changes = [row for row in rows if row is not None and row[1] is not None]
            if apply:
                reason = f"priced again with the prices of {dt.datetime.now(dt.UTC):%Y-%m-%d}"
                made = [Adjustment(name, request, now_us, PRICE, by, reason) for request, by, name in _final(changes)]
                adjust(connection, made)
        found = Repriced(
            found.requests + len(batch),
            found.changed + len(changes),
            found.nano_usd + sum(delta for _, delta, _ in _final(changes)),
            found.unknown + sum(row is not None and row[1] is None for row in rows),
        )
        yield found


_Row = tuple[str, int | None, str]


def _final(rows: list[_Row]) -> Iterator[tuple[str, int, str]]:
    return ((request, delta, name) for request, delta, name in rows if delta is not None)


def _requests(engine: Engine, period: Period, model: str) -> Iterator[list[list[Any]]]:
    """Requests with a paid call, a batch at a time, each as its calls."""
    cost = entries.c.cost_nano_usd.label("entry_cost")
    wanted = (
        select(attempts, cost)
        .join_from(attempts, entries, entries.c.request_id == attempts.c.request_id)
        .where(within(period))
        .order_by(entries.c.time_us, attempts.c.request_id, attempts.c.number)
    )
    if model:
        wanted = wanted.where(attempts.c.request_id.in_(select(attempts.c.request_id).where(attempts.c.model == model)))
    batch: list[list[Any]] = []
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=_BATCH).execute(wanted)
        for _, calls in groupby(rows, key=attrgetter("request_id")):
            batch.append(list(calls))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _booked(connection: Connection, ids: list[str]) -> dict[str, tuple[int, int, int | None]]:
    """What prices and late usage have corrected of each request, how often prices did, and any correction at all."""
    wanted = select(adjustments.c.request_id, adjustments.c.kind, func.count(), func.sum(adjustments.c.nano_usd))
    found: dict[str, tuple[int, int, int | None]] = {}
    grouped = wanted.where(adjustments.c.request_id.in_(ids)).group_by(adjustments.c.request_id, adjustments.c.kind)
    for request, kind, count, nano_usd in connection.execute(grouped):
        by_price, times, _ = found.get(request, (0, 0, None))
        counts = kind != "invoice"
        found[request] = (by_price + int(nano_usd) * counts, times + count * (kind == PRICE), 1)
    return found


def _repriced(
    calls: list[Any], booked: tuple[int, int, int | None], prices: PriceBook, models: Mapping[str, Model]
) -> _Row | None:
    """The difference for one request; none in it where it stays unknown; nothing where nothing changes."""
    request = calls[0].request_id
    new = [_cost(call, prices, models) for call in calls]
    by_price, times, corrected = booked
    was_known = corrected is not None or (
        calls[0].entry_cost is not None and all(call.cost_nano_usd is not None for call in calls)
    )
    if None in new:
        return (request, None, "") if not was_known else None
    # What counts of the calls as they were booked: an entry whose cost is not known counts none but its shadows'.
    counted = [call for call in calls if calls[0].entry_cost is not None or call.kind == SHADOW]
    old = sum(call.cost_nano_usd or 0 for call in counted)
    delta = sum(cost for cost in new if cost is not None) - old - by_price
    if was_known and delta == 0:
        return None
    return request, delta, f"{PRICE}:{request}:{times}"


def _cost(call: Any, prices: PriceBook, models: Mapping[str, Model]) -> int | None:
    """What one call costs by today's prices."""
    if call.price_source == "machine time":
        known: int | None = call.cost_nano_usd
        return known
    if call.prompt_tokens is None or call.completion_tokens is None:
        return 0 if call.outcome in NEVER_BILLED else None
    usage = Usage(
        call.prompt_tokens,
        call.completion_tokens,
        call.cached_tokens,
        call.reasoning_tokens,
        tier=call.price_tier,
        **{name: getattr(call, name) for name in _KINDS},
    )
    model = models.get(call.model) or Model(
        call.model, call.provider, call.upstream_model, Zone[call.zone.upper()], call.kind
    )
    price = prices.price(model, dt.datetime.fromtimestamp(call.started_us / 1e6, dt.UTC).date())
    return None if price is None else price.cost(usage)
