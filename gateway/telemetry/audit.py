"""record: what the audit remembers of a request, and reads back for people. Never a text.

Every request whose data class is internal or above, with its copies; every refusal of the gate, whatever the class; and
every scan that failed or could not read a part; beside them each policy that came into force and each erasure
(`ledger/erasure.py`). The ledger's thread writes the records with its entries: `ledger/chain.py` says how they seal one
another, what that proves and what not.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Engine, and_, select

from gateway.errors import GateRefused, NothingAllowed
from gateway.gate import Destination
from gateway.ledger.audit_record import REQUEST, Link, Record, Who
from gateway.ledger.chain_check import Checked
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.report import Period
from gateway.ledger.tables import audit, audit_callers
from gateway.policy.rules import Policy
from gateway.signals.taxonomy import found
from gateway.types import DataClass, Exchange, Guarantee, Outcome, Signals

SHADOW: Final = "shadow"
REFUSAL: Final = "refusal"
POLICY: Final = "policy"
REFUSALS: Final = frozenset({NothingAllowed.code, GateRefused.code})
UNREADABLE: Final = "unreadable"  # the kind of a finding that says that something could not be read
NO_TRANSFORM: Final = "none"
UNLESS: Final = "unless"
_BATCH = 5_000


def record_of(exchange: Exchange, entry: Entry, attempts: Sequence[AttemptEntry]) -> Record | None:
    """What the audit remembers of a request; nothing where it has nothing to remember."""
    signals = exchange.signals
    if signals is None:  # it was turned away before anyone looked at it: nothing of it went anywhere
        return None
    unread = _unread(signals)
    refused = entry.code in REFUSALS
    if signals.data < DataClass.INTERNAL and not refused and not unread:
        return None
    return Record(
        REQUEST,
        entry.time_us,
        entry.request_id,
        Who(entry.caller, entry.team, entry.app),
        entry.data_class,
        _json([kind.value for kind in found(signals)]),
        _json(Counter(one.label for one in signals.findings if one.kind != UNREADABLE)),
        unread,
        entry.rule,
        entry.policy,
        entry.policy_revision,
        _destinations(attempts, [attempt.transform for attempt in exchange.attempts]),
        next((attempt.transform for attempt in exchange.attempts if attempt.transform), NO_TRANSFORM),
        entry.outcome,
        entry.code,
        _json(_detail(exchange, refused=refused)),
    )


def copy_record(exchange: Exchange, call: AttemptEntry) -> Record | None:
    """A copy of a request that went to another model after the reply: one more place where its data was."""
    signals, decision, who = exchange.signals, exchange.decision, exchange.caller
    if signals is None or decision is None or (signals.data < DataClass.INTERNAL and not _unread(signals)):
        return None
    return Record(
        SHADOW,
        exchange.received_ns // 1000,
        exchange.request_id,
        Who(who.id, who.team, who.app),
        signals.data.label,
        rule=decision.rule,
        policy=decision.policy,
        policy_revision=decision.policy_revision,
        destinations=_destinations([call], [""]),
        transform=NO_TRANSFORM,
        outcome=call.outcome,
    )


def refusal_record(destination: Destination, data: DataClass) -> Record:
    """A text that the gate itself stopped, whoever wanted it out: policies are proved so that it need not."""
    detail = {"destination": destination.name, "zone": destination.zone.label}
    return Record(
        REFUSAL,
        time.time_ns() // 1000,
        data_class=data.label,
        transform=NO_TRANSFORM,
        outcome=Outcome.REFUSED.value,
        code=GateRefused.code,
        detail=_json(detail),
    )


def policy_record(policy: Policy, *, before: str = "") -> Record:
    """A policy that has come into force, what it guarantees, and the revision that it took the place of."""
    detail = {"before": before, "guarantees": _promised(policy.guarantees)}
    return Record(
        POLICY,
        time.time_ns() // 1000,
        policy=policy.name,
        policy_revision=policy.revision,
        outcome="in_force",
        detail=_json(detail),
    )


def _promised(guarantees: Sequence[Guarantee]) -> dict[str, str]:
    """The nearest zone that each class is kept in; of two alike, the one without an exception."""
    promised: dict[str, str] = {}
    for one in sorted(guarantees, key=lambda one: (one.stays, one.unless)):
        unless = f" {UNLESS} {one.unless}" if one.unless else ""
        promised.setdefault(one.data.label, f"{one.stays.label}{unless}")
    return promised


def _unread(signals: Signals) -> str:
    return next((one.label for one in signals.findings if one.kind == UNREADABLE), "")


def _left_out(exchange: Exchange) -> list[str]:
    """The models that might not have it."""
    return [skip.model for skip in exchange.decision.skipped] if exchange.decision else []


def _detail(exchange: Exchange, *, refused: bool) -> dict[str, object]:
    """Which models might not have it; of a text that was pseudonymised what it was then, or why it was not."""
    detail: dict[str, object] = {"left_out": _left_out(exchange)} if refused else {}
    masked = exchange.inbound.masked if exchange.inbound else None
    if masked is not None:
        detail |= {"sent_as": masked.data.label, "replaced": dict(sorted(masked.counts.items()))}
    elif exchange.transform:
        detail["not_pseudonymised"] = exchange.transform
    return detail


def _destinations(calls: Sequence[AttemptEntry], transforms: Sequence[str]) -> str:
    """Each place that the text went to; with the transform, where what went there was not the text as it is."""
    return _json(
        [
            {
                "model": call.model,
                "zone": call.zone,
                "processor": call.provider,
                "outcome": call.outcome,
                **({"transform": transform} if transform else {}),
            }
            for call, transform in zip(calls, transforms, strict=True)
        ]
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


# --- read back ------------------------------------------------------------------------------------------------------

_EMPTY: Final[dict[str, Any]] = {"kinds": [], "labels": {}, "destinations": [], "detail": {}}  # the columns of JSON


def read(
    engine: Engine, period: Period, *, most: int | None = None, newest_first: bool = False
) -> Iterator[dict[str, Any]]:
    """The records of a period as plain values, in order of time, callers by name; `as_values` of each row."""
    time_us, named = audit.c.time_us, audit_callers.c
    bounds = [time_us >= period.start_us] if period.start_us is not None else []
    bounds += [time_us < period.end_us] if period.end_us is not None else []
    wanted = (
        select(audit, named.caller.label("who"), named.team, named.app)
        .join(audit_callers, named.token == audit.c.caller, isouter=True)
        .where(and_(True, *bounds))
        .order_by(*((time_us.desc(), audit.c.seq.desc()) if newest_first else (time_us, audit.c.writer, audit.c.seq)))
        .limit(most)
    )
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=_BATCH).execute(wanted).mappings():
            yield as_values(row)


def as_values(row: Any) -> dict[str, Any]:
    """A record for a page or a file: the time as people write it (UTC), JSON read, the caller's name for the token."""
    plain = {name: row[name] for name in Link.__slots__ if name not in {"time_us", "caller", *_EMPTY}}
    read_in = {name: _parsed(row[name], empty) for name, empty in _EMPTY.items()}
    who = {"caller": row["who"] or "", "team": row["team"] or "", "app": row["app"] or ""}
    return {"time": utc(row["time_us"]), **plain, **read_in, **who}


def _parsed(text: str, empty: Any) -> Any:
    """The JSON of a column; what was tampered with, so that it is none, counts as empty: `check` names it."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return empty
    return value if isinstance(value, type(empty)) else empty


def utc(time_us: int) -> str:
    """A moment as an auditor writes it; what was tampered with, so that it is none, as it stands."""
    try:
        moment = dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return str(time_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def checked_values(checked: Checked) -> dict[str, Any]:
    """What a check has found, for a page or a file."""
    return {
        "whole": checked.whole,
        "records": checked.records,
        "chains": checked.chains,
        "since": None if checked.since_us is None else utc(checked.since_us),
        "problem_count": checked.count,
        "problems": [dataclasses.asdict(problem) for problem in checked.problems],
    }
