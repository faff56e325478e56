"""The data-protection officer's report as text: Markdown in Spanish or English, and one table for a spreadsheet.

Classes, zones, rules and codes keep the names that policies and files use: what stands here can be looked up there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from gateway.errors import NothingAllowed
from gateway.telemetry.audit_report import FAILED

Language = Literal["es", "en"]

_SAID: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "title": "Data-protection record, {month}",
        "lead": (
            "From {from} to {to} (a month of {time_zone}); times are UTC. It covers every request of class "
            "`internal` or above, every refusal, and every text that the detector could not read or failed on."
        ),
        "no_text": (
            "**No text is kept**: neither what was asked nor what was answered, in this record or in the ledger; "
            "only classes, kinds, counts, places, rules and times."
        ),
        "requests": "Requests by class",
        "flows": "What went where",
        "flows_lead": (
            "Requests that were released to a processor, and the calls that were made with them. A request that "
            "went to several stands in several rows. A call counts even where it failed."
        ),
        "stayed": "What went to no model",
        "stayed_lead": "Answered from the cache, refused, or ended before a model was called.",
        "refusals": "Refusals of the gate",
        "refusals_lead": (
            "No model that may have the text could answer (`{allowed}`), or the gate itself stopped it; "
            "it did not leave."
        ),
        "detector": "Failures of the detector",
        "detector_lead": (
            "`{failed}`: the scan failed. Any other reason: a part that it could not read. Such a request is "
            "given the class that the policy names for it."
        ),
        "kinds": "What was found, and its legal ground",
        "policies": "Policies in force",
        "erasures": "Erasures",
        "proof": "Proof",
        "whole": "The chains are whole: {records} records in {chains} chains, the oldest of {since}.",
        "broken": "**The chains are not whole: {problem_count} problems.** `cauce audit verify` says where.",
        "empty": "There is no record yet.",
        "agrees": "The ledger says the same: {requests} requests of class `internal` or above, {calls} calls.",
        "disagrees": (
            "**The ledger says otherwise**: {requests} requests and {calls} calls, against {audit_requests} and "
            "{audit_calls} here."
        ),
        "before": "{before_the_audit} more requests of the month are older than the audit and have no record.",
        "limits": (
            "A whole chain shows that no single record was changed, taken out or put in. It does not bind whoever "
            "can write the whole database: for that, keep the hash that `cauce audit anchor` prints where they "
            "cannot reach, and check it with `cauce audit verify --anchor`."
        ),
        "nothing": "None.",
        "data_class": "class",
        "zone": "zone",
        "processor": "processor",
        "rule": "rule",
        "transform": "transform",
        "outcome": "outcome",
        "code": "code",
        "destination": "where to",
        "reason": "reason",
        "kind": "kind",
        "what": "what it is",
        "article": "legal ground",
        "policy": "policy",
        "revision": "revision",
        "since": "since",
        "guarantees": "guarantees",
        "stays": "{data} and above stays inside {zone}",
        "unless": "unless",
        "pseudonymised": "pseudonymised",
        "time": "time",
        "by": "by",
        "subject": "caller (SHA-256 of the key's id)",
        "entries": "entries",
        "requests_n": "requests",
        "calls": "calls",
    },
    "es": {
        "title": "Registro de protección de datos, {month}",
        "lead": (
            "Del {from} al {to} (un mes de {time_zone}); las horas son UTC. Recoge cada petición de clase "
            "`internal` o superior, cada rechazo y cada texto que el detector no pudo leer o en el que falló."
        ),
        "no_text": (
            "**No se guarda ningún texto**: ni lo preguntado ni lo respondido, ni en este registro ni en el libro "
            "de cuentas; solo clases, tipos, recuentos, lugares, reglas y horas."
        ),
        "requests": "Peticiones por clase",
        "flows": "Qué fue adónde",
        "flows_lead": (
            "Peticiones que se entregaron a un encargado y llamadas que se hicieron con ellas. La que fue a "
            "varios está en varias filas. Una llamada cuenta aunque fallara."
        ),
        "stayed": "Qué no fue a ningún modelo",
        "stayed_lead": "Respondido desde la caché, rechazado, o terminado antes de llamar a un modelo.",
        "refusals": "Rechazos de la compuerta",
        "refusals_lead": (
            "Ningún modelo que pueda tener el texto podía responder (`{allowed}`), o la compuerta lo paró; no salió."
        ),
        "detector": "Fallos del detector",
        "detector_lead": (
            "`{failed}`: la detección falló. Cualquier otra causa: una parte que no pudo leer. Esa petición "
            "recibe la clase que la política le asigna."
        ),
        "kinds": "Qué se encontró y su fundamento legal",
        "policies": "Políticas en vigor",
        "erasures": "Supresiones",
        "proof": "Prueba",
        "whole": "Las cadenas están íntegras: {records} registros en {chains} cadenas, el más antiguo del {since}.",
        "broken": "**Las cadenas no están íntegras: {problem_count} problemas.** `cauce audit verify` dice dónde.",
        "empty": "Todavía no hay ningún registro.",
        "agrees": (
            "El libro de cuentas dice lo mismo: {requests} peticiones de clase `internal` o superior, {calls} llamadas."
        ),
        "disagrees": (
            "**El libro de cuentas dice otra cosa**: {requests} peticiones y {calls} llamadas, frente a "
            "{audit_requests} y {audit_calls} aquí."
        ),
        "before": "Otras {before_the_audit} peticiones del mes son anteriores a la auditoría y no tienen registro.",
        "limits": (
            "Una cadena íntegra muestra que ningún registro suelto se cambió, se quitó o se añadió. No ata a "
            "quien puede escribir toda la base de datos: para eso, guarda donde no llegue el hash que imprime "
            "`cauce audit anchor` y compruébalo con `cauce audit verify --anchor`."
        ),
        "nothing": "Ninguno.",
        "data_class": "clase",
        "zone": "zona",
        "processor": "encargado",
        "rule": "regla",
        "transform": "transformación",
        "outcome": "resultado",
        "code": "código",
        "destination": "adónde",
        "reason": "causa",
        "kind": "tipo",
        "what": "qué es",
        "article": "fundamento legal",
        "policy": "política",
        "revision": "revisión",
        "since": "desde",
        "guarantees": "garantías",
        "stays": "{data} y superiores no salen de {zone}",
        "unless": "salvo",
        "pseudonymised": "seudonimizados",
        "time": "hora",
        "by": "quién",
        "subject": "quien llamaba (SHA-256 del id de su clave)",
        "entries": "asientos",
        "requests_n": "peticiones",
        "calls": "llamadas",
    },
}
# section: the columns that its table has.
_TABLES: Final = {
    "requests": ("data_class", "requests"),
    "flows": ("data_class", "zone", "processor", "rule", "transform", "requests", "calls"),
    "stayed": ("data_class", "outcome", "rule", "requests"),
    "refusals": ("data_class", "code", "rule", "destination", "requests"),
    "detector": ("data_class", "reason", "requests"),
    "kinds": ("kind", "what", "article", "requests"),
    "policies": ("policy", "revision", "since", "guarantees"),
    "erasures": ("time", "by", "subject", "entries"),
}
_COLUMNS: Final = (
    "section", "data_class", "zone", "processor", "rule", "transform", "outcome", "code", "destination", "reason",
    "kind", "what", "article", "policy", "revision", "since", "guarantees", "time", "by", "subject", "entries",
    "requests", "calls",
)  # fmt: skip


def as_markdown(report: Mapping[str, Any], language: Language) -> str:
    """The report for people."""
    said = _SAID[language]
    lines = [f"# {said['title'].format_map(report)}", "", said["lead"].format_map(report), "", said["no_text"], ""]
    for section, columns in _TABLES.items():
        lines += [f"## {said[section]}", ""]
        if lead := said.get(f"{section}_lead"):
            lines += [lead.format(failed=FAILED, allowed=NothingAllowed.code), ""]
        rows = _rows(report, section, language)
        lines += [*_table([said.get(f"{name}_n", said[name]) for name in columns], rows, columns), ""] if rows else []
        lines += [] if rows else [said["nothing"], ""]
    return "\n".join([*lines, f"## {said['proof']}", "", *_proof(report, said), said["limits"], ""])


def as_csv(report: Mapping[str, Any], language: Language) -> str:
    """One table for a spreadsheet: a row a count, its section first. Column names are the same in both languages."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for section, columns in _TABLES.items():
        for row in _rows(report, section, language):
            writer.writerow({"section": section, **{name: row[name] for name in columns}})
    return out.getvalue()


def _rows(report: Mapping[str, Any], section: str, language: Language) -> list[Mapping[str, Any]]:
    """A section's rows, with what differs by language."""
    rows: list[Mapping[str, Any]] = report[section]
    if section == "kinds":
        article = "article" if language == "en" else "articulo"
        return [{**row, "what": row[language], "article": row[article]} for row in rows]
    if section == "policies":
        said = _SAID[language]
        return [
            {
                **row,
                "guarantees": "; ".join(
                    said["stays"].format(data=data, zone=" ".join(said.get(word, word) for word in zone.split()))
                    for data, zone in row["guarantees"].items()
                ),
            }
            for row in rows
        ]
    return rows


def _table(titles: Sequence[str], rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return lines + [f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ") if value != "" else "-"


def _proof(report: Mapping[str, Any], said: Mapping[str, str]) -> Iterable[str]:
    chain, ledger = report["chain"], report["ledger"]
    if not chain["whole"]:
        yield said["broken"].format_map(chain) + "\n"
    else:
        yield (said["whole"] if chain["records"] else said["empty"]).format_map(chain) + "\n"
    yield said["agrees" if ledger["agrees"] else "disagrees"].format_map(ledger) + "\n"
    if ledger["before_the_audit"]:
        yield said["before"].format_map(ledger) + "\n"
