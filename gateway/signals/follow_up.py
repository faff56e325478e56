"""classify: whether a turn makes sense only after those before it: "hazlo", "and in Java?", "¿y en el otro caso?".

Such a turn is judged with what it is about, and lets no conversation go (`follow_up` in `sticky: {until: ...}`). By its
words alone, in Spanish and English, in some microseconds. In doubt a short order follows ("run the tests"), and a
short question stands alone ("what time do you open?"): most are so.
"""

from __future__ import annotations

import re
from typing import Final

_SHORT: Final = 60  # characters
_LONGEST: Final = 160
_FEW_WORDS: Final = 2
_BRIEF: Final = 6
_WORD: Final = re.compile(r"\w+")
# What opens a turn that goes on with something.
_GOES_ON: Final = re.compile(
    r"(?:y|e|pero|ahora|entonces|también|tambien|tampoco|además|ademas|sigue|continúa|continua|otra vez|de nuevo|"
    r"repite|and|but|now|then|also|again|so|go on|continue|keep going|same|what about|how about|what if|and if|or)\b"
    r"|(?:no|sí|si|vale|ok|okay|venga|perfecto|genial|gracias|bien|yes|no|yep|sure|thanks|great|fine|right)[,.;:!]"
)
# Words that stand for something that was said.
_REFERS: Final = re.compile(
    r"\b(?:eso|esto|ello|aquello|lo mismo|lo anterior|lo de antes|lo otro|(?:el|la|los|las) (?:mism[oa]s?|otr[oa]s?|"
    r"anterior(?:es)?|primer[oa]s?|segund[oa]s?|tercer[oa]s?|últim[oa]s?)|es[eo]s?|esas?|ese (?:caso|texto|código)|"
    r"it|its|them|those|these|the same|the (?:other|previous|first|second|third|last)(?: one)?|the above|"
    r"(?:that|this) one|do (?:that|this|so)|like (?:that|this))\b|\b(?:that|this)[\s?.!]*$"
)
_NOTHING_MEANT: Final = re.compile(r"\bwhat time is it\b|\bis it (?:going to|raining|cold|hot|true|legal|possible)\b")
# An order with its object tied to it: hazlo, tradúcelo, pásamela, explícanoslo.
_TIED: Final = re.compile(r"\w*(?:[aeiáéí]|haz|pon|ten|di)r?(?:me|te|se|nos)?l[oa]s?\b")
_NOT_TIED_WORDS: Final = (
    "escuela escuelas novela novelas abuela abuelo abuelos tela vela sala salas mala malas malo malos "
    "pelo suelo cielo hielo vuelo vuelos modelo modelos regalo regalos palo hilo estilo estilos kilo "
    "kilos paralelo"
)
_NOT_TIED: Final = frozenset(_NOT_TIED_WORDS.split())
_ASKS_WORDS: Final = (
    "qué que cuál cual cuáles cuales quién quien quiénes cuándo cuando dónde donde cómo como cuánto "
    "cuanto cuánta cuanta cuántos cuantos cuántas cuantas what which who whom whose when where why how is "
    "are am was were do does did can could should would will may has have puedo puede pueden podéis "
    "podeis hay tenéis teneis tienen tengo hacéis"
)
_ASKS: Final = frozenset(_ASKS_WORDS.split())
_WITH_WHAT_WORDS: Final = "en para por con sin de hasta sobre in for with without as about until into using to"
_WITH_WHAT: Final = frozenset(_WITH_WHAT_WORDS.split())


def follows(text: str) -> bool:
    """Whether a turn, which is not the first, needs those before it."""
    said = text.strip(" \t\n¿¡\"'«").lower()
    if len(said) > _LONGEST:
        return False
    words = _WORD.findall(said)
    if len(words) <= _FEW_WORDS or _GOES_ON.match(said):
        return True
    if words[0] not in _NOT_TIED and _TIED.fullmatch(words[0]):
        return True
    if _REFERS.search(said) and not _NOTHING_MEANT.search(said):
        return True
    if words[0] in _WITH_WHAT:
        return len(words) <= _BRIEF and words[1] not in _ASKS
    return len(said) <= _SHORT and "?" not in text and words[0] not in _ASKS
