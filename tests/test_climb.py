"""What a ladder makes good: retries, models that cannot, races, and the reserve on the premises."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from gateway.errors import (
    UpstreamBroken,
    UpstreamContext,
    UpstreamError,
    UpstreamFailed,
    UpstreamFiltered,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnfit,
    UpstreamUnreachable,
)
from gateway.gate import Released
from gateway.ledger.entry import attempt_entries
from gateway.ledger.prices import Machine, PriceBook
from gateway.policy.decide import decide
from gateway.types import Answer, Outcome, Retries
from gateway.upstreams.base import Call
from gateway.upstreams.fake import FakeUpstream
from tests.builders import LARGE, SMALL, some_signals
from tests.policy.builders import a_policy, catalogue
from tests.test_pipeline import EITHER_WAY, Shop

PATIENT = dataclasses.replace(SMALL, retries=Retries(most=1, first_wait_s=0.001, longest_wait_s=0.01))


def kinds(shop: Shop) -> list[tuple[str, str, str]]:
    """Model, kind and outcome of each call, as the ledger has them."""
    free = Machine(Decimal(0), Decimal(0), Decimal(0))
    rows = attempt_entries(shop.ledger.only, PriceBook(machine=free, baseline=None))
    return [(row.model, row.kind, row.outcome) for row in rows]


@EITHER_WAY
def test_a_fault_that_passes_is_made_good_by_the_same_model_and_both_calls_are_booked(stream: bool) -> None:
    shop = Shop(FakeUpstream(PATIENT, [UpstreamFailed("500"), "A las nueve"]), FakeUpstream(LARGE))
    assert shop.ask(stream=stream) == "A las nueve"
    assert kinds(shop) == [("small", "slm", "upstream_error"), ("small", "retry", "ok")]


def test_nothing_is_asked_again_once_the_first_byte_is_out() -> None:
    small = FakeUpstream(PATIENT, ["A las...", UpstreamBroken("cut off"), "A las nueve"])
    shop = Shop(small, route="local")
    assert shop.ask(stream=True) == "A las..."
    assert len(small.seen) == 1
    assert shop.ledger.only.outcome is Outcome.CUT


@EITHER_WAY
@pytest.mark.parametrize(
    "failure",
    [
        UpstreamMissing("no such model"),
        UpstreamUnfit("no tools", status=422),
        UpstreamContext("too long"),
        UpstreamFiltered("filtered"),
        UpstreamOverloaded("busy", status=429, retry_after_s=60.0),
    ],
    ids=lambda error: error.code,
)
def test_what_one_model_cannot_the_next_may(failure: UpstreamError, stream: bool) -> None:
    shop = Shop(FakeUpstream(SMALL, [failure]), FakeUpstream(LARGE, ["A las nueve"]))
    assert shop.ask(stream=stream) == "A las nueve"
    assert kinds(shop) == [("small", "slm", failure.code), ("large", "llm", "ok")]


@EITHER_WAY
def test_a_429_of_the_last_model_is_a_429_with_its_wait(stream: bool) -> None:
    busy = UpstreamOverloaded("busy", status=429, retry_after_s=60.0)
    with pytest.raises(UpstreamOverloaded) as refused:
        Shop(FakeUpstream(SMALL, [UpstreamTimeout("5 s")]), FakeUpstream(LARGE, [busy])).ask(stream=stream)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 60.0)


# --- the reserve -----------------------------------------------------------------------------------------------------


@EITHER_WAY
def test_the_policys_local_route_serves_when_no_cloud_model_can_be_reached(stream: bool) -> None:
    shop = Shop(FakeUpstream(LARGE, [UpstreamUnreachable("gone")]), FakeUpstream(SMALL, ["A las nueve"]))
    shop_policy(shop, "cloud")
    assert shop.ask(stream=stream) == "A las nueve"
    assert kinds(shop) == [("large", "llm", "upstream_unreachable"), ("small", "slm", "ok")]


@EITHER_WAY
@pytest.mark.parametrize("failure", [UpstreamRejected("n"), UpstreamContext("long"), UpstreamFiltered("no")])
def test_a_request_that_the_cloud_has_refused_for_its_own_sake_is_not_given_to_the_reserve(
    failure: UpstreamError, stream: bool
) -> None:
    small = FakeUpstream(SMALL)
    shop = Shop(FakeUpstream(LARGE, [failure]), small)
    shop_policy(shop, "cloud")
    with pytest.raises(type(failure)):
        shop.ask(stream=stream)
    assert small.seen == []


def test_the_cloud_models_failure_is_told_when_the_reserve_fails_too() -> None:
    shop = Shop(FakeUpstream(LARGE, [UpstreamUnreachable("gone")]), FakeUpstream(SMALL, [UpstreamTimeout("5 s")]))
    shop_policy(shop, "cloud")
    with pytest.raises(UpstreamUnreachable):
        shop.ask()


def shop_policy(shop: Shop, default: str) -> None:
    """A shop whose requests take this route by default."""
    shop.policy = a_policy(POLICY.format(default=default))


POLICY = """
version: 1
routes:
  cloud: {{try: [llm]}}
  both: {{try: [llm, slm]}}
  local: {{try: [slm]}}
rules: []
default: {default}
"""


@pytest.mark.parametrize(
    ("requested", "default", "reserve"),
    [("auto", "cloud", ("small",)), ("auto", "both", ()), ("auto", "local", ()), ("large", "cloud", ())],
)
def test_the_reserve_is_for_ladders_in_the_cloud_and_not_for_a_model_that_was_named(
    requested: str, default: str, reserve: tuple[str, ...]
) -> None:
    policy = a_policy(POLICY.format(default=default))
    decision = decide(some_signals(), policy=policy, models=catalogue(SMALL, LARGE), requested=requested)
    assert decision.reserve == reserve


# --- hedges ----------------------------------------------------------------------------------------------------------


class Dawdling(FakeUpstream):
    """Quick, but for the calls whose numbers are named."""

    slow: frozenset[int] = frozenset()

    async def complete(self, call: Released[Call]) -> Answer:
        if len(self.seen) in self.slow:
            self.seen.append(call)
            await asyncio.sleep(30)
        return await super().complete(call)

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        if len(self.seen) in self.slow:
            self.seen.append(call)
            await asyncio.sleep(30)
        async for block in super().stream(call):
            yield block


@EITHER_WAY
@pytest.mark.parametrize("hedge", ["rung", "replica"])
def test_a_call_that_is_slow_to_begin_is_made_beside_and_the_loser_is_paid_for(hedge: str, stream: bool) -> None:
    small = Dawdling(dataclasses.replace(SMALL, hedge=hedge), ["A las nueve"])
    small.slow = frozenset({30})
    large = FakeUpstream(LARGE, ["A las nueve"])
    shop = Shop(small, large)

    async def main() -> None:
        for number in range(31):
            assert (await shop.answer(f"¿A qué hora abrís {number}?", stream=stream)).text == "A las nueve"
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    second = "large" if hedge == "rung" else "small"
    assert [len(exchange.attempts) for exchange in shop.ledger.exchanges] == [1] * 30 + [2]
    loser, winner = shop.ledger.exchanges[-1].attempts
    assert (loser.model.id, loser.outcome, winner.model.id, winner.role, winner.outcome) == (
        "small", "outrun", second, "hedge", "ok",
    )  # fmt: skip
    assert loser.usage is not None
    assert loser.usage.estimated
    assert loser.usage.prompt_tokens > 0
