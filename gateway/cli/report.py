"""`cauce report`: spend and savings."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from sqlalchemy import Engine

from gateway.cli.cascade import print_cascade
from gateway.cli.report_output import focus_csv, parquet, show
from gateway.ledger.analysis import before, break_even, chargeback, lengths, movers
from gateway.ledger.cascade import cascade
from gateway.ledger.costing import machine_of
from gateway.ledger.daily import rebuild
from gateway.ledger.focus import focus, unknown_calls
from gateway.ledger.report import GROUPS, Period, month_period, report
from gateway.ledger.store import open_engine
from gateway.settings import Settings, load_settings

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_VIEWS = ("chargeback", "movers", "break-even", "lengths")


@click.command()
@click.option("--by", default="model", show_default=True, help=f"Group by, separated by commas: {', '.join(GROUPS)}.")
@click.option("--cascade", "of_cascade", is_flag=True, help="Whether checking and escalating pays, route by route.")
@click.option("--month", help="One month of the business's calendar, e.g. 2026-11.")
@click.option("--since", help="From this long ago, e.g. 24h, 30d.")
@click.option(
    "--view",
    type=click.Choice(_VIEWS),
    help="Each group's share; what changed most since the period before; from how many requests a month the local "
    "machine is cheaper than the cloud; or how long the baseline's answers are, as shadows measured it.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet", "focus"]),
    default="table",
    show_default=True,
    help="For people, for a spreadsheet, for tools, or FOCUS 1.2 for a FinOps platform.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write instead of printing.")
@click.option("--rebuild", "again", is_flag=True, help="First make the daily sums again from the entries.")
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    by: str,
    of_cascade: bool,
    month: str | None,
    since: str | None,
    view: str | None,
    form: str,
    as_json: bool,
    output: Path | None,
    again: bool,
    config: Path | None,
) -> None:
    """What was spent and saved. Money in JSON and CSV is integer nano-USD; an unknown cost is said, never a 0."""
    settings = load_settings(config)
    form = "json" if as_json else form
    zone = ZoneInfo(settings.time_zone)
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    if unknown := [name for name in names if name not in GROUPS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GROUPS)}", param_hint="--by")
    period = read_period(month, since, zone)
    engine = open_engine(settings.ledger)
    if again:
        _rebuild(engine, zone)
    if of_cascade:
        rows = cascade(engine, period=period)
        if form == "table":
            print_cascade(rows, settings.language)
        else:
            show(rows, form, names, language=settings.language, output=output)
    elif form == "focus":
        _focus(engine, period, zone, output)
    elif view in {"break-even", "lengths"}:
        _figures(engine, view, period, settings)
    else:
        rows = _rows(engine, names, view, period=period, month=month, zone=zone)
        show(rows, form, names, language=settings.language, output=output)


def _rows(  # noqa: PLR0913 - what `--month` said is needed beside the period that it means
    engine: Engine, by: tuple[str, ...], view: str | None, *, period: Period, month: str | None, zone: ZoneInfo
) -> list[dict[str, Any]]:
    if view == "movers":
        try:
            earlier = before(period, month, zone)
        except ValueError:
            raise click.UsageError("--view movers compares two periods: name one with --month or --since") from None
        return movers(engine, by=by, now=period, earlier=earlier, zone=zone)
    rows = report(engine, by=by, period=period, zone=zone)
    return chargeback(rows) if view == "chargeback" else rows


def _focus(engine: Engine, period: Period, zone: ZoneInfo, output: Path | None) -> None:
    rows = focus(engine, period=period, zone=zone)
    if output is not None and output.suffix == ".parquet":
        parquet([{name: _text(value) for name, value in row.items()} for row in rows], output)
    else:
        focus_csv(rows, output)
    if missing := unknown_calls(engine, period=period):
        click.echo(f"cauce: {missing} calls of unknown cost are in no row: `cauce report` counts them", err=True)


def _text(value: object) -> object:
    return None if value is None else f"{value:f}" if not isinstance(value, str) else value


def _figures(engine: Engine, view: str, period: Period, settings: Settings) -> None:
    if view == "break-even":
        found = break_even(engine, period=period, machine=machine_of(settings))
    else:
        models = settings.catalogue()
        baseline = settings.baseline or next((model.id for model in models if model.kind == "llm"), "")
        found = lengths(engine, period=period, baseline=baseline)
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def _rebuild(engine: Engine, zone: ZoneInfo) -> None:
    for done, days in rebuild(engine, zone):
        click.echo(f"\rdaily sums: {done} of {days} days", nl=done == days, err=True)


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
