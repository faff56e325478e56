"""The sums of a report as SQL: over entries, over their daily sums, and of what came after the entries.

What comes after an entry is a shadow's call or an adjustment. It is summed as the difference that it makes, so that the
entries, or sums of them, can be read as they stand: a request whose cost was known and has a shadow of unknown cost
takes its cost away again and counts as one of unknown cost.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Label, Select, Subquery, and_, case, func, literal, null, select, union_all

from gateway.ledger.entry import SHADOW
from gateway.ledger.tables import DAILY_KNOWN, DAILY_SUMS, adjustments, attempts, daily, entries

SUMS: Final = ("requests", "estimated_requests", *(name for name, _ in DAILY_KNOWN), *DAILY_SUMS)
_SAVED: Final = {"saved_nano_usd": "", "saved_low_nano_usd": "_low", "saved_high_nano_usd": "_high"}
_OF_BOTH: Final = ("audio_tokens", "image_tokens")  # in calls, they are told apart by prompt and completion
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cache_write_tokens")
_IMPACT: Final = ("energy_low_uwh", "energy_high_uwh", "co2e_low_ug", "co2e_high_ug")


def saved(end: str, cost: Any, table: Any = entries) -> ColumnElement[Any]:
    """What one request saved, net of its router; nothing where cost or baseline are not known."""
    baseline: ColumnElement[Any] = table.c[f"baseline{end}_nano_usd"]
    net: ColumnElement[Any] = baseline - cost - func.coalesce(table.c.router_nano_usd, 0)
    return net


def entry_sums() -> list[Label[Any]]:
    """Each of `SUMS` over entries as they were written."""
    cost = entries.c.cost_nano_usd
    return [
        func.count().label("requests"),
        func.sum(entries.c.estimated).label("estimated_requests"),
        *(_count(entries.c[column].is_(None)).label(name) for name, column in DAILY_KNOWN),
        *(func.sum(saved(_SAVED[n], cost) if n in _SAVED else entries.c[n]).label(n) for n in DAILY_SUMS),
    ]


def daily_sums() -> list[Label[Any]]:
    """Each of `SUMS` over daily sums."""
    return [func.sum(daily.c[name]).label(name) for name in SUMS]


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0))


def late_sums() -> tuple[list[Label[Any]], Select[Any]]:
    """Each of `SUMS` as what came later changes it, and the entries it came to, to be grouped and bounded."""
    late = _late()
    cost, adjusted = entries.c.cost_nano_usd, late.c.adjusted
    spent = func.coalesce(cost, 0) + func.coalesce(late.c.cost_nano_usd, 0) + func.coalesce(adjusted, 0)
    unknown = and_(adjusted.is_(None), (cost.is_(None)) | (late.c.unknown > 0))
    now = case((unknown, null()), else_=spent)
    estimated = case((late.c.estimated > entries.c.estimated, 1), else_=0)
    energy_unknown = entries.c.energy_low_uwh.is_(None) | (late.c.unknown_energy > 0)
    both = {name: entries.c[name] + late.c[name] for name in _IMPACT}
    sums: dict[str, Any] = {
        "requests": literal(0),
        "estimated_requests": func.sum(estimated),
        "unknown_cost_requests": func.sum(_one(now.is_(None)) - _one(cost.is_(None))),
        "unknown_energy_requests": func.sum(_one(energy_unknown) - _one(entries.c.energy_low_uwh.is_(None))),
        **{name: func.sum(late.c[name]) for name in (*_TOKENS, *_OF_BOTH)},
        "cost_nano_usd": func.sum(_change(cost, now)),
        "router_nano_usd": literal(0),
        "baseline_nano_usd": literal(0),
        **{n: func.sum(_change(entries.c[n], case((energy_unknown, null()), else_=both[n]))) for n in _IMPACT},
        **{name: func.sum(_change(saved(end, cost), saved(end, now))) for name, end in _SAVED.items()},
    }
    source = select().select_from(late).join(entries, entries.c.request_id == late.c.request_id)
    return [sums[name].label(name) for name in SUMS], source


def _one(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _change(before: Any, now: Any) -> ColumnElement[Any]:
    """What a sum of known values gains; nothing where neither is known."""
    both_unknown = and_(before.is_(None), now.is_(None))
    return case((both_unknown, null()), else_=func.coalesce(now, 0) - func.coalesce(before, 0))


def _late() -> Subquery:
    """What came after its entry, a row a request: its shadows' tokens, costs and energy, and its adjustments."""
    shadows = select(
        attempts.c.request_id,
        attempts.c.cost_nano_usd,
        _one(attempts.c.cost_nano_usd.is_(None)).label("unknown"),
        _one(attempts.c.energy_low_uwh.is_(None)).label("unknown_energy"),
        attempts.c.estimated,
        *(attempts.c[name] for name in (*_TOKENS, *_IMPACT)),
        *(_of_both(name).label(name) for name in _OF_BOTH),
        null().label("adjusted"),
    ).where(attempts.c.kind == SHADOW)
    nothing = [literal(0).label(name) for name in ("unknown", "unknown_energy", "estimated")]
    corrections = select(
        adjustments.c.request_id,
        null().label("cost_nano_usd"),
        *nothing,
        *(null().label(name) for name in (*_TOKENS, *_IMPACT, *_OF_BOTH)),
        adjustments.c.nano_usd.label("adjusted"),
    )
    each = union_all(shadows, corrections).subquery("each")
    added = [func.sum(each.c[n]).label(n) for n in ("cost_nano_usd", *_TOKENS, *_IMPACT, *_OF_BOTH, "adjusted")]
    flags = [func.sum(each.c[n]).label(n) for n in ("unknown", "unknown_energy")]
    highest = func.max(each.c.estimated).label("estimated")
    return select(each.c.request_id, *added, *flags, highest).group_by(each.c.request_id).subquery("late")


def _of_both(name: str) -> ColumnElement[Any]:
    """A kind's tokens in the prompt and in the completion; nothing where neither is known."""
    said: ColumnElement[Any] = attempts.c[f"prompt_{name}"]
    answered: ColumnElement[Any] = attempts.c[f"completion_{name}"]
    return func.coalesce(said + answered, said, answered)
