"""What the difficulty model sees of a query: its shape in numbers, beside the mean of its word vectors.

Counts are made by C code over bytes, regular expressions and token ids, never letter by letter in Python. Nothing here
depends on a capital letter or an accent, so that shouting or a phone's keyboard does not change a route.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from math import log1p, sqrt

import numpy as np
import numpy.typing as npt

from router_models.encoder import Encoder, Floats, Tokens
from router_models.lexicon import FUNCTION_WORDS, LEXICON

_DIGITS, _MATHS, _CODE, _STOPS, _QUOTES, _SPACES, _BRACKETS = range(7)
_GROUPS = ("0123456789", "=+*/^<>%~|\\$", "{}[]_;`#@&", ".,:!?¿¡", "\"'«»", " \t\n\r", "()")

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"^[ \t]*\(?[A-Ja-j][.)][ \t]*(.*)$", re.M)
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]", re.M)
_LATEX = re.compile(r"\\[A-Za-z]+|\$[^$\n]+\$")
_ROMAN = re.compile(r"\b(?:II|III|IV)\b\.?")
_CODE_LINE = re.compile(
    r"^[ \t]*(?:def |class |import |from \w+ import|for .*:$|if .*:$|return\b|assert |SELECT |function |const |let |"
    r"var |public |#include|</?\w+>)",
    re.M,
)
_SENTENCE = re.compile(r"[.!?…]+(?=\s|$)")
_BLANK = re.compile(r"_{2,}|\[[A-Z_]+\]")

NUMBERS = (
    "chars", "tokens", "words_per_line", "lines", "word_length", "digit_share", "maths_share", "code_share",
    "stop_share", "quote_share", "bracket_share", "other_share", "numbers", "largest_number", "decimals", "options",
    "option_length", "option_spread", "numeric_options", "bullets", "latex", "roman", "code_lines", "sentences",
    "sentence_length", "blanks", "questions", "question_last", "ask_tokens", "rarity", "rarity_top", "spread",
    "unknown", "distinct", "function_share", "norm", "single_word",
)  # fmt: skip
NAMES = NUMBERS + tuple(f"has_{name}" for name in LEXICON) + tuple(f"first_{name}" for name in LEXICON)
SIZE = len(NAMES)
_FIRST = 6  # the words that say what is wanted, after a greeting

MAX_CHARS = 8_000


class Features:
    """Turns a text and its tokens into `SIZE` numbers. One object serves every request."""

    def __init__(self, encoder: Encoder) -> None:
        self._groups = _byte_groups()
        classes = _token_classes(encoder)
        self._classes, self._function = np.ascontiguousarray(classes[:, :-1]), np.ascontiguousarray(classes[:, -1])
        self._rarity = encoder.rarity()

    def __call__(self, text: str, tokens: Tokens) -> Floats:
        """The numbers of `text`, in the order of `NAMES`."""
        numbers = self._numbers(text, tokens.ids)
        return np.concatenate((np.array(numbers, np.float32), self._words(tokens.ids)))

    def _numbers(self, text: str, ids: npt.NDArray[np.int32]) -> list[float]:
        raw = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
        digits, maths, code, stops, quotes, spaces, brackets = (np.bincount(raw, minlength=256) @ self._groups).tolist()
        size, count = len(text), len(ids)
        lines = text.count("\n") + 1
        found = _NUMBER.findall(text) if digits else []
        options = _OPTION.findall(text) if lines > 1 else []
        lengths = [len(option) for option in options] or [0]
        sentences = len(_SENTENCE.findall(text)) + 1
        rarity, rarest, spread = _moments(self._rarity[ids]) if count else (0.0, 0.0, 0.0)
        visible, tokens = max(size - spaces, 1), max(count, 1)
        return [
            _log(size), _log(count), _log(count / lines), _log(lines), visible / tokens / 5,
            digits / visible, maths / visible, code / visible, stops / visible, quotes / visible, brackets / visible,
            (visible - digits - maths - code - stops - quotes - brackets) / visible,
            _log(len(found)), max(map(len, found), default=0) / 8, _log(sum("." in n or "," in n for n in found)),
            min(len(options), 10) / 10, _log(sum(lengths) / len(lengths)), _log(max(lengths) - min(lengths)),
            sum(option[:1].isdigit() or option[:1] in "$-−" for option in options) / max(len(options), 1),
            _log(len(_BULLET.findall(text))), _log(len(_LATEX.findall(text)) if maths else 0),
            _log(len(_ROMAN.findall(text)) if "I" in text else 0), _log(len(_CODE_LINE.findall(text))), _log(sentences),
            _log(count / sentences), float(("__" in text or "[" in text) and _BLANK.search(text) is not None),
            _log(text.count("?")), float("?" in text[-4:]),
            _log(count if not options else len(text[: text.find(options[0])].split())), rarity, rarest, spread,
            (count - int(np.count_nonzero(ids))) / tokens, len(set(ids.tolist())) / tokens,
            int(np.count_nonzero(self._function[ids])) / tokens, float(count == 0), float(count <= 2),
        ]  # fmt: skip

    def _words(self, ids: npt.NDArray[np.int32]) -> Floats:
        classes = self._classes[ids]
        anywhere = np.minimum(np.add.reduce(classes, 0, np.float32), 4) / 2
        first = np.minimum(np.add.reduce(classes[:_FIRST], 0, np.float32), 1)
        return np.concatenate((anywhere, first))


def _log(value: float) -> float:
    return log1p(value) / 4


def _moments(values: Floats) -> tuple[float, float, float]:
    """Mean, greatest and standard deviation: numpy's own methods cost a score as much as all the rest."""
    mean = float(np.add.reduce(values)) / len(values)
    return mean, float(np.maximum.reduce(values)), sqrt(max(float(values @ values) / len(values) - mean * mean, 0.0))


def _byte_groups() -> Floats:
    table = np.zeros((256, len(_GROUPS)), np.float32)
    for column, group in enumerate(_GROUPS):
        table[list(group.encode("latin-1")), column] = 1
    return table


def _token_classes(encoder: Encoder) -> npt.NDArray[np.uint8]:
    table = np.zeros((encoder.size, len(LEXICON) + 1), np.uint8)
    for column, words in enumerate((*LEXICON.values(), FUNCTION_WORDS)):
        for word in words.split():
            for form in {word, without_accents(word)}:
                ids = encoder.encode(form).ids
                if len(ids) == 1:
                    table[ids[0], column] = 1
    table[0] = 0
    return table


def without_accents(text: str) -> str:
    """`pásame el menú` as `pasame el menu`; ñ stays."""
    if text.isascii():
        return text
    letters: Sequence[str] = [c if c in "ñÑ" else unicodedata.normalize("NFD", c)[0] for c in text]
    return "".join(letters)
