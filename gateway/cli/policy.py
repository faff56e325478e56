"""`cauce policy`: what was in force, what is new, put a policy in force, go back to an earlier one."""

from __future__ import annotations

import datetime as dt
import difflib
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.ledger.policies import Revision, history, own_text, remember, whole_text
from gateway.ledger.store import open_engine
from gateway.policy.apply import NotApplied
from gateway.policy.apply import put_in_force as apply_text
from gateway.policy.load import read_policy
from gateway.settings import Settings, load_settings

_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
_POLICY = click.option(
    "--policy", "file", type=click.Path(path_type=Path), help="Policy file; none: the configured one."
)


@click.group()
def command() -> None:
    """The policy in force and its history. A running gateway follows the file within two seconds."""


@command.command("history")
@_CONFIG
@_POLICY
@click.option("--json", "as_json", is_flag=True, help="One JSON list, without the texts.")
def history_(config: Path | None, file: Path | None, as_json: bool) -> None:
    """The revisions that were in force, the newest first: since when, and whose file it was."""
    settings = load_settings(config)
    revisions = _history(settings, _file(settings, file))
    rows = [_row(one, settings) for one in revisions]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    table = Table("revision", "since", "who", "file", "rules changed", box=None, header_style="bold")
    for number, (one, row) in enumerate(zip(revisions, rows, strict=True)):
        earlier = revisions[number + 1].text if number + 1 < len(revisions) else one.text
        table.add_row(row["revision"], row["since"], row["who"], row["file"], _changed_lines(earlier, one.text))
    Console().print(table if rows else "no policy of this name has been in force yet")


@command.command()
@click.argument("older")
@click.argument("newer", required=False)
@_CONFIG
@_POLICY
def diff(older: str, newer: str | None, config: Path | None, file: Path | None) -> None:
    """What changed from one revision to another, or to the file as it is now."""
    settings = load_settings(config)
    where = _file(settings, file)
    revisions = _history(settings, where)
    before = _named(revisions, older)
    after, title = (_named(revisions, newer).text, newer) if newer else (_as_it_is(where), str(where))
    lines = difflib.unified_diff(before.text.splitlines(), after.splitlines(), before.revision, title, lineterm="")
    click.echo("\n".join(lines) or "nothing")


@command.command()
@click.argument("revision")
@_CONFIG
@_POLICY
def show(revision: str, config: Path | None, file: Path | None) -> None:
    """The text of one revision."""
    settings = load_settings(config)
    click.echo(_named(_history(settings, _file(settings, file)), revision).text, nl=False)


@command.command()
@click.argument("revision", required=False)
@_CONFIG
@_POLICY
def rollback(revision: str | None, config: Path | None, file: Path | None) -> None:
    """Write an earlier revision back into the policy file: the one before the newest, unless one is named."""
    settings = load_settings(config)
    where = _file(settings, file)
    _keep(where, settings)
    revisions = _history(settings, where)
    if revision is None and len(revisions) < 2:
        raise click.ClickException("there is no earlier revision of this policy to go back to")
    chosen = _named(revisions, revision) if revision else revisions[1]
    title = f"revision {chosen.revision}"
    put_in_force(own_text(chosen.text), where, settings, title=title, revision=chosen.revision)
    _keep(where, settings)
    click.echo(f"{where}: back at {chosen.name}@{chosen.revision}")


@command.command()
@click.argument("new", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_CONFIG
@_POLICY
def apply(new: Path, config: Path | None, file: Path | None) -> None:
    """Prove a policy and put it in the place of the one in force; refused (exit 1) when it does not hold."""
    settings = load_settings(config)
    where = _file(settings, file)
    _keep(where, settings)
    put_in_force(new.read_text(encoding="utf-8-sig"), where, settings, title=str(new))
    _keep(where, settings)
    click.echo(f"{where}: {new} is in force; `cauce policy rollback` goes back")


def _keep(file: Path, settings: Settings) -> None:
    """Write what the file says into the history, as a running gateway does: there may be none."""
    loaded = read_policy(file)
    if (policy := loaded.policy) is not None:
        engine = open_engine(settings.ledger)
        remember(engine, name=policy.name, revision=policy.revision, file=file, included=loaded.files[1:])
        engine.dispose()


def _as_it_is(file: Path) -> str:
    """The file with what it includes, as the history keeps it."""
    return whole_text(file, read_policy(file).files[1:])


def put_in_force(text: str, file: Path, settings: Settings, *, title: str, revision: str = "") -> None:
    """`policy/apply.py` for the command line; raises `ClickException`."""
    models = {model.id: model for model in settings.catalogue()} or None
    try:
        apply_text(text, file, models=models, title=title, revision=revision)
    except NotApplied as error:
        raise click.ClickException(str(error)) from error


def _file(settings: Settings, chosen: Path | None) -> Path:
    from gateway.app import policy_file  # noqa: PLC0415 - the app is slow to import, and --help needs none

    file = policy_file(settings, chosen)
    if not file.exists():
        raise click.ClickException(f"there is no policy file {file}")
    return file


def _history(settings: Settings, file: Path) -> list[Revision]:
    return history(open_engine(settings.ledger), file.stem)


def _named(revisions: list[Revision], name: str) -> Revision:
    found = [one for one in revisions if one.revision.startswith(name)]
    if not found:
        known = ", ".join(dict.fromkeys(one.revision for one in revisions)) or "none yet"
        raise click.ClickException(f"there is no revision {name!r} of this policy; known: {known}")
    return found[0]


def _row(one: Revision, settings: Settings) -> dict[str, str]:
    since = dt.datetime.fromtimestamp(one.since_us / 1e6, ZoneInfo(settings.time_zone)).isoformat(timespec="seconds")
    return {"revision": one.revision, "since": since, "who": one.who, "file": one.file}


def _changed_lines(older: str, newer: str) -> str:
    changes = list(difflib.ndiff(older.splitlines(), newer.splitlines()))
    added, removed = (sum(line.startswith(sign) for line in changes) for sign in ("+ ", "- "))
    return f"+{added} -{removed}" if added or removed else ""
