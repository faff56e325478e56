"""What is known of a cost only later: append-only, beside the entries, which are never written again.

A correction of a price, an invoice or a usage that came late is a row with the difference in nano-USD. What a request
cost is then its entry's cost and its adjustments together; for an entry whose cost was not known, the adjustments are
the cost. `Adjustment.id` makes writing idempotent: the same correction run twice is booked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import orjson
from sqlalchemy import Connection, Subquery, func, select

from gateway.ledger.tables import adjustments, insert_many

_values: Final = attrgetter(*adjustments.columns.keys())


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One correction of one request's cost. `kind` is `price`, `usage` or `invoice`; `nano_usd` the difference.

    `id` is unique to the correction and the same when it is made again, e.g. `price:2026-12-01:req_...`.
    """

    id: str
    request_id: str
    time_us: int
    kind: str
    nano_usd: int
    reason: str


def adjust(connection: Connection, rows: Sequence[Adjustment]) -> int:
    """Book corrections inside the caller's transaction; how many of them were new."""
    if not rows:
        return 0
    sql = insert_many(connection.engine, adjustments)
    return connection.exec_driver_sql(sql, (orjson.dumps([_values(row) for row in rows]).decode(),)).rowcount


def adjusted() -> Subquery:
    """The sum of each request's adjustments: `request_id`, `nano_usd`; for reports to join."""
    total = func.sum(adjustments.c.nano_usd).label("nano_usd")
    return select(adjustments.c.request_id, total).group_by(adjustments.c.request_id).subquery("adjusted")
