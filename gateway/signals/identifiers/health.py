"""classify: numbers of health cards and records: the state's, the regions', a hospital's own.

No check digit is public for most of them, so a form (CIP: four letters of the surnames, sex, birth, number) or the word
before a number tells. SIP is Valencia's and a telephone protocol, `historia` is a record and a tale: loose words need
a number that is no year and no port.
"""

# ruff: noqa: E501 - patterns and lists of words read better unbroken

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.signals.identifiers.base import BUSINESS_WORDS, CERTAIN, LIKELY, Candidate, Found, Scan, found, words
from gateway.signals.taxonomy import Kind

_HEALTH_WORDS = words("nhc", "n\\.h\\.c\\.?", "historia", "història", "historial", "hª", "historia clínica", "historia clinica", "episodio", "sip(?!/)", "cipa", "cip", "nuhsa", "nuss", "tarjeta sanitaria", "targeta sanitària", "tarxeta sanitaria", "osasun txartela(?:ren)?", "cartão de utente", "utente", "número de utente", "carte vitale", "nhs", "medical record", "mrn", "patient id", "health card", "expediente médico", "cip-?sns", "tsi", "tis", "cipf", "n.? ?col", "colegiado", "colegiada", "col\\. ?n.?")  # fmt: skip
# Of those, the ones that mean other things too: a year or a port after them is no card of anybody.
_LOOSE_HEALTH_WORDS = words("historia", "història", "historial", "episodio", "sip", "cipa", "cip", "tsi", "tis")
_NUMBERED = re.compile(r"(?:historia|història|historial|episodio)(?: n[.º°o]{1,2}| núm\.?)? ?[:#º°.] ?$")
_HEALTH_CARD_WORDS = words("tarjeta", "targeta", "tarxeta", "txartela", "card", "cartão", "sanitari[ao]", "sanitària", "cip", "cipa", "cip-?aut", "cip-?sns", "salud", "salut", "osakidetza", "sergas", "sacyl", "catsalut", "paciente", "patient")  # fmt: skip
# The Spanish national health system's own code: two letters of the surnames after eight fixed ones, then six digits.
_CIP_SNS = re.compile(r"(?<![^\W_])b(?:[ .\-_/·]?b){7}(?:[ .\-_/·]?[a-z]){2}(?:[ .\-_/·]?[0-9]){6}(?![^\W_])")
_CIP_SHAPES = frozenset({(1, 6, 3), (10,), (1, 9), (12,), (6, 6)})  # sex, birth as YYMMDD, number: Catalonia and others


def find_system_codes(scan: Scan) -> Iterator[Found]:
    """CIP-SNS, wherever it stands."""
    for match in scan.each(_CIP_SNS, lower=True):
        yield found("HEALTH_ID", Kind.HEALTH, match.span(), CERTAIN)


def find_cards(scan: Scan, c: Candidate) -> Iterator[Found]:
    """Cards that begin with letters: Catalonia's CIP and its like, Castile and Leon's, Andalusia's NUHSA."""
    n = len(c.digits)
    span = (c.prefix_start, c.end)
    if len(c.prefix) == 4 and n in {10, 12} and c.shape in _CIP_SHAPES and c.digits[0] in "01":
        dated = _is_day(c.digits[3:5], c.digits[5:7])
        worded = scan.before(c.prefix_start, _HEALTH_CARD_WORDS, 60)
        traded = scan.before(c.prefix_start, BUSINESS_WORDS, 24)
        if worded or (n == 10 and dated and not traded):
            # Surer than a company's number that its end may be by chance.
            yield found("HEALTH_ID", Kind.HEALTH, span, CERTAIN if worded else LIKELY)
    if c.prefix == "CYL" and n == 10 and c.whole:
        yield found("HEALTH_ID", Kind.HEALTH, span, LIKELY)
    if c.prefix == "AN" and n == 10 and scan.before(c.prefix_start, _HEALTH_WORDS):
        yield found("HEALTH_ID", Kind.HEALTH, span, LIKELY)


def is_health_number(scan: Scan, c: Candidate, start: int) -> bool:
    """Whether the word before a number makes it one of a health card or record."""
    return scan.before(start, _HEALTH_WORDS, 28) and not _loose(scan, c, start)


def _is_day(month: str, day: str) -> bool:
    """Whether two pairs of digits are a month and a day."""
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _loose(scan: Scan, c: Candidate, start: int) -> bool:
    """Whether the health word before a number may mean a tale, a telephone protocol or a law: then it must be longer."""
    if scan.text[c.end : c.end + 1] == "@":
        return True  # sip:100123@host
    if (len(c.digits) >= 5 and max(c.shape) >= 3 and not _years(c)) or _NUMBERED.search(
        scan.lower, max(0, start - 28), start
    ):
        return False
    said = {match.group() for match in _HEALTH_WORDS.finditer(scan.lower, max(0, start - 28), start)}
    return all(_LOOSE_HEALTH_WORDS.fullmatch(word) for word in said)


def _years(c: Candidate) -> bool:
    """`1936 1939`: each group is a year."""
    return all(size == 4 for size in c.shape) and all(
        c.digits[at : at + 2] in {"14", "15", "16", "17", "18", "19", "20"} for at in range(0, len(c.digits), 4)
    )
