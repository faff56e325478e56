"""Whether two answers to one question say the same: by their result where there is one, else by their words.

A plain measure, on purpose: it costs microseconds, and a route that needs more asks a judge. Numbers and short answers
are compared exactly; of texts, the share of content words that they have in common.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import orjson

_NUMBER: Final = re.compile(r"[-−]?\d+(?:[.,]\d+)*")
_WORD: Final = re.compile(r"\w+")
_OPTION: Final = re.compile(
    r"(?:answer|respuesta|option|opción)\W{0,6}(?:is|es)?\W{0,6}\(?([A-Ja-j])\b(?!['’])", re.IGNORECASE
)
_LONE_OPTION: Final = re.compile(r"\W*([A-J])\W*(?:[.):]\s.*)?", re.DOTALL)
_SHORT: Final = 6  # words
_CONTENT: Final = 4  # letters: shorter words are mostly grammar
_SAME_WORDS: Final = 0.35  # F1 of content words; see `python -m router_models.train.checker_report`
_BY_NUMBER: Final = frozenset({"math", "reason"})


def agreement(first: str, second: str, *, task: str = "") -> float:
    """1 where two answers say the same, 0 where they do not."""
    first, second = first.strip(), second.strip()
    if first == second:
        return 1.0
    if (one := _parsed(first)) is not None and (other := _parsed(second)) is not None:
        return float(one == other)
    if (letter := _option(first)) and (other_letter := _option(second)):
        return float(letter == other_letter)
    numbers, others = _NUMBER.findall(first), _NUMBER.findall(second)
    words, other_words = _words(first), _words(second)
    short = min(len(words), len(other_words)) <= _SHORT
    if numbers and others and (short or task in _BY_NUMBER):
        return float(_value(numbers[-1]) == _value(others[-1]))
    if short:
        few, many = sorted((words, other_words), key=len)
        return float(bool(few) and any(many[at : at + len(few)] == few for at in range(len(many) - len(few) + 1)))
    return float(_overlap(words, other_words) >= _SAME_WORDS)


def _parsed(text: str) -> object | None:
    if text[:1] not in "{[":
        return None
    try:
        return orjson.loads(text) or ()
    except orjson.JSONDecodeError:
        return None


def _option(text: str) -> str:
    """The letter of a multiple choice."""
    found = _OPTION.findall(text)
    if found:
        return str(found[-1]).upper()
    lone = _LONE_OPTION.fullmatch(text)
    return lone[1] if lone else ""


def _value(number: str) -> str:
    """`1,200.50` as `1200.5`. Only whether two are the same matters: thousands and decimals need no telling apart."""
    whole = number.replace("−", "-")
    head, mark, last = whole.rpartition("." if "." in whole else ",")
    if mark and len(last) != 3:
        return f"{re.sub('[.,]', '', head)}.{last.rstrip('0')}".rstrip(".")
    return re.sub("[.,]", "", whole)


def _words(text: str) -> list[str]:
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    return _WORD.findall(plain)


def _overlap(first: list[str], second: list[str]) -> float:
    """F1 of the content words of two texts."""
    one, other = ({word for word in words if len(word) >= _CONTENT or word.isdigit()} for words in (first, second))
    if not one or not other:
        return 0.0
    return 2 * len(one & other) / (len(one) + len(other))
