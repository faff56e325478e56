"""classify: which language a text is in. py3langid (BSD-3-Clause): byte n-grams and naive Bayes, in numpy, no IO.

    detect("¿a qué hora abrís?") == "es"        detect("42") == "und"

Spanish and English weigh more than their neighbours where a short text could be either; `und` is a text with too few
letters, or one that no language fits. Measured by `tests/signals/test_language.py` on our own messages.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNDETERMINED: Final = "und"
# Who asks in another language is told apart from who asks in one of ours: an unread language stays on the premises.
LANGUAGES: Final = (
    "es", "en", "ca", "gl", "eu", "pt", "fr", "it", "de", "nl", "ro", "pl", "cs", "sk", "hu", "sv", "da", "fi", "no", "el",
    "bg", "ru", "uk", "tr", "ar", "he", "fa", "hi", "bn", "zh", "ja", "ko", "vi", "th", "id",
)  # fmt: skip
_FIRST: Final = ("es", "en")
_FIRST_WEIGHT: Final = 6.0  # nats; on the messages of router_models/data it mends most es/gl and es/it slips and costs gl 2 %
_MIN_LETTERS: Final = 3
_HEAD: Final = 700  # characters read; more adds nothing
_LETTER: Final = re.compile(r"[^\W\d_]")
_NOISE: Final = re.compile(r"https?://\S+|\S+@\S+|\S*[\d_/\\=<>{}]\S*")  # the same in every language


@functools.cache
def _identifier() -> LanguageIdentifier:
    """The library's model cut down to our languages, in half the memory."""
    whole = LanguageIdentifier.from_model_file(MODEL_FILE)
    columns = [number for number, name in enumerate(whole.nb_classes) if name in LANGUAGES]
    return LanguageIdentifier(
        whole.nb_ptc[:, columns].copy(),
        whole.nb_pc[columns].copy(),
        [whole.nb_classes[number] for number in columns],
        whole.tk_nextmove,
        whole.tk_output,
        tk_row=whole.tk_row,
    )


def detect(text: str) -> str:
    """The two-letter code of the language (one of `LANGUAGES`), or `und`. Never raises for a text, however odd."""
    head = text[:_HEAD]
    words = _NOISE.sub(" ", head)
    if len(_LETTER.findall(words)) < _MIN_LETTERS:
        words = head
        if len(_LETTER.findall(words)) < _MIN_LETTERS:
            return UNDETERMINED
    ranked = _identifier().rank(words.encode("utf-8", "replace").decode("utf-8"))
    scores = {name: float(score) + (_FIRST_WEIGHT if name in _FIRST else 0.0) for name, score in ranked}
    return max(scores, key=scores.__getitem__)
