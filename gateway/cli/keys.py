"""`cauce keys`: callers' keys."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from gateway.ledger.budgets import opening, read_uses, span_at
from gateway.ledger.keys import Role, StoredKey, create_key, list_keys, revoke_key
from gateway.ledger.limits import (
    Limits,
    clear_limits,
    read_budget,
    read_limits,
    read_scope,
    scopes_of,
    set_limits,
)
from gateway.ledger.store import open_engine
from gateway.settings import load_settings
from gateway.types import Caller, DataClass, Rate

_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def _name(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The name of an organisation, a team or an app: a part of a scope's path."""
    if "/" in value or value != value.strip():
        raise click.BadParameter("a name has no / and no space around it", param_hint=f"--{parameter.name}")
    return value


def _scope(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return read_scope(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="SCOPE") from None


def _limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """What may be spent and asked for: the same on a key and on what stands over it."""
    options = (
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            help="USD, e.g. 50/month, 5/day; a bare number is a total. May be given once for each.",
        ),
        click.option(
            "--hard/--soft", default=True, show_default=True, help="Whether these budgets refuse or only alert."
        ),
        click.option("--carry-over", is_flag=True, help="What a day or month leaves is added to the next."),
        click.option("--requests-per-minute", type=click.IntRange(1), help="Requests a minute."),
        click.option("--tokens-per-minute", type=click.IntRange(1), help="Tokens a minute, prompts and answers."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Callers' keys: create, list, revoke, limit. With the first key, every request needs one."""


@command.command()
@click.option("--org", default="", callback=_name, help="Organisation over the team.")
@click.option("--team", default="", callback=_name, help="Who pays.")
@click.option("--app", default="", callback=_name, help="Which application.")
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
@_limit_options
@_CONFIG
@_JSON
def create(  # noqa: PLR0913, PLR0917 - one parameter an option
    org: str,
    team: str,
    app: str,
    tags: tuple[str, ...],
    models: str | None,
    data_class: str,
    expires: str | None,
    role: str,
    budgets: tuple[str, ...],
    hard: bool,
    carry_over: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a key. It is shown once and cannot be shown again."""
    allowed = None if models is None else frozenset(name.strip() for name in models.split(",") if name.strip())
    own = _limits("", budgets, hard, carry_over, requests_per_minute, tokens_per_minute)
    caller = Caller(
        org=org,
        team=team,
        app=app,
        tags=tags,
        models=allowed,
        data=DataClass[data_class.upper()],
        budgets=own.budgets,
        rates=own.rates,
    )
    engine = open_engine(load_settings(config).ledger)
    new = create_key(engine, caller, expires_us=_expiry(expires), role=Role(role))
    if as_json:
        who = {"org": org, "team": team, "app": app, "tags": list(tags), "role": role}
        click.echo(orjson.dumps({"key": new.key, "id": new.id, **who, **_limit_row(own)}))
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
    shown = ("id", "org", "team", "app", "tags", "models", "role", "limits", "created", "expires", "state")
    table = Table(*shown)
    for key in stored:
        row = _row(key)
        row["limits"] = _limit_lines(_own_limits(key))
        table.add_row(*(_cell(row[name]) for name in shown))
    Console().print(table)


@command.command()
@click.argument("scope", callback=_scope)
@_limit_options
@click.option("--clear", is_flag=True, help="Take all its limits away first.")
@_CONFIG
@_JSON
def limit(  # noqa: PLR0913, PLR0917 - one parameter an option
    scope: str,
    budgets: tuple[str, ...],
    hard: bool,
    carry_over: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    clear: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """Limit org:NAME, team:NAME (team:ORG/NAME), app:TEAM/NAME or key:ID; without an option, show its limits.

    What is set replaces the limit of the same kind; running gateways follow within seconds. A key's calls count on all
    levels over it, and must pass them all.
    """
    wanted = _limits(scope, budgets, hard, carry_over, requests_per_minute, tokens_per_minute)
    engine = open_engine(load_settings(config).ledger)
    with engine.begin() as connection:
        if clear:
            clear_limits(connection, scope)
        set_limits(connection, [*wanted.budgets, *wanted.rates])
    found = read_limits(engine).get(scope, Limits(scope))
    if as_json:
        click.echo(orjson.dumps({"scope": scope, **_limit_row(found)}))
        return
    click.echo(f"{scope}: {', '.join(_limit_lines(found)) or 'no limits'}")
    if not any(scope in scopes_of(key.caller) for key in list_keys(engine)):
        click.echo(f"no key stands under {scope} yet: `cauce keys list` shows whose keys there are", err=True)


@command.command()
@_CONFIG
@_JSON
def limits(config: Path | None, as_json: bool) -> None:
    """Every limit, and how much of each budget is used now."""
    settings = load_settings(config)
    engine = open_engine(settings.ledger)
    zone = ZoneInfo(settings.time_zone)
    rows = [row for found in read_limits(engine).values() for row in _used_rows(engine, found, zone)]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    table = Table("scope", "kind", "limit", "carried", "spent", "reserved", "left", "resets", title="Money in USD")
    for row in rows:
        money = ("carried", "spent", "reserved", "left")
        is_budget = row["hard"] is not None
        cells = [_usd(row[name]) if is_budget else "" for name in ("limit", *money)]
        limit = cells[0] + ("" if row["hard"] else " (soft)") if is_budget else _cell(row["limit"])
        table.add_row(_cell(row["scope"]), _cell(row["kind"]), limit, *cells[1:], _cell(row["resets"]))
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
        "org": caller.org,
        "team": caller.team,
        "app": caller.app,
        "tags": list(caller.tags),
        "models": None if caller.models is None else sorted(caller.models),
        "data_class": caller.data.label,
        "role": key.role.value,
        "created": _moment(key.created_us),
        "expires": _moment(key.expires_us),
        "state": state,
        **_limit_row(_own_limits(key)),
    }


def _own_limits(key: StoredKey) -> Limits:
    """The key's own, without what stands over it."""
    scope = f"key:{key.id}"
    budgets = tuple(budget for budget in key.caller.budgets if budget.scope == scope)
    return Limits(scope, budgets, tuple(rate for rate in key.caller.rates if rate.scope == scope))


def _limits(  # noqa: PLR0913, PLR0917 - the options of two commands
    scope: str,
    budgets: tuple[str, ...],
    hard: bool,
    carry_over: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
) -> Limits:
    try:
        read = tuple(read_budget(value, scope, hard=hard, carry_over=carry_over) for value in budgets)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--budget") from None
    if len({budget.period for budget in read}) < len(read):
        raise click.BadParameter("one budget a day, one a month and one in total", param_hint="--budget")
    given = (("requests", requests_per_minute), ("tokens", tokens_per_minute))
    return Limits(scope, read, tuple(Rate(scope, kind, most) for kind, most in given if most is not None))


def _limit_row(found: Limits) -> dict[str, object]:
    rates = {rate.kind: rate.per_minute for rate in found.rates}
    return {
        "budgets": [
            {
                "period": budget.period,
                "nano_usd": budget.nano_usd,
                "hard": budget.hard,
                "carry_over": budget.carry_over,
            }
            for budget in found.budgets
        ],
        "requests_per_minute": rates.get("requests"),
        "tokens_per_minute": rates.get("tokens"),
    }


def _limit_lines(found: Limits) -> list[str]:
    """For people: `50 USD/month (soft)`, `60 requests/minute`."""
    lines = []
    for budget in found.budgets:
        notes = [name for name, said in (("soft", not budget.hard), ("carried over", budget.carry_over)) if said]
        amount = f"{budget.nano_usd / 1e9:g} USD" + ("" if budget.period == "total" else f"/{budget.period}")
        lines.append(amount + (f" ({', '.join(notes)})" if notes else ""))
    return [*lines, *(f"{rate.per_minute} {rate.kind}/minute" for rate in found.rates)]


def _used_rows(engine: Engine, found: Limits, zone: ZoneInfo) -> Iterator[dict[str, object]]:
    """A row a limit; money in integer nano-USD."""
    for budget in found.budgets:
        span = span_at(budget, time.time_ns() // 1000, zone)
        use = read_uses(engine, [span.name]).get(span.name) or opening(engine, budget, span)
        yield {
            "scope": found.scope,
            "kind": f"budget/{budget.period}",
            "limit": budget.nano_usd,
            "hard": budget.hard,
            "carried": use.carried,
            "spent": use.spent,
            "reserved": use.reserved,
            "left": budget.nano_usd + use.carried - use.spent - use.reserved,
            "resets": _moment(span.end_us),
        }
    nothing = dict.fromkeys(("hard", "carried", "spent", "reserved", "left", "resets"))
    for rate in found.rates:
        yield {"scope": found.scope, "kind": f"{rate.kind}/minute", "limit": rate.per_minute, **nothing}


def _moment(microseconds: int | None) -> str | None:
    return (
        None
        if microseconds is None
        else dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).isoformat(timespec="seconds")
    )


def _usd(value: object) -> str:
    return f"{value / 1e9:.4f}" if isinstance(value, int) else ""


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
