"""`cauce report`: spend and savings."""

from __future__ import annotations

import csv
import re
import sys
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.cascade import print_cascade
from gateway.ledger.cascade import cascade
from gateway.ledger.report import GROUPS, Period, month_period, report
from gateway.ledger.store import open_engine
from gateway.settings import load_settings

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.command()
@click.option("--by", default="model", show_default=True, help=f"Group by, separated by commas: {', '.join(GROUPS)}.")
@click.option("--cascade", "of_cascade", is_flag=True, help="Whether checking and escalating pays, route by route.")
@click.option("--month", help="One month of the business's calendar, e.g. 2026-11.")
@click.option("--since", help="From this long ago, e.g. 24h, 30d.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="For people, for a spreadsheet, or for tools.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    by: str,
    of_cascade: bool,
    month: str | None,
    since: str | None,
    form: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """What was spent and saved. Money in JSON and CSV is integer nano-USD; an unknown cost is said, never a 0."""
    settings = load_settings(config)
    zone = ZoneInfo(settings.time_zone)
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if unknown := [name for name in names if name not in GROUPS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GROUPS)}", param_hint="--by")
    period = read_period(month, since, zone)
    if of_cascade:
        rows = cascade(open_engine(settings.ledger), period=period)
    else:
        rows = report(open_engine(settings.ledger), by=names, period=period, zone=zone)
    if as_json or form == "json":
        click.echo(orjson.dumps(rows))
    elif form == "csv":
        _csv(rows)
    elif of_cascade:
        print_cascade(rows, settings.language)
    else:
        _table(rows, names)


def read_period(month: str | None, since: str | None, zone: ZoneInfo) -> Period:
    """The period that `--month` or `--since` names."""
    if month and since:
        raise click.UsageError("--month and --since cannot go together")
    if month:
        try:
            return month_period(month, zone)
        except ValueError:
            raise click.BadParameter("expected a month such as 2026-11", param_hint="--month") from None
    if since:
        match = re.fullmatch(r"(\d{1,6})([mhdw])", since)
        if match is None:
            raise click.BadParameter("expected a time such as 24h or 30d", param_hint="--since")
        return Period(start_us=int((time.time() - int(match[1]) * _SECONDS[match[2]]) * 1e6))
    return Period()


def _csv(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, [name for name in rows[0] if name != "attempts"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)


def _table(rows: list[dict[str, Any]], by: tuple[str, ...]) -> None:
    columns = ["request", "time", "model", "route", "data_class", "outcome"] if "request" in by else list(by)
    table = Table(
        *columns, "requests", "tokens in", "tokens out", "cost USD", "baseline USD", "saved USD", "cost unknown"
    )
    for row in rows:
        table.add_row(
            *(str(row[name]) or "-" for name in columns),
            str(row["requests"]),
            f"{row['prompt_tokens']}{'*' if row['estimated'] else ''}",
            f"{row['completion_tokens']}{'*' if row['estimated'] else ''}",
            *(_usd(row[name]) for name in ("cost_nano_usd", "baseline_nano_usd", "saved_nano_usd")),
            str(row.get("unknown_cost_requests", int(row["cost_nano_usd"] is None))),
        )
    Console().print(table)
    if any(row["estimated"] for row in rows):
        click.echo("* holds counts that the provider did not send; they are estimates")


def _usd(nano_usd: int | None) -> str:
    if nano_usd is None:
        return "unknown"
    sign, nano_usd = ("-", -nano_usd) if nano_usd < 0 else ("", nano_usd)
    return f"{sign}{nano_usd // 1_000_000_000}.{nano_usd % 1_000_000_000:09d}"
