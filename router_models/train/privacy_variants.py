"""Texts near our own messages, for the teacher to label: what a small network cannot learn from a few thousand alone.

As Tang et al. (2019, arXiv 1903.12136) and TinyBERT (Jiao et al. 2020, arXiv 1909.10351) make them: words replaced by
near ones, words left out, marked spans exchanged, and pieces of two messages joined. No label is carried over.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from router_models.encoder import Encoder
from router_models.train.privacy_data import Row

_REPLACED, _LEFT_OUT = 0.18, 0.06  # shares of words
_NEIGHBOURS, _NEAR = 12, 0.35
_WORD: Final = re.compile(r"[^\W\d_]+")
_CLAUSE: Final = re.compile(r"(?<=[,.;:?!\n])\s+|\s+(?=(?:y|and|que|but|pero|porque|because|for|para)\b)")


def variants(rows: Sequence[Row], encoder: Encoder, *, seed: int, count: int) -> list[tuple[str, str]]:
    """Language and text of `count` variants of each row, in a fixed order; none is a row's own text."""
    chance = random.Random(seed)
    near = {lang: _near_words([row.text for row in rows if row.lang == lang], encoder) for lang in _languages(rows)}
    spans: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for start, end, label in row.spans:
            spans.setdefault((row.lang, label), []).append(row.text[start:end])
    by_language = {lang: [row for row in rows if row.lang == lang] for lang in near}
    known = {row.text for row in rows}
    made = []
    for row in rows:
        for _ in range(count):
            draw = chance.random()
            text = row.text
            if draw < 0.35:
                text = _spliced(text, chance.choice(by_language[row.lang]).text, chance)
            elif row.spans and draw < 0.6:
                text = _exchanged(row, spans, chance)
            text = _reworded(text, near[row.lang], chance)
            if text.strip() and text not in known:
                made.append((row.lang, text))
    return list(dict.fromkeys(made))


def _languages(rows: Sequence[Row]) -> list[str]:
    return sorted({row.lang for row in rows})


def _near_words(texts: Sequence[str], encoder: Encoder) -> dict[str, list[str]]:
    """For each word of the texts, the words of the texts that stand nearest to it."""
    counts = Counter(word for text in texts for word in _WORD.findall(text.lower()) if len(word) > 2)
    words = sorted(word for word in counts if counts[word] > 1)
    if len(words) < _NEIGHBOURS + 1:
        return {}
    table = np.stack([encoder.mean(encoder.encode(word).ids) for word in words])
    near = {}
    for start in range(0, len(words), 512):
        likeness = table[start : start + 512] @ table.T
        best = np.argsort(-likeness, axis=1, kind="stable")[:, 1 : _NEIGHBOURS + 1]
        for row, columns in enumerate(best):
            near[words[start + row]] = [words[c] for c in columns if likeness[row, c] > _NEAR]
    return near


def _reworded(text: str, near: dict[str, list[str]], chance: random.Random) -> str:
    def other(match: re.Match[str]) -> str:
        word, draw = match.group(), chance.random()
        if draw < _LEFT_OUT:
            return ""
        choices = near.get(word.lower()) if draw < _LEFT_OUT + _REPLACED else None
        if not choices:
            return word
        new = chance.choice(choices)
        return new.upper() if word.isupper() and len(word) > 1 else new.capitalize() if word[0].isupper() else new

    return _WORD.sub(other, text).replace("  ", " ")


def _spliced(text: str, other: str, chance: random.Random) -> str:
    """The first clauses of one text and the last of another."""
    mine, theirs = _CLAUSE.split(text), _CLAUSE.split(other)
    first, last = chance.randint(0, len(mine)), chance.randint(0, len(theirs) - 1)
    return " ".join([*mine[:first], *theirs[last:]])[:700]


def _exchanged(row: Row, spans: dict[tuple[str, str], list[str]], chance: random.Random) -> str:
    text, position = "", 0
    for start, end, label in sorted(row.spans):
        if start >= position:
            text += row.text[position:start] + chance.choice(spans[row.lang, label])
            position = end
    return text + row.text[position:]
