"""The data-protection officer's report on a month: what class of data went where, under which rule, and what did not.

Counted from the audit's records alone, then held against the ledger: both must say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, func, literal, not_, select, true

from gateway.errors import GateRefused, NothingAllowed
from gateway.ledger.audit_record import ERASURE, REQUEST
from gateway.ledger.chain_check import NEEDS_RECORD, check
from gateway.ledger.report import Period
from gateway.ledger.tables import attempts, audit, entries, policies
from gateway.signals.taxonomy import GROUNDS, Kind
from gateway.telemetry.audit import NO_TRANSFORM, POLICY, REFUSAL, SHADOW, as_values, checked_values, read, utc
from gateway.types import DataClass

FAILED: Final = "scan_failed"  # the reason of a scan that failed; any other is a part that it could not read
_ORDER: Final = {data.label: -data for data in DataClass}


@dataclass(slots=True)
class _Counts:
    """Everything that is counted in one pass over the records."""

    classes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sent: Counter[tuple[str, ...]] = field(default_factory=Counter)  # requests
    calls: Counter[tuple[str, ...]] = field(default_factory=Counter)
    stayed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    refused: Counter[tuple[str, ...]] = field(default_factory=Counter)
    unread: Counter[tuple[str, ...]] = field(default_factory=Counter)
    calls_needed: int = 0
    policies: list[dict[str, Any]] = field(default_factory=list)
    erasures: list[dict[str, Any]] = field(default_factory=list)


def month_report(engine: Engine, period: Period, *, month: str, time_zone: str) -> dict[str, Any]:
    """The report as plain values; the same in every language but for the grounds, which are said in both."""
    counts = _Counts()
    for row in read(engine, period):
        if row["event"] == REQUEST:
            _count(row, counts)
        elif row["event"] == SHADOW:
            _count_calls(row, counts)
        elif row["event"] == REFUSAL:
            counts.refused[row["data_class"], GateRefused.code, "", row["detail"].get("destination", "")] += 1
        elif row["event"] == POLICY:
            counts.policies.append(row)
        elif row["event"] == ERASURE:
            counts.erasures.append({"time": row["time"], **row["detail"]})
    checked = check(engine)
    with engine.connect() as connection:
        in_force = _policies(connection, period, counts.policies)
        ledger = _against_ledger(connection, period, counts, checked.since_us)
    flow = ("data_class", "zone", "processor", "rule", "transform")
    return {
        "month": month,
        "time_zone": time_zone,
        "from": utc(period.start_us or 0),
        "to": utc(period.end_us or 0),
        "requests": _rows(counts.classes, ("data_class",)),
        "flows": [
            {**row, "calls": counts.calls[tuple(row[name] for name in flow)]} for row in _rows(counts.sent, flow)
        ],
        "stayed": _rows(counts.stayed, ("data_class", "outcome", "rule")),
        "refusals": _rows(counts.refused, ("data_class", "code", "rule", "destination")),
        "detector": _rows(counts.unread, ("data_class", "reason")),
        "kinds": [{**_ground(name), "requests": number} for name, number in sorted(counts.kinds.items())],
        "policies": in_force,
        "erasures": counts.erasures,
        "ledger": ledger,
        "chain": checked_values(checked),
    }


def _count(row: Mapping[str, Any], counts: _Counts) -> None:
    data, rule = row["data_class"], row["rule"]
    counts.classes[data] += 1
    counts.kinds.update(row["kinds"])
    places = _count_calls(row, counts)
    if not places:
        counts.stayed[data, row["outcome"], rule] += 1
    if row["code"] == NothingAllowed.code:  # what the gate itself refused has a record of its own
        counts.refused[data, row["code"], rule, ""] += 1
    if row["unread"]:
        counts.unread[data, row["unread"]] += 1


def _count_calls(row: Mapping[str, Any], counts: _Counts) -> list[tuple[str, ...]]:
    """Where a request's text went, or its copy's; counted as one request of each place, and as many calls."""
    data, rule = row["data_class"], row["rule"]
    places: list[tuple[str, ...]] = [
        (data, call["zone"], call["processor"], rule, call.get("transform", NO_TRANSFORM))
        for call in row["destinations"]
        if isinstance(call, dict) and {"zone", "processor"} <= call.keys()
    ]
    counts.calls.update(places)
    counts.sent.update(set(places))
    if data in NEEDS_RECORD:
        counts.calls_needed += len(places)
    return places


def _rows(counter: Mapping[Any, int], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row a group: the highest class first, then by name."""
    rows = [
        {**dict(zip(names, (key,) if isinstance(key, str) else key, strict=True)), "requests": number}
        for key, number in counter.items()
    ]
    return sorted(rows, key=lambda row: (_ORDER.get(row["data_class"], 1), *(str(row[name]) for name in names)))


def _ground(name: str) -> dict[str, str]:
    ground = GROUNDS.get(Kind(name)) if name in set(Kind) else None
    if ground is None:
        return {"kind": name, "article": "", "articulo": "", "en": "", "es": ""}
    return {"kind": name, "article": ground.article, "articulo": ground.article_es, "en": ground.en, "es": ground.es}


def _policies(connection: Connection, period: Period, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each revision that was in force, since when: the last of each name before the month, then those of the month."""
    names = connection.execute(select(policies.c.name).distinct().order_by(policies.c.name)).scalars().all()
    before = [_in_force_before(connection, name, period.start_us or 0) for name in names]
    earlier: list[Mapping[str, Any]] = [row for row in before if row is not None]
    found: list[dict[str, Any]] = []
    newest: dict[str, str] = {}
    for row in [*earlier, *rows]:
        name, revision = row["policy"], row["policy_revision"]
        if newest.get(name) != revision:  # each start of a gateway says again what it finds in force
            newest[name] = revision
            guarantees = row["detail"].get("guarantees") or {}
            found.append({"policy": name, "revision": revision, "since": row["time"], "guarantees": guarantees})
    return found


def _in_force_before(connection: Connection, name: str, time_us: int) -> dict[str, Any] | None:
    wanted = (
        select(audit, *(literal("").label(column) for column in ("who", "team", "app")))
        .where(audit.c.event == POLICY, audit.c.policy == name, audit.c.time_us < time_us)
        .order_by(audit.c.time_us.desc())
        .limit(1)
    )
    row = connection.execute(wanted).mappings().one_or_none()
    return None if row is None else as_values(row)


def _against_ledger(connection: Connection, period: Period, counts: _Counts, since_us: int | None) -> dict[str, Any]:
    """The same two sums from the ledger: requests that need a record, and their calls; older ones are said apart."""
    needing = and_(
        entries.c.time_us >= (period.start_us or 0),
        entries.c.time_us < (period.end_us or 0),
        entries.c.data_class.in_(NEEDS_RECORD),
    )
    older = and_(audit.c.request_id.is_(None), entries.c.time_us < since_us) if since_us is not None else true()
    own = and_(audit.c.request_id == entries.c.request_id, audit.c.event == REQUEST)
    recorded = select(entries.c.request_id).join(audit, own, isouter=True)
    within = recorded.where(needing, not_(older)).subquery()
    requests = connection.execute(select(func.count()).select_from(within)).scalar_one()
    calls = connection.execute(
        select(func.count()).select_from(within.join(attempts, attempts.c.request_id == within.c.request_id))
    ).scalar_one()
    audited = sum(number for data, number in counts.classes.items() if data in NEEDS_RECORD)
    return {
        "requests": requests,
        "calls": calls,
        "audit_requests": audited,
        "audit_calls": counts.calls_needed,
        "agrees": (requests, calls) == (audited, counts.calls_needed),
        "before_the_audit": connection.execute(
            select(func.count()).select_from(recorded.where(needing, older).subquery())
        ).scalar_one(),
    }
