"""reserve: before anything is called, hold what a request may cost at worst on every budget of its caller.

When a hard budget does not cover it, the policy is asked again with nothing left (`budget_left` 0): a rule may send the
request to a free model or a cheaper one. What no rule handles loses the rungs that cost money, and is refused when none
is left. Callers without a budget never come here.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from gateway.errors import BudgetExceeded, BudgetUnavailable, CauceError
from gateway.ledger.budgets import Budgets, Short, StoreAway
from gateway.ledger.prices import PriceBook
from gateway.types import Decision, Exchange, Inbound, Model, Signals, Skipped, Usage

Again = Callable[[Signals], Decision]
_NO_PRICE: Final = "its price is not known, and a hard budget cannot hold it: add it to the prices file"
_RETRY_S: Final = 5.0
_ASKING: Final = frozenset({"samples", "judge"})
_MOST_TOKENS: Final = 1_000_000_000  # that count: more than any model writes


class Purse:
    """Reserves for the pipeline; `refused` hears of the scope whose budget turned a call down."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        budgets: Budgets,
        *,
        prices: PriceBook,
        models: Mapping[str, Model],
        zone: ZoneInfo,
        default_completion_tokens: int,
        refused: Callable[[str], None],
    ) -> None:
        self._budgets = budgets
        self._prices = prices
        self._models = models
        self._zone = zone
        self._default = default_completion_tokens
        self._refused = refused

    async def reserve(
        self, inbound: Inbound, signals: Signals, decision: Decision, exchange: Exchange, *, again: Again
    ) -> tuple[Signals, Decision]:
        """The decision that the budgets allow, held on them. Raises `BudgetExceeded` or `BudgetUnavailable`."""
        caller = inbound.caller
        hard = any(budget.hard for budget in caller.budgets)
        costs = self._costs(inbound, signals, decision)
        if hard and any(cost is None for cost in costs.values()):
            decision = without(decision, {model for model, cost in costs.items() if cost is None}, _NO_PRICE)
        if hard:
            decision = exchange.decision = self._priced(decision)
        try:
            return signals, await self._held(inbound, decision, costs, exchange)
        except Short as error:
            short = error
            refusal: CauceError = self._exceeded(short)
        except StoreAway:
            if not hard:
                return signals, decision
            short = None
            refusal = BudgetUnavailable(
                "the store of budgets is away, so nothing that costs money is called for a key with a hard budget: "
                "try again later",
                retry_after_s=_RETRY_S,
            )
        poorer = exchange.signals = replace(signals, budget_left=0.0)
        decision = again(poorer)
        costs = self._costs(inbound, poorer, decision)
        if short is not None:
            self._refused(short.budget.scope)
            cheap = {model for model, cost in costs.items() if cost is not None and cost <= short.left}
            try:
                affordable = self._priced(without(decision, costs.keys() - cheap, _spent(short)))
                if affordable.ladder and any(costs[model] for model in affordable.ladder):
                    return poorer, await self._held(inbound, affordable, costs, exchange)
            except (Short, StoreAway):
                pass  # it went meanwhile: what is free is left
        reason = _spent(short) if short else "the store of budgets is away"
        decision = _unasked(without(decision, {model for model, cost in costs.items() if cost != 0}, reason))
        exchange.decision = decision
        if not decision.ladder:
            raise refusal
        return poorer, decision

    async def _held(
        self, inbound: Inbound, decision: Decision, costs: Mapping[str, int | None], exchange: Exchange
    ) -> Decision:
        """Hold the worst case: a route with checks may pay for every rung, one without for the dearest alone."""
        known = [self._hedged(number, decision, costs) for number in range(len(decision.ladder))]
        if decision.route.checks:
            worst = sum(known) + (self._opinions(decision) or 0)
        else:
            worst = max((*known, *(costs[model] or 0 for model in decision.reserve)), default=0)
        if worst or any(costs[model] is None for model in decision.ladder):
            exchange.reserved_nano_usd = worst  # before it is: a client that leaves meanwhile gives it back
            try:
                await self._budgets.reserve(inbound.caller, inbound.request_id, worst)
            except (Short, StoreAway):
                exchange.reserved_nano_usd = None
                raise
        exchange.decision = decision
        return decision

    def _priced(self, decision: Decision) -> Decision:
        """The decision without checks that ask a model without a price: nothing can be held for them."""
        return _unasked(decision) if self._opinions(decision) is None else decision

    def _hedged(self, number: int, decision: Decision, costs: Mapping[str, int | None]) -> int:
        """The worst case of a rung, with that of the second call that may race it."""
        name, *above = decision.ladder[number:]
        second = {"replica": name, "rung": above[0] if above else ""}.get(self._models[name].hedge, "")
        return (costs[name] or 0) + (costs.get(second) or 0)

    def _costs(self, inbound: Inbound, signals: Signals, decision: Decision) -> dict[str, int | None]:
        """The worst case of each rung: 0 for machine time, nothing where the price is not known."""
        completion = completion_tokens(inbound, self._default)
        now_ns = time.time_ns()
        costs: dict[str, int | None] = {}
        for name in (*decision.ladder, *decision.reserve):
            model = self._models[name]
            most = completion if model.kind != "embedding" else 0
            costs[name] = self._prices.estimate(model, Usage(signals.prompt_tokens, most), now_ns)
        return costs

    def _opinions(self, decision: Decision) -> int | None:
        """What checks that ask models may cost at most: the route's bound for them, at the dearest price among them.

        Nothing where one of the prices is not known.
        """
        route = decision.route
        asked = [check for check in route.checks if check.name in _ASKING]
        if not asked or len(decision.ladder) < 2:
            return 0
        models = [self._models[name] for name in (*decision.ladder, *itertools.chain.from_iterable(decision.asked))]
        usage, now_ns = Usage(0, route.verify_budget.tokens), time.time_ns()
        costs = [cost for model in models if (cost := self._prices.estimate(model, usage, now_ns)) is not None]
        return max(costs, default=0) if len(costs) == len(models) else None

    def _exceeded(self, short: Short) -> BudgetExceeded:
        budget, span = short.budget, short.span
        left = f"{short.left / 1e9:.6f} of {budget.nano_usd / 1e9:g} USD"
        what = f"the budget {budget.name} has {left} left, less than this call may cost, and no free model may answer"
        if span.end_us is None:
            return BudgetExceeded(f"{what}: ask whoever gave out the key for more")
        end = dt.datetime.fromtimestamp(span.end_us / 1e6, self._zone)
        wait_s = max(1.0, span.end_us / 1e6 - time.time())
        return BudgetExceeded(f"{what}: it begins again on {end.isoformat(timespec='minutes')}", retry_after_s=wait_s)


def completion_tokens(inbound: Inbound, default: int) -> int:
    """The most that an answer may have, by the request's own bounds; else what the operator supposes."""
    body = inbound.body
    stated = [_number(body.get(name)) for name in ("max_completion_tokens", "max_tokens")]  # servers heed either
    return min(_MOST_TOKENS, (max(stated) or default) * max(1, _number(body.get("n"))))


def _number(value: object) -> int:
    """A whole number as servers read it, which take `"20"` and `20.0` for 20; 0 for what is none, or not above 0."""
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
        return max(0, min(_MOST_TOKENS, math.ceil(number)))
    except (ValueError, OverflowError):
        return 0


def without(decision: Decision, models: set[str], reason: str) -> Decision:
    """The decision without some rungs, and why."""
    if not models:
        return decision
    ladder = tuple(model for model in decision.ladder if model not in models)
    reserve = tuple(model for model in decision.reserve if model not in models)
    skipped = (*decision.skipped, *(Skipped(model, reason) for model in decision.ladder if model in models))
    return replace(decision, ladder=ladder, reserve=reserve, skipped=skipped)


def _unasked(decision: Decision) -> Decision:
    """The decision without checks that ask models: nobody may pay for them."""
    route = decision.route
    checks = tuple(check for check in route.checks if check.name not in _ASKING)
    return decision if checks == route.checks else replace(decision, route=replace(route, checks=checks))


def _spent(short: Short) -> str:
    return f"the budget {short.budget.name} does not cover it"
