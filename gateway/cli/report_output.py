"""How `cauce report` shows its rows: a table for people, or CSV, JSON and Parquet for tools."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from gateway.errors import ConfigError
from gateway.ledger.focus import COLUMNS

Rows = Sequence[dict[str, Any]]
_NOT_FLAT: Final = "attempts"
HEADS: Final = {
    "en": {
        "requests": "requests", "prompt": "tokens in", "completion": "tokens out", "cost": "cost USD",
        "baseline": "baseline USD", "saved": "saved USD", "range": "from - to", "unit": "USD/1,000",
        "energy": "energy Wh", "co2e": "CO2e g", "unknown": "cost unknown", "share": "share",
        "before": "before USD", "change": "change USD", "none": "unknown",
        "estimated": "* holds counts that the provider did not send; they are estimates",
        "shift": "change", "left out": "left out for want of width: {}; a wider window or --format csv has them",
    },
    "es": {
        "requests": "peticiones", "prompt": "tokens de entrada", "completion": "tokens de salida", "cost": "coste USD",
        "baseline": "referencia USD", "saved": "ahorro USD", "range": "de - a", "unit": "USD/1.000",
        "energy": "energía Wh", "co2e": "CO2e g", "unknown": "coste desconocido", "share": "parte",
        "before": "antes USD", "change": "cambio USD", "none": "desconocido",
        "estimated": "* incluye cuentas que el proveedor no envió: son estimaciones",
        "shift": "cambio", "left out": "fuera por falta de ancho: {}; están en una ventana mayor o con --format csv",
    },
}  # fmt: skip


def show(rows: Rows, form: str, by: tuple[str, ...], *, language: str, output: Path | None) -> None:
    """Rows of a report in one of the forms, to the screen or a file. Raises `ConfigError` without what a form needs."""
    if form == "parquet":
        parquet(rows, output)
    elif form == "json":
        _put(orjson.dumps(list(rows), default=float) + b"\n", output)
    elif form == "csv":
        text(rows, output)
    elif output is not None:
        raise click.UsageError("--output takes a table nowhere: name a --format")
    else:
        table(rows, by, HEADS[language], Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH))


def text(rows: Iterable[dict[str, Any]], output: Path | None, columns: Sequence[str] = ()) -> None:
    """CSV with a line of names."""
    kept = list(rows)
    names = list(columns) or [name for name in (kept[0] if kept else {}) if name != _NOT_FLAT]
    into = io.StringIO(newline="")
    writer = csv.DictWriter(into, names, extrasaction="ignore")
    if names:
        writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in kept)
    _put(into.getvalue().encode(), output)


def _plain(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value


def focus_csv(rows: Iterable[dict[str, Any]], output: Path | None) -> None:
    """The columns of FOCUS, in its order of names."""
    text(rows, output, [column.name for column in COLUMNS])


def parquet(rows: Rows, output: Path | None) -> None:
    """A Parquet file; money is 64-bit integer nano-USD."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra of 120 MB
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise ConfigError("--format parquet needs an extra: pip install 'cauce[parquet]'") from None
    if output is None:
        raise click.UsageError("--format parquet is written to a file: name one with --output")
    names = [name for name in (rows[0] if rows else {}) if name != _NOT_FLAT]
    columns = {name: pa.array([row[name] for row in rows], type=_arrow(pa, name, rows)) for name in names}
    pq.write_table(pa.table(columns), output)


def _arrow(pa: Any, name: str, rows: Rows) -> Any:
    """A column's type: by its name where all of it may be unknown."""
    if name.endswith(("_tokens", "_nano_usd", "_requests")) or name == "requests":
        return pa.int64()
    if name.startswith(("energy_", "co2e_")) or name in {"share", "change"}:
        return pa.float64()
    return {bool: pa.bool_(), int: pa.int64()}.get(type(rows[0][name]), pa.string())


def _put(data: bytes, output: Path | None) -> None:
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(output)) from error


def table(rows: Rows, by: tuple[str, ...], heads: dict[str, str], console: Console) -> None:
    """Rows as a table that fits the console: what matters least is left out, and named."""
    names = ["request", "time", "model", "route", "data_class", "outcome"] if "request" in by else list(by)
    shown = [head for head in _CELLS if any(_CELLS[head][0] in row for row in rows)]
    left_out = []
    drawn = _drawn(rows, names, shown, heads)
    for head in (head for head in _LEAST_FIRST if head in shown):
        if Measurement.get(console, console.options.update(width=_PIPED_WIDTH), drawn).maximum <= console.width:
            break
        left_out.append(heads[head])
        shown.remove(head)
        drawn = _drawn(rows, names, shown, heads)
    console.print(drawn)
    if left_out:
        console.print(heads["left out"].format(", ".join(left_out)))
    if any(row.get("estimated") for row in rows):
        click.echo(heads["estimated"])


def _drawn(rows: Rows, names: Sequence[str], shown: Sequence[str], heads: dict[str, str]) -> Table:
    table = Table(*names)
    for head in shown:
        table.add_column(heads[head], justify="right", no_wrap=True)
    for row in rows:
        cells = (_cell(head, row, heads) for head in shown)
        table.add_row(*(str(row[name]) or "-" for name in names), *cells)
    return table


_PIPED_WIDTH: Final = 400  # a file or a pipe has no edge
_LEAST_FIRST: Final = ("co2e", "energy", "range", "completion", "prompt", "unit", "before", "share", "baseline")
# What each column of a table shows: the row's field, and how.
_CELLS: Final[dict[str, tuple[str, str]]] = {
    "requests": ("requests", "count"),
    "prompt": ("prompt_tokens", "tokens"),
    "completion": ("completion_tokens", "tokens"),
    "cost": ("cost_nano_usd", "usd"),
    "share": ("share", "share"),
    "before": ("cost_before_nano_usd", "usd"),
    "change": ("change_nano_usd", "usd"),
    "shift": ("change", "share"),
    "unit": ("cost_per_1000_nano_usd", "usd"),
    "baseline": ("baseline_nano_usd", "usd"),
    "saved": ("saved_nano_usd", "usd"),
    "range": ("saved_low_nano_usd", "range"),
    "energy": ("energy_wh_low", "energy"),
    "co2e": ("co2e_g_low", "co2e"),
    "unknown": ("unknown_cost_requests", "count"),
}


_IMPACT: Final = {"energy": "energy_wh_high", "co2e": "co2e_g_high"}


def _cell(head: str, row: dict[str, Any], heads: dict[str, str]) -> str:
    name, kind = _CELLS[head]
    value = row.get(name)
    if value is None:
        return heads["none"]
    if kind == "range":
        return f"{usd(value)} - {usd(row['saved_high_nano_usd'])}"
    if kind in _IMPACT:
        return f"{value:.3g} - {row[_IMPACT[kind]]:.3g}"
    if kind == "tokens":
        return f"{value}{'*' if row.get('estimated') else ''}"
    return {"usd": usd, "share": "{:.1%}".format}.get(kind, str)(value)


def usd(nano_usd: int) -> str:
    """Nano-dollars as dollars with all nine decimals."""
    sign, nano_usd = ("-", -nano_usd) if nano_usd < 0 else ("", nano_usd)
    return f"{sign}{nano_usd // 1_000_000_000}.{nano_usd % 1_000_000_000:09d}"
