"""classify: phrases that are said to make a model think harder, and that ask for nothing: "think step by step".

Left out of what is judged for difficulty, where they are a sentence of their own at either end: whoever appends them to
a plain question would else lift it to a larger model. The request itself goes out as it came.
"""

from __future__ import annotations

import re
from typing import Final

_END: Final = 400  # characters of each end that are looked through
_SAID: Final = (
    r"(?:(?:and|now|so|please|but|y|ahora|por favor),?\s+)*(?:"
    r"(?:let[’']?s\s+)?(?:think|reason|work)(?:\s+(?:it|this|about\s+(?:it|this)|through(?:\s+(?:it|this|the\s+problem))?|this\s+out|"
    r"carefully|on\s+this(?:\s+problem)?))*\s+step[\s-]by[\s-]step(?:\s+before\s+(?:you\s+)?answer(?:ing)?)?|"
    r"take\s+(?:a\s+deep\s+breath|your\s+time)(?:\s+and\s+[^.!?\n]{0,60})?|"
    r"think\s+(?:very\s+)?(?:carefully|hard|deeply)(?:\s+before\s+(?:you\s+)?answer(?:ing)?)?|"
    r"you\s+are\s+(?:an?|the)\s+(?:world[\s-]class|leading|top|renowned)\s+[^.!?\n]{0,80}|"
    r"show\s+(?:all\s+)?your\s+(?:work|reasoning)|"
    r"(?:piensa|razona|pi[eé]nsalo|raz[oó]nalo|pensemos|razonemos|vamos\s+a\s+pensar(?:lo)?)(?:\s+(?:bien|con\s+calma|despacio))?\s+"
    r"paso\s+a\s+paso(?:\s+antes\s+de\s+(?:responder|contestar))?|"
    r"(?:respira|toma\s+aire)\s*(?:hondo|profundamente)?(?:\s+y\s+[^.!?\n]{0,60})?|"
    r"piensa(?:lo)?\s+(?:muy\s+)?(?:bien|con\s+cuidado|detenidamente)(?:\s+antes\s+de\s+(?:responder|contestar))?|"
    r"eres\s+(?:un|una|el|la)\s+(?:mayor\s+|mejor\s+)?(?:experto|experta|eminencia)[^.!?\n]{0,80}|"
    r"(?:mu[eé]stra(?:me)?|explica)\s+tu\s+razonamiento(?:\s+con\s+detalle)?"
    r")"
)
_AFTER: Final = re.compile(rf"(?:(?:^|[\s.!?,;:)(\[-]+){_SAID}[\s.!:)\]…-]*)+\Z", re.IGNORECASE)
_BEFORE: Final = re.compile(rf"\A(?:[\s([-]*{_SAID}[\s.!:,;)\]…-]+)+", re.IGNORECASE)


def asked_plainly(text: str) -> str:
    """The text without such phrases at its ends; one that is nothing else stays as it is."""
    head, tail = text[:_END], text[-_END:]
    end = _AFTER.search(tail)
    kept = text if end is None else text[: len(text) - len(tail) + end.start()] + _mark(end.group())
    begun = _BEFORE.match(head)
    left = kept if begun is None else kept[begun.end() :]
    return left if any(map(str.isalnum, left)) else text


def _mark(said: str) -> str:
    """The stop that ended the sentence before it."""
    return said[0] if said[:1] in ".!?" else ""
