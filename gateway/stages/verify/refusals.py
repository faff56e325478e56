"""How a model says that it will not, or that it does not know: es, en, ca, gl, eu, pt and fr.

Looked for near the beginning of an answer that is short: a long one that starts with an excuse goes on to help. Short
forms that ordinary answers hold too (`no se puede`, `I can't recommend it enough`) are left out.
"""

from __future__ import annotations

import re
from typing import Final

_EN: Final = (
    r"sorry,? (?:but )?(?:i |we )(?:can(?:'t|not)|am (?:not able|unable)|do(?:n't| not)|could(?:n't| not))",
    r"(?:i (?:can(?:'t|not)|could(?:n't| not))|i(?: am|'m) (?:not able|unable) to) (?:help|assist|answer|provide|fulfil"
    r"|comply|do that|give|share|access|tell you|determine|complete|support)",
    r"i (?:do not|don't) (?:know|have (?:any |enough |the |access to )*(?:information|data|context|details|knowledge"
    r"|real[- ]time|access))",
    r"i(?: am|'m) (?:not sure|unsure|not aware of|not familiar with|not certain)\b",
    r"as an? (?:ai|artificial intelligence|language model|ai \w+),? i (?:can(?:'t|not)|do(?:n't| not)"
    r"|am (?:not|unable))",
    r"i have no (?:idea|information|way of knowing)",
)
_ES: Final = (
    r"(?:lo siento|perd[oó]n|disculp[ae]|lamentablemente)[,.]?(?: pero)?,? no (?:puedo|s[eé]\b|tengo|dispongo|estoy)",
    r"no (?:lo )?sé\b|no lo se\b(?! \w+[ae]\b)|ni idea\b|no tengo ni idea",
    r"no (?:te |le |os |les )?puedo (?:ayudar|responder|contestar|proporcionar|facilitar|dar(?:te|le)?\b|ofrecer"
    r"|cumplir|acceder|hacer eso|asistir|decir|compartir)",
    r"no (?:dispongo de|tengo) (?:la |esa |suficiente |m[aá]s )?(?:informaci[oó]n|datos|acceso"
    r"|conocimiento|constancia)",
    r"no estoy (?:segur[oa]|capacitad[oa]|en condiciones|programad[oa])",
    r"como (?:modelo de lenguaje|(?:una )?ia\b|asistente|inteligencia artificial)[^.]{0,40},? no (?:puedo"
    r"|tengo|dispongo)",
    r"me es imposible (?:ayudar|responder|dar|saber)",
)
_OTHERS: Final = (
    # Catalan
    r"(?:ho sento|em sap greu)[,.]?(?: per[oò])?,? no (?:puc|s[eé]\b|tinc)",
    r"no ho s[eé]\b|no (?:puc (?:ajudar|respondre|proporcionar|donar)|disposo d|tinc (?:prou )?"
    r"(?:informaci[oó]|dades))",
    # Galician
    r"sint(?:o|oo|ímolo)[^.]{0,12},? (?:pero )?non (?:podo|sei|teño)",
    r"non (?:o sei\b|sei\b|podo (?:axudar|responder|proporcionar|dar)|teño (?:informaci[oó]n|datos|acceso)|dispoño)",
    # Basque
    r"(?:sentitzen dut|barkatu)[^.]{0,20}(?:ezin|ez d)",
    r"ez dakit\b|ez d(?:ut|aukat) (?:informazio|datu)|ezin (?:dizut|dut|diot|dizuet) (?:lagundu|erantzun|eman)",
    # Portuguese
    r"(?:desculp[ae]|sinto muito|lamento)[,.]?(?: mas)?,? (?:eu )?n[aã]o (?:posso|sei\b|tenho|consigo)",
    r"n[aã]o (?:sei\b|posso (?:ajudar|responder|fornecer|dar)|tenho (?:acesso|informa|dados)"
    r"|consigo (?:ajudar|responder))",
    # French
    r"d[eé]sol[eé]e?[,.]?(?: mais)?,? je ne (?:peux|sais|suis|dispose)",
    r"je ne (?:sais pas|peux pas (?:vous |t'|te |r[eé]pondre|aider|fournir|donner)|suis pas en mesure|dispose pas)",
    r"je n'ai pas (?:acc[eè]s|d'information|les informations|cette information)",
)
_REFUSAL: Final = re.compile(rf"(?<!\w)(?:{'|'.join((*_EN, *_ES, *_OTHERS))})", re.IGNORECASE)
_BEGINNING: Final = 160
_SHORT: Final = 420


def refuses(text: str) -> bool:
    """Whether an answer is a refusal, or an admission that it does not know, and nothing more."""
    plain = text.strip().replace("\u2019", "'")
    if len(plain) > _SHORT:
        return False
    found = _REFUSAL.search(plain)
    return found is not None and found.start() < _BEGINNING
