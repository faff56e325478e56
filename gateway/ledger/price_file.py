"""The operator's own prices, from a file; they stand over the seed. Every error says where in the file it is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.errors import ConfigError
from gateway.ledger.price import KINDS, NANO, Price, Rate, whole

CURRENCIES: Final = "currencies"
TIERS: Final = ("batch", "flex", "priority", "fast")
_FIELDS: Final = {*KINDS, *TIERS, "above", "from", "source", "currency"}


def load_prices(file: Path) -> dict[str, tuple[Price, ...]]:
    """The operator's prices: `gpt-4.1: {prompt: 2, cached: 0.5, completion: 8, from: 2026-01-01, source: contract}`.

    By a model's name in cauce.yaml; USD a million tokens, or another `currency` with its dated rates under
    `currencies`. A list of such entries gives a model several dated prices. `above` lists the prices of longer prompts;
    `batch`, `flex`, `priority` hold a tier's prices, or a factor. YAML or JSON. Raises `ConfigError`.
    """
    document = read_document(file, "prices")
    rates = _all_rates(document, Place(file, CURRENCIES))
    models = {str(name): (name, node) for name, node in document.items() if name != CURRENCIES}
    return {
        name: tuple(
            _own_price(entry, place, rates) for entry, place in listed(node, Place(file, name).at(document, key))
        )
        for name, (key, node) in models.items()
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A place in a file of dated values, to be said with an error."""

    file: Path
    name: str
    line: int = 1
    column: int = 1

    def error(self, what: str) -> ConfigError:
        """An error at this place."""
        return ConfigError(f"{self.name}: {what}", where=f"{self.file}:{self.line}:{self.column}")

    def at(self, node: Any, key: Any, name: str = "") -> Place:
        """The place of an entry of a mapping or list."""
        marks = getattr(node, "lc", None)
        try:
            line, column = marks.key(key) if isinstance(node, dict) else marks.item(key)  # type: ignore[union-attr]
        except (AttributeError, KeyError, TypeError, IndexError):
            line, column = self.line - 1, self.column - 1
        return Place(self.file, f"{self.name}.{name}" if name else self.name, line + 1, column + 1)


def read_document(file: Path, what: str) -> Any:
    """A YAML or JSON file as a mapping that knows its lines; raises `ConfigError`."""
    try:
        document = YAML(typ="rt", pure=True).load(file.read_text(encoding="utf-8-sig"))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(f"cannot be read as {what}: {error.problem}", where=where) from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"cannot be read as {what}: {error}", where=str(file)) from error
    if not isinstance(document, dict):
        raise ConfigError(f"must be a mapping of names to {what}", where=f"{file}:1:1")
    return document


def listed(node: Any, place: Place) -> list[tuple[Any, Place]]:
    """A list's entries, or the one entry that stands without a list, each with its place."""
    if not isinstance(node, list):
        return [(node, place)]
    return [(entry, place.at(node, number)) for number, entry in enumerate(node)]


def _all_rates(document: Any, place: Place) -> dict[str, tuple[Rate, ...]]:
    node = document.get(CURRENCIES, {})
    if not isinstance(node, dict):
        raise place.at(document, CURRENCIES).error("expected {EUR: {usd: 1.08, from: 2026-01-01, source: ECB}}")
    found = {}
    for name, rows in node.items():
        if not re.fullmatch(r"[A-Z]{3}", str(name)):
            raise place.at(node, name, str(name)).error("expected a currency's three letters (ISO 4217)")
        where = place.at(node, name, str(name))
        found[str(name)] = tuple(_exchange(entry, each) for entry, each in listed(rows, where))
    return found


def _exchange(entry: Any, place: Place) -> Rate:
    _check_fields(entry, {"usd", "from", "source"}, place, "{usd, from, source}")
    return Rate(amount(entry, "usd", place), day_of(entry, place), str(entry.get("source", place.file.name)))


def _own_price(entry: Any, place: Place, rates: dict[str, tuple[Rate, ...]]) -> Price:
    _check_fields(entry, _FIELDS, place, "{prompt, completion, from, source}")
    currency = str(entry.get("currency", "USD"))
    if currency != "USD" and currency not in rates:
        raise place.at(entry, "currency", "currency").error(
            f"{currency} has no rate: add `currencies: {{{currency}: {{usd: 1.08, from: 2026-01-01, source: ECB}}}}`"
        )
    price = _rates(entry, place, None)
    price = dataclasses.replace(
        price,
        valid_from=day_of(entry, place),
        source=str(entry.get("source", place.file.name)),
        currency=currency,
        rates=rates.get(currency, ()),
        above=_above(entry, place, price),
    )
    tiers = tuple((tier, _tier(entry[tier], place.at(entry, tier, tier), price)) for tier in TIERS if tier in entry)
    return dataclasses.replace(price, tiers=tiers)


def _rates(entry: Any, place: Place, base: Price | None) -> Price:
    """An entry's rates; what it does not give is the base price's."""
    given: dict[str, Any] = {kind: whole(amount(entry, kind, place) * NANO) for kind in KINDS if kind in entry}
    if base is not None:
        return dataclasses.replace(base, **given)
    for kind in ("prompt", "completion"):
        if kind not in given:
            amount(entry, kind, place)  # which says what is missing
    given.setdefault("cached", given["prompt"])
    return Price(valid_from=dt.date.min, source="", **given)


def _above(entry: Any, place: Place, base: Price) -> tuple[tuple[int, Price], ...]:
    steps = []
    for step, where in listed(entry.get("above", []), place.at(entry, "above", "above")):
        _check_fields(step, {*KINDS, "tokens"}, where, "{tokens, prompt, completion}")
        start = step.get("tokens")
        if not isinstance(start, int) or isinstance(start, bool) or start < 1:
            raise where.error("expected `tokens`, the length of a prompt above which these prices count")
        steps.append((int(start), _rates(step, where, base)))
    return tuple(sorted(steps, key=lambda step: step[0]))


def _tier(node: Any, place: Place, base: Price) -> Price:
    """A tier's price: a factor on all rates, or rates of its own."""
    if isinstance(node, dict):
        _check_fields(node, set(KINDS), place, "a factor such as 0.5, or {prompt, completion}")
        return dataclasses.replace(_rates(node, place, base), above=() if node else base.above)
    return base.times(amount({"factor": node}, "factor", place))


def _check_fields(entry: Any, known: set[str], place: Place, expected: str) -> None:
    if not isinstance(entry, dict):
        raise place.error(f"expected {expected}")
    for name in entry:
        if name not in known:
            raise place.at(entry, name).error(f"unknown field {str(name)!r}; there are {', '.join(sorted(known))}")


def day_of(entry: Any, place: Place) -> dt.date:
    """The date under `from`."""
    day = entry.get("from")
    if isinstance(day, str):
        try:
            return dt.date.fromisoformat(day)
        except ValueError:
            day = None
    if not isinstance(day, dt.date) or isinstance(day, dt.datetime):
        raise place.at(entry, "from", "from").error("expected a date such as 2026-01-01")
    return dt.date(day.year, day.month, day.day)


def amount(entry: Any, kind: str, place: Place) -> Decimal:
    """A number, 0 or more."""
    where = place.at(entry, kind, kind)
    try:
        value = Decimal(str(entry[kind]))
    except (KeyError, InvalidOperation):
        raise where.error("expected a number, in USD a million tokens for a price, e.g. 2.0") from None
    if not value.is_finite() or value < 0:
        raise where.error("must be 0 or more")
    return value
