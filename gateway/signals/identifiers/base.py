"""classify: what the identifier recognisers share: the value they give and the way they look at the words around."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.signals.taxonomy import Kind, floor
from gateway.types import DataClass

# Certain by check digit or by a form nothing else has; likely by form and a word beside it; soft: the model decides.
CERTAIN, LIKELY, SOFT, WEAK = 0.99, 0.95, 0.6, 0.2


@dataclass(frozen=True, slots=True)
class Found:
    """One identifier: its recogniser's label, kind, class, place in the scanned text, and how sure its form makes us."""

    label: str
    kind: Kind
    data: DataClass
    start: int
    end: int
    score: float

    @property
    def soft(self) -> bool:
        """Whether the words around it must settle it."""
        return self.score <= SOFT

    @property
    def rank(self) -> tuple[float, int, int]:
        """Order of strength where two overlap."""
        return (self.score, int(self.data), self.end - self.start)


@dataclass(frozen=True, slots=True)
class Scan:
    """A text under scan, with its lower case of the same length."""

    text: str
    lower: str

    def before(self, start: int, words: re.Pattern[str], reach: int = 48) -> bool:
        """Whether one of the words stands shortly before `start`."""
        return words.search(self.lower, max(0, start - reach), start) is not None

    def near(self, start: int, end: int, words: re.Pattern[str], reach: int = 48) -> bool:
        """Whether one of the words stands shortly before or after."""
        return words.search(self.lower, max(0, start - reach), min(len(self.lower), end + reach // 2)) is not None


def found(label: str, kind: Kind, span: tuple[int, int], score: float, data: DataClass | None = None) -> Found:
    """A `Found` with its kind's class unless another is given."""
    return Found(label, kind, floor(kind) if data is None else data, span[0], span[1], score)


def words(*alternatives: str) -> re.Pattern[str]:
    """A pattern for whole words in lower-case text."""
    return re.compile(r"(?<![^\W_])(?:" + "|".join(alternatives) + r")(?![^\W_])")
