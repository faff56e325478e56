"""Requests of every class written down by a real recorder in a real ledger, as a gateway does it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from decimal import Decimal
from itertools import count
from typing import Any

from sqlalchemy import Engine

from gateway.ledger.audit_record import Record
from gateway.ledger.prices import Machine, PriceBook
from gateway.ledger.writer import Ledger
from gateway.stages.record import LedgerRecorder
from gateway.telemetry.metrics import Metrics
from gateway.types import Attempt, Caller, DataClass, Exchange, Finding, Outcome
from tests.builders import LARGE, a_caller, a_decision, an_attempt, an_exchange, an_inbound, some_signals

TEXT = "Soy Marta Ruiz Gil, mi DNI es 12345678Z y padezco asma desde 1998"
_numbers = count(1)


def a_story(
    data: DataClass = DataClass.PERSONAL,
    *attempts: Attempt,
    kinds: Iterable[str] = ("identity",),
    caller: Caller | None = None,
    **changes: Any,
) -> Exchange:
    """A request of this class, about Marta, answered by the small model unless its attempts say otherwise."""
    request_id = f"req_{next(_numbers):032x}"
    who = caller or a_caller()
    found = tuple(Finding(kind, "ID_DNI", data, 0, 30, 39) for kind in kinds) if data else ()
    signals = some_signals(data=data, data_kinds=frozenset(kinds if data else ()), findings=found, caller=who)
    calls = attempts or (an_attempt(),)
    exchange = an_exchange(
        *calls, request_id=request_id, caller=who, signals=signals, decision=a_decision(rule="personal-stays")
    )
    exchange.inbound = an_inbound(TEXT, request_id=request_id, caller=who, tags=who.tags)
    exchange.outcome = Outcome.OK
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange


def far(**changes: Any) -> Attempt:
    """A call of the model in the world."""
    return an_attempt(LARGE, **changes)


def write(engine: Engine, *exchanges: Exchange, notes: Iterable[Record] = (), copies: Iterable[Attempt] = ()) -> None:
    """What one gateway writes from its start to its end: a chain of its own. `copies` are shadows of the first."""

    async def run() -> None:
        failures: list[Exception] = []
        ledger = Ledger(engine, on_failure=failures.append)
        machine = Machine(Decimal("0.05"), Decimal(65), Decimal("0.2"))
        recorder = LedgerRecorder(ledger, prices=PriceBook(machine=machine, baseline=LARGE), metrics=Metrics())
        for note in notes:
            ledger.note(note)
        await asyncio.gather(*map(recorder.record, exchanges))
        for copy in copies:
            recorder.record_shadow(exchanges[0], copy)
        ledger.close()
        assert not failures

    asyncio.run(run())
