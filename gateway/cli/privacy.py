"""`cauce privacy`: what the privacy scan finds and what it misses, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.bars import Bars
from gateway.errors import ConfigError
from gateway.signals.privacy import OPERATING_POINTS, PrivacyScanner
from router_models import manifest
from router_models.train import privacy_presidio
from router_models.train.privacy_data import Row, read_own, read_public
from router_models.train.privacy_evaluate import GROUPS, RATES, Line, Scored, Share, latencies, recall_at, score, table
from router_models.train.privacy_identifiers import EVASIONS, IDENTIFIERS, WORDED, Cell, measure

OWN_MESSAGES = manifest.FOLDER.parent / "data" / "privacy"


@click.group()
def command() -> None:
    """The privacy scan: how well it finds personal data."""


@command.command()
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with SPLIT.jsonl.gz; without it, our own messages only."
)
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "test"]),
    default="test",
    show_default=True,
    help="Which part of the messages.",
)
@click.option(
    "--point", type=click.Choice(OPERATING_POINTS), default="balanced", show_default=True, help="Operating point."
)
@click.option("--by", default=",".join(GROUPS), show_default=True, help="Groups, separated by commas.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate(data: Path | None, split: str, point: str, by: str, as_json: bool) -> None:
    """Recall and false alarms by language, kind, level, evasion and source, with intervals.

    Beside patterns alone, and beside Presidio where it is installed (`pip install presidio-analyzer`).
    """
    groups = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in groups if name not in GROUPS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(GROUPS)}", param_hint="--by")
    presidio = privacy_presidio.load()
    rows = _rows(data, split)
    with Bars() as bars:
        bars.begins("messages", len(rows))
        scanner = PrivacyScanner.load(manifest.FOLDER, operating_point=point)
        scored = score(_counted(rows, bars), scanner, presidio.score if presidio else None)
    lines = list(table(scored, groups))
    if as_json:
        click.echo(orjson.dumps({**_as_json(scored, lines, point), "presidio": presidio.said if presidio else None}))
        return
    _print(scored, lines, point)
    Console(width=150).print(presidio.said if presidio else privacy_presidio.INSTALL, highlight=False, markup=False)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def identifiers(as_json: bool) -> None:
    """How surely each identifier is found without the model, as it is and in each disguise.

    First those with a check digit, then those that their form or the word beside them tells.
    """
    checked, worded = list(measure(IDENTIFIERS)), list(measure(WORDED))
    if as_json:
        click.echo(orjson.dumps({"identifiers": checked, "worded": worded}))
        return
    _print_cells("privacy: identifiers with a check digit, found without the model, %", checked)
    _print_cells("privacy: identifiers told by their form or a word beside them, found without the model, %", worded)


def _print_cells(title: str, cells: list[Cell]) -> None:
    out = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(cell.identifier for cell in cells))
    for name in ("disguise", *names):
        out.add_column(name, justify="left" if name == "disguise" else "right")
    for evasion in EVASIONS:
        out.add_row(evasion, *(f"{100 * cell.hits / cell.total:.1f}" for cell in cells if cell.evasion == evasion))
    Console(width=200).print(out)


@command.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with test.jsonl.gz, to make the texts from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def latency(data: Path | None, as_json: bool) -> None:
    """How long one scan takes on one thread: texts of 100, 1,000 and 100,000 characters."""
    texts = [row.text for row in _rows(data, "test") if row.label is not None]
    measured = list(latencies(PrivacyScanner.load(manifest.FOLDER), texts))
    if as_json:
        click.echo(orjson.dumps({"latency": measured}))
        return
    out = Table(title="privacy: one scan, one thread", title_justify="left")
    for name in ("characters", "p50, ms", "p99, ms"):
        out.add_column(name, justify="right")
    for one in measured:
        out.add_row(f"{one.characters:,}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}")
    Console(width=150).print(out)


def _counted(rows: list[Row], bars: Bars) -> Iterator[Row]:
    for row in rows:
        bars.step()
        yield row


def _rows(data: Path | None, split: str) -> list[Row]:
    own = read_own(OWN_MESSAGES)[split] if OWN_MESSAGES.is_dir() else []
    if data is None:
        if not own:
            raise ConfigError(
                "there are no messages to evaluate on: name a folder with --data", where=str(OWN_MESSAGES)
            )
        return own
    try:
        return [*read_public(data, split), *own]
    except FileNotFoundError as error:
        raise ConfigError(
            f"{split}.jsonl.gz is missing; name a folder that holds it with --data", where=str(data)
        ) from error


def _as_json(scored: list[Scored], lines: list[Line], point: str) -> dict[str, object]:
    at = {
        f"{rate:.0%}": {"recall": recall_at(scored, rate)[0].value, "cut": recall_at(scored, rate)[1]} for rate in RATES
    }
    return {
        "point": point,
        "rows": len(scored),
        "recall_at_false_alarms": at,
        "table": [line.as_json() for line in lines],
    }


def _print(scored: list[Scored], lines: list[Line], point: str) -> None:
    console = Console(width=190)
    for rate in RATES:
        share, cut = recall_at(scored, rate)
        console.print(f"recall at {rate:.0%} false alarms: {_shown(share)}, cut at {cut:.4f}", highlight=False)
    out = Table(title=f"privacy: {point}", title_justify="left")
    compared = lines[0].presidio_recall.total + lines[0].presidio_false_alarms.total > 0
    beside = ("patterns", "Presidio") if compared else ("patterns",)
    ours = ("group", "name", "found", "false alarms", "level right")
    for name in (*ours, *(f"{one}: {what}" for one in beside for what in ("found", "false alarms"))):
        out.add_column(name)
    previous = lines[0].group
    for line in lines:
        if line.group != previous:
            out.add_section()
            previous = line.group
        shares = [line.recall, line.false_alarms, line.level_right, line.patterns_recall, line.patterns_false_alarms]
        shares += [line.presidio_recall, line.presidio_false_alarms] if compared else []
        out.add_row(line.group, line.name, *(_shown(share) for share in shares))
    console.print(out)


def _shown(share: Share) -> str:
    if not share.total:
        return ""
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * low:.1f}-{100 * high:.1f}) of {share.total}"
