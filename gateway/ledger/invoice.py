"""A provider's invoice or usage export, as CSV, in lines of one shape: a day's use of one model, and its amount.

The columns of OpenAI's and Anthropic's exports are known by name; any other file says which are which. Providers count
days in UTC unless they say otherwise, and name dated snapshots of models.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError

# Our names of columns, with what exports call them, in lower case.
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "day": ("date", "day", "usage_date_utc", "usage_date", "start_time_iso", "start_time"),
    "model": ("model", "model_version", "snapshot_id", "line_item"),
    "requests": ("num_model_requests", "requests", "n_requests"),
    "prompt": ("input_tokens", "prompt_tokens", "n_context_tokens_total", "usage_input_tokens"),
    "fresh": ("usage_input_tokens_no_cache", "uncached_input_tokens"),
    "cached": ("input_cached_tokens", "cached_tokens", "usage_input_tokens_cache_read", "cache_read_input_tokens"),
    "cache_write": ("usage_input_tokens_cache_write", "cache_creation_input_tokens"),
    "cache_write_5m": ("usage_input_tokens_cache_write_5m",),
    "cache_write_1h": ("usage_input_tokens_cache_write_1h",),
    "completion": ("output_tokens", "completion_tokens", "n_generated_tokens_total", "usage_output_tokens"),
    "amount": ("amount", "cost", "cost_usd", "amount_value", "total", "usd"),
}
_NUMBERS: Final = tuple(name for name in _KNOWN if name not in {"day", "model"})


@dataclass(frozen=True, slots=True)
class Line:
    """What an invoice says of a model on a day; nothing for what it does not say. `number` is its line in the file."""

    day: dt.date | None
    model: str
    prompt: int | None
    cached: int | None
    completion: int | None
    nano_usd: int | None
    requests: int | None = None
    number: int = 0
    step_nano_usd: int = 0  # the smallest difference that its decimals can say


def read_invoice(file: Path, columns: Mapping[str, str], usd: Decimal = Decimal(1)) -> list[Line]:
    """An invoice's lines; lines of one day and model together. `usd` is a unit of its currency in USD.

    `columns` says which column is which, by our names; the known exports need none. Raises `ConfigError` with the line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            names = _mapping(reader.fieldnames or [], columns, file)
            lines = [_line(row, names, file, reader.line_num, usd) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot be read as an invoice: {error}", where=str(file)) from error
    return _together(lines)


def _mapping(found: object, columns: Mapping[str, str], file: Path) -> dict[str, str]:
    there = {str(name).strip().lower(): str(name) for name in found} if isinstance(found, list) else {}
    names = {}
    for ours, theirs in columns.items():
        if ours not in _KNOWN:
            raise ConfigError(f"--columns: {ours!r} is not one of {', '.join(_KNOWN)}")
        if theirs.lower() not in there:
            raise ConfigError(f"there is no column {theirs!r}; there are {', '.join(there)}", where=f"{file}:1")
        names[ours] = there[theirs.lower()]
    for ours, known in _KNOWN.items():
        match = next((there[name] for name in known if name in there), None)
        if ours not in names and match is not None:
            names[ours] = match
    if "model" not in names or not {"amount", "prompt", "fresh"} & set(names):
        raise ConfigError(
            "needs a model and an amount or tokens; say which are which: --columns model=SKU,amount=Net,day=Date",
            where=f"{file}:1",
        )
    return names


def _line(row: Mapping[str, str], names: Mapping[str, str], file: Path, number: int, usd: Decimal) -> Line:
    given = {name: _number(row.get(names[name], ""), file, number, names[name]) for name in _NUMBERS if name in names}
    count = {name: None if value is None else int(value) for name, value in given.items() if name != "amount"}
    written = _sum(count.get("cache_write"), count.get("cache_write_5m"), count.get("cache_write_1h"))
    prompt = count.get("prompt")
    if prompt is None and count.get("fresh") is not None:
        prompt = _sum(count["fresh"], count.get("cached"), written)
    amount = given.get("amount")
    exponent = amount.as_tuple().exponent if amount is not None else 0
    return Line(
        _day(row.get(names.get("day", ""), ""), file, number),
        row[names["model"]].strip(),
        prompt,
        count.get("cached"),
        count.get("completion"),
        None if amount is None else int((amount * usd * 10**9).to_integral_value(ROUND_HALF_EVEN)),
        count.get("requests"),
        number,
        int(Decimal(10) ** (9 + exponent) * usd) if isinstance(exponent, int) else 0,
    )


def _sum(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _number(text: str | None, file: Path, line: int, column: str) -> Decimal | None:
    bare = (text or "").strip().replace("$", "").replace("€", "").replace(" ", "")
    if not bare:
        return None
    if "," in bare:  # 1,234.56 as well as 1.234,56
        bare = bare.replace(".", "").replace(",", ".") if bare.rfind(",") > bare.rfind(".") else bare.replace(",", "")
    try:
        value = Decimal(bare)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ConfigError(f"{column}: {text!r} is not a number", where=f"{file}:{line}")
    return value


def _day(text: str | None, file: Path, line: int) -> dt.date | None:
    bare = (text or "").strip()
    if not bare:
        return None
    if bare.isdigit():
        return dt.datetime.fromtimestamp(int(bare), dt.UTC).date()
    for shape in ("%Y-%m-%d", "%d/%m/%Y"):
        try:
            return dt.datetime.strptime(bare[:10], shape).date()
        except ValueError:
            continue
    raise ConfigError(f"{text!r} is not a day such as 2026-11-30", where=f"{file}:{line}")


def _together(lines: list[Line]) -> list[Line]:
    found: dict[tuple[dt.date | None, str], Line] = {}
    for line in lines:
        one = found.get((line.day, line.model))
        found[line.day, line.model] = line if one is None else Line(
            line.day,
            line.model,
            _sum(one.prompt, line.prompt),
            _sum(one.cached, line.cached),
            _sum(one.completion, line.completion),
            _sum(one.nano_usd, line.nano_usd),
            _sum(one.requests, line.requests),
            one.number,
            one.step_nano_usd + line.step_nano_usd,
        )  # fmt: skip
    return sorted(found.values(), key=lambda line: (line.day or dt.date.min, line.model))
