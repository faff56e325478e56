"""Why a request went where it went, in words: the rules in order, and what each asked for that was not so.

For `explain`, `/v1/route` and a failing case. Spanish or English; the names of signals are the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from gateway.policy.decide import is_held
from gateway.policy.rules import (
    AUTO,
    PINNED,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Not,
    OneOf,
    Policy,
    Rule,
    compile_condition,
    reader,
)
from gateway.policy.signal_values import as_values
from gateway.policy.verifiers import said_check
from gateway.signals.taxonomy import GROUNDS, Ground, found
from gateway.types import DataClass, Decision, Model, Signals

Language = Literal["es", "en"]

_WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "is": "{signal} is {value}; the rule asks for {wanted}",
        "any": "none of these holds: {parts}",
        "not": "it must not be that {part}",
        "matched": "it matches",
        "all": "it matches every request",
        "and": " and ",
        "or": " or ",
        "one of": "one of {values}",
        "nothing": "nothing",
        "no limit": "without limit",
        "held": "an earlier turn moved this conversation here, and it stays",
        "canary": "{share} of the conversations go by {route}, and this is one",
        "shadow": "a copy of {share} of the conversations goes to {rung} after the reply, of this one too",
    },
    "es": {
        "is": "{signal} es {value}; la regla pide {wanted}",
        "any": "no se cumple ninguna de estas: {parts}",
        "not": "no debe cumplirse que {part}",
        "matched": "se cumple",
        "all": "se cumple con cualquier petición",
        "and": " y ",
        "or": " o ",
        "one of": "uno de {values}",
        "nothing": "nada",
        "no limit": "sin límite",
        "held": "un turno anterior trajo aquí esta conversación, y aquí sigue",
        "canary": "el {share} de las conversaciones va por {route}, y esta es una de ellas",
        "shadow": "una copia del {share} de las conversaciones va a {rung} tras la respuesta, también de esta",
    },
}


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was looked at: whether it matched, and why or why not."""

    rule: str
    matched: bool
    why: str


def trace(signals: Signals, policy: Policy, *, language: Language = "en") -> tuple[Tried, ...]:
    """The rules in order, up to the first that matches."""
    tried: list[Tried] = []
    for rule in policy.rules:
        if rule.matches(signals):
            tried.append(Tried(rule.name, True, why_matched(rule, signals, language=language)))
            break
        tried.append(Tried(rule.name, False, why_not(rule.when, signals, language=language)))
    return tuple(tried)


def why_matched(rule: Rule, signals: Signals, *, language: Language = "en") -> str:
    """What a rule that matches asks for, and what it does with this conversation in particular."""
    words = _WORDS[language]
    said = said_condition(rule.when, language)
    why = f"{words['matched']}: {said}" if said else words["all"]
    parts = [words["held"] if is_held(signals, rule.name, rule) else why]
    for canary in rule.canaries:
        if canary.low <= signals.draw < canary.high:
            share = _percent(canary.high - canary.low, language)
            parts.append(words["canary"].format(share=share, route=canary.route.name))
    if rule.shadow is not None and signals.draw >= rule.shadow.low:
        share = _percent(1 - rule.shadow.low, language)
        parts.append(words["shadow"].format(share=share, rung=rule.shadow.rung))
    return "; ".join(parts)


def _percent(share: float, language: Language) -> str:
    said = f"{share * 100:.2f}".rstrip("0").rstrip(".")
    return f"{said}%" if language == "en" else f"{said.replace('.', ',')} %"


def why_not(condition: Condition, signals: Signals, *, language: Language = "en") -> str:
    """The first thing that a condition asks for and that is not so; nothing when it holds."""
    if compile_condition(condition)(signals):
        return ""
    words = _WORDS[language]
    if isinstance(condition, AllOf):
        return next(why for part in condition.parts if (why := why_not(part, signals, language=language)))
    if isinstance(condition, AnyOf):
        return words["any"].format(parts=words["or"].join(said_condition(part, language) for part in condition.parts))
    if isinstance(condition, Not):
        return words["not"].format(part=said_condition(condition.part, language))
    value = reader(condition.signal)(signals)
    return words["is"].format(
        signal=condition.signal, value=_said(value, language), wanted=_wanted(condition, language)
    )


def said_condition(condition: Condition, language: Language = "en") -> str:
    """A condition as a line of text: `gain >= 0.35 and task one of faq, classify`."""
    words = _WORDS[language]
    if isinstance(condition, AllOf | AnyOf):
        between = words["and"] if isinstance(condition, AllOf) else words["or"]
        said = between.join(said_condition(part, language) for part in condition.parts)
        return f"({said})" if isinstance(condition, AnyOf) and len(condition.parts) > 1 else said
    if isinstance(condition, Not):
        return (
            f"not ({said_condition(condition.part, language)})"
            if language == "en"
            else (f"no ({said_condition(condition.part, language)})")
        )
    return f"{condition.signal} {_wanted(condition, language)}"


def _wanted(leaf: Any, language: Language) -> str:
    if isinstance(leaf, Compare):
        value = DataClass(int(leaf.value)).label if leaf.signal == "data" else f"{leaf.value:g}"
        return f"{leaf.op} {value}"
    values = sorted(leaf.values, key=lambda value: (isinstance(value, str), value))
    if isinstance(leaf, OneOf) and len(values) == 1:
        return f"= {_said(values[0], language)}"
    return _WORDS[language]["one of"].format(values=", ".join(_said(value, language) for value in values))


def _said(value: object, language: Language) -> str:
    if isinstance(value, DataClass):
        return value.label
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return _WORDS[language]["no limit"] if math.isinf(value) else f"{value:.3g}"
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(map(str, value))) or _WORDS[language]["nothing"]
    return str(value) or _WORDS[language]["nothing"]


def decision_values(decision: Decision, models: Mapping[str, Model]) -> dict[str, Any]:
    """A decision as plain values. `zone` is the first model's; the ceiling's when no model may answer."""
    first = models.get(decision.ladder[0]) if decision.ladder else None
    return {
        "rule": decision.rule,
        "route": decision.route.name,
        "model": first.id if first else None,
        "kind": first.kind if first else None,
        "ladder": list(decision.ladder),
        "zone": (first.zone if first else decision.ceiling).label,
        "ceiling": decision.ceiling.label,
        "checks": [check.name for check in decision.route.checks],
        "canary": decision.route.name if decision.canary else None,
        "shadow": decision.shadow[0] if decision.shadow else None,
        "sticky": decision.sticky,
        "transform": decision.route.transform if decision.masked is not None else None,
        "skipped": [{"model": skip.model, "reason": skip.reason} for skip in decision.skipped],
        "policy": decision.policy,
        "policy_revision": decision.policy_revision,
    }


def explained(  # noqa: PLR0913 - the decision and what it was made of, each named
    signals: Signals,
    decision: Decision,
    *,
    policy: Policy,
    models: Mapping[str, Model],
    requested: str = AUTO,
    language: Language = "en",
) -> dict[str, Any]:
    """All that `explain` and `/v1/route` say of one request, without a call and without its text."""
    tried = () if decision.rule == PINNED else trace(signals, policy, language=language)
    return {
        "requested": requested or AUTO,
        "signals": as_values(signals),
        "decision": decision_values(decision, models),
        "checks": [said_check(check, language) for check in decision.route.checks],
        "tried": [{"rule": item.rule, "matched": item.matched, "why": item.why} for item in tried],
        "kinds": [_ground(GROUNDS[kind], language) for kind in found(signals)],
        "findings": [
            {"kind": f.kind, "label": f.label, "data": f.data.label, "part": f.part, "start": f.start, "end": f.end}
            for f in signals.findings
        ],
    }


def _ground(ground: Ground, language: Language) -> dict[str, str]:
    """A kind that was found, what it is and the law that protects it."""
    what, article = (ground.en, ground.article) if language == "en" else (ground.es, ground.article_es)
    return {"kind": ground.kind.value, "class": ground.floor.label, "article": article, "what": what}
