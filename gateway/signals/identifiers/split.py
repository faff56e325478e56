"""classify: identifiers cut in two by turns: "the first half is 1234", "and then 5678Z"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stdnum import iban, luhn
from stdnum.es import dni, nie

from gateway.signals.identifiers.base import CERTAIN, LIKELY, words
from gateway.signals.taxonomy import Kind

_PIECE = re.compile(r"(?<![^\W_])\+?[A-Za-z]{0,2}[0-9][0-9.\-]{1,22}[A-Za-z]?(?![^\W_])")
# The same with its groups: "ES91 2100".
_RUN = re.compile(r"(?<![^\W_])\+?[A-Za-z]{0,2}[0-9](?:[ .\-]?[0-9]){0,30}(?:[ \-]?[A-Za-z](?![^\W_]))?(?![^\W_])")
_TURN = re.compile(
    r"(?:^|\n)[ \t]*(user|usuario|human|cliente|customer|assistant|asistente|agente|agent|bot|system)[ \t]*:",
    re.IGNORECASE,
)
_OTHERS = frozenset({"assistant", "asistente", "agente", "agent", "bot", "system"})
_CUE = words(
    "partes?",
    "primer[oa]?",
    "mitad",
    "empieza",
    "sigue",
    "resto",
    "first",
    "half",
    "rest",
    "then",
    "parts?",
    "starts",
    "second",
    "segund[oa]",
    "luego",
    "después",
    "continúa",
    "termina",
    "acaba",
    "ends",
    "last",
    "último",
    "últimos",
)
_MAX_PIECES = 4
_MAX_TURNS = 64


def turns(text: str) -> list[tuple[int, int]]:
    """The spans of what users say in a transcript pasted as text."""
    marks = list(_TURN.finditer(text))[:_MAX_TURNS]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return (
        [(m.end(), end) for m, end in zip(marks, ends, strict=True) if m.group(1).lower() not in _OTHERS]
        if len(marks) > 1
        else []
    )


def joined(said: Sequence[str]) -> Iterator[tuple[str, Kind, float, int, tuple[int, int], tuple[int, int]]]:
    """Identifiers that two neighbouring turns make together.

    Gives label, kind, score, the number of the first turn, and the span of each half in its own turn.
    """
    pieces = [list(_PIECE.finditer(text)) for text in said]
    for number in range(len(said) - 1):
        cued = _CUE.search(said[number].lower()) is not None or _CUE.search(said[number + 1].lower()) is not None
        for left in pieces[number][-_MAX_PIECES:]:
            for right in pieces[number + 1][:_MAX_PIECES]:
                made = _identifier(left.group(), right.group(), cued)
                if made:
                    yield (*made, number, left.span(), right.span())


def joined_all(said: Sequence[str]) -> tuple[str, Kind, float, list[tuple[int, int]]] | None:
    """The identifier that several neighbouring turns make together, a run of digits of each.

    Gives label, kind, score and the span in each turn; nothing when they make none.
    """
    first, *between, last = ([*_RUN.finditer(text)] for text in said)
    if not first or not last or any(len(runs) != 1 for runs in between):
        return None
    runs = [first[-1], *(runs[0] for runs in between), last[0]]
    cued = any(_CUE.search(text.lower()) for text in said)
    made = _identifier("".join(run.group() for run in runs), "", cued)
    return None if made is None else (*made, [run.span() for run in runs])


def _identifier(left: str, right: str, cued: bool) -> tuple[str, Kind, float] | None:
    value = (left + right).replace(".", "").replace("-", "").replace(" ", "").upper()
    if len(value) == 9 and value[-1].isalpha() and (dni.is_valid(value) or nie.is_valid(value)):
        return "ID_DNI", Kind.IDENTITY, CERTAIN
    if len(value) >= 16 and value[:2].isalpha() and iban.is_valid(value):
        return "IBAN", Kind.FINANCIAL, CERTAIN
    if value.isdigit() and len(value) in {15, 16} and value[0] in "3456" and luhn.is_valid(value):
        return "CARD", Kind.FINANCIAL, CERTAIN if cued else LIKELY
    number = value.removeprefix("+34").removeprefix("0034")
    if cued and number.isdigit() and len(number) == 9 and number[0] in "6789":
        return "PHONE", Kind.CONTACT, LIKELY
    return None
