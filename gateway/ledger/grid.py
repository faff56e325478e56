"""What a kilowatt-hour of a country's grid emits, by date: the operator's own file over `ecologits`' catalogue."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger.price_file import Place, amount, day_of, listed, read_document


@dataclass(frozen=True, slots=True)
class Mix:
    """Kilograms of CO2e a kilowatt-hour, from a date on."""

    kg_per_kwh: float
    valid_from: dt.date
    source: str


class Grid:
    """Grid mixes by country (ISO 3166-1 alpha-3) and day."""

    def __init__(self, own: Mapping[str, tuple[Mix, ...]] | None = None) -> None:
        self._own = dict(own or {})

    def kg_per_kwh(self, country: str, day: dt.date) -> float | None:
        """The mix of a country on a day; of the world where no country is named; nothing for one nobody knows."""
        mix = self.mix(country or "WOR", day)
        return mix.kg_per_kwh if mix else None

    def mix(self, country: str, day: dt.date) -> Mix | None:
        """The mix of a country on a day, with its source."""
        own = [mix for mix in self._own.get(country, ()) if mix.valid_from <= day]
        return max(own, key=lambda mix: mix.valid_from) if own else _catalogue().get(country)


@functools.cache
def _catalogue() -> dict[str, Mix]:
    """The mixes of the installed `ecologits` (ADEME, Our World in Data); they say no date but their release's."""
    spec = importlib.util.find_spec("ecologits")
    folder = Path(next(iter((spec and spec.submodule_search_locations) or [""]))) / "data"
    document = json.loads((folder / "electricity_mixes.json").read_text(encoding="utf-8"))
    release = f"ecologits {importlib.metadata.version('ecologits')}"
    return {mix["name"]: Mix(mix["gwp"], dt.date.min, release) for mix in document["electricity_mixes"]}


def load_grid(file: Path) -> dict[str, tuple[Mix, ...]]:
    """The operator's mixes: `ESP: [{g_per_kwh: 103, from: 2025-01-01, source: REE}]`. Raises `ConfigError`."""
    document = read_document(file, "grid mixes")
    found = {}
    for name, node in document.items():
        place = Place(file, str(name)).at(document, name)
        if not re.fullmatch(r"[A-Z]{3}", str(name)):
            raise place.error("expected a country's three letters (ISO 3166-1 alpha-3), e.g. ESP")
        found[str(name)] = tuple(_mix(entry, where) for entry, where in listed(node, place))
    return found


def _mix(entry: object, place: Place) -> Mix:
    if not isinstance(entry, dict) or set(entry) - {"g_per_kwh", "from", "source"}:
        raise place.error("expected {g_per_kwh, from, source}")
    grams = amount(entry, "g_per_kwh", place)
    return Mix(float(grams) / 1000, day_of(entry, place), str(entry.get("source", place.file.name)))
