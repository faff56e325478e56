"""What `cauce.yaml` says of money and energy, as the books that calls are priced by."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from gateway.ledger.energy import Footprint
from gateway.ledger.grid import Grid, load_grid
from gateway.ledger.power import power
from gateway.ledger.price_file import load_prices
from gateway.ledger.prices import Machine, PriceBook
from gateway.settings import Settings
from gateway.types import Model


def machine_of(settings: Settings) -> Machine:
    """What a second of local inference costs here."""
    rates = settings.machine
    return Machine(*(Decimal(str(rate)) for rate in (rates.usd_per_hour, rates.watts, rates.usd_per_kwh)))


def price_book(settings: Settings, catalogue: Mapping[str, Model] | None = None) -> PriceBook:
    """The prices of all models; with a catalogue, the baseline's too. Raises `ConfigError` for a wrong price file."""
    models = catalogue or {}
    baseline = settings.baseline or next((model.id for model in models.values() if model.kind == "llm"), "")
    return PriceBook(
        machine=machine_of(settings),
        baseline=models.get(baseline),
        own=load_prices(Path(settings.prices)) if settings.prices else None,
        span=(Decimal(str(settings.baseline_tokens_low)), Decimal(str(settings.baseline_tokens_high))),
    )


def footprint(settings: Settings, catalogue: Mapping[str, Model]) -> Footprint:
    """The energy of calls to these models. Raises `ConfigError` for a wrong file of grid mixes."""
    machine = settings.machine
    return Footprint(
        models=catalogue.values(),
        grid=Grid(load_grid(Path(settings.grid)) if settings.grid else None),
        power=power(stated=machine.watts, measure=machine.measure),
        idle_watts=machine.idle_watts,
        country=machine.country,
    )
