"""classify: identifiers that a sign or a word opens: e-mail, IP and MAC addresses, dates of birth, postcodes."""

# ruff: noqa: E501, SIM905 - patterns and lists of words read better unbroken

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from gateway.signals.identifiers.base import LIKELY, SOFT, WEAK, Found, Scan, found, words
from gateway.signals.taxonomy import Kind

_LOCAL = re.compile(r"[A-Za-z0-9._%+\-\u00c0-\u024f]{1,64}$")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\-\u00c0-\u024f]{0,61}[A-Za-z0-9\u00c0-\u024f])?\.){1,6}[A-Za-z]{2,24}"
)
# "a n a @ c o r r e o . e s", written so that no machine reads it
_SPACED_DOMAIN = re.compile(r"(?: [A-Za-z0-9.\-]){5,64}(?![^\W_])")
_SPACED_LOCAL = re.compile(r"(?:(?<!\S)[A-Za-z0-9._+\-] ){2,64}$|(?<!\S)\S{1,64} $")
_ROLES = frozenset(
    "info soporte support contacto contact atencion atencioncliente atencionalcliente clientes cliente ventas sales noreply no-reply donotreply no-responder dpd dpo rgpd gdpr "
    "privacidad privacy admin administracion webmaster postmaster hostmaster abuse security seguridad hello hola help ayuda prensa press marketing rrhh hr jobs empleo careers "
    "facturacion billing invoices pedidos orders reservas booking bookings devoluciones returns sac oficina office secretaria recepcion team equipo newsletter news notificaciones notifications "
    "registro tienda shop comercial kontaktua informacion information user usuario username ejemplo example test prueba nombre name email mail correo tu-email your-email you me service".split()
)
_IP4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:])")
_MAC = re.compile(r"(?<![\w:\-])(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}(?![\w:\-])")
_IP_WORDS = words(
    "ip",
    "ips",
    "dirección",
    "cliente",
    "user",
    "usuario",
    "sesión",
    "session",
    "login",
    "router",
    "casa",
    "conexión",
    "conecta",
    "conectado",
    "registered",
    "visitor",
)
_BIRTH_WORDS = re.compile(
    r"(?<![^\W_])(?:nac(?:ió|í|i|ido|ida|idos|imiento)|naci(?:ó|o)|f\. ?nac\.?|fecha de nac\w*|fnac|born|dob|d\.o\.b\.?|date of birth|birth ?date|birthday|cumpleaños|cumplo|né|née|nascid[oa]|nascimento|data de nascimento|nascut|nascuda|"
    r"data de naixement|vaig néixer|nado|nada|nacín|jaioa?|jaiotze data|jaio nintzen|date de naissance)(?![^\W_])"
)
_BIRTH_GATES = (
    "nac",
    "f. nac",
    "f.nac",
    "fecha",
    "fnac",
    "born",
    "dob",
    "d.o.b",
    "date",
    "data",
    "birth",
    "cumpl",
    "né",
    "nasc",
    "vaig",
    "nado",
    "nada",
    "jaio",
)
_DATE = re.compile(
    r"(?<![\w])(?:[0-9]{1,2}[ ]?[/\-.][ ]?[0-9]{1,2}[ ]?[/\-.][ ]?(?:19|20)?[0-9]{2}|(?:19|20)[0-9]{2}[/\-.][0-9]{1,2}[/\-.][0-9]{1,2}|"
    r"[0-9]{1,2}(?:st|nd|rd|th|er|º)?(?: de| d'| of|)? ?(?:ene|feb|mar|abr|may|jun|jul|ago|sep|oct|nov|dic|jan|apr|aug|dec|gen|febr|març|maig|juny|juliol|set|out|dez|fev|xan|maio|xuñ|xul|déc|fév|avr|mai|juin|juil|aoû)[a-zéûç]*\.?(?:,? (?:de |del |of |d')?(?:19|20)[0-9]{2})|"
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? [0-9]{1,2}(?:st|nd|rd|th)?,? (?:19|20)[0-9]{2})(?![\w])"
)
_UK_POSTCODE = re.compile(r"(?<![^\W_])(?:[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][ABD-HJLNP-UW-Z]{2})(?![^\W_])")


def find_worded(scan: Scan) -> Iterator[Found]:
    """Identifiers that are not plain numbers."""
    text, lower = scan.text, scan.lower
    if "@" in text:
        yield from _emails(text)
        if " @ " in text:
            yield from _spaced_emails(text)
    if text.count(".") >= 3:
        for match in scan.each(_IP4):
            yield from _ip(scan, match)
    if text.count(":") >= 2:
        for match in scan.each(_MAC):
            yield found("MAC", Kind.ONLINE_ID, match.span(), SOFT)
        for match in scan.each(_IP6):
            yield from _ip(scan, match)
    for low, high in scan.around(_BIRTH_GATES, 1, 40) if scan.stretches else ():
        for match in _BIRTH_WORDS.finditer(lower, low, high):
            date = _DATE.search(lower, match.end(), min(len(lower), match.end() + 48))
            if date:
                yield found("DOB", Kind.DOB, date.span(), SOFT + 0.25)
    for match in scan.each(_UK_POSTCODE):
        yield found("POSTCODE", Kind.LOCATION, match.span(), SOFT)


def _emails(text: str) -> Iterator[Found]:
    position = text.find("@")
    while position != -1:
        local = _LOCAL.search(text, max(0, position - 64), position)
        domain = _DOMAIN.match(text, position + 1)
        if local and domain:
            start = local.start()
            name = local.group().lower().strip(".")
            role = name in _ROLES or name.split(".")[0].split("+")[0] in _ROLES or name.split("-")[0] in _ROLES
            if text[max(0, start - 1) : start] != ":" or "://" not in text[max(0, start - 80) : start]:
                yield found("EMAIL", Kind.CONTACT, (start, domain.end()), WEAK if role else LIKELY)
        position = text.find("@", position + 1)


def _spaced_emails(text: str) -> Iterator[Found]:
    position = text.find(" @ ")
    while position != -1:
        local = _SPACED_LOCAL.search(text, max(0, position - 128), position + 1)
        domain = _SPACED_DOMAIN.match(text, position + 2)
        if local and domain and _DOMAIN.fullmatch(domain.group().replace(" ", "")):
            yield found("EMAIL", Kind.CONTACT, (local.start(), domain.end()), LIKELY)
        position = text.find(" @ ", position + 1)


def _ip(scan: Scan, match: re.Match[str]) -> Iterator[Found]:
    try:
        address = ipaddress.ip_address(match.group())
    except ValueError:
        return
    if (
        not address.is_global
        or address.is_multicast
        or match.group() in {"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9"}
    ):
        return
    worded = scan.before(match.start(), _IP_WORDS, 40)
    yield found("IP", Kind.ONLINE_ID, match.span(), SOFT if worded else WEAK)
