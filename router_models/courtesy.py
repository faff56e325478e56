"""What people put around a question and does not change it: a greeting before it, thanks after it, quotes around it."""

from __future__ import annotations

import re
from typing import Final

_GREETING: Final = (
    r"(?:muy )?buen[oa]s(?: d[ií]as| tardes| noches)?(?: a tod[oa]s)?|buen d[ií]a|"
    r"hola+(?: a tod[oa]s| de nuevo| otra vez)?|"
    r"saludos|qu[eé] tal|oye|oiga|perd[oó]n[ae]?|disculp[ae]|una (?:pregunta|consulta|duda)(?: r[aá]pida)?|"
    r"hi+(?: there| all| again)?|hello+(?: there| again)?|hey+(?: there)?|good (?:morning|afternoon|evening|day)|"
    r"dear (?:all|team|assistant|sir|madam|sir or madam)|greetings|(?:a )?quick question|excuse me|sorry|"
    r"bon ?jour|bonsoir|salut|bon dia|bona tarda|bos d[ií]as|kaixo|egun on|ol[aá]|bom dia|boa tarde"
)
_THANKS: Final = (
    r"(?:muchas |much[ií]simas |mil )?gracias(?: de antemano| por todo| por (?:tu|su) ayuda| anticipadas)?|"
    r"(?:por favor|porfa(?:vor|s)?|plis|pls|plz|please)|"
    r"(?:muy|te lo|se lo) agrade(?:cido|cida|zco|cer[ií]a)(?: mucho)?|"
    r"(?:si (?:eres|es usted|son|fuera) tan amables?)|un saludo|saludos|"
    r"(?:many |kind )?thank(?:s| you)(?: (?:so|very) much| a lot| in advance| again)?|thx|ty|cheers|much appreciated|"
    r"(?:kind |best )?regards|if you please|merci|obrigad[oa]|gr[aà]cies|eskerrik asko|grazas"
)
_BEFORE: Final = re.compile(rf"\A(?:[\s,;.:!¡¿?-]*(?:{_GREETING})\b[\s,;.:!-]*)+", re.IGNORECASE)
_AFTER: Final = re.compile(rf"(?:[\s,;.!¡(-]+(?:{_THANKS})\b[\s,;.:!)]*)+\Z", re.IGNORECASE)
_QUOTES: Final = {'"': '"', "«": "»", "“": "”", "'": "'", "`": "`"}
_TAIL: Final = 120


def plain(text: str) -> str:
    """The question without courtesies and enclosing quotes; a text that is nothing but courtesy stays as it is."""
    text = text.strip()
    inner = text[1:-1]
    if inner.strip() and _QUOTES.get(text[0]) == text[-1] and text[0] not in inner and text[-1] not in inner:
        text = inner.strip()
    left = _BEFORE.sub("", text, count=1)
    end = left[-_TAIL:]
    right = left[: -len(end)] + _AFTER.sub("", end) if end else left
    return right if len(right) > 2 else text
