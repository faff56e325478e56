"""The checks that a route may list under `verify`: what each takes, and what it turns down in both languages.

Read by the loader (`read_checks`), the JSON Schema and `explain`. The functions behind the names are those of
`stages/verify` and `gateway/opinions.py`; a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from gateway.policy.problems import near
from gateway.policy.source import Place, Source, entries, fields, items, scalar, shown
from gateway.types import Check, VerifyBudget


class Takes(StrEnum):
    """What may stand behind a check's name."""

    NOTHING = "nothing"
    THRESHOLD = "threshold"  # a number from 0 to 1, which must be said
    USUAL = "usual"  # a number from 0 to 1, with a usual one when nothing is said
    JUDGE = "judge"  # a model, or {model, at_least}
    SAMPLES = "samples"  # a number of answers, or {times, agree, model}


@dataclass(frozen=True, slots=True)
class CheckKind:
    """One check: what it takes, what it is when nothing else is said, and what it turns down in both languages."""

    takes: Takes
    help: str
    help_es: str
    usual: float = 0.0

    @property
    def asks(self) -> bool:
        """Whether it makes calls of its own."""
        return self.takes in {Takes.JUDGE, Takes.SAMPLES}


CHECKS: Final[dict[str, CheckKind]] = {
    "finish": CheckKind(
        Takes.NOTHING, "an empty or filtered answer", "una respuesta vacía o filtrada"
    ),
    "repeats": CheckKind(
        Takes.NOTHING, "an answer that runs in circles", "una respuesta que da vueltas sobre lo mismo"
    ),
    "language": CheckKind(
        Takes.NOTHING, "an answer in another language than the question", "una respuesta en otro idioma que la pregunta"
    ),
    "refusal": CheckKind(
        Takes.NOTHING, "a refusal, or an \"I don't know\"", "una negativa, o un «no lo sé»"
    ),
    "length": CheckKind(
        Takes.NOTHING, "an answer far too short or too long for what was asked",
        "una respuesta demasiado corta o larga para lo que se pide",
    ),
    "json": CheckKind(
        Takes.NOTHING, "what is not the JSON that was asked for, or breaks its schema",
        "lo que no es el JSON pedido, o incumple su esquema",
    ),
    "tools": CheckKind(
        Takes.NOTHING, "a tool call that was not offered, or whose arguments break the tool's schema",
        "una llamada a una herramienta que no se ofreció, o cuyos argumentos incumplen su esquema",
    ),
    "arithmetic": CheckKind(
        Takes.NOTHING, "an answer that writes down a wrong sum", "una respuesta con una cuenta mal hecha"
    ),
    "confidence": CheckKind(
        Takes.THRESHOLD, "an answer whose tokens were unlikely on average (geometric mean probability)",
        "una respuesta de palabras poco probables en promedio (media geométrica de sus probabilidades)",
    ),
    "confidence_tail": CheckKind(
        Takes.THRESHOLD, "an answer whose least sure tenth of the tokens was unlikely",
        "una respuesta cuya décima parte menos segura era poco probable",
    ),
    "confidence_margin": CheckKind(
        Takes.THRESHOLD, "an answer whose tokens were hardly ahead of the next best",
        "una respuesta de palabras apenas más probables que las siguientes",
    ),
    "checker": CheckKind(
        Takes.USUAL, "an answer that the trained answer checker gives little chance",
        "una respuesta a la que el verificador entrenado da pocas posibilidades", usual=0.3,
    ),
    "samples": CheckKind(
        Takes.SAMPLES, "an answer that further answers to the same question do not agree with",
        "una respuesta con la que no coinciden otras a la misma pregunta", usual=0.5,
    ),
    "judge": CheckKind(
        Takes.JUDGE, "an answer that another model does not think good", "una respuesta que otro modelo no ve buena",
        usual=0.6,
    ),
}  # fmt: skip
MOST_SAMPLES: Final = 5
ASKING: Final = frozenset(name for name, kind in CHECKS.items() if kind.asks)
_MOST_TOKENS: Final = 1_000_000
_MOST_MS: Final = 600_000


def said_check(check: Check, language: Literal["es", "en"]) -> str:
    """One check in words: its threshold, whom it asks, and what it turns down."""
    kind = CHECKS[check.name]
    said = f"{check.name} {check.threshold:g}" if kind.takes is not Takes.NOTHING else check.name
    if kind.takes is Takes.SAMPLES:
        said += f" x{check.times}"
    if check.model:
        said += f" ({check.model})"
    return f"{said}: {kind.help_es if language == 'es' else kind.help}"


# --- reading --------------------------------------------------------------------------------------------------------


class Verifying:
    """Reads the `verify` of one route; `places` learns where the models stand that it names."""

    def __init__(self, source: Source, what: str, places: dict[str, Place], route: str) -> None:
        self._source = source
        self._what = what
        self._places = places
        self._route = route

    def checks(self, node: Node) -> tuple[Check, ...]:
        """All of the list, each once."""
        found: list[Check] = []
        for member in items(node, self._source, what=f"{self._what}: verify"):
            pairs: list[tuple[str, Node, Node | None]] = []
            if isinstance(member, MappingNode):
                pairs += entries(member, self._source, what=f"{self._what}: verify")
            elif (name := scalar(member, self._source, what=f"{self._what}: verify")) is not None:
                pairs.append((name, member, None))
            for name, name_node, value in pairs:
                check = self._check(name, name_node, value, len(found))
                if check is not None and any(one.name == check.name for one in found):
                    self._source.add(name_node, "value", f"{self._what}: check {name!r} stands twice in `verify`")
                elif check is not None:
                    found.append(check)
        return tuple(found)

    def budget(self, node: Node) -> VerifyBudget:
        """`verify_budget: {tokens: 4000, ms: 5000}`, either or both."""
        what, usual = f"{self._what}: verify_budget", VerifyBudget()
        given = fields(node, self._source, what=what, known=("tokens", "ms"))
        tokens = self._whole(given.get("tokens"), f"{what}: tokens", usual.tokens, most=_MOST_TOKENS)
        return VerifyBudget(tokens, self._whole(given.get("ms"), f"{what}: ms", usual.ms, most=_MOST_MS))

    def _check(self, name: str, node: Node, value: Node | None, number: int) -> Check | None:
        kind = CHECKS.get(name)
        if kind is None:
            hint = near(name, CHECKS) or f" The checks are {', '.join(CHECKS)}."
            self._source.add(node, "unknown_check", f"{self._what}: there is no check {name!r}.{hint}")
            return None
        if kind.takes is Takes.NOTHING:
            if value is not None:
                said = f"{self._what}: check {name!r} takes no value: write `- {name}`"
                self._source.add(value, "value", said)
            return Check(name)
        if kind.takes in {Takes.JUDGE, Takes.SAMPLES}:
            return self._asking(name, kind, node, value, number)
        if value is None and kind.takes is Takes.USUAL:
            return Check(name, kind.usual)
        if value is None:
            said = f"{self._what}: check {name!r} takes a threshold from 0 to 1: `{{{name}: 0.6}}`"
            self._source.add(node, "value", said)
            return None
        threshold = self._share(value, f"{self._what}: {name}")
        return None if threshold is None else Check(name, threshold)

    def _asking(self, name: str, kind: CheckKind, node: Node, value: Node | None, number: int) -> Check | None:
        """`{judge: llm}` or `{judge: {model: llm, at_least: 0.6}}`; `{samples: 3}` or `{samples: {times: 3, ...}}`."""
        judge = kind.takes is Takes.JUDGE
        bound, short = ("at_least", "model") if judge else ("agree", "times")
        example = "{judge: llm}` or `{judge: {model: llm, at_least: 0.6}}" if judge else "{samples: 2}"
        what = f"{self._what}: {name}"
        if value is None:
            self._source.add(node, "value", f"{what}: it takes a value: `{example}`")
            return None
        known = (short, bound) if judge else (short, bound, "model")
        given = {short: value} if isinstance(value, ScalarNode) else fields(value, self._source, what=what, known=known)
        if not isinstance(value, ScalarNode | MappingNode):
            return None
        if short not in given:
            self._source.add(value, "missing", f"{what}: `{short}:` is missing, e.g. `{example}`")
            return None
        threshold = self._share(given[bound], f"{what}: {bound}") if bound in given else kind.usual
        times = 0 if judge else self._whole(given["times"], f"{what}: times", 0, most=MOST_SAMPLES)
        model = scalar(given["model"], self._source, what=f"{what}: model") if "model" in given else ""
        if model and "model" in given:
            self._places[f"routes.{self._route}.verify.{number}"] = self._source.place(given["model"])
        if threshold is None or model is None or (not judge and not times):
            return None
        return Check(name, threshold, model, times)

    def _share(self, node: Node, what: str) -> float | None:
        text = scalar(node, self._source, what=what)
        try:
            threshold = float(text or "")
        except ValueError:
            threshold = -1
        if not 0 <= threshold <= 1:
            said = f"{what}: expected a threshold from 0 to 1, found {shown(node)}"
            self._source.add(node, "range", said)
            return None
        return threshold

    def _whole(self, node: Node | None, what: str, usual: int, *, most: int) -> int:
        if node is None:
            return usual
        text = scalar(node, self._source, what=what) or ""
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= most and len(text) < 10):
            self._source.add(node, "range", f"{what}: expected a whole number from 1 to {most}, found {shown(node)}")
            return usual
        return int(text)
