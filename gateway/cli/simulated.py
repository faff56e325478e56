"""A simulation for the terminal, in Spanish or English."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.policy.simulation import Cost, Estimate, Language, Move, Place, Simulation

_MOST_MOVES: Final = 20
_SAID: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "title": "{policy}@{revision} over {requests} requests",
        "decided": "decided then by {policies}",
        "period": "from {first} to {last} (UTC)",
        "left_out": "Not replayed: {count}: {reason}",
        "nominal": "No models are configured: for a small one on the premises and a large one in the world.",
        "nothing": "There is nothing to replay.",
        "before": "then",
        "after": "under it",
        "change": "change",
        "cost": "cost, USD",
        "unknown_cost": "cost unknown",
        "compared": "the change is of the {count} whose cost is known on both sides",
        "quality": "expected quality",
        "interval": "  within, 95 %",
        "within": "{low} to {high}",
        "p50": "latency, median",
        "p95": "latency, 95 %",
        "unknown_latency": "latency unknown",
        "refused": "refused",
        "moved": "{count} move ({share})",
        "unmoved": "No request moves.",
        "more": "and {count} other ways that requests move: --json has them all",
        "nobody": "nobody",
        "example": "e.g. {example}",
        "newly_leaving": "Would newly leave the premises: {classes}",
        "might_leave": "Move, stay, and would leave if their model failed or were turned down: {classes}",
        "no_longer_leaving": "Would no longer leave the premises: {classes}",
        "newly": "Would newly be refused, since no model may answer: {classes}",
        "no_longer": "Would no longer be refused: {classes}",
        "names": "Ask for a name that it does not know: {classes}",
        "none_leave": "Nothing would newly leave the premises.",
        "team": "team",
        "requests": "requests",
        "moving": "move",
        "leaving": "leave",
        "model": "model",
        "calls": "calls here",
        "unsure": "The router was unsure of {count} of {requests}.",
        "assumptions": "What this rests on",
        "unknown": "unknown",
        "not_classified": "refused before it was read, or without stored signals",
        "not_decided": "it asked for a name that was not known",
        "incomplete_signals": "written by an older version, without all that a policy asks for",
    },
    "es": {
        "title": "{policy}@{revision} con {requests} peticiones",
        "decided": "decididas entonces por {policies}",
        "period": "del {first} al {last} (UTC)",
        "left_out": "Sin repetir: {count}: {reason}",
        "nominal": "No hay modelos configurados: con uno pequeño en casa y uno grande fuera.",
        "nothing": "No hay nada que repetir.",
        "before": "entonces",
        "after": "con ella",
        "change": "cambio",
        "cost": "coste, USD",
        "unknown_cost": "sin coste conocido",
        "compared": "el cambio es el de las {count} cuyo coste se conoce en ambos lados",
        "quality": "calidad esperada",
        "interval": "  dentro de, 95 %",
        "within": "{low} a {high}",
        "p50": "latencia, mediana",
        "p95": "latencia, 95 %",
        "unknown_latency": "sin latencia conocida",
        "refused": "rechazadas",
        "moved": "{count} cambian ({share})",
        "unmoved": "Ninguna petición cambia.",
        "more": "y otras {count} formas de cambiar: están todas en --json",
        "nobody": "nadie",
        "example": "p. ej. {example}",
        "newly_leaving": "Saldrían de casa y antes no: {classes}",
        "might_leave": "Cambian, se quedan, y saldrían si su modelo fallara o se descartara: {classes}",
        "no_longer_leaving": "Ya no saldrían de casa: {classes}",
        "newly": "Se rechazarían y antes no, porque ningún modelo puede contestar: {classes}",
        "no_longer": "Ya no se rechazarían: {classes}",
        "names": "Piden un nombre que no conoce: {classes}",
        "none_leave": "Nada saldría de casa que antes no saliera.",
        "team": "equipo",
        "requests": "peticiones",
        "moving": "cambian",
        "leaving": "salen",
        "model": "modelo",
        "calls": "llamadas aquí",
        "unsure": "El router dudaba de {count} de {requests}.",
        "assumptions": "En qué se apoya",
        "unknown": "desconocido",
        "not_classified": "rechazadas antes de leerlas, o sin señales guardadas",
        "not_decided": "pedían un nombre desconocido",
        "incomplete_signals": "escritas por una versión anterior, sin todo lo que pregunta una política",
    },
}
_SPANISH_FIGURES: Final = str.maketrans({",": ".", ".": ","})


def show(found: Simulation, console: Console, language: Language, *, nominal: bool) -> None:
    """A simulation for people."""
    shown = _Shown(found, console, language)
    shown.heading(nominal=nominal)
    if found.requests:
        shown.summary()
        shown.privacy()
        shown.moves()
        shown.teams()
        shown.models()
        shown.assumptions()


class _Shown:
    """One simulation, one terminal, one language."""

    def __init__(self, found: Simulation, console: Console, language: Language) -> None:
        self._found = found
        self._console = console
        self._said = _SAID[language]
        self._spanish = language == "es"

    def heading(self, *, nominal: bool) -> None:
        """Which policy, over which requests."""
        found, said = self._found, self._said
        count = self._count(found.requests)
        title = said["title"].format(policy=found.policy, revision=found.policy_revision, requests=count)
        self._line(title, style="bold")
        if found.first_us is not None and found.last_us is not None and found.first_us < found.last_us:
            policies = ", ".join(
                f"{one.policy}@{one.revision} ({self._count(one.requests)})" for one in found.revisions[:5]
            )
            period = said["period"].format(first=_day(found.first_us), last=_day(found.last_us))
            self._line(f"{period}, {said['decided'].format(policies=policies)}")
        for reason, requests in found.left_out.items():
            self._line(said["left_out"].format(count=self._count(requests), reason=said.get(reason, reason)))
        if nominal:
            self._line(said["nominal"])
        if not found.requests:
            self._line(said["nothing"])

    def summary(self) -> None:
        """Then, under the new policy, and the change."""
        found, said = self._found, self._said
        cost, quality = found.cost, found.quality
        times = (found.latency.before, found.latency.after)
        table = _table("", said["before"], said["after"], said["change"])
        table.add_row(said["cost"], *self._costs(cost))
        if cost.before_unknown or cost.after_unknown:
            table.add_row(said["unknown_cost"], self._count(cost.before_unknown), self._count(cost.after_unknown))
        means = (quality.before, quality.after, quality.change)
        table.add_row(said["quality"], *(self._mean(mean, signed=mean is quality.change) for mean in means))
        table.add_row(said["interval"], *(self._interval(mean, signed=mean is quality.change) for mean in means))
        table.add_row(said["p50"], *(self._seconds(side.p50_us) for side in times))
        table.add_row(said["p95"], *(self._seconds(side.p95_us) for side in times))
        if any(side.unknown for side in times):
            table.add_row(said["unknown_latency"], *(self._count(side.unknown) for side in times))
        if found.refusals.before or found.refusals.after:
            table.add_row(said["refused"], self._count(found.refusals.before), self._count(found.refusals.after))
        self._console.print(table)
        if cost.compared < found.requests:
            self._line(said["compared"].format(count=self._count(cost.compared)))
        if quality.unsure:
            counts = {"count": self._count(quality.unsure), "requests": self._count(quality.requests)}
            self._line(said["unsure"].format(**counts))

    def privacy(self) -> None:
        """What would leave the premises, and what would be refused."""
        privacy, refusals = self._found.privacy, self._found.refusals
        if not privacy.newly_leaving:
            self._line(self._said["none_leave"])
        self._classes("newly_leaving", privacy.newly_leaving, style="bold red")
        self._classes("might_leave", privacy.might_leave)
        self._classes("no_longer_leaving", privacy.no_longer_leaving)
        self._classes("newly", refusals.newly, style="bold red")
        self._classes("no_longer", refusals.no_longer)
        self._classes("names", refusals.names, style="bold red")

    def moves(self) -> None:
        """Each way that requests move, the commonest first."""
        found, said = self._found, self._said
        if not found.moves:
            self._line(said["unmoved"], style="bold")
            return
        moved = said["moved"].format(count=self._count(found.moved), share=self._share(found.moved / found.requests))
        self._line(moved, style="bold")
        for move in found.moves[:_MOST_MOVES]:
            self._move(move)
        if len(found.moves) > _MOST_MOVES:
            self._line(said["more"].format(count=len(found.moves) - _MOST_MOVES))

    def _move(self, move: Move) -> None:
        said, width = self._said, 9
        change = move.cost.change_nano_usd
        cost = said["unknown_cost"] if change is None else f"{self._usd(change, sign='+')} USD"
        self._line(f"{self._count(move.requests):>{width}}  {self._place(move.origin)} -> {self._place(move.to)}")
        reasons = "; ".join(part for part in (move.why, move.before) if part)
        self._line(f"{'':>{width}}  {cost}; {reasons}; {said['example'].format(example=move.example)}", style="dim")

    def _place(self, place: Place) -> str:
        where = f"{place.model} ({place.zone})" if place.model else self._said["nobody"]
        return f"{place.rule or '-'}: {place.route or '-'}: {where}"

    def teams(self) -> None:
        """Cost and its change, team by team."""
        found, said = self._found, self._said
        shown = {
            "unknown_cost": lambda team: f"{team.cost.before_unknown} -> {team.cost.after_unknown}",
            "leaving": lambda team: self._count(team.leaving),
            "refused": lambda team: self._count(team.refused),
        }
        needed = {
            "unknown_cost": any(team.cost.before_unknown or team.cost.after_unknown for team in found.teams),
            "leaving": any(team.leaving for team in found.teams),
            "refused": any(team.refused for team in found.teams),
        }
        more = [name for name in shown if needed[name]]
        names = ("team", "requests", "moving", "before", "after", "change", *more)
        table = _table(*(said[name] for name in names))
        for team in found.teams:
            plain = (team.team or "-", self._count(team.requests), self._count(team.moved), *self._costs(team.cost))
            table.add_row(*plain, *(shown[name](team) for name in more))
        self._console.print(table)

    def models(self) -> None:
        """How long each model takes, and how many requests it answered and would answer."""
        said = self._said
        names = ("model", "before", "after", "p50", "p95", "calls")
        table = _table(*(said[name] for name in names))
        for model in self._found.latency.models:
            table.add_row(
                model.model,
                self._count(model.requests_before),
                self._count(model.requests_after),
                self._seconds(model.p50_us),
                self._seconds(model.p95_us),
                self._count(model.calls),
            )
        self._console.print(table)

    def assumptions(self) -> None:
        """What the figures rest on."""
        self._line(f"{self._said['assumptions']}:", style="bold")
        for assumption in self._found.assumptions:
            self._line(f"- {assumption}")

    # --- figures --------------------------------------------------------------------------------------------------

    def _line(self, text: str, *, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    def _classes(self, name: str, counts: Mapping[str, int], *, style: str = "") -> None:
        if counts:
            listed = ", ".join(f"{label} {self._count(count)}" for label, count in counts.items())
            self._line(self._said[name].format(classes=listed), style=style)

    def _figure(self, text: str) -> str:
        return text.translate(_SPANISH_FIGURES) if self._spanish else text

    def _count(self, number: int) -> str:
        return self._figure(f"{number:,}")

    def _share(self, share: float) -> str:
        return self._figure(f"{share:.1%}")

    def _usd(self, nano_usd: int | None, *, sign: str = "") -> str:
        """To the nano-dollar, in integers."""
        if nano_usd is None:
            return self._said["unknown"]
        before = "-" if nano_usd < 0 else sign if nano_usd else ""
        whole, rest = divmod(abs(nano_usd), 1_000_000_000)
        return self._figure(f"{before}{whole:,}.{rest:09d}")

    def _costs(self, cost: Cost) -> tuple[str, str, str]:
        sides = (self._usd(cost.before_nano_usd), self._usd(cost.after_nano_usd))
        return *sides, self._usd(cost.change_nano_usd, sign="+")

    def _mean(self, estimate: Estimate | None, *, signed: bool) -> str:
        return self._ratio(estimate.mean, signed=signed) if estimate else self._said["unknown"]

    def _interval(self, estimate: Estimate | None, *, signed: bool) -> str:
        if estimate is None:
            return ""
        low, high = (self._ratio(end, signed=signed) for end in (estimate.low, estimate.high))
        return self._said["within"].format(low=low, high=high)

    def _ratio(self, value: float, *, signed: bool) -> str:
        return self._figure(f"{value:+.3f}" if signed else f"{value:.3f}")

    def _seconds(self, microseconds: int | None) -> str:
        return self._said["unknown"] if microseconds is None else self._figure(f"{microseconds / 1e6:.3f} s")


def _table(*names: str) -> Table:
    """Where there is no room a figure goes on in the next line: cut short, it would be another one."""
    table = Table(box=None, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    return table


def _day(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M")
