"""REFERENCE.md, read off the code: `python -m tests.docs.reference` (`make reference`) writes it again.

Every line has its help from where the thing is declared; `test_reference.py` fails when one has none, or when the page
is not what the code says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.cli.main import COMMANDS, main
from gateway.errors import CauceError, ConfigError, UpstreamRejected, UpstreamUnfit
from gateway.policy.vocabulary import SIGNALS, Form, Signal
from gateway.settings import Settings
from gateway.signals.taxonomy import GROUNDS
from gateway.telemetry.metrics import Metrics
from gateway.wire.caller import REQUEST_HEADERS
from gateway.wire.headers import REPLY_HEADERS

PAGE = Path(__file__).parents[2] / "REFERENCE.md"
_SET_BY_US = frozenset({"source"})  # fields of `Settings` that are no setting
_FORMS = {
    Form.AMOUNT: "USD",
    Form.COUNT: "whole number",
    Form.CLASS: "class",
    Form.FLAG: "true, false",
    Form.KINDS: "set",
    Form.CALLER: "key, team, app, tags",
}


@dataclass(frozen=True)
class Line:
    """One thing that the page lists."""

    name: str
    help: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A table of the page. The header names the column of `help` last."""

    title: str
    lead: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]


def sections() -> Iterator[Section]:
    """All of the page."""
    yield from settings()
    yield errors()
    yield headers("Request headers", "What a caller may say; names as HTTP has them, in any case.", REQUEST_HEADERS)
    yield headers(
        "Reply headers", "What happened to a request; `retry-after` comes where waiting helps.", REPLY_HEADERS
    )
    yield signals()
    yield kinds()
    yield metrics()
    yield from commands(click.Context(main, info_name="cauce"))


# ---- settings --------------------------------------------------------------------------------------------------------


def settings() -> Iterator[Section]:
    """A table a model, `Settings` first."""
    lead = "`cauce.yaml`, every field optional unless it says so. `${NAME}` takes a value from the environment."
    yield from _settings_of(Settings, "", f"Settings: {lead}")


def _settings_of(model: type[BaseModel], prefix: str, lead: str) -> Iterator[Section]:
    fields = {name: field for name, field in model.model_fields.items() if prefix or name not in _SET_BY_US}
    inner = [(name, found) for name, field in fields.items() if (found := _inner(field)) is not None]
    lines = tuple(
        Line(f"{prefix}{name}", field.description or "", (_default(field), _takes(field.annotation)))
        for name, field in fields.items()
        if name not in {name for name, _ in inner if name != "models"}
    )
    title, _, text = lead.partition(": ")
    yield Section(title, text, ("setting", "default", "takes", "what it is"), lines)
    for name, found in inner:
        below = f"{prefix}{name}.{'NAME.' if name == 'models' else ''}"
        yield from _settings_of(found, below, f"`{below.rstrip('.')}`: {found.__doc__ or ''}")


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "none" if value in (None, "", {}) else f"`{json.dumps(value)}`".replace('"', "")


def _takes(annotation: Any) -> str:
    """The words that a setting is limited to, or the kind of value."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    inner = [kind for kind in get_args(annotation) if kind not in (type(None), Ellipsis)]
    if get_origin(annotation) is dict:
        return "mapping"
    if inner:
        listed = get_origin(annotation) is tuple
        return f"{'list of ' if listed else ''}{_takes(inner[0])}"
    return {str: "text", int: "whole number", float: "number", bool: "true, false"}[annotation]


# ---- errors, headers, signals, metrics -------------------------------------------------------------------------------


def errors() -> Section:
    """The leaves of the tree, by who can act."""
    lines = []
    for group in CauceError.__subclasses__():
        for leaf in group.__subclasses__():
            theirs = leaf in {UpstreamRejected, UpstreamUnfit}
            status = f"{leaf.status}, or the upstream's" if theirs else str(leaf.status)
            lines.append(Line(leaf.code, leaf.__doc__ or "", (status, _who(group))))
    lead = (
        "OpenAI's error object; `error.code` is stable. A stream that has begun ends in an `error` event instead. "
        f"`{ConfigError.code}` is never sent: it stops the start, or a command, with exit code 2. In the ledger and in "
        "metrics `client_closed_request` (499) is a client that left."
    )
    return Section("Error codes", lead, ("code", "status", "who can act", "what happened"), tuple(lines))


def _who(group: type[CauceError]) -> str:
    """Who can act: the first words of a group's docstring."""
    first, found, _ = (group.__doc__ or "").partition(" can act.")
    return first[:1].lower() + first[1:].rstrip(",") if found else ""


def headers(title: str, lead: str, table: dict[str, str]) -> Section:
    """Headers in the order of their declaration."""
    return Section(title, lead, ("header", "what it says"), tuple(Line(name, text) for name, text in table.items()))


def kinds() -> Section:
    """What the privacy scan can find, and the law that protects it."""
    lines = (Line(one.kind.value, one.en, (one.floor.label, one.article)) for one in GROUNDS.values())
    return Section(
        "Kinds of data",
        "What the privacy scan finds, the least class that it gives a text, and its legal ground; `cauce explain` and "
        "`cauce audit export` say it in Spanish too.",
        ("kind", "class", "legal ground", "what it is"),
        tuple(lines),
    )


def signals() -> Section:
    """What a policy's conditions may name."""
    lines = (Line(signal.name, signal.help, (_values(signal),)) for signal in SIGNALS.values())
    return Section(
        "Signals",
        "What `when:` may look at; policies/README.md has the forms.",
        ("signal", "values", "what it is"),
        tuple(lines),
    )


def _values(signal: Signal) -> str:
    if signal.form in {Form.NUMBER, Form.HOUR}:
        return f"{signal.low:g} to {signal.high:g}"
    words = ", ".join(signal.values) + (", ..." if signal.open else "")
    between = " < " if signal.form is Form.CLASS else ", "
    return words.replace(", ", between) if words else _FORMS[signal.form]


def metrics() -> Section:
    """Every metric under the name that `/metrics` gives it."""
    found = [one for one in vars(Metrics(CollectorRegistry())).values() if isinstance(one, MetricWrapperBase)]
    lines = []
    for metric in found:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(Line(name, family.documentation, (family.type, ", ".join(metric._labelnames))))
    return Section(
        "Metrics", "At `/metrics`, for Prometheus.", ("metric", "kind", "labels", "what it counts"), tuple(lines)
    )


# ---- commands --------------------------------------------------------------------------------------------------------


def commands(context: click.Context, name: str = "cauce") -> Iterator[Section]:
    """A table a command, groups before what is in them."""
    command = context.command
    options = tuple(_option(one) for one in command.params if isinstance(one, click.Option) and one.name != "version")
    if name != "cauce":
        usage = " ".join((name, *command.collect_usage_pieces(context)))
        yield Section(f"`{usage}`", _one_paragraph(command), ("option", "default", "what it does"), options)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            inner = command.get_command(context, below)
            assert inner is not None, f"cauce names {below}, which is not there"
            yield from commands(click.Context(inner, info_name=below, parent=context), f"{name} {below}")


def _one_paragraph(command: click.Command) -> str:
    return " ".join((command.help or "").split())


def _option(option: click.Option) -> Line:
    words = f" {'|'.join(option.type.choices)}" if isinstance(option.type, click.Choice) else ""
    kind = "" if option.is_flag else words or f" {option.type.name.upper()}"
    default = option.to_info_dict()["default"]  # nothing where none is set
    shown = "" if option.is_flag or option.multiple or default is None else str(default)
    return Line(f"{', '.join(option.opts)}{kind}", option.help or "", ("required" if option.required else shown,))


# ---- the page --------------------------------------------------------------------------------------------------------


def page() -> str:
    """REFERENCE.md."""
    parts = [
        "# Reference\n\nWritten by `make reference` from the code. README says how things go together, "
        "[ARCHITECTURE.md](ARCHITECTURE.md) why."
    ]
    for section in sections():
        below = section.title.startswith("`")
        if section.title.startswith(f"`cauce {next(iter(COMMANDS))}"):
            parts.append(
                "## Commands\n\nExit 0: good; 1: what was checked is bad, or what was asked could not be done; "
                "2: wrong use. Every command has `--help`."
            )
        parts.append(f"{'###' if below else '##'} {section.title}\n\n{section.lead}".strip())
        if section.lines:
            parts.append("\n".join(_table(section)))
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> Iterator[str]:
    yield _row(section.header)
    yield _row(["---"] * len(section.header))
    for line in section.lines:
        yield _row([f"`{line.name}`", *line.cells, line.help])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
