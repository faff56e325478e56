"""`cauce keys`: callers' keys."""

from __future__ import annotations

import datetime as dt
import re
import time
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.ledger.keys import Role, StoredKey, create_key, list_keys, revoke_key
from gateway.ledger.store import open_engine
from gateway.settings import load_settings
from gateway.types import Caller, DataClass

_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@click.group()
def command() -> None:
    """Callers' keys: create, list, revoke. With the first key, every request needs one."""


@command.command()
@click.option("--team", default="", help="Who pays.")
@click.option("--app", default="", help="Which application.")
@click.option("--tag", "tags", multiple=True, help="A cost tag; may be given several times.")
@click.option("--models", help="Models, aliases or `auto` that it may ask for, separated by commas; none: any.")
@click.option(
    "--data-class", type=click.Choice([c.label for c in DataClass]), default="public", help="At least this class."
)
@click.option("--expires", help="When it ends: a date (2027-01-31) or a time from now (12h, 30d, 8w).")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.CALLER.value,
    show_default=True,
    help="In the console: nothing, look, or look and change.",
)
@_CONFIG
@_JSON
def create(  # noqa: PLR0913, PLR0917 - one parameter an option
    team: str,
    app: str,
    tags: tuple[str, ...],
    models: str | None,
    data_class: str,
    expires: str | None,
    role: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a key. It is shown once and cannot be shown again."""
    allowed = None if models is None else frozenset(name.strip() for name in models.split(",") if name.strip())
    caller = Caller(team=team, app=app, tags=tags, models=allowed, data=DataClass[data_class.upper()])
    engine = open_engine(load_settings(config).ledger)
    new = create_key(engine, caller, expires_us=_expiry(expires), role=Role(role))
    if as_json:
        click.echo(
            orjson.dumps({"key": new.key, "id": new.id, "team": team, "app": app, "tags": list(tags), "role": role})
        )
        return
    click.echo(f"{new.key}\n\n{new.id}. This is the only time the key is shown. Use it as OPENAI_API_KEY.")


@command.command("list")
@_CONFIG
@_JSON
def list_(config: Path | None, as_json: bool) -> None:
    """Every key: whose it is and whether it still opens anything. Never the key itself."""
    stored = list_keys(open_engine(load_settings(config).ledger))
    if as_json:
        click.echo(orjson.dumps([_row(key) for key in stored]))
        return
    table = Table("id", "team", "app", "tags", "models", "role", "created", "expires", "state")
    for key in stored:
        row = _row(key)
        table.add_row(
            *(
                _cell(row[name])
                for name in ("id", "team", "app", "tags", "models", "role", "created", "expires", "state")
            )
        )
    Console().print(table)


@command.command()
@click.argument("key_id")
@_CONFIG
def revoke(key_id: str, config: Path | None) -> None:
    """Revoke a key by its id; running gateways follow within seconds."""
    if not revoke_key(open_engine(load_settings(config).ledger), key_id):
        raise click.ClickException(f"no key {key_id!r} that is still valid: `cauce keys list` shows them")
    click.echo(f"{key_id} is revoked")


def _expiry(value: str | None) -> int | None:
    """Microseconds of the epoch."""
    if value is None:
        return None
    if match := re.fullmatch(r"(\d{1,5})([hdw])", value):
        return int((time.time() + dt.timedelta(**{_UNITS[match[2]]: int(match[1])}).total_seconds()) * 1e6)
    try:
        end = dt.datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            "expected a date such as 2027-01-31, or a time such as 30d", param_hint="--expires"
        ) from None
    if end.tzinfo is None:
        end = end.replace(tzinfo=dt.UTC)
    if end.timestamp() <= time.time():
        raise click.BadParameter("is in the past", param_hint="--expires")
    return int(end.timestamp() * 1e6)


def _row(key: StoredKey) -> dict[str, object]:
    caller = key.caller
    now_us = int(time.time() * 1e6)
    state = "valid" if key.valid(now_us) else "revoked" if key.revoked_us is not None else "expired"
    return {
        "id": key.id,
        "team": caller.team,
        "app": caller.app,
        "tags": list(caller.tags),
        "models": None if caller.models is None else sorted(caller.models),
        "data_class": caller.data.label,
        "role": key.role.value,
        "created": _moment(key.created_us),
        "expires": _moment(key.expires_us),
        "state": state,
    }


def _moment(microseconds: int | None) -> str | None:
    return (
        None
        if microseconds is None
        else dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).isoformat(timespec="seconds")
    )


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
