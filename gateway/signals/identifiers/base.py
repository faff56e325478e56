"""classify: what the identifier recognisers share: the value they give and the way they look at the words around."""

# ruff: noqa: E501 - lists of words read better unbroken

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.signals.taxonomy import Kind, floor
from gateway.types import DataClass

# Certain by check digit or by a form nothing else has; likely by form and a word beside it; soft: the model decides.
CERTAIN, LIKELY, SOFT, WEAK = 0.99, 0.95, 0.6, 0.2


@dataclass(frozen=True, slots=True)
class Found:
    """One identifier: its recogniser's label, kind, class, place in the scanned text, how sure its form makes us."""

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
class Candidate:
    """Whole groups of a run: their digits, their span, the groups' lengths, and the letters that touch them."""

    digits: str
    start: int
    end: int
    shape: tuple[int, ...]
    prefix: str
    prefix_start: int
    suffix: str
    suffix_end: int
    whole: bool  # nothing of the run is left out


_DIGITS = re.compile(r"[0-9]+")
_REACH = 48


@dataclass(frozen=True, slots=True)
class Scan:
    """A text under scan, with its lower case of the same length, and the stretches of it that have digits near."""

    text: str
    lower: str
    stretches: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str, lower: str) -> Scan:
        """A scan of a text."""
        stretches: list[tuple[int, int]] = []
        for run in _DIGITS.finditer(text):
            start, end = max(0, run.start() - _REACH), run.end() + _REACH
            if stretches and start <= stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], end)
            else:
                stretches.append((start, end))
        return cls(text, lower, tuple(stretches))

    def each(self, pattern: re.Pattern[str], *, lower: bool = False) -> Iterator[re.Match[str]]:
        """Matches of a pattern that needs a digit, looked for near digits only."""
        text = self.lower if lower else self.text
        for start, end in self.stretches:
            yield from pattern.finditer(text, start, end)

    def around(self, beginnings: tuple[str, ...], before: int, after: int) -> list[tuple[int, int]]:
        """The stretches around words that begin so: patterns that such a word must open need look nowhere else."""
        lower, hits = self.lower, []
        for beginning in beginnings:
            position = lower.find(beginning)
            while position != -1:
                if not position or not lower[position - 1].isalnum():
                    hits.append(position)
                position = lower.find(beginning, position + 1)
        stretches: list[tuple[int, int]] = []
        for hit in sorted(hits):
            start, end = max(0, hit - before), min(len(lower), hit + after)
            if stretches and start <= stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], end)
            else:
                stretches.append((start, end))
        return stretches

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


# A number right after one of these is a business's, whatever its form.
BUSINESS_WORDS = words("pedidos?", "orders?", "part", "pieza", "model", "modelo", "ref", "referencia", "reference", "sku", "lote", "lot", "batch", "factura", "invoice", "ticket", "serial", "serie", "isbn", "item", "artículo")  # fmt: skip
