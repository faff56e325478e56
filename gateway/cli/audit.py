"""`cauce audit`: the data-protection officer's record: checked, anchored, written out as a report; erasure."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import click
import orjson
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gateway.errors import ConfigError
from gateway.ledger import chain
from gateway.ledger.audit_record import ERASED
from gateway.ledger.chain_check import HASH, check
from gateway.ledger.erasure import erase as erase_caller
from gateway.ledger.erasure import is_known
from gateway.ledger.keys import id_of, list_keys
from gateway.ledger.report import Period, month_period
from gateway.ledger.store import open_engine
from gateway.settings import load_settings
from gateway.telemetry.audit import checked_values
from gateway.telemetry.audit_report import month_report
from gateway.telemetry.audit_text import as_csv, as_markdown

_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


@click.group()
def command() -> None:
    """What class of data went where, sealed record by record. No text of a request is in it."""


@command.command()
@click.option("--anchor", "anchors", multiple=True, help="A hash kept from `cauce audit anchor`; may be given again.")
@_CONFIG
@_JSON
def verify(anchors: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Find a record that was changed, taken out, put in or moved, and say where; exit 1 when there is one."""
    if wrong := [anchor for anchor in anchors if not HASH.fullmatch(anchor)]:
        raise click.BadParameter(f"{wrong[0]!r} is not 64 hexadecimal digits", param_hint="--anchor")
    try:
        checked = check(_open(config), anchors=anchors)
    except SQLAlchemyError as error:
        raise click.ClickException(f"the ledger's database cannot be read: {error}") from error
    if as_json:
        click.echo(orjson.dumps(checked_values(checked)))
    else:
        for problem in checked.problems:
            click.echo(f"{problem.kind}: {problem.where}: {problem.message}")
        if checked.count > len(checked.problems):
            click.echo(f"and {checked.count - len(checked.problems)} more")
        held = f", {len(anchors)} anchors" if anchors else ""
        state = "whole" if checked.whole else f"NOT whole: {checked.count} problems"
        click.echo(f"{checked.records} records in {checked.chains} chains{held}: {state}")
    raise click.exceptions.Exit(0 if checked.whole else 1)


@command.command()
@_CONFIG
@_JSON
def anchor(config: Path | None, as_json: bool) -> None:
    """Seal all records up to now under one hash, to be kept where the database's owner cannot reach.

    `cauce audit verify --anchor HASH` later shows that nothing before it was written again.
    """
    sealed = chain.anchor(_open(config)).hash
    click.echo(orjson.dumps({"anchor": sealed}) if as_json else sealed)


@command.command()
@click.option("--month", required=True, help="One month of the business's calendar, e.g. 2026-11.")
@click.option("--lang", "language", type=click.Choice(["es", "en"]), help="Language; none: the configured one.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "json", "csv"]),
    default="md",
    show_default=True,
    help="For people, for tools, or for a spreadsheet.",
)
@_CONFIG
def export(month: str, language: Literal["es", "en"] | None, form: str, config: Path | None) -> None:
    """The report of a month: what went to whom under which rule, refusals, failures, policies, legal grounds."""
    settings = load_settings(config)
    period = _month(month, ZoneInfo(settings.time_zone))
    report = month_report(_open(config), period, month=month, time_zone=settings.time_zone)
    chosen = language or settings.language
    if form == "json":
        click.echo(orjson.dumps(report))
    else:
        click.echo(as_csv(report, chosen) if form == "csv" else as_markdown(report, chosen), nl=False)


@command.command()
@click.option("--caller", help="The id of the caller's key: `cauce keys list` shows it.")
@click.option("--subject-key", help="The key itself in place of its id; `-` asks for it.")
@click.option("--by", help="Who asks for it, for the record; none: the user of this machine.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@_CONFIG
@_JSON
def erase(  # noqa: PLR0913, PLR0917 - one parameter an option
    caller: str | None, subject_key: str | None, by: str | None, yes: bool, config: Path | None, as_json: bool
) -> None:
    """Take away whose requests a caller's were, for ever, and leave the proof of it in the audit.

    Ledger: key id, team, app and tags become `erased`; money and counts stay; feedback goes, and the own budgets and
    rates of a key that is revoked or over. Audit: the records stay, their caller's name goes. Running gateways empty
    answer cache, pseudonyms and remembered conversations within two seconds. Logs are not in our hands.
    """
    if (caller is None) == (subject_key is None):
        raise click.UsageError("give either --caller or --subject-key")
    if subject_key == "-":
        subject_key = click.prompt("The key", hide_input=True, err=True)
    engine = _open(config)
    subject = caller if caller is not None else id_of(engine, subject_key or "")
    if subject is None or not is_known(engine, subject):
        raise click.ClickException(f"nothing is stored for {caller or 'this key'}: `cauce keys list` shows who calls")
    if not yes:
        click.confirm(f"Whose requests those of {subject} were is lost for ever. Go on?", abort=True, err=True)
    done = erase_caller(engine, subject, by=by or _user())
    if as_json:
        told = {"subject": done.subject, "entries": done.entries, "names": done.names, "keys": done.keys}
        click.echo(orjson.dumps({**told, "proof": done.hash}))
    else:
        click.echo(f"{done.entries} entries, {done.names} names in the audit and {done.keys} keys now say `{ERASED}`")
        click.echo(f"proof: audit record {done.hash}")
    if any(key.id == subject and key.valid(time.time_ns() // 1000) for key in list_keys(engine)):
        click.echo(
            f"{subject} is still valid: what it asks from now on is recorded anew. `cauce keys revoke {subject}`, "
            "then erase again",
            err=True,
        )


def _open(config: Path | None) -> Engine:
    """The ledger; one that is not there is said, not made."""
    url = load_settings(config).ledger
    try:
        parsed = make_url(url)
    except ArgumentError:
        return open_engine(url)  # it says what is wrong
    if parsed.get_backend_name() == "sqlite" and not (parsed.database and Path(parsed.database).exists()):
        raise ConfigError(f"ledger: there is no {parsed.database or 'file'} yet: name the cauce.yaml with --config")
    return open_engine(url)


def _month(month: str, zone: ZoneInfo) -> Period:
    try:
        return month_period(month, zone)
    except ValueError:
        raise click.BadParameter("expected a month such as 2026-11", param_hint="--month") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container, where the number has no name
        return "unknown"
