"""`cauce report --cascade` for people, in Spanish or English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table

_SAID: Final[dict[str, dict[str, str]]] = {
    "en": {
        "columns": "route|requests|kept|escalated|turned down|asked|wasted tokens|saved USD|turned down USD"
        "|verifying USD|net USD|cost unknown",
        "none": "No answer was turned down, and no check asked a model: no cascade has run in this time.",
        "pays": "{route}: it pays, {net} USD net of {cost} for what was turned down and for verifying",
        "costs": "{route}: it costs more than it saves, {net} USD: {cost} went into what was turned down and verifying",
    },
    "es": {
        "columns": "ruta|peticiones|resueltas|escaladas|rechazadas|consultas|tokens perdidos|ahorro USD|rechazado USD"
        "|verificar USD|neto USD|coste desconocido",
        "none": "No se ha rechazado ninguna respuesta ni se ha consultado a ningún modelo: no ha habido cascada.",
        "pays": "{route}: compensa, {net} USD netos tras {cost} en respuestas rechazadas y en verificar",
        "costs": "{route}: cuesta más de lo que ahorra, {net} USD: {cost} en respuestas rechazadas y en verificar",
    },
}


def print_cascade(rows: Sequence[Mapping[str, Any]], language: Literal["es", "en"]) -> None:
    """A table, and a line for each route that says whether it pays."""
    said, console = _SAID[language], Console()
    if not rows:
        console.print(said["none"])
        return
    table = Table(*said["columns"].split("|"))
    for row in rows:
        share = row["escalated"] / row["requests"]
        cells = (
            row["route"],
            row["requests"],
            row["kept"],
            f"{row['escalated']} ({share:.0%})",
            row["turned_down_answers"],
            row["verifying_calls"],
            row["wasted_tokens"],
            *(usd(row[f"{name}_nano_usd"]) for name in ("saved", "turned_down", "verifying", "net")),
            row["unknown_cost_requests"],
        )
        table.add_row(*map(str, cells))
    console.print(table)
    for row in rows:
        cost = row["turned_down_nano_usd"] + row["verifying_nano_usd"]
        line = said["pays" if row["net_nano_usd"] >= 0 else "costs"]
        console.print(line.format(route=row["route"], net=usd(row["net_nano_usd"]), cost=usd(cost)), highlight=False)


def usd(nano_usd: int) -> str:
    """To a millionth of a dollar."""
    return f"{nano_usd / 1e9:.6f}"
