"""classify: which language a text is in. py3langid (BSD-3-Clause): byte n-grams and naive Bayes, in numpy, no IO.

    detect("¿a qué hora abrís?") == "es"        detect("42") == "und"

Spanish and English weigh more than their neighbours where a short text could be either. `und` is a text that has too
little to tell by, and `mis` one without a Latin letter that is in none of our languages. The model is a part of
py3langid's: `router_models/train/language.py` says which, and how often it is right.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from py3langid.langid import RAW_FLOOR, LanguageIdentifier  # type: ignore[import-untyped]

from router_models import language_runtime, manifest

UNDETERMINED: Final = "und"
UNCODED: Final = "mis"
# Who asks in another language is told apart from who asks in one of ours: an unread language stays on the premises.
LANGUAGES: Final = (
    "es", "en", "ca", "gl", "eu", "pt", "fr", "it", "de", "nl", "ro", "pl", "cs", "sk", "hu", "sv", "da", "fi", "no",
    "el", "bg", "ru", "uk", "tr", "ar", "he", "fa", "hi", "bn", "zh", "ja", "ko", "vi", "th", "id",
)  # fmt: skip
_OTHER_SCRIPTS: Final = frozenset(("el", "bg", "ru", "uk", "ar", "he", "fa", "hi", "bn", "zh", "ja", "ko", "th"))
_FIRST: Final = ("es", "en")
_FIRST_WEIGHT: Final = 6.0  # nats; mends most es/gl and es/it slips on router_models/data, and costs gl 2 %
_MIN_LETTERS: Final = 3
_HEAD: Final = 400  # characters read; more adds nothing
_END_OF_LATIN: Final = "\u0250"
_LETTER: Final = re.compile(r"[^\W\d_]")
_NOISE: Final = re.compile(r"https?://\S+|\S+@\S+|\S*[\d_/\\=<>{}]\S*")  # the same in every language


@functools.cache
def _identifier() -> LanguageIdentifier:
    manifest.verify(manifest.FOLDER, language_runtime.FILES, version=language_runtime.VERSION)
    return language_runtime.load(manifest.FOLDER)


def detect(text: str) -> str:
    """The code of the language: one of `LANGUAGES`, `und` or `mis`. Never raises for a text, however odd."""
    head = text[:_HEAD]
    words = _NOISE.sub(" ", head)
    letters = _LETTER.findall(words)
    if len(letters) < _MIN_LETTERS:
        words = head
        letters = _LETTER.findall(words)
        if len(letters) < _MIN_LETTERS:
            return UNDETERMINED
    ranked: list[tuple[str, float]] = _identifier().rank(words.encode("utf-8", "replace").decode("utf-8"))
    known = ranked[0][1] > RAW_FLOOR  # else it has not one n-gram that we know
    if min(letters) >= _END_OF_LATIN:
        return ranked[0][0] if known and ranked[0][0] in _OTHER_SCRIPTS else UNCODED
    if not known:
        return UNDETERMINED
    scores = {name: score + (_FIRST_WEIGHT if name in _FIRST else 0.0) for name, score in ranked}
    return max(scores, key=scores.__getitem__)
