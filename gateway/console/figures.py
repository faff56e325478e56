"""Numbers, money and times as people write them in each language."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from gateway.console.words import WORDS, Language

_NANO: Final = 1_000_000_000
_SWAP: Final = str.maketrans(",.", ".,")
_THIN: Final = "\u00a0"


@dataclass(frozen=True, slots=True)
class Figures:
    """Writes figures in a language; days and hours are those of a time zone."""

    language: Language
    zone: ZoneInfo

    def number(self, value: float | None, decimals: int = 0) -> str:
        """`12,345.6`, or in Spanish `12.345,6`."""
        if value is None:
            return self.unknown
        return self._local(f"{value:,.{decimals}f}")

    def money(self, nano_usd: int | None) -> str:
        """Dollars; more decimals the smaller the sum, since a single answer costs less than a cent."""
        if nano_usd is None:
            return self.unknown
        usd = nano_usd / _NANO
        size = abs(usd)
        decimals = 2 if size >= 1 or nano_usd == 0 else 4 if size >= 0.01 else 6 if size >= 0.000001 else 9
        said = self.number(size, decimals)
        sign = "−" if usd < 0 else ""
        return f"{sign}${said}" if self.language == "en" else f"{sign}{said}{_THIN}USD"

    def percent(self, part: float | None, whole: float | None) -> str:
        """How much one is of the other; a dash where there is no whole."""
        if not whole or part is None:
            return "–"
        said = self.number(100 * part / whole, 0 if part in {0, whole} else 1)
        return f"{said}%" if self.language == "en" else f"{said}{_THIN}%"

    def seconds(self, microseconds: float | None) -> str:
        """`12 ms`, `3.4 s`; a dash when it is not known."""
        if microseconds is None:
            return "–"
        if microseconds < 1000:
            return f"{self.number(microseconds / 1000, 2)}{_THIN}ms"
        if microseconds < 1_000_000:
            return f"{self.number(microseconds / 1000)}{_THIN}ms"
        return f"{self.number(microseconds / 1e6, 1)}{_THIN}s"

    def time(self, microseconds: int | None) -> str:
        """`2026-11-25 19:04:07`, in the business's time zone."""
        return "–" if microseconds is None else self.moment(microseconds).strftime("%Y-%m-%d %H:%M:%S")

    def day(self, microseconds: int) -> str:
        """The day of a moment; nothing when it is today."""
        moment, now = self.moment(microseconds), dt.datetime.now(self.zone)
        return "" if moment.date() == now.date() else moment.strftime("%Y-%m-%d")

    def moment(self, microseconds: int) -> dt.datetime:
        """A moment of the epoch in the business's time zone."""
        return dt.datetime.fromtimestamp(microseconds / 1e6, self.zone)

    def plain(self, value: Any) -> str:
        """Any other value, as it stands in a table."""
        if value is None or value in ("", [], {}, ()):
            return "–"
        match value:
            case bool():
                said = WORDS["yes" if value else "no"][0 if self.language == "en" else 1]
            case int() | float():
                said = self.number(value, 3 if isinstance(value, float) else 0)
            case dict():
                parts = (f"{name}: {self.plain(item)}" for name, item in value.items() if item not in ("", [], None))
                said = ", ".join(parts)
            case list() | tuple() | set() | frozenset():
                said = ", ".join(map(str, value))
            case _:
                said = str(value)
        return said

    def span(self, low: float | None, high: float | None, unit: str) -> str:
        """A range: `1.2 to 3.4 Wh` with as many decimals as its size asks for."""
        if low is None or high is None:
            return self.unknown
        decimals = 0 if high >= 100 else 2 if high >= 1 else 4
        return f"{self.number(low, decimals)} – {self.number(high, decimals)}{_THIN}{unit}"

    @property
    def unknown(self) -> str:
        """What is written where a figure is not known: never a 0."""
        return WORDS["unknown"][0 if self.language == "en" else 1]

    def _local(self, said: str) -> str:
        return said if self.language == "en" else said.translate(_SWAP)
