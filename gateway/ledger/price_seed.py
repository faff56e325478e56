"""The shipped seed of prices: the `genai-prices` package as installed. Nothing is fetched."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from gateway.ledger.price import NANO, Price, whole

_PROVIDERS: Final = {"gemini": "google", "bedrock": "aws", "openai": "openai", "anthropic": "anthropic"}
# Our kinds of tokens by the seed's names.
_NAMES: Final = {
    "prompt": "input_mtok",
    "completion": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "prompt_audio": "input_audio_mtok",
    "completion_audio": "output_audio_mtok",
    "prompt_image": "input_image_mtok",
    "completion_image": "output_image_mtok",
}
_TIERS: Final = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}


@functools.lru_cache(maxsize=1024)
def seed_price(model: str, provider: str, base_url: str, day: dt.date) -> Price | None:
    """The shipped price of a model on a day; nothing when the seed does not know it."""
    import genai_prices  # noqa: PLC0415 - half a second and 30 MB: only a gateway with a cloud model pays it

    when = dt.datetime.combine(day, dt.time(12), dt.UTC)
    by_address = provider == "openai-compatible"
    if by_address and not base_url:
        return None
    where: dict[str, Any] = (
        {"provider_api_url": base_url} if by_address else {"provider_id": _PROVIDERS.get(provider, provider)}
    )
    try:
        one = genai_prices.Usage(input_tokens=1, output_tokens=1)
        found = genai_prices.calc_price(one, model, genai_request_timestamp=when, **where)
    except LookupError:
        return None
    return _priced(found.model.get_prices, when, day)


def _priced(prices_at: Callable[..., Any], when: dt.datetime, day: dt.date) -> Price | None:
    """The standard price with those of its service tiers, where they differ."""
    standard = _with_lengths(prices_at(when), day)
    if standard is None:
        return None
    tiers = [(name, _with_lengths(prices_at(when, context), day)) for name, context in _TIERS.items()]
    return dataclasses.replace(
        standard, tiers=tuple((name, price) for name, price in tiers if price is not None and price != standard)
    )


def _with_lengths(found: Any, day: dt.date) -> Price | None:
    """A price with those of longer prompts."""
    base = _rates(found, 0, day)
    if base is None:
        return None
    starts = sorted({tier.start for name in _NAMES.values() for tier in getattr(getattr(found, name, 0), "tiers", ())})
    steps = [(start, _rates(found, start + 1, day)) for start in starts]
    return dataclasses.replace(base, above=tuple((start, step) for start, step in steps if step is not None))


def _rates(found: Any, tokens: int, day: dt.date) -> Price | None:
    """The seed's rates for a prompt of so many tokens."""
    rates: dict[str, Any] = {kind: _nano(getattr(found, name, None), tokens) for kind, name in _NAMES.items()}
    prompt, completion, cached = rates.pop("prompt"), rates.pop("completion"), rates.pop("cached")
    if prompt is None or completion is None:
        return None
    # The seed says what a price is on a day, not since when: the day is the date that can be vouched for.
    return Price(prompt, completion, prompt if cached is None else cached, day, seed_source(), **rates)


def _nano(value: Any, tokens: int) -> int | None:
    base = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):  # in order of their start: the last one that is passed counts
        base = tier.price if tokens > tier.start else base
    return whole(base * NANO) if isinstance(base, Decimal) else None


def seed_source() -> str:
    """The seed's name and version: the source of its prices."""
    return f"genai-prices {importlib.metadata.version('genai-prices')}"


def seed_changes(since: dt.date, until: dt.date) -> Iterator[tuple[str, str, Price, Price]]:
    """Provider, model, old and new price of every model of the seed whose price changed between two days."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as above

    for provider in get_snapshot().providers:
        for model in provider.models:
            if not isinstance(model.prices, list):
                continue  # one price for all time
            old, new = (
                _priced(model.get_prices, dt.datetime.combine(day, dt.time(12), dt.UTC), since)
                for day in (since, until)
            )
            if old is not None and new is not None and old != new:
                yield provider.id, model.id, old, new
