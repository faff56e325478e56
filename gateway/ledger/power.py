"""What the machine draws, measured by the processor's own counters where it lets us read them (RAPL, Linux powercap).

These count the processor packages and nothing else: no memory, no graphics card. Where a card answers, or another
machine, set `machine.watts` and `machine.measure: false`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

RAPL: Final = Path("/sys/class/powercap")
_AT_LEAST_S: Final = 1.0  # between two readings: the counters move in steps of a millisecond


class Power(Protocol):
    """What the machine draws."""

    def watts(self) -> float:
        """Its power now."""
        ...


class Stated:
    """What the operator says that it draws."""

    def __init__(self, watts: float) -> None:
        self._watts = watts

    def watts(self) -> float:
        """As stated."""
        return self._watts


class Measured:
    """The mean power of the last second or so, of all processor packages; what was `stated` until there are two."""

    def __init__(self, counters: list[Path], stated: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters
        self._wraps = sum(int((c.parent / "max_energy_range_uj").read_text()) for c in counters)
        self._clock = clock
        self._watts = stated
        self._at, self._microjoules = clock(), self._read()

    def watts(self) -> float:
        """Read again when a second has passed."""
        now = self._clock()
        if now - self._at >= _AT_LEAST_S:
            try:
                total = self._read()
            except OSError:
                return self._watts
            used = total - self._microjoules
            self._watts = (used if used >= 0 else used + self._wraps) / 1e6 / (now - self._at)
            self._at, self._microjoules = now, total
        return self._watts

    def _read(self) -> int:
        return sum(int(counter.read_text()) for counter in self._counters)


def power(*, stated: float, measure: bool, folder: Path = RAPL) -> Power:
    """Measured where that is wanted and can be, else as stated."""
    counters = [zone / "energy_uj" for zone in sorted(folder.glob("*")) if _is_package(zone)] if measure else []
    try:
        return Measured(counters, stated) if counters else Stated(stated)
    except (OSError, ValueError):  # only root may read them on most machines
        return Stated(stated)


def _is_package(zone: Path) -> bool:
    try:
        return (zone / "name").read_text().startswith("package")
    except OSError:
        return False
