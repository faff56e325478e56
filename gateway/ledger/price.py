"""A price: nano-USD a million tokens by kind, from a date on, with its source, and what a usage costs by it.

Rounding: a cost is the exact sum of tokens x rate over all kinds, rounded once, half to even, at the nano-dollar. A
rate is whole nano-dollars a million tokens; one made of another currency or of a discount is rounded so too.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from gateway.types import Usage

NANO: Final = 1_000_000_000
_MILLION: Final = 1_000_000
# The kinds whose price may be missing, each with the kind that is billed instead.
INSTEAD: Final = {
    "cache_write": "prompt",
    "cache_write_1h": "cache_write",
    "prompt_audio": "prompt",
    "prompt_image": "prompt",
    "reasoning": "completion",
    "completion_audio": "completion",
    "completion_image": "completion",
}
KINDS: Final = ("prompt", "cached", "completion", *INSTEAD)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one unit of a currency is worth in USD from a date on."""

    usd: Decimal
    valid_from: dt.date
    source: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, by kind, from a date on; a kind without a price costs as `INSTEAD` says.

    `above` holds the prices of prompts longer than so many tokens (for all of the tokens, as providers bill), `tiers`
    those of the provider's service tiers: batch, flex, priority. `currency` is USD unless `rates` say otherwise.
    """

    prompt: int
    completion: int
    cached: int
    valid_from: dt.date
    source: str
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    prompt_audio: int | None = None
    completion_audio: int | None = None
    prompt_image: int | None = None
    completion_image: int | None = None
    above: tuple[tuple[int, Price], ...] = ()
    tiers: tuple[tuple[str, Price], ...] = ()
    currency: str = "USD"
    rates: tuple[Rate, ...] = ()

    def cost(self, usage: Usage, completion_tokens: int | None = None) -> int:
        """Nano-USD of this usage, or of it with another length of answer; rounded half to even, once, at the end."""
        price = self.of(usage) if self.tiers or self.above else self
        completion = usage.completion_tokens if completion_tokens is None else completion_tokens
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        if not (
            written
            or (usage.reasoning_tokens and price.reasoning is not None)
            or usage.prompt_audio_tokens
            or usage.prompt_image_tokens
            or usage.completion_audio_tokens
            or usage.completion_image_tokens
        ):  # most calls
            plain = max(0, usage.prompt_tokens - cached) * price.prompt + cached * price.cached
            return _rounded(plain + completion * price.completion)
        said_in, seen_in = usage.prompt_audio_tokens or 0, usage.prompt_image_tokens or 0
        said_out, seen_out = usage.completion_audio_tokens or 0, usage.completion_image_tokens or 0
        thought = usage.reasoning_tokens or 0 if price.reasoning is not None else 0
        an_hour = min(usage.cache_write_1h_tokens or 0, written)
        product = (
            max(0, usage.prompt_tokens - cached - written - said_in - seen_in) * price.prompt
            + cached * price.cached
            + (written - an_hour) * price.rate("cache_write")
            + an_hour * price.rate("cache_write_1h")
            + said_in * price.rate("prompt_audio")
            + seen_in * price.rate("prompt_image")
            + max(0, completion - said_out - seen_out - thought) * price.completion
            + said_out * price.rate("completion_audio")
            + seen_out * price.rate("completion_image")
            + thought * price.rate("reasoning")
        )
        return _rounded(product)

    def of(self, usage: Usage) -> Price:
        """The price that counts for a usage: of its service tier, and of its prompt's length."""
        price = next((tier for name, tier in self.tiers if name == usage.tier), self) if usage.tier else self
        longest = [(start, above) for start, above in price.above if usage.prompt_tokens > start]
        return max(longest, key=lambda step: step[0])[1] if longest else price

    def rate(self, kind: str) -> int:
        """Nano-USD a million tokens of a kind, or of the kind that is billed instead."""
        value: int | None = getattr(self, kind)
        return self.rate(INSTEAD[kind]) if value is None else value

    def in_usd(self, day: dt.date) -> Price | None:
        """This price at the day's rate of exchange; nothing when there is no rate for the day."""
        if self.currency == "USD":
            return self
        rates = [rate for rate in self.rates if rate.valid_from <= day]
        if not rates:
            return None
        rate = max(rates, key=lambda each: each.valid_from)
        source = f"{self.source}; 1 {self.currency} = {rate.usd} USD ({rate.source}, {rate.valid_from})"
        return dataclasses.replace(self.times(rate.usd), currency="USD", rates=(), source=source)

    def times(self, factor: Decimal) -> Price:
        """Every rate times a factor."""
        rates: dict[str, Any] = {kind: _times(getattr(self, kind), factor) for kind in KINDS}
        return dataclasses.replace(
            self,
            **rates,
            above=tuple((start, price.times(factor)) for start, price in self.above),
            tiers=tuple((name, price.times(factor)) for name, price in self.tiers),
        )


def _rounded(product: int) -> int:
    """A sum of tokens x rate as nano-USD."""
    nano_usd, rest = divmod(product, _MILLION)
    return nano_usd + (rest * 2 > _MILLION or (rest * 2 == _MILLION and nano_usd % 2 == 1))


def _times(rate: int | None, factor: Decimal) -> int | None:
    return None if rate is None else whole(rate * factor)


def whole(amount: Decimal) -> int:
    """Whole nano-dollars, half to even."""
    return int(amount.to_integral_value(ROUND_HALF_EVEN))
