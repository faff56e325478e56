"""`cauce prices`: what a token costs, what changed, and a correction of what was booked."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.report import read_period
from gateway.ledger.costing import price_book
from gateway.ledger.price import KINDS, Price
from gateway.ledger.price_seed import seed_changes, seed_price, seed_source
from gateway.ledger.prices import PriceBook
from gateway.ledger.report import Period
from gateway.ledger.reprice import Repriced, reprice
from gateway.ledger.store import open_engine
from gateway.settings import Settings, load_settings
from gateway.types import Model

_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output; rates are nano-USD a million.")
_DAY: Final = click.DateTime(["%Y-%m-%d"])


@click.group()
def command() -> None:
    """What a token costs: list, what changed, and price again what was booked."""


@command.command("list")
@click.option("--at", type=_DAY, help="Another day than today: 2026-01-01.")
@_JSON
@_CONFIG
def list_(at: dt.datetime | None, as_json: bool, config: Path | None) -> None:
    """The price of each configured model on a day, with its source; tiers, long prompts and kinds of tokens too."""
    settings = load_settings(config)
    book, day = price_book(settings), (at or dt.datetime.now(dt.UTC)).date()
    rows = [_row(model, None if book.by_time(model) else book.price(model, day), book) for model in _models(settings)]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    table = Table("model", "kind", "USD a million tokens", "from", "source")
    for row in rows:
        _lines(table, row)
    Console().print(table)


@command.command()
@click.option("--since", type=_DAY, help="Show what changed upstream since this day, in the installed seed.")
@click.option("--all", "everything", is_flag=True, help="With --since: every model of the seed.")
@_JSON
@_CONFIG
def diff(since: dt.datetime | None, everything: bool, as_json: bool, config: Path | None) -> None:
    """How the installed seed differs from your own price file; with --since, from what it said on that day."""
    settings = load_settings(config)
    today = dt.datetime.now(dt.UTC).date()
    if since is None:
        found = _against_own(settings, today)
    elif everything:
        found = [(f"{provider}/{model}", old, new) for provider, model, old, new in seed_changes(since.date(), today)]
    else:
        found = _upstream(settings, since.date(), today)
    rows = [_difference(name, old, new) for name, old, new in found]
    rows = [row for row in rows if row["changes"]]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['model']}: {row['old_source']} -> {row['new_source']}")
        for change in row["changes"]:
            old, new = (_usd(change[end]) for end in ("old", "new"))
            click.echo(f"  {change['kind']}: {old} -> {new}")
    if not rows:
        click.echo(f"nothing differs ({seed_source()})")


@command.command("reprice")
@click.option("--month", help="One month of the business's calendar, e.g. 2026-11.")
@click.option("--since", help="From this long ago, e.g. 24h, 30d.")
@click.option("--model", default="", help="Only requests that called this model.")
@click.option("--apply", is_flag=True, help="Book the differences as adjustments; without it, only say them.")
@_JSON
@_CONFIG
def reprice_(  # noqa: PLR0913, PLR0917 - one parameter an option
    month: str | None, since: str | None, model: str, apply: bool, as_json: bool, config: Path | None
) -> None:
    """Price what was booked again, by today's price file: the differences become adjustments, no entry is rewritten."""
    settings = load_settings(config)
    period: Period = read_period(month, since, ZoneInfo(settings.time_zone))
    models = {each.id: each for each in _models(settings)}
    found = Repriced()
    steps = reprice(
        open_engine(settings.ledger),
        prices=price_book(settings),
        models=models,
        period=period,
        model=model,
        apply=apply,
    )
    for found in steps:
        click.echo(f"\r{found.requests} requests", nl=False, err=True)
    click.echo(err=True)
    if as_json:
        click.echo(orjson.dumps({"applied": apply, **{n: getattr(found, n) for n in found.__slots__}}))
        return
    verb = "booked" if apply else "would change; --apply books it"
    click.echo(f"{found.changed} of {found.requests} requests {verb}: {_usd(found.nano_usd)} USD in all")
    if found.unknown:
        click.echo(f"{found.unknown} requests stay unknown: no price for a day, or no usage")


def _models(settings: Settings) -> tuple[Model, ...]:
    return settings.catalogue()


def _row(model: Model, price: Price | None, book: PriceBook) -> dict[str, Any]:
    row: dict[str, Any] = {"model": model.id, "upstream_model": model.model}
    if price is None:
        local = book.by_time(model)
        return {**row, "source": "machine time" if local else "unknown", "rates": {}, "above": [], "tiers": {}}
    return {
        **row,
        "source": price.source,
        "from": price.valid_from.isoformat(),
        "rates": _rates(price),
        "above": [{"tokens": start, "rates": _rates(step)} for start, step in price.above],
        "tiers": {name: _rates(tier) for name, tier in price.tiers},
    }


def _rates(price: Price) -> dict[str, int]:
    return {kind: rate for kind in KINDS if (rate := getattr(price, kind)) is not None}


def _lines(table: Table, row: dict[str, Any]) -> None:
    if not row["rates"]:
        table.add_row(row["model"], "", "", "", row["source"])
    sets = [("", row["rates"])]
    sets += [(f"above {step['tokens']} tokens: ", step["rates"]) for step in row["above"]]
    sets += [(f"{tier}: ", rates) for tier, rates in row["tiers"].items()]
    name = row["model"]
    for label, rates in sets:
        for kind, rate in rates.items():
            table.add_row(name, f"{label}{kind}", _usd(rate), row["from"], row["source"])
            name = ""


def _against_own(settings: Settings, today: dt.date) -> list[tuple[str, Price, Price]]:
    """The operator's price of today with the seed's, for each model that has both."""
    book, found = price_book(settings), []
    for model in _models(settings):
        seed = seed_price(model.model, model.provider, model.base_url, today)
        own = book.price(model, today)
        if own is not None and seed is not None and own.source != seed.source:
            found.append((model.id, own, seed))
    return found


def _upstream(settings: Settings, since: dt.date, today: dt.date) -> list[tuple[str, Price, Price]]:
    found = []
    for model in _models(settings):
        old, new = (seed_price(model.model, model.provider, model.base_url, day) for day in (since, today))
        if old is not None and new is not None:
            found.append((model.id, old, new))
    return found


def _difference(name: str, old: Price, new: Price) -> dict[str, Any]:
    """The kinds whose rate differs, of the standard price, of its tiers and of its long prompts."""
    before, after = _flat(old), _flat(new)
    return {
        "model": name,
        "old_source": f"{old.source} {old.valid_from}",
        "new_source": f"{new.source} {new.valid_from}",
        "changes": [
            {"kind": kind, "old": before.get(kind), "new": after.get(kind)}
            for kind in dict.fromkeys((*before, *after))
            if before.get(kind) != after.get(kind)
        ],
    }


def _flat(price: Price) -> dict[str, int]:
    flat = _rates(price)
    for start, step in price.above:
        flat |= {f"{kind} above {start}": rate for kind, rate in _rates(step).items()}
    for name, tier in price.tiers:
        flat |= {f"{name} {kind}": rate for kind, rate in _flat(tier).items()}
    return flat


def _usd(nano_usd: int | None) -> str:
    return "none" if nano_usd is None else f"{nano_usd / 1_000_000_000:.9f}".rstrip("0").rstrip(".")
