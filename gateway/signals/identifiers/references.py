"""classify: numbers of business (orders, contracts, invoices, tickets, parcels), and coordinates."""

# ruff: noqa: E501 - patterns and lists of words read better unbroken

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.signals.identifiers.base import LIKELY, SOFT, WEAK, Found, Scan, found
from gateway.signals.taxonomy import Kind

_POINT = re.compile(
    r"(?<![\w.])[-+]?[0-9]{1,2}[.,][0-9]{4,10}°?\s?[NS]?[,;/ ]{1,3}\s?[-+]?[0-9]{1,3}[.,][0-9]{4,10}(?![\w])"
)
# Business references: their prefixes, and the words that stand before a bare one.
_REFERENCE = re.compile(
    r"(?<![^\W_])(?:[A-Za-z]{1,6}[\-/_. ]?)?#?[0-9][0-9A-Za-z]*(?:[\-/_][0-9A-Za-z]+){0,4}(?![^\W_])"
)
_REFERENCE_PREFIX = re.compile(
    r"(?<![^\W_])(?:ped|pedido|ord|order|web|fac|fra|fact|inv|invoice|inc|tck|tkt|tk|ref|ct|ctr|cto|con|of|ofe|offer|op|tx|trx|txn|so|po|rma|exp|"
    r"case|caso|alb|lote|lot|sr|req|cas|prj|proy|pry|presu|ppto|nc|dev|env|trk|ot|wo|sol|rec|sin|pol|poliza|cot|qt|quo|bug|crm|cli|"
    r"f|fv|r|s)[\-_/#]{1,2}(?:[0-9]{4}[\-/_])?[0-9]{2,10}(?:[\-/_][0-9]{1,8})?(?![^\W_])"
)
_REFERENCE_WORDS = re.compile(
    r"(?<![^\W_])(?:pedidos?|orden(?: de)?|contratos?|facturas?|incidencias?|tickets?|tiquet|oferta|presupuesto|operación|operacion|transacción|expedientes?|"
    r"albarán|albaran|envío|envio|seguimiento|referencia interna|reclamación|reclamacion|póliza|poliza|siniestro|solicitud|devolución|orders?|contracts?|invoices?|"
    r"offers?|quotes?|case|tracking|shipment|package|paquete|parcel|claim|purchase order|comanda|factura|encomenda|commande|facture|commandes?|eskaera|faktura|"
    r"incidència|incidente|lote|delivery|transaction|proyecto|project|albará)(?: (?:n[.º°o]*|núm\.?|num\.?|number|no\.?|id|número|numero|de|con|ref\.?|referencia|reference|code|código|codigo|interna|marco)){0,3}[ :#\-]{0,3}$"
)
_TRACK = re.compile(r"(?<![^\W_])(?:1Z[0-9A-Z]{16}|[A-Z]{2}[0-9]{9}[A-Z]{2}|PQ[0-9A-Z]{12,20})(?![^\W_])")
_HASH_NUMBER = re.compile(r"(?<![\w#&])#[0-9]{4,10}(?![^\W_])")
# Cheap: a number-like token after a letter, sign or space; the words before are looked at for these only.
_WORDED_GATE = re.compile(r"[ :#](?=(?:[a-z]{1,6}[\-/_. ]?)?#?[0-9]{3,4}[0-9a-z\-/_]*(?![^\W_]))")


def find_references(scan: Scan) -> Iterator[Found]:
    """Business references, and coordinates."""
    if not scan.stretches:
        return
    text, lower = scan.text, scan.lower
    if "-" in text or "/" in text or "_" in text:
        for match in scan.each(_REFERENCE_PREFIX, lower=True):
            yield found(
                "REFERENCE", Kind.BUSINESS, match.span(), LIKELY - 0.3 if match.end() - match.start() > 5 else WEAK
            )
    if "#" in text:
        for match in scan.each(_HASH_NUMBER):
            yield found("REFERENCE", Kind.BUSINESS, match.span(), SOFT)
    for match in scan.each(_TRACK):
        yield found("REFERENCE", Kind.BUSINESS, match.span(), SOFT)
    for match in scan.each(_WORDED_GATE, lower=True):
        start = match.end()
        number = _REFERENCE.match(text, start)
        if number and number.end() - number.start() >= 4 and _REFERENCE_WORDS.search(lower, max(0, start - 60), start):
            yield found("REFERENCE", Kind.BUSINESS, number.span(), SOFT)
    for match in scan.each(_POINT):
        yield found("GPS", Kind.LOCATION, match.span(), SOFT + 0.3)
