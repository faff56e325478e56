"""What may be spent and asked for, by organisation, team, app and key: written by `cauce keys`, read with the keys.

A scope names one of them by its path: `org:acme`, `team:billing` (of an organisation: `team:acme/billing`),
`app:billing/bot`, `key:key_ab12`. A key stands under all of its own, and every limit on the way up holds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from sqlalchemy import Connection, Engine, delete, insert, select

from gateway.ledger.tables import limits
from gateway.types import Budget, Caller, Rate

PERIODS: Final = ("day", "month", "total")
LEVELS: Final = ("org", "team", "app", "key")
RATES: Final = ("requests", "tokens")
_SCOPE: Final = re.compile(r"(org|team|app|key):[^\s/][^/]*(/[^/]*){0,2}")
_NANO: Final = 1_000_000_000
_MOST_NANO: Final = 2**62


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that is set on one scope."""

    scope: str
    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()


def scopes_of(caller: Caller) -> tuple[str, ...]:
    """What a caller stands under, from the organisation down to its key."""
    named = ((caller.org,), (caller.org, caller.team), (caller.org, caller.team, caller.app))
    scopes = [
        f"{kind}:{'/'.join(path).lstrip('/')}"
        for kind, path in zip(("org", "team", "app"), named, strict=True)
        if path[-1]
    ]
    return (*scopes, f"key:{caller.id}")


def read_scope(value: str) -> str:
    """A scope as it is written; raises `ValueError` with what is expected."""
    if not _SCOPE.fullmatch(value):
        raise ValueError(
            f"{value!r} is no scope: expected org:NAME, team:NAME (team:ORG/NAME), app:TEAM/NAME or key:ID"
        )
    return value


def read_budget(value: str, scope: str, *, hard: bool = True, carry_over: bool = False) -> Budget:
    """`50/month`, `2.5/day`, or `100` for a total, in USD; raises `ValueError` with what is expected."""
    amount, _, period = value.partition("/")
    period = period or "total"
    try:
        usd = Decimal(amount)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0 or period not in PERIODS or usd * _NANO > _MOST_NANO:
        raise ValueError(f"{value!r} is no budget: expected USD a day, a month or in total, e.g. 5/day, 50/month, 100")
    if carry_over and period == "total":
        raise ValueError(f"{value!r} has no period whose rest could be carried over: write {amount}/month, say")
    return Budget(scope, period, int(usd * _NANO), hard, carry_over, time.time_ns() // 1000)


def set_limits(connection: Connection, rows: Sequence[Budget | Rate]) -> None:
    """Put limits in force inside the caller's transaction, each in place of the one of its scope and kind.

    A budget that is changed keeps its beginning: what it carried over and has used goes on.
    """
    for row in rows:
        kind = row.period if isinstance(row, Budget) else row.kind
        same = (limits.c.scope == row.scope) & (limits.c.kind == kind)
        since = connection.execute(select(limits.c.since_us).where(same)).scalar_one_or_none()
        connection.execute(delete(limits).where(same))
        budget = row if isinstance(row, Budget) else None
        connection.execute(
            insert(limits).values(
                scope=row.scope,
                kind=kind,
                amount=budget.nano_usd if budget else row.per_minute if isinstance(row, Rate) else 0,
                hard=int(budget.hard) if budget else 1,
                carry_over=int(budget.carry_over) if budget else 0,
                since_us=since or time.time_ns() // 1000,
            )
        )


def clear_limits(connection: Connection, scope: str) -> int:
    """Take every limit of a scope away; how many there were."""
    return connection.execute(delete(limits).where(limits.c.scope == scope)).rowcount


def read_limits(engine: Engine) -> dict[str, Limits]:
    """All limits, by scope."""
    with engine.connect() as connection:
        rows = connection.execute(select(limits).order_by(limits.c.scope, limits.c.kind)).all()
    budgets: dict[str, list[Budget]] = {}
    rates: dict[str, list[Rate]] = {}
    for row in rows:
        if row.kind in RATES:
            rates.setdefault(row.scope, []).append(Rate(row.scope, row.kind, row.amount))
        else:
            budgets.setdefault(row.scope, []).append(
                Budget(row.scope, row.kind, row.amount, bool(row.hard), bool(row.carry_over), row.since_us)
            )
    return {
        scope: Limits(scope, tuple(budgets.get(scope, ())), tuple(rates.get(scope, ())))
        for scope in sorted(budgets.keys() | rates.keys())
    }


def limits_of(caller: Caller, known: Mapping[str, Limits]) -> Iterable[Limits]:
    """The limits that hold for a caller, from the organisation down."""
    return (known[scope] for scope in scopes_of(caller) if scope in known)
