"""What a call costs: dated prices with their source, in integer nano-USD.

The seed is the `genai-prices` package as installed (no fetching); the operator's own price file stands over it. A price
that is not known gives an unknown cost, never 0. Local models cost machine time and energy.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from gateway.ledger.price import NANO, Price, whole
from gateway.ledger.price_file import load_prices
from gateway.ledger.price_seed import seed_price
from gateway.types import Attempt, Model, Usage, Zone

__all__ = ["Charge", "Machine", "Price", "PriceBook", "load_prices"]


@dataclass(frozen=True, slots=True)
class Charge:
    """A cost with where its price comes from; `nano_usd` is nothing when it is not known."""

    nano_usd: int | None
    source: str = ""
    valid_from: str = ""


UNKNOWN = Charge(None)
FREE = Charge(0, "not sent")
MACHINE_TIME = "machine time"  # the source of what local models cost


@dataclass(frozen=True, slots=True)
class Machine:
    """What a second of local inference costs: amortisation and power."""

    usd_per_hour: Decimal
    watts: Decimal
    usd_per_kwh: Decimal

    def cost(self, seconds: float) -> int:
        """Nano-USD of this many seconds."""
        hours = Decimal(seconds) / 3600
        usd = hours * (self.usd_per_hour + self.watts / 1000 * self.usd_per_kwh)
        return whole(usd * NANO)


class PriceBook:
    """Prices of all models at any day. `baseline` is the model that savings are measured against."""

    def __init__(
        self,
        *,
        machine: Machine,
        baseline: Model | None,
        own: Mapping[str, tuple[Price, ...]] | None = None,
        span: tuple[Decimal, Decimal] = (Decimal(1), Decimal(1)),
    ) -> None:
        self.machine = machine
        self._span = span
        self._baseline = baseline
        self._own = dict(own or {})
        self._today: dict[tuple[str, int], Price | None] = {}

    @property
    def baseline_id(self) -> str:
        """The baseline model's name, or nothing when there is none."""
        return self._baseline.id if self._baseline else ""

    def charge(self, attempt: Attempt) -> Charge:
        """What one call cost.

        A call that never reached a paid model costs nothing; one that failed there, or was cut before any usage was
        known, has an unknown cost.
        """
        model = attempt.model
        if self.by_time(model):
            return Charge(self.machine.cost(attempt.seconds), MACHINE_TIME, "")
        if attempt.usage is None:
            return FREE if attempt.outcome in NEVER_BILLED else UNKNOWN
        return self._priced(model, attempt.usage, attempt.started_ns)

    def estimate(self, model: Model, usage: Usage, at_ns: int) -> int | None:
        """What a call with this usage would be billed: 0 for machine time, nothing when the price is not known."""
        return 0 if self.by_time(model) else self._priced(model, usage, at_ns).nano_usd

    def by_time(self, model: Model) -> bool:
        """Whether a model costs machine time: it is on the premises and has no price of its own."""
        return model.zone is Zone.PREMISES and model.id not in self._own

    def baseline(self, usage: Usage | None, at_ns: int) -> Charge:
        """What this usage would have cost from the baseline model."""
        if self._baseline is None or usage is None:
            return UNKNOWN
        return self._priced(self._baseline, usage, at_ns)

    def baseline_range(self, usage: Usage | None, at_ns: int, answered: Model | None) -> tuple[int | None, int | None]:
        """The least and the most that the baseline would have cost: it would have written another number of tokens.

        Nobody knows how many: the answer's count times `span` (settings `baseline_tokens_low`, `_high`), with the same
        prompt. `cauce report --lengths` measures the span in the copies that shadows made. No range where the baseline
        itself answered.
        """
        if usage is None or self._baseline is None:
            return None, None
        if answered is not None and answered.id == self._baseline.id:
            exact = self.baseline(usage, at_ns).nano_usd
            return exact, exact
        price = self._of_day(self._baseline, at_ns)
        if price is None:
            return None, None
        low, high = (price.cost(usage, whole(usage.completion_tokens * factor)) for factor in self._span)
        return low, high

    def price(self, model: Model, day: dt.date) -> Price | None:
        """The price of a model on a day."""
        own = [price for price in self._own.get(model.id, ()) if price.valid_from <= day]
        if own:
            return max(own, key=lambda price: price.valid_from).in_usd(day)
        return seed_price(model.model, model.provider, model.base_url, day)

    def look_up(self, models: Iterable[Model], at_ns: int) -> None:
        """Find the day's prices of these models now: the seed takes half a second, which no request should wait for."""
        for model in models:
            if not self.by_time(model):
                self._of_day(model, at_ns)

    def _priced(self, model: Model, usage: Usage, at_ns: int) -> Charge:
        price = self._of_day(model, at_ns)
        if price is None:
            return UNKNOWN
        return Charge(price.cost(usage), price.source, price.valid_from.isoformat())

    def _of_day(self, model: Model, at_ns: int) -> Price | None:
        day_number = at_ns // 86_400_000_000_000
        key = (model.id, day_number)
        if key not in self._today:
            if len(self._today) > 4096:
                self._today.clear()
            self._today[key] = self.price(model, dt.date.fromordinal(719_163 + day_number))
        return self._today[key]


# Errors that say that no model worked on the request.
NEVER_BILLED = frozenset(
    {
        "upstream_unreachable",
        "upstream_paused",
        "upstream_auth",
        "upstream_overloaded",
        "upstream_model_missing",
        "upstream_rejected",
        "unsupported_by_model",
        "context_length_exceeded",
    }
)
