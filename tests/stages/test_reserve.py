"""reserve: what a request may cost at worst, and what a hard budget does not let anybody ask."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from gateway.errors import BudgetExceeded
from gateway.ledger.price import Price
from gateway.ledger.prices import Machine, PriceBook
from gateway.ledger.store import open_engine
from gateway.stages.reserve import Purse, completion_tokens
from gateway.types import Check, Decision, Exchange, Model, Route, Zone
from tests.builders import a_decision, an_exchange, an_inbound, some_signals
from tests.ledger.paying import a_budget, paying, under

DOLLAR = 1_000_000_000
PRICE = Price(0, DOLLAR, 0, dt.date(2020, 1, 1), "contract")  # a million tokens of the answer
MACHINE = Machine(Decimal(0), Decimal(0), Decimal(0))


def a_model(name: str, **changes: Any) -> Model:
    return dataclasses.replace(Model(name, "openai-compatible", f"{name}-1", Zone.WORLD, "llm"), **changes)


def reserved(
    tmp_path: Path,
    decision: Decision,
    models: Mapping[str, Model],
    *,
    priced: str,
    own: Mapping[str, tuple[Price, ...]] = {},
    **body: Any,
) -> Exchange:
    """What a caller with 1 USD holds for a request of 1,000 tokens of answer."""
    prices = PriceBook(
        machine=MACHINE,
        baseline=None,
        own={**dict.fromkeys(priced.split(), (PRICE,)), **own},
    )
    caller = under(a_budget(DOLLAR))
    inbound = an_inbound(caller=caller, body={"max_tokens": 1_000, **body})
    exchange = an_exchange(inbound=inbound, decision=decision)

    async def run() -> None:
        async with paying(open_engine(f"sqlite:///{tmp_path}/{uuid4().hex}.db")) as shop:
            purse = Purse(
                shop.budgets, prices=prices, models=models, zone=ZoneInfo("UTC"), default_completion_tokens=1_000,
                refused=lambda _scope: None,
            )  # fmt: skip
            await purse.reserve(inbound, some_signals(), decision, exchange, again=lambda _poorer: decision)

    asyncio.run(run())
    return exchange


@pytest.mark.parametrize(
    ("hedge", "ladder", "held"),
    [
        ("none", ("one", "two"), 1_000_000),
        ("replica", ("one", "two"), 2_000_000),
        ("rung", ("one", "two"), 2_000_000),
        ("rung", ("one",), 1_000_000),
    ],
)
def test_a_call_that_may_be_raced_by_a_second_one_is_held_for_twice(
    tmp_path: Path, hedge: str, ladder: tuple[str, ...], held: int
) -> None:
    models = {"one": a_model("one", hedge=hedge), "two": a_model("two")}
    exchange = reserved(tmp_path, a_decision(*ladder), models, priced="one two")
    assert exchange.reserved_nano_usd == held


def test_the_reserve_is_held_for_when_it_costs_money(tmp_path: Path) -> None:
    models = {"one": a_model("one"), "near": a_model("near", zone=Zone.PREMISES)}
    decision = a_decision("one", reserve=("near",))
    assert reserved(tmp_path, decision, models, priced="one").reserved_nano_usd == 1_000_000
    dear = {"near": (dataclasses.replace(PRICE, completion=5 * DOLLAR),)}
    assert reserved(tmp_path, decision, models, priced="one", own=dear).reserved_nano_usd == 5_000_000


def test_a_hard_budget_asks_no_judge_whose_price_is_not_known(tmp_path: Path) -> None:
    models = {name: a_model(name) for name in ("one", "two", "judge")}
    route = Route("judged", ("one", "two"), checks=(Check("finish"), Check("judge", 0.6, "judge")))
    decision = a_decision("one", "two", route=route, asked=((), ("judge",)))
    assert _checks(reserved(tmp_path, decision, models, priced="one two")) == ["finish"]
    assert _checks(reserved(tmp_path, decision, models, priced="one two judge")) == ["finish", "judge"]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 1, "max_tokens": 5_000}, 5_000),  # servers differ in which of the two they heed
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_completion_tokens": "5000", "n": 2.0}, 10_000),
        ({"max_tokens": "NaN", "n": "many"}, 700),
        ({"max_tokens": -1, "n": None}, 700),
        ({}, 700),
        ({"max_tokens": 10**18}, 1_000_000_000),
        ({"max_tokens": 10**18, "n": 10**18}, 1_000_000_000),
    ],
)
def test_an_answer_is_supposed_to_be_as_long_as_the_request_allows(body: dict[str, Any], tokens: int) -> None:
    assert completion_tokens(an_inbound(body=body), 700) == tokens


def test_an_answer_of_any_length_is_more_than_a_hard_budget_covers(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        reserved(tmp_path, a_decision("one"), {"one": a_model("one")}, priced="one", max_tokens=10**18)


def _checks(exchange: Exchange) -> list[str]:
    assert exchange.decision is not None
    return [check.name for check in exchange.decision.route.checks]
