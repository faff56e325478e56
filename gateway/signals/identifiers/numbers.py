"""classify: identifiers made of digits: national, tax, bank, card, phone, device, vehicle and business numbers.

One pattern finds every run of at least five digits or so with the letters that touch it; the run's groups are then tried at
the lengths that some identifier has. Time is linear in the text: runs and groups are bounded.
"""

# ruff: noqa: E501, SIM905 - patterns and lists of words read better unbroken

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers
from stdnum import luhn
from stdnum.es import ccc as es_ccc
from stdnum.es import cups as es_cups
from stdnum.es import dni as es_dni
from stdnum.es import nie as es_nie
from stdnum.es import nif as es_nif
from stdnum.fr import nir as fr_nir
from stdnum.gb import nhs as gb_nhs
from stdnum.pt import nif as pt_nif

from gateway.signals.identifiers.base import (
    BUSINESS_WORDS,
    CERTAIN,
    LIKELY,
    SOFT,
    WEAK,
    Candidate,
    Found,
    Scan,
    found,
    words,
)
from gateway.signals.identifiers.health import find_cards, find_system_codes, is_health_number
from gateway.signals.taxonomy import Kind

_RUN = re.compile(r"[0-9](?:[0-9]|[ .\-/·_\u00a0()]{1,2}(?=[0-9])){3,79}")
_PREFIX = re.compile(r"(?<![^\W_])([A-Za-z]{1,4})([ .\-/]{0,2})$")
_SUFFIX = re.compile(r"([ .\-/]{0,2})([A-Za-z]{1,3})(?![^\W_])")
_GROUP = re.compile(r"[0-9]+")
_MAX_GROUPS = 32
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[ \-.]?[0-9]{2}(?:[ \-.]?[A-Za-z0-9]{1,4}){3,32}")
_IBAN_GATE = re.compile(r"(?<![^\W_])[A-Za-z]{2}(?=[ \-.]?[0-9]{2}[ \-.]?[A-Za-z0-9]{3})")
_IBAN_LENGTHS = {
    "AD": 24, "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18,
    "FR": 27, "GB": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TR": 26, "BR": 29, "UA": 29, "RS": 22, "SA": 24, "AE": 23, "IL": 23, "MA": 28,
}  # fmt: skip
_TEST_CARDS = frozenset(
    "4111111111111111 4242424242424242 4000056655665556 4012888888881881 5555555555554444 5105105105105100 2223003122003222 "
    "5200828282828210 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904 38520000023237 "
    "3530111333300000 4000000000000002 4000000000009995 4222222222222".split()
)
_AMEX = frozenset({"34", "37"})
_JCB_15 = frozenset({"1800", "2131"})

_ID_WORDS = words("dni", "d\\.n\\.i\\.?", "nif", "n\\.i\\.f\\.?", "nie", "nan", "documento", "document", "identidad", "identitat", "identity", "identidade", "cédula", "cedula", "c\\.i\\.", "carné", "carnet")  # fmt: skip
_PASSPORT_WORDS = words("pasaporte", "passport", "passaport", "pasaportea", "passaporte", "passeport", "pass")
_NUSS_WORDS = words("nuss", "naf", "nass", "ss", "n\\.?º? ?ss", "seguridad social", "seguretat social", "seguridade social", "gizarte segurantza(?:ko)?", "afiliación", "afiliacion", "social security", "afiliado", "afiliada")  # fmt: skip
_PHONE_WORDS = words("tel", "tel\\.", "tlf", "tfno", "tfno\\.", "tlfn", "tlfno", "telf", "telf\\.", "teléfono", "telefono", "telèfon", "telefonoa", "telefone", "téléphone", "móvil", "movil", "mòbil", "mugikorra", "telemóvel", "celular", "fijo", "fono", "phone", "mobile", "cell", "call", "called", "calling", "llamar", "llamad", "llamadme", "llámame", "llámenme", "llamarme", "llámeme", "llamando", "whatsapp", "wasap", "wassap", "guasap", "bizum", "sms", "número", "numero", "número es", "num", "number", "contacto", "contact", "contactar", "fone", "numbr", "telefno", "línea", "linea", "línia", "liña", "portabilidad", "ring", "text me", "teléfonos", "fax", "extensión")  # fmt: skip
_CARD_WORDS = words("tarjeta", "targeta", "tarxeta", "txartela", "cartão", "carte", "card", "visa", "mastercard", "amex", "crédito", "débito", "credit", "debit", "pan")  # fmt: skip
_IMEI_WORDS = words(
    "imei", "iccid", "sim", "serie", "serial", "terminal", "móvil", "movil", "phone", "device", "dispositivo"
)
_PLATE_WORDS = words("matrícula", "matricula", "matrícules", "matrikula", "placa", "plate", "coche", "vehículo", "vehiculo", "vehicle", "moto", "furgoneta", "camión", "cotxe", "carro", "car", "van", "multa", "multas", "itv", "aparcad[oa]", "parking", "aparcamiento", "conductor[a]?", "seguro", "taxi", "voiture", "plaque", "immatriculation", "registration", "reg", "autoa", "kotxea", "golpe", "parte")  # fmt: skip
_TAX_PT_WORDS = words("nif", "contribuinte", "número de contribuinte", "fiscal", "nipc", "cartão de cidadão")
_NHS_WORDS = words("nhs", "nhs number")
_SSN_WORDS = words("ssn", "social security", "social", "social security number", "itin")
# Numbers that stand for an SSN in forms and advertisements; nobody has them.
_SAMPLE_SSNS = frozenset({"078051120", "123456789", "219099999"})
_CUPS_WORDS = words("cups")
_POSTCODE_WORDS = words("cp", "c\\.p\\.?", "código postal", "codi postal", "zip", "postcode", "post code", "postal")

# The provinces of plates up to 2000: `M-1234-AB`.
_PROVINCES = frozenset(
    "A AB AL AV B BA BI BU C CA CC CE CO CR CS CU GC GE GI GR GU H HU IB J L LE LO LU M MA ML MU NA O OR OU P PM PO S SA SE SG SO SS T TE TF TO V VA VI Z ZA".split()
)
_CIF = re.compile(r"[ABCDEFGHJNPQRSUVW]")
_COUNTED = re.compile(
    r"\s?(?:habitantes|habitants|habitantak|inhabitants|personas|people|euros?|€|\$|dollars|dólares|km|kg|metros|visitas|views|votos|votes|registros|rows|filas|bytes|años|years)"
)
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_FREE_PHONE = re.compile(r"(?:34)?(?:[89]0[0-9])")


def find_numbers(scan: Scan) -> Iterator[Found]:
    """Every number that identifies a person, an account, a device, or a piece of business."""
    if not scan.stretches:
        return
    text = scan.text
    taken = list(_ibans(scan))
    taken += find_system_codes(scan)
    uuids = [match.span() for match in scan.each(_UUID)] if text.count("-") >= 4 else []
    for run in _RUN.finditer(text):
        start = run.start()
        if any(first <= start < last for first, last in uuids):
            continue
        if start and (
            text[start - 1].isdigit() or (text[start - 1] == "." and start > 1 and text[start - 2].isdigit())
        ):
            continue
        taken += _in_run(scan, run)
    yield from taken


def _ibans(scan: Scan) -> Iterator[Found]:
    for gate in scan.each(_IBAN_GATE):
        country = gate.group().upper()
        length = _IBAN_LENGTHS.get(country)
        match = _IBAN.match(scan.text, gate.start()) if length else None
        if match is None or length is None:
            continue
        compact, end = [], match.start()
        for offset, character in enumerate(match.group()):
            if character.isalnum():
                compact.append(character.upper())
                end = match.start() + offset + 1
                if len(compact) == length:
                    break
        value = "".join(compact)
        if len(value) < length or not value.isascii():
            continue
        span = (match.start(), end)
        if _mod97(value):
            yield found("IBAN", Kind.FINANCIAL, span, CERTAIN)
        elif country == "ES" and value[2:].isdigit():
            yield found("IBAN", Kind.FINANCIAL, span, LIKELY)


def _mod97(iban: str) -> bool:
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def _in_run(scan: Scan, run: re.Match[str]) -> list[Found]:
    """The strongest readings of a run. Groups are consumed from the left; a reading uses whole groups only."""
    text = scan.text
    groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, run.start(), run.end())][:_MAX_GROUPS]
    readings: list[Found] = []
    first = 0
    while first < len(groups):
        best: Found | None = None
        after = first + 1
        digits = ""
        for last in range(first, min(len(groups), first + 12)):
            digits += text[groups[last][0] : groups[last][1]]
            if len(digits) > 24:
                break
            if len(digits) < 5 and last + 1 < len(groups):
                continue
            candidate = _candidate(text, groups, first, last, digits)
            for item in _read(scan, candidate):
                if best is None or item.rank > best.rank:
                    best, after = item, last + 1
        if best is not None:
            readings.append(best)
        first = after
    return readings


def _candidate(text: str, groups: list[tuple[int, int]], first: int, last: int, digits: str) -> Candidate:
    start, end = groups[first][0], groups[last][1]
    prefix = _PREFIX.search(text, max(0, start - 8), start) if first == 0 else None
    suffix = _SUFFIX.match(text, end) if last == len(groups) - 1 else None
    return Candidate(
        digits=digits,
        start=start,
        end=end,
        shape=tuple(b - a for a, b in groups[first : last + 1]),
        prefix=prefix.group(1).upper() if prefix else "",
        prefix_start=prefix.start() if prefix else start,
        suffix=suffix.group(2).upper() if suffix else "",
        suffix_end=suffix.end() if suffix else end,
        whole=first == 0 and last == len(groups) - 1,
    )


def _read(scan: Scan, c: Candidate) -> Iterator[Found]:
    """What a candidate can be."""
    n = len(c.digits)
    if len(c.suffix) == 1:
        yield from _with_letter(scan, c)
    if n == 4 and (len(c.suffix) == 3 or c.prefix in _PROVINCES):
        yield from _plate(scan, c)
    if c.prefix:
        yield from _with_prefix(scan, c)
        yield from find_cards(scan, c)
    reader = _BY_LENGTH.get(n)
    if reader is not None:
        yield from reader(scan, c)
    if 4 <= n <= 14:
        yield from _worded_number(scan, c)
    if 8 <= n <= 15:
        yield from _phone(scan, c)


def _with_letter(scan: Scan, c: Candidate) -> Iterator[Found]:
    """DNI, NIE and the like: digits and a control letter."""
    n = len(c.digits)
    attached = c.suffix_end - c.end <= 2
    if not attached or len(c.shape) > 3:
        return
    span = (c.start, c.suffix_end)
    loose = c.suffix_end - c.end == 2 and scan.text[c.end] == " " and scan.text[c.suffix_end - 1].islower()
    if n == 8 and c.prefix not in {"X", "Y", "Z"}:
        if es_dni.is_valid(c.digits + c.suffix) and not loose:
            yield found("ID_DNI", Kind.IDENTITY, span, CERTAIN)
        elif scan.before(c.start, _ID_WORDS):
            yield found("ID_DNI", Kind.IDENTITY, span, LIKELY)
    if n == 7:
        if c.prefix in {"X", "Y", "Z"}:
            span = (c.prefix_start, c.suffix_end)
            if es_nie.is_valid(c.prefix + c.digits + c.suffix):
                yield found("ID_NIE", Kind.IDENTITY, span, CERTAIN)
            elif scan.before(c.prefix_start, _ID_WORDS):
                yield found("ID_NIE", Kind.IDENTITY, span, LIKELY)
        elif c.prefix in {"K", "L", "M"} and es_nif.is_valid(c.prefix + c.digits + c.suffix):
            yield found("ID_NIF", Kind.IDENTITY, (c.prefix_start, c.suffix_end), CERTAIN)
        elif es_dni.is_valid("0" + c.digits + c.suffix) and scan.before(c.start, _ID_WORDS):
            yield found("ID_DNI", Kind.IDENTITY, span, CERTAIN)
    if (
        n == 6
        and len(c.prefix) == 2
        and c.suffix in "ABCD"
        and c.prefix[0] not in "DFIQUV"
        and c.prefix[1] not in "DFIOQUV"
    ):
        yield found("ID_NINO", Kind.IDENTITY, (c.prefix_start, c.suffix_end), LIKELY)
    if (
        n == 7
        and _CIF.fullmatch(c.prefix or "-")
        and c.suffix in "ABCDEFGHIJ"
        and es_nif.is_valid(c.prefix + c.digits + c.suffix)
    ):
        yield found("ID_CIF", Kind.BUSINESS, (c.prefix_start, c.suffix_end), CERTAIN)


def _plate(scan: Scan, c: Candidate) -> Iterator[Found]:
    if len(c.shape) != 1:
        return
    worded = scan.near(c.start, c.suffix_end, _PLATE_WORDS)
    if len(c.suffix) in {1, 2}:
        if worded and c.prefix in _PROVINCES:
            yield found("PLATE", Kind.IDENTITY, (c.prefix_start, c.suffix_end), LIKELY)
        return
    if any(letter in "AEIOUQÑ" for letter in c.suffix):
        return
    if not worded and not scan.text[c.suffix_end - 3 : c.suffix_end].isupper():
        return
    yield found("PLATE", Kind.IDENTITY, (c.start, c.suffix_end), LIKELY if worded else SOFT)


def _with_prefix(scan: Scan, c: Candidate) -> Iterator[Found]:
    n = len(c.digits)
    span = (c.prefix_start, c.end)
    if n == 8 and len(c.prefix) == 1 and _CIF.fullmatch(c.prefix) and es_nif.is_valid(c.prefix + c.digits):
        yield found("ID_CIF", Kind.BUSINESS, span, CERTAIN)
    if c.prefix == "ES" and 15 <= n <= 18 and len(c.suffix) >= 2:
        value = "ES" + c.digits + c.suffix[:2]
        end = c.end + (c.suffix_end - c.end)
        if es_cups.is_valid(value):
            yield found("CUPS", Kind.LOCATION, (c.prefix_start, end), CERTAIN)
        elif scan.before(c.prefix_start, _CUPS_WORDS):
            yield found("CUPS", Kind.LOCATION, (c.prefix_start, end), LIKELY)
    if len(c.prefix) in {2, 3} and n in {6, 7} and scan.before(c.prefix_start, _PASSPORT_WORDS, 40):
        yield found("PASSPORT", Kind.IDENTITY, span, LIKELY)


def _card(scan: Scan, c: Candidate) -> Iterator[Found]:
    digits, span = c.digits, (c.start, c.end)
    if digits in _TEST_CARDS or len(set(digits)) < 3 or not luhn.is_valid(digits):
        if (
            digits not in _TEST_CARDS
            and len(digits) == 16
            and digits[0] in "3456"
            and scan.before(c.start, _CARD_WORDS, 24)
        ):
            yield found("CARD", Kind.FINANCIAL, span, SOFT)
        return
    if digits[:2] == "89" and len(digits) >= 18:
        yield found("ICCID", Kind.ONLINE_ID, span, CERTAIN)
    elif (
        digits[0] in "456"
        or digits[:2] in {"34", "37", "30", "36", "38", "35"}
        or "2221" <= digits[:4] <= "2720"
        or digits[:4] in _JCB_15
    ):
        if len(digits) == 15 and digits[:2] not in _AMEX and digits[:4] not in _JCB_15:
            return
        grouped = c.shape in {(4, 4, 4, 4), (4, 6, 5), (4, 4, 4, 4, 3), (4, 6, 4)}
        sure = grouped or scan.near(c.start, c.end, _CARD_WORDS) or len(digits) in {15, 16}
        yield found("CARD", Kind.FINANCIAL, span, CERTAIN if sure else SOFT)


def _fifteen(scan: Scan, c: Candidate) -> Iterator[Found]:
    span = (c.start, c.end)
    if c.digits[0] in "12" and _nir(c.digits):
        yield found("ID_NIR", Kind.IDENTITY, span, CERTAIN)
    if luhn.is_valid(c.digits):
        if scan.near(c.start, c.end, _IMEI_WORDS):
            yield found("IMEI", Kind.ONLINE_ID, span, CERTAIN)
        elif c.digits[:2] in {"35", "86", "01", "99"}:
            yield found("IMEI", Kind.ONLINE_ID, span, LIKELY)
    yield from _card(scan, c)


def _nir(digits: str) -> bool:
    return fr_nir.is_valid(digits) and (1 <= int(digits[3:5]) <= 12 or digits[3:5] in {"20", "30", "50"})


def _twenty(scan: Scan, c: Candidate) -> Iterator[Found]:
    if es_ccc.is_valid(c.digits) and len(set(c.digits)) > 2:
        yield found("CCC", Kind.FINANCIAL, (c.start, c.end), CERTAIN)
    yield from _card(scan, c)


def _twelve(scan: Scan, c: Candidate) -> Iterator[Found]:
    span = (c.start, c.end)
    worded = scan.before(c.start, _NUSS_WORDS)
    if _nuss(c.digits):
        yield found("NUSS", Kind.IDENTITY, span, CERTAIN if worded or c.shape in {(2, 8, 2), (2, 10)} else LIKELY)
    elif worded:
        yield found("NUSS", Kind.IDENTITY, span, LIKELY)
    if c.digits[0] in "56" and luhn.is_valid(c.digits) and scan.before(c.start, _CARD_WORDS):
        yield found("CARD", Kind.FINANCIAL, span, CERTAIN)


def _nuss(digits: str) -> bool:
    """Province, number, and the remainder by 97 of both: shorter numbers drop their leading zero in it."""
    province, number, check = int(digits[:2]), int(digits[2:10]), int(digits[10:])
    if not (1 <= province <= 53 or province == 66):
        return False
    body = number + province * 10_000_000 if number < 10_000_000 else int(digits[:10])
    return body % 97 == check


def _eleven(scan: Scan, c: Candidate) -> Iterator[Found]:
    if scan.before(c.start, _NUSS_WORDS):
        yield found("NUSS", Kind.IDENTITY, (c.start, c.end), LIKELY)


def _ten(scan: Scan, c: Candidate) -> Iterator[Found]:
    if gb_nhs.is_valid(c.digits) and (scan.before(c.start, _NHS_WORDS) or c.shape == (3, 3, 4)):
        worded = scan.before(c.start, _NHS_WORDS)
        yield found("ID_NHS", Kind.HEALTH, (c.start, c.end), CERTAIN if worded else SOFT)
    elif scan.before(c.start, _NHS_WORDS):
        yield found("ID_NHS", Kind.HEALTH, (c.start, c.end), LIKELY)


def _nine(scan: Scan, c: Candidate) -> Iterator[Found]:
    span = (c.start, c.end)
    worded = scan.before(c.start, _SSN_WORDS)
    if worded and _is_ssn(c.digits):
        yield found("ID_SSN", Kind.IDENTITY, span, CERTAIN if c.shape == (3, 2, 4) else LIKELY)
    elif (
        c.shape == (3, 2, 4) and c.whole and _is_ssn(c.digits) and c.digits[0] != "9" and not c.suffix and not c.prefix
    ):
        dashed = scan.text[c.start + 3] == "-" == scan.text[c.end - 5]
        if dashed and c.digits not in _SAMPLE_SSNS and not scan.before(c.start, BUSINESS_WORDS, 24):
            yield found("ID_SSN", Kind.IDENTITY, span, LIKELY)
    if pt_nif.is_valid(c.digits) and scan.before(c.start, _TAX_PT_WORDS):
        yield found("ID_NIF_PT", Kind.IDENTITY, span, CERTAIN)


def _is_ssn(digits: str) -> bool:
    """Area, group and serial that the Social Security Administration gives out; 9xx are taxpayers' (ITIN)."""
    return digits[:3] not in {"000", "666"} and digits[3:5] != "00" and digits[5:] != "0000"


def _eight(scan: Scan, c: Candidate) -> Iterator[Found]:
    if scan.before(c.start, _ID_WORDS, 32) and not c.prefix:
        yield found("ID_DNI", Kind.IDENTITY, (c.start, c.end), LIKELY)


def _worded_number(scan: Scan, c: Candidate) -> Iterator[Found]:
    """Numbers without a check digit: only the word before them makes them what they are."""
    if not c.whole:
        return
    start = c.prefix_start if c.prefix and c.prefix_start + len(c.prefix) == c.start else c.start
    if is_health_number(scan, c, start):
        yield found("HEALTH_ID", Kind.HEALTH, (start, c.end), LIKELY)
    elif len(c.digits) >= 6 and scan.before(start, _PASSPORT_WORDS, 24):
        yield found("PASSPORT", Kind.IDENTITY, (start, c.end), LIKELY)


def _phone(scan: Scan, c: Candidate) -> Iterator[Found]:
    if len(c.suffix) == 1 and c.suffix_end - c.end < 2:
        return
    text, digits, start = scan.text, c.digits, c.start
    plus = text[start - 1 : start] == "+" or text[max(0, start - 2) : start] in {"+(", "+ "}
    if c.prefix and not plus and c.prefix_start + len(c.prefix) == start:
        return
    international = plus or digits.startswith("00")
    number = digits.removeprefix("00") if international and not plus else digits
    span = (start - 1 if plus else start, c.end)
    worded = scan.before(start, _PHONE_WORDS, 40)
    if international or (len(digits) == 11 and digits.startswith("34") and digits[2] in "6789"):
        if _valid(f"+{number}", None):
            free = number.startswith("34") and _FREE_PHONE.match(number)
            yield found("PHONE", Kind.CONTACT, span, WEAK if free else LIKELY)
        elif plus and worded:
            yield found("PHONE", Kind.CONTACT, span, SOFT)
        return
    if len(digits) == 9 and digits[0] in "6789":
        yield from _spanish_phone(scan, c, span, worded)
    elif len(digits) == 9 and worded and digits[0] in "2" and _valid(digits, "PT"):
        yield found("PHONE", Kind.CONTACT, span, SOFT)
    elif len(digits) == 10 and digits[0] != "0" and (worded or c.shape == (3, 3, 4)):
        bracketed = text[start - 1 : start] == "("
        if _valid(digits, "US") or worded or bracketed:
            yield found("PHONE", Kind.CONTACT, span, LIKELY if worded or bracketed else SOFT)
    elif digits[0] == "0" and len(digits) in {10, 11}:
        region = "FR" if len(digits) == 10 else "GB"
        if _valid(digits, region) or worded:
            mobile = digits.startswith("07") or (region == "FR" and digits[1] in "67")
            yield found("PHONE", Kind.CONTACT, span, LIKELY if worded or mobile else SOFT)


def _spanish_phone(scan: Scan, c: Candidate, span: tuple[int, int], worded: bool) -> Iterator[Found]:
    if (not all(length >= 2 for length in c.shape) and not (worded and c.whole)) or len(c.shape) > 4:
        return
    if c.shape == (2, 2, 2, 3) and scan.text[c.start : c.end].count(".") == 3:
        return  # an IP address
    if _FREE_PHONE.match(c.digits):
        yield found("PHONE", Kind.CONTACT, span, WEAK)
    elif _valid(c.digits, "ES"):
        counted = _COUNTED.match(scan.lower, c.end) is not None
        mobile = c.digits[0] in "67" and not counted and (c.whole or len(c.shape) > 1)
        yield found("PHONE", Kind.CONTACT, span, LIKELY if worded or mobile else WEAK if counted else SOFT)


def _valid(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


_BY_LENGTH = {
    8: _eight,
    9: _nine,
    10: _ten,
    11: _eleven,
    12: _twelve,
    13: _card,
    14: _card,
    15: _fifteen,
    16: _card,
    17: _card,
    18: _card,
    19: _card,
    20: _twenty,
}
