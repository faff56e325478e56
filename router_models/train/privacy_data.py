"""What the privacy model is trained on: public corpora (`privacy/*.jsonl.gz`) and our own messages, as one kind of row.

The uner-* rows (CC BY-SA) are never trained on: the model would be a question for lawyers. They are only measured.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from router_models.privacy_runtime import KINDS, LEVELS, SPANS

NOT_TRAINED_ON = frozenset({"uner-en-ewt", "uner-pt-bosque"})
OWN, QUERIES, TAUGHT = "own", "queries", "taught"
_HOLD_OUT = 10  # one pair in this many of our own messages is kept for dev, one for test

_SPAN_CLASS = {
    "PERSON": "person",
    "PERSON_MINOR": "minor",
    "MINOR": "minor",
    "ADDRESS": "address",
    "POSTCODE": "address",
    "HEALTH": "health",
    "SPECIAL": "special",
    "ETHNIC": "special",
    "NRP": "special",
    "CRIMINAL": "criminal",
    "SALARY": "money",
    "FINANCIAL": "money",
    "CREDENTIAL": "credential",
    "PASSWORD": "credential",
    "SECRET": "credential",
    "PHONE": "contact",
    "EMAIL": "contact",
    "DOB": "dob",
    "LOCATION": "place",
    "LOC": "place",
    "ORG": "organisation",
    "FAMILY": "minor",
    "USERNAME": "person",
    "ID": "number",
    "BANK": "number",
    "ONLINE_ID": "number",
}
# Span classes that a source marks wherever they occur; elsewhere a word without a mark says nothing about the class.
_MARKED = {
    "meddocan": {"person", "address", "contact"},
    "echr-es": {"person"},
    "presidio-research": {"person", "address"},
    "evi-en": {"person", "address", "dob"},
    "restaurant8k": {"person"},
    "lener-br": {"person"},
    "sli-nerc-gl": {"person", "place", "organisation"},
    "generated-dev": {"person", "minor", "address", "health", "credential"},
    "banking77": set(SPANS),
    "clinc150": set(SPANS) - {"place", "organisation"},
    "casimedicos": {"person", "address", "minor"},
    OWN: set(SPANS) - {"place", "organisation", "contact"},
}
WEIGHTS = {
    OWN: 4.5,
    QUERIES: 1.0,
    TAUGHT: 1.5,
    "evi-en": 1.2,
    "presidio-research": 1.5,
    "restaurant8k": 1.5,
    "gitleaks-fps": 3.0,
    "gitleaks-tps": 3.0,
    "meddocan": 2.5,
    "generated-dev": 0.8,
    "lener-br": 0.8,
    "sli-nerc-gl": 0.8,
}
# Of large sources whose wordings repeat, each epoch sees this share.
SHARES = {
    "generated-dev": 0.35,
    "sli-nerc-gl": 0.35,
    "lener-br": 0.35,
    "banking77": 0.4,
    "clinc150": 0.5,
    "meddocan": 0.6,
    "casimedicos": 0.6,
    "echr-es": 0.6,
    QUERIES: 0.6,
    TAUGHT: 0.5,
}
_KIND_NAMES = {"credentials": "credential"}


@dataclass(frozen=True, slots=True)
class Row:
    """One text. `label` 1 must stay, 0 may leave, None is not scored; `level` is None where it is not known.

    The label of a text that the teacher read is its chance.
    """

    id: str
    text: str
    spans: tuple[tuple[int, int, str], ...]
    label: float | None
    level: int | None
    kinds: frozenset[str] | None
    source: str
    lang: str
    evasion: str
    weight: float

    @property
    def marked(self) -> frozenset[str]:
        """The span classes that are marked completely in this row."""
        return frozenset(_MARKED.get(self.source, set()))


def read_public(folder: Path, split: str) -> list[Row]:
    """The rows of one split of the public data."""
    rows = []
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            level = LEVELS.index(raw["level"]) if raw["level"] in LEVELS else None
            rows.append(
                Row(
                    id=raw["id"],
                    text=raw["text"],
                    spans=tuple((a, b, _SPAN_CLASS[label]) for a, b, label in raw["spans"] if label in _SPAN_CLASS),
                    label=raw["label"],
                    level=level,
                    kinds=frozenset(raw["cats"]) & frozenset(KINDS) if raw["label"] is not None else None,
                    source=raw["source"],
                    lang=raw["lang"],
                    evasion=raw["evasion"],
                    weight=WEIGHTS.get(raw["source"], 1.0),
                )
            )
    return rows


def read_queries(folder: Path, judged: Path) -> list[Row]:
    """The router's own training queries that were judged for privacy: nearly all may leave."""
    levels = {
        line["text_sha256"]: line["level"] for line in map(json.loads, judged.read_text(encoding="utf-8").splitlines())
    }
    rows = []
    for file in sorted(folder.glob("*-a-*.jsonl")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            raw = json.loads(line)
            level = levels.get(hashlib.sha256(raw["text"].encode()).hexdigest()[:16])
            if level is not None:
                stays = LEVELS.index(level) >= LEVELS.index("personal")
                rows.append(
                    Row(
                        id=f"{file.stem}-{number}",
                        text=raw["text"],
                        spans=(),
                        label=int(stays),
                        level=LEVELS.index(level),
                        kinds=None if stays else frozenset(),
                        source=QUERIES,
                        lang=raw["lang"],
                        evasion="",
                        weight=WEIGHTS[QUERIES],
                    )
                )
    return rows


_MARK = re.compile(r"⟦([A-Z_]+):([^⟧]*)⟧")


def read_own(folder: Path) -> dict[str, list[Row]]:
    """Our own messages by split. A pair (a message and its near miss) is never divided."""
    splits: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            if line.strip():
                raw = json.loads(line)
                splits[own_split(raw["pair"])].append(_own_row(raw, f"{file.stem}-{number}"))
    return splits


def own_split(pair: str) -> str:
    """Where a pair belongs: train, dev or test."""
    bucket = zlib.crc32(pair.encode()) % _HOLD_OUT
    return {0: "test", 1: "dev"}.get(bucket, "train")


def _own_row(raw: dict[str, object], name: str) -> Row:
    marked = str(raw["text"])
    text, spans, position = "", [], 0
    for match in _MARK.finditer(marked):
        text += marked[position : match.start()]
        if match.group(1) in _SPAN_CLASS:
            spans.append((len(text), len(text) + len(match.group(2)), _SPAN_CLASS[match.group(1)]))
        text += match.group(2)
        position = match.end()
    text += marked[position:]
    level = LEVELS.index(str(raw["level"]))
    if "criminal" in str(raw["kinds"]) and str(raw["level"]) == "personal":
        level = LEVELS.index("special")  # GDPR art. 10: as the public data has it
    kinds = raw["kinds"]
    names = {_KIND_NAMES.get(str(kind), str(kind)) for kind in kinds} if isinstance(kinds, list) else set()
    return Row(
        id=name,
        text=text,
        spans=tuple(spans),
        label=int(level >= LEVELS.index("personal")),
        level=level,
        kinds=frozenset(names) & frozenset(KINDS),
        source=OWN,
        lang=str(raw["lang"]),
        evasion="",
        weight=WEIGHTS[OWN],
    )


# ---- augmentation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamePool:
    """Names to put in place of those in the training text, so that none is learnt by heart."""

    first: tuple[str, ...]
    last: tuple[str, ...]

    @classmethod
    def of(cls, names: dict[str, int]) -> NamePool:
        """Split a name table."""
        return cls(
            tuple(n for n, k in names.items() if k & 1 and len(n) > 2),
            tuple(n for n, k in names.items() if k & 2 and len(n) > 2),
        )


def augmented(row: Row, pool: NamePool, chance: random.Random) -> Row:
    """A variant of a row: other names, other case, no accents, a typing slip."""
    if row.spans and chance.random() < 0.4:
        row = _renamed(row, pool, chance)
    draw = chance.random()
    if draw < 0.16:
        return _mapped(row, str.lower)
    if draw < 0.19:
        return _mapped(row, str.upper)
    if draw < 0.27:
        return _mapped(row, _unaccented)
    if draw < 0.33:
        return _slipped(row, chance)
    if draw < 0.40:
        return _mapped(row, lambda text: re.sub(r"[¿¡,;.]", " ", text))
    return row


def combined(row: Row, other: Row, chance: random.Random) -> Row:
    """Two texts after one another: what one of them holds, the whole holds."""
    if row.label is None or other.label is None or len(row.text) + len(other.text) > 900:
        return row
    first, second = (row, other) if chance.random() < 0.5 else (other, row)
    gap = chance.choice(["\n", ". ", "\n\n", " ", "\nassistant: ", "\nuser: "])
    offset = len(first.text) + len(gap)
    return replace(
        row,
        text=first.text + gap + second.text,
        spans=(*first.spans, *((a + offset, b + offset, label) for a, b, label in second.spans)),
        label=max(row.label, other.label),
        level=None if row.level is None or other.level is None else max(row.level, other.level),
        kinds=None if row.kinds is None or other.kinds is None else row.kinds | other.kinds,
        source=row.source if row.marked <= other.marked else other.source,
        weight=min(row.weight, other.weight),
    )


def _renamed(row: Row, pool: NamePool, chance: random.Random) -> Row:
    text, spans, position = "", [], 0
    for start, end, label in sorted(row.spans):
        if start < position:
            continue
        text += row.text[position:start]
        value = row.text[start:end]
        if label == "person" and re.fullmatch(r"[^\W\d_]+(?:[ \-][^\W\d_]+){0,3}", value):
            value = _name_like(value, pool, chance)
        spans.append((len(text), len(text) + len(value), label))
        text += value
        position = end
    return replace(row, text=text + row.text[position:], spans=tuple(spans))


def _name_like(value: str, pool: NamePool, chance: random.Random) -> str:
    words = value.split(" ")
    made = [chance.choice(pool.first), *(chance.choice(pool.last) for _ in words[1:])]
    if len(words) == 1 and chance.random() < 0.3:
        made = [chance.choice(pool.last)]
    if value.isupper():
        return " ".join(made).upper()
    return " ".join(made) if value.islower() else " ".join(word.title() for word in made)


def _mapped(row: Row, change: object) -> Row:
    assert callable(change)  # noqa: S101 - training only
    text = "".join(new if len(new := str(change(c))) == 1 else c for c in row.text)
    return replace(row, text=text)


def _unaccented(character: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", character) if unicodedata.category(c) != "Mn")


def _slipped(row: Row, chance: random.Random) -> Row:
    """Two neighbouring letters swapped, once in some sixty characters."""
    letters = list(row.text)
    for _ in range(1 + len(letters) // 60):
        place = chance.randrange(len(letters)) if letters else 0
        if place + 1 < len(letters) and letters[place].isalpha() and letters[place + 1].isalpha():
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return replace(row, text="".join(letters))


def by_label(rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """Rows that must stay, and rows that may leave."""
    rows = list(rows)
    return [row for row in rows if row.label == 1], [row for row in rows if row.label == 0]
