"""`cauce reconcile`: a provider's invoice against the ledger."""

from __future__ import annotations

import dataclasses
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.report_output import usd
from gateway.ledger.invoice import read_invoice
from gateway.ledger.reconcile import Difference, Reconciled, book, reconcile
from gateway.ledger.store import open_engine
from gateway.settings import load_settings

_HEADS: Final = {
    "en": ("line", "day", "model", "invoice USD", "ledger USD", "difference", "why"),
    "es": ("línea", "día", "modelo", "factura USD", "registro USD", "diferencia", "por qué"),
}


@click.command()
@click.argument("invoice", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--provider", default="", help="Only calls to this provider: openai, anthropic, ...")
@click.option("--columns", default="", help="Which column is which: day=Date,model=SKU,amount=Net,prompt=In.")
@click.option("--rate", default="1", help="USD for one unit of the invoice's currency.")
@click.option("--tolerance", default=0.5, show_default=True, help="Percent of the invoice that may differ in all.")
@click.option("--adjust", "adjusting", is_flag=True, help="Book the differences, as adjustments with their reason.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output; money is integer nano-USD.")
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    invoice: Path,
    provider: str,
    columns: str,
    rate: str,
    tolerance: float,
    adjusting: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Compare an invoice (CSV of OpenAI, of Anthropic, or any) with the ledger, line by line, with the reasons.

    Exit 1 when they differ by more than the tolerance.
    """
    settings = load_settings(config)
    engine = open_engine(settings.ledger)
    found = reconcile(engine, read_invoice(invoice, _mapping(columns), _rate(rate)), provider=provider)
    booked = book(engine, found, source=invoice.name) if adjusting else 0
    apart = sum(abs(line.nano_usd or 0) for line in found.lines)
    within = apart * 100 <= tolerance * max(found.invoiced, 1) if found.invoiced else apart == 0
    if as_json:
        click.echo(orjson.dumps(_json(found, apart, within, booked)))
    else:
        _table(found, settings.language)
        click.echo(f"invoice {usd(found.invoiced)} USD, ledger {usd(found.booked)} USD, apart by {usd(apart)} USD")
        if found.offset_hours:
            click.echo(f"the invoice's days are UTC{found.offset_hours:+d}")
        if adjusting:
            click.echo(f"{booked} requests adjusted")
    if not within:
        raise click.exceptions.Exit(1)


def _mapping(columns: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in columns.split(",") if pair.strip()]
    if any(not (name.strip() and column.strip()) for name, _, column in pairs):
        raise click.BadParameter("expected day=Date,model=SKU,amount=Net", param_hint="--columns")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _rate(text: str) -> Decimal:
    try:
        rate = Decimal(text)
    except InvalidOperation:
        rate = Decimal(0)
    if not (rate.is_finite() and rate > 0):
        raise click.BadParameter("expected USD for one unit of the currency, e.g. 1.08", param_hint="--rate")
    return rate


def _table(found: Reconciled, language: str) -> None:
    table = Table(*_HEADS[language])
    for line in found.lines:
        said = line.invoice
        amount = "" if said is None or said.nano_usd is None else usd(said.nano_usd)
        difference = "" if line.nano_usd is None else usd(line.nano_usd)
        number = str(said.number) if said else ""
        table.add_row(
            number, str(line.day or ""), line.model, amount, usd(line.ledger.nano_usd), difference, "\n".join(line.why)
        )
    Console().print(table)


def _json(found: Reconciled, apart: int, within: bool, booked: int) -> dict[str, Any]:
    return {
        "invoice_nano_usd": found.invoiced,
        "ledger_nano_usd": found.booked,
        "apart_nano_usd": apart,
        "within_tolerance": within,
        "offset_hours": found.offset_hours,
        "adjusted_requests": booked,
        "lines": [_line(line) for line in found.lines],
    }


def _line(line: Difference) -> dict[str, Any]:
    ledger = line.ledger
    return {
        "day": line.day and line.day.isoformat(),
        "model": line.model,
        "invoice": line.invoice and {**dataclasses.asdict(line.invoice), "day": None},
        "ledger": {
            "requests": len(ledger.calls),
            "prompt": ledger.prompt,
            "cached": ledger.cached,
            "completion": ledger.completion,
            "nano_usd": ledger.nano_usd,
        },
        "difference_nano_usd": line.nano_usd,
        "why": line.why,
    }
