"""What a call costs: dated prices with their source, in integer nano-USD.

The seed is the `genai-prices` package as installed (no fetching); the operator's own price file stands over it. A price
that is not known gives an unknown cost, never 0. Local models cost machine time and energy.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.errors import ConfigError
from gateway.types import Attempt, Model, Usage, Zone

_NANO = 1_000_000_000
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Charge:
    """A cost with where its price comes from; `nano_usd` is nothing when it is not known."""

    nano_usd: int | None
    source: str = ""
    valid_from: str = ""


UNKNOWN = Charge(None)
FREE = Charge(0, "not sent")


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-USD a million tokens, by kind, from a date on."""

    prompt: int
    completion: int
    cached: int
    valid_from: dt.date
    source: str

    def cost(self, usage: Usage) -> int:
        """What this usage costs, rounded half to even at the nano-dollar, once, at the end."""
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
        product = fresh * self.prompt + usage.cached_tokens * self.cached + usage.completion_tokens * self.completion
        whole, rest = divmod(product, _MILLION)
        up = rest * 2 > _MILLION or (rest * 2 == _MILLION and whole % 2 == 1)
        return whole + up


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
        return int((usd * _NANO).to_integral_value(ROUND_HALF_EVEN))


class PriceBook:
    """Prices of all models at any day. `baseline` is the model that savings are measured against."""

    def __init__(
        self, *, machine: Machine, baseline: Model | None, own: Mapping[str, tuple[Price, ...]] | None = None
    ) -> None:
        self._machine = machine
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
            return Charge(self._machine.cost(attempt.seconds), "machine time", "")
        if attempt.usage is None:
            return FREE if attempt.outcome in _NEVER_BILLED else UNKNOWN
        return self._priced(model, attempt.usage, attempt.started_ns)

    def by_time(self, model: Model) -> bool:
        """Whether a model costs machine time: it is on the premises and has no price of its own."""
        return model.zone is Zone.PREMISES and model.id not in self._own

    def baseline(self, usage: Usage | None, at_ns: int) -> Charge:
        """What this usage would have cost from the baseline model."""
        if self._baseline is None or usage is None:
            return UNKNOWN
        return self._priced(self._baseline, usage, at_ns)

    def price(self, model: Model, day: dt.date) -> Price | None:
        """The price of a model on a day."""
        own = [price for price in self._own.get(model.id, ()) if price.valid_from <= day]
        if own:
            return max(own, key=lambda price: price.valid_from)
        return _seed(model.model, model.provider, model.base_url, day)

    def _priced(self, model: Model, usage: Usage, at_ns: int) -> Charge:
        day_number = at_ns // 86_400_000_000_000
        key = (model.id, day_number)
        if key not in self._today:
            if len(self._today) > 4096:
                self._today.clear()
            self._today[key] = self.price(model, dt.date.fromordinal(719_163 + day_number))
        price = self._today[key]
        if price is None:
            return UNKNOWN
        return Charge(price.cost(usage), price.source, price.valid_from.isoformat())


# Errors that say that no model worked on the request.
_NEVER_BILLED = frozenset(
    {"upstream_unreachable", "upstream_auth", "upstream_overloaded", "upstream_rejected", "context_length_exceeded"}
)
_SEED_PROVIDERS = {"gemini": "google", "bedrock": "aws", "openai": "openai", "anthropic": "anthropic"}


@functools.lru_cache(maxsize=1024)
def _seed(model: str, provider: str, base_url: str, day: dt.date) -> Price | None:
    """The shipped price of a model; nothing when the seed does not know it."""
    import genai_prices  # noqa: PLC0415 - half a second and 30 MB: only a gateway with a cloud model pays it
    from genai_prices.types import TieredPrices  # noqa: PLC0415

    when = dt.datetime.combine(day, dt.time(12), dt.UTC)
    by_address = provider == "openai-compatible"
    if by_address and not base_url:
        return None
    try:
        one = genai_prices.Usage(input_tokens=1, output_tokens=1)
        if by_address:
            found = genai_prices.calc_price(one, model, provider_api_url=base_url, genai_request_timestamp=when)
        else:
            name = _SEED_PROVIDERS.get(provider, provider)
            found = genai_prices.calc_price(one, model, provider_id=name, genai_request_timestamp=when)
    except LookupError:
        return None

    def nano(value: object, default: int | None = None) -> int | None:
        if isinstance(value, TieredPrices):
            value = value.base
        return int(value * _NANO) if isinstance(value, Decimal) else default

    price = found.model_price
    prompt, completion = nano(price.input_mtok), nano(price.output_mtok)
    if prompt is None or completion is None:
        return None
    cached = nano(price.cache_read_mtok, prompt)
    # The seed says what a price is on a day, not since when: the day is the date that can be vouched for.
    return Price(prompt, completion, prompt if cached is None else cached, day, f"genai-prices {_seed_version()}")


def _seed_version() -> str:
    return importlib.metadata.version("genai-prices")


def load_prices(file: Path) -> dict[str, tuple[Price, ...]]:
    """The operator's prices: `gpt-4.1: {prompt: 2, cached: 0.5, completion: 8, from: 2026-01-01, source: contract}`.

    USD a million tokens; a list of such entries gives a model several dated prices. YAML or JSON. Raises `ConfigError`.
    """
    try:
        document = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"cannot be read as prices: {error}", where=str(file)) from error
    if not isinstance(document, dict):
        raise ConfigError("must be a mapping of model names to prices", where=str(file))
    return {
        str(name): tuple(_own_price(str(name), entry, file) for entry in (rows if isinstance(rows, list) else [rows]))
        for name, rows in document.items()
    }


def _own_price(name: str, entry: object, file: Path) -> Price:
    if not isinstance(entry, dict):
        raise ConfigError(f"{name}: expected {{prompt, completion, from, source}}", where=str(file))
    unknown = set(entry) - {"prompt", "cached", "completion", "from", "source"}
    if unknown:
        raise ConfigError(f"{name}: unknown field {sorted(map(str, unknown))[0]!r}", where=str(file))
    prompt, completion = (_amount(name, entry, kind, file) for kind in ("prompt", "completion"))
    cached = _amount(name, entry, "cached", file) if "cached" in entry else prompt
    day = entry.get("from")
    if isinstance(day, str):
        try:
            day = dt.date.fromisoformat(day)
        except ValueError:
            day = None
    if not isinstance(day, dt.date):
        raise ConfigError(f"{name}.from: expected a date such as 2026-01-01", where=str(file))
    return Price(prompt, completion, cached, day, str(entry.get("source", file.name)))


def _amount(name: str, entry: dict[str, object], kind: str, file: Path) -> int:
    try:
        value = Decimal(str(entry[kind]))
    except (KeyError, InvalidOperation):
        raise ConfigError(f"{name}.{kind}: expected USD a million tokens, e.g. 2.0", where=str(file)) from None
    if not value.is_finite() or value < 0:
        raise ConfigError(f"{name}.{kind}: must be 0 or more", where=str(file))
    return int((value * _NANO).to_integral_value(ROUND_HALF_EVEN))
