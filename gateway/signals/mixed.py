"""classify: whether a text is in Spanish and English at once. By the small words of both, in some microseconds."""

from __future__ import annotations

import re
from typing import Final

_HEAD: Final = 600  # characters read
_WORD: Final = re.compile(r"[a-záéíóúñü']+")
_LEAST: Final = 3  # small words of each language
_SHARE: Final = 0.25  # of all small words, that the rarer language must have
# What only one of the two has: `no`, `me`, `a`, `he`, `son`, `sin` and `once` are words of both.
_SPANISH_WORDS: Final = (
    "el la los las un una de del en y que qué por para con se su sus lo al como más pero este esta esto "
    "hay cómo cuál cuando cuándo dónde mi tu te le les nos es está están ser fue desde hasta porque muy "
    "también ya si sí todo"
)
_SPANISH: Final = frozenset(_SPANISH_WORDS.split())
_ENGLISH_WORDS: Final = (
    "the an of in and that to for with is are was were it its this these those what how when where which "
    "who why my your you we they them be been has have had do does did can could should would will not "
    "but from into about if"
)
_ENGLISH: Final = frozenset(_ENGLISH_WORDS.split())


def is_mixed(text: str) -> bool:
    """Whether neither language is the text's own."""
    words = _WORD.findall(text[:_HEAD].lower())
    spanish = sum(word in _SPANISH for word in words)
    english = sum(word in _ENGLISH for word in words)
    rarer = min(spanish, english)
    return rarer >= _LEAST and rarer >= _SHARE * (spanish + english)
