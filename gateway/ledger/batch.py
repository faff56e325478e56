"""What one transaction of the ledger's writer writes: put together from several, or taken apart by request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.ledger.audit_record import Record
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.tables import audit


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes. `settled`: requests whose reservations end, with what they cost."""

    entries: Sequence[Entry] = ()
    attempts: Sequence[AttemptEntry] = ()
    audit: Sequence[Record] = ()
    settled: Sequence[tuple[str, int]] = ()
    rows: int = 0  # how many were handed over in it
    repeated: bool = False  # it may be in the database already, its audit records too


def merged(batches: Sequence[Batch]) -> Batch:
    """One of several, each request once in it: what was rescued from a queue may have been kept a second time."""
    if len(batches) == 1:
        return batches[0]
    records = [record for batch in batches for record in batch.audit]
    of_requests = {(record.request_id, record.event): record for record in records if record.request_id}
    return Batch(
        list({entry.request_id: entry for batch in batches for entry in batch.entries}.values()),
        list({(call.request_id, call.number): call for batch in batches for call in batch.attempts}.values()),
        [*(record for record in records if not record.request_id), *of_requests.values()],
        list(dict(settled for batch in batches for settled in batch.settled).items()),
        sum(batch.rows for batch in batches),
        repeated=True,
    )


def by_request(batch: Batch) -> Iterator[Batch]:
    """The same, a request at a time; what may have been written before is not written twice."""
    ids = dict.fromkeys(
        [
            *(entry.request_id for entry in batch.entries),
            *(call.request_id for call in batch.attempts),
            *(record.request_id for record in batch.audit),
        ]
    )
    for one in ids:
        yield Batch(
            [entry for entry in batch.entries if entry.request_id == one],
            [call for call in batch.attempts if call.request_id == one],
            [record for record in batch.audit if record.request_id == one],
            [settled for settled in batch.settled if settled[0] == one],
            repeated=True,
        )


def new_records(connection: Connection, batch: Batch) -> Sequence[Record]:
    """The audit records of a batch, without those that are there already when it is written for a second time."""
    if not batch.repeated or not batch.audit:
        return batch.audit
    ids = [record.request_id for record in batch.audit if record.request_id]
    there = select(audit.c.request_id, audit.c.event).where(audit.c.request_id.in_(ids))
    known = {(row.request_id, row.event) for row in connection.execute(there)}
    return [record for record in batch.audit if (record.request_id, record.event) not in known]
