"""What `cauce router evaluate` measures of decisions: whether a policy sends queries where they should go, and whether
it still does when the same query is typed otherwise."""

from __future__ import annotations

import functools
import random
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.errors import ConfigError
from gateway.types import Model, Zone
from router_models.evaluate import Interval, intervals
from router_models.features import without_accents
from router_models.train.router_data import Row, slipped

GOES: Final = ("slm", "llm", "local")


# ---- use cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UseCase:
    """A query and where it should go: `slm` or `llm` first, or `local`: nowhere off the premises."""

    id: str
    text: str
    goes: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the cases went where they should; `others` are those that did not: (id, where they should)."""

    rows: Mapping[str, int]
    agreed: Mapping[str, int]
    others: tuple[tuple[str, str], ...]


def read_use_cases(file: Path) -> list[UseCase]:
    """A YAML list of `{id, text, goes, ...}`; raises `ConfigError` for anything else."""
    try:
        rows = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        cases = [UseCase(str(row["id"]), str(row["text"]), str(row["goes"])) for row in rows]
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError("is not a list of use cases: each needs id, text and goes", where=str(file)) from error
    if wrong := next((case for case in cases if case.goes not in GOES), None):
        raise ConfigError(f"{wrong.id}: goes is {wrong.goes!r}, not one of {', '.join(GOES)}", where=str(file))
    return cases


def agrees(goes: str, ladder: Sequence[Model]) -> bool:
    """Whether a ladder is what a use case asks for; one without a rung never is."""
    if not ladder:
        return False
    if goes == "local":
        return all(model.zone is Zone.PREMISES for model in ladder)
    return ladder[0].kind == goes


def agreement(cases: Sequence[UseCase], ladder: Callable[[str], Sequence[Model]]) -> Agreement:
    """Decide every case."""
    right = [agrees(case.goes, ladder(case.text)) for case in cases]
    return Agreement(
        rows=Counter(case.goes for case in cases),
        agreed=Counter(case.goes for case, good in zip(cases, right, strict=True) if good),
        others=tuple((case.id, case.goes) for case, good in zip(cases, right, strict=True) if not good),
    )


# ---- invariance ------------------------------------------------------------------------------------------------------

_PASTE_CHARS: Final = 7_500  # about 2,000 tokens
_PASTED: Final = Path(__file__).resolve().parent.parent / "data" / "pasted"


@functools.cache
def _lines(language: str) -> tuple[str, ...]:
    return tuple((_PASTED / f"{language}.txt").read_text(encoding="utf-8").splitlines())


def _greeted(row: Row) -> str:
    return ("Buenas tardes, " if row.lang == "es" else "Good evening, ") + row.text


def _polite(row: Row) -> str:
    return row.text + (
        " Si eres tan amable, muy agradecido." if row.lang == "es" else " Much appreciated, if you please."
    )


def _greeted_otherwise(row: Row) -> str:
    return ("Qué hay, equipo, ahí va una: " if row.lang == "es" else "Howdy folks, here goes: ") + row.text


def _polite_otherwise(row: Row) -> str:
    return row.text + (
        " Perdona la molestia y feliz tarde." if row.lang == "es" else " Sorry for the bother, have a lovely day."
    )


def _mistyped(row: Row) -> str:
    return slipped(row.text, random.Random(zlib.crc32(row.text.encode())))


def _paste(row: Row) -> str:
    lines = list(_lines("es" if row.lang == "es" else "en"))
    order = random.Random(zlib.crc32(row.text.encode()))
    text = ""
    while len(text) < _PASTE_CHARS:
        order.shuffle(lines)
        text += "\n".join(lines) + "\n"
    return text[:_PASTE_CHARS]


# The same query typed otherwise. `courtesy.py` knows the first greeting and thanks by name (its list was written with
# them in sight): those two lines say that the list works. The unlisted ones say how much a courtesy that it does not
# know moves a decision.
CHANGES: Final[Mapping[str, Callable[[Row], str]]] = {
    "greeting, listed": _greeted,
    "politeness, listed": _polite,
    "greeting, unlisted": _greeted_otherwise,
    "politeness, unlisted": _polite_otherwise,
    "lower case": lambda row: row.text.lower(),
    "capitals": lambda row: row.text.upper(),
    "no accents": lambda row: without_accents(row.text),
    "one typo": _mistyped,
    "quoting": lambda row: f"«{row.text}»" if row.lang == "es" else f'"{row.text}"',
    "2,000 tokens pasted after": lambda row: f"{row.text}\n\n{_paste(row)}",
    "2,000 tokens pasted before": lambda row: f"{_paste(row)}\n\n{row.text}",
}


@dataclass(frozen=True, slots=True)
class Routes:
    """The route that a policy chooses for a text, and the one that it would choose if no personal data were found."""

    route: str
    public: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The share of queries of one language whose routes a change of wording leaves; those that it alters count."""

    change: str
    language: str
    rows: int
    route: Interval
    public: Interval


def invariance(
    routes: Callable[[str], Routes], rows: Sequence[Row], plain: Sequence[Routes], change: str, *, resamples: int
) -> list[Unchanged]:
    """A line a language; `plain` are the routes of the rows as they were written."""
    lines = []
    for language in sorted({row.lang for row in rows}):
        kept = []
        for row, before in zip(rows, plain, strict=True):
            if row.lang == language and (text := CHANGES[change](row)) != row.text:
                after = routes(text)
                kept.append((after.route == before.route, after.public == before.public))
        if kept:
            shares = np.array(kept, np.float64)
            both = intervals(lambda drawn, shares=shares: shares[drawn].mean(0), len(shares), resamples=resamples)  # type: ignore[misc]
            lines.append(Unchanged(change, language, len(kept), *both))
    return lines
