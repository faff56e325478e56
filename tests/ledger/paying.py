"""Budgets over a ledger of their own, as the composition root wires them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from gateway.ledger.budgets import Alert, Budgets, LedgerStore, Short, Store
from gateway.ledger.writer import Ledger
from gateway.types import Budget, Caller
from tests.builders import NOON_NS, an_attempt_entry, an_entry

CENT = 10_000_000  # nano-USD
NOON = NOON_NS / 1e9


@dataclass
class Clock:
    """What the machine's clock says; a test sets it."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Paying:
    """A ledger and the budgets over it."""

    ledger: Ledger
    budgets: Budgets
    clock: Clock
    alerts: list[Alert] = field(default_factory=list)

    async def pay(self, caller: Caller, request_id: str, held: int, cost: int) -> bool:
        """A request that reserves `held` and costs `cost`; whether it was served."""
        try:
            await self.budgets.reserve(caller, request_id, held)
        except Short:
            return False
        await self.settle(caller, request_id, cost)
        return True

    async def settle(self, caller: Caller, request_id: str, cost: int) -> None:
        time_us = int(self.clock() * 1e6)
        whose = {"caller": caller.id, "org": caller.org, "team": caller.team, "app": caller.app}
        entry = an_entry(request_id, time_us=time_us, cost_nano_usd=cost, **whose)
        self.budgets.settle(request_id, cost)
        await self.ledger.append(
            entry, [an_attempt_entry(request_id, cost_nano_usd=cost, price_source="x")], None, cost
        )
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def paying(
    engine: Engine,
    *,
    zone: str = "Europe/Madrid",
    ttl_s: float = 900.0,
    clock: Clock | None = None,
    store: Callable[[Ledger], Store] | None = None,
) -> AsyncIterator[Paying]:
    """Wired, with its alerts collected."""
    failures: list[Exception] = []
    ledger = Ledger(engine, on_failure=failures.append)
    alerts: list[Alert] = []

    async def alert(one: Alert) -> None:
        alerts.append(one)

    clock = clock or Clock()
    counted = store(ledger) if store else LedgerStore(engine, ledger.ask)
    budgets = Budgets(counted, engine, zone=ZoneInfo(zone), alert=alert, ttl_s=ttl_s, clock=clock)
    ledger.on_use = budgets.saw_from_thread
    try:
        yield Paying(ledger, budgets, clock, alerts)
    finally:
        await budgets.aclose()
        await asyncio.to_thread(ledger.close)
    assert failures == []


def under(*budgets: Budget, **changes: str) -> Caller:
    """A caller with budgets over it."""
    return Caller(**{"id": "key_1", "team": "billing", "app": "bot", **changes}, budgets=budgets)  # type: ignore[arg-type]


def a_budget(nano_usd: int, period: str = "month", **changes: object) -> Budget:
    """Of the team, hard."""
    return Budget(**{"scope": "team:billing", "period": period, "nano_usd": nano_usd, **changes})  # type: ignore[arg-type]
