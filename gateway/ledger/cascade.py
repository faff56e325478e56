"""Whether the cascade pays: by route, what checking and escalating cost beside what answers that stayed saved.

    kept        requests that the first model asked answered
    escalated   requests that more than one model was asked to answer
    saved       of the kept: the baseline's price less what the answer cost
    turned down what answers cost that a check turned down and that were not sent
    verifying   what the calls of `judge` and `samples` cost
    net         saved - turned down - verifying

Sums are exact. A request whose baseline or any call has no known price adds to no sum, and is counted as unknown.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine, and_, case, func, or_, select

from gateway.ledger.entry import SHADOW, VERIFYING
from gateway.ledger.report import Period, snapshot, within
from gateway.ledger.tables import attempts, entries

COLUMNS: Final = (
    "route",
    "requests",
    "kept",
    "escalated",
    "turned_down_answers",
    "verifying_calls",
    "wasted_tokens",
    "saved_nano_usd",
    "turned_down_nano_usd",
    "verifying_nano_usd",
    "net_nano_usd",
    "unknown_cost_requests",
)


def cascade(engine: Engine, *, period: Period) -> list[dict[str, Any]]:
    """One row a route on which anything was turned down, escalated or asked about, the most used first."""
    verifying = attempts.c.kind.in_(VERIFYING)
    wasted = and_(attempts.c.rejected_by != "", attempts.c.model != entries.c.model, ~verifying)
    cost, tokens = attempts.c.cost_nano_usd, _tokens()
    whole = and_(attempts.c.kind != SHADOW, entries.c.cache != "hit")
    each = (
        select(
            entries.c.request_id,
            entries.c.route,
            entries.c.escalated,
            entries.c.baseline_nano_usd,
            func.sum(case((verifying, 1), else_=0)).label("verifying_calls"),
            func.sum(case((wasted, 1), else_=0)).label("turned_down_answers"),
            func.sum(case((or_(verifying, wasted), tokens), else_=0)).label("wasted_tokens"),
            func.sum(case((verifying, cost), else_=0)).label("verifying_nano_usd"),
            func.sum(case((wasted, cost), else_=0)).label("turned_down_nano_usd"),
            func.sum(case((or_(verifying, wasted), 0), else_=cost)).label("answer_nano_usd"),
            func.sum(case((cost.is_(None), 1), else_=0)).label("unknown_calls"),
        )
        .join_from(entries, attempts, attempts.c.request_id == entries.c.request_id)
        .where(within(period), whole)
        .group_by(entries.c.request_id, entries.c.route, entries.c.escalated, entries.c.baseline_nano_usd)
        .subquery("each")
    )
    known = and_(each.c.unknown_calls == 0, each.c.baseline_nano_usd.is_not(None))
    kept = and_(each.c.escalated == 0, known)
    query = select(
        each.c.route,
        func.count().label("requests"),
        func.sum(1 - each.c.escalated).label("kept"),
        func.sum(each.c.escalated).label("escalated"),
        func.sum(each.c.turned_down_answers).label("turned_down_answers"),
        func.sum(each.c.verifying_calls).label("verifying_calls"),
        func.sum(each.c.wasted_tokens).label("wasted_tokens"),
        func.sum(case((kept, each.c.baseline_nano_usd - each.c.answer_nano_usd), else_=0)).label("saved_nano_usd"),
        func.sum(case((known, each.c.turned_down_nano_usd), else_=0)).label("turned_down_nano_usd"),
        func.sum(case((known, each.c.verifying_nano_usd), else_=0)).label("verifying_nano_usd"),
        func.sum(case((known, 0), else_=1)).label("unknown_cost_requests"),
    ).group_by(each.c.route)
    with snapshot(engine) as connection:
        rows = [_finished(row) for row in connection.execute(query).mappings()]
    ran = (row for row in rows if row["escalated"] or row["turned_down_answers"] or row["verifying_calls"])
    return sorted(ran, key=lambda row: (-row["requests"], row["route"]))


def _tokens() -> Any:
    return func.coalesce(attempts.c.prompt_tokens, 0) + func.coalesce(attempts.c.completion_tokens, 0)


def _finished(row: Any) -> dict[str, Any]:
    """Plain integers in the order of `COLUMNS`: Postgres gives sums as decimals."""
    plain = {str(name): value if name == "route" else int(value or 0) for name, value in row.items()}
    costs = plain["turned_down_nano_usd"] + plain["verifying_nano_usd"]
    plain["net_nano_usd"] = plain["saved_nano_usd"] - costs
    return {name: plain[name] for name in COLUMNS}
