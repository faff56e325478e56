"""decide: `Signals` to `Decision`. Pure and replayable: the request path, `explain`, `check` and the cases all call
this.

The first rule that matches names a route, or a canary of its own does; the rungs become a ladder of models, without
those that this request may not or cannot use. A conversation that a sticky rule holds begins with the large ones.
What a caller asks for by name is honoured inside the guarantees, never beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.errors import UnknownModel
from gateway.gate import ceiling
from gateway.policy.problems import listed, near
from gateway.policy.rules import AUTO, DEFAULT, PINNED, Policy, Rule
from gateway.policy.vocabulary import KINDS_OF_MODEL
from gateway.types import Decision, Model, Route, Signals, Skipped, Zone


def decide(signals: Signals, *, policy: Policy, models: Mapping[str, Model], requested: str | None = AUTO) -> Decision:
    """Take the route of the first rule that matches, or the one that was asked for, and climb it within the guarantees.

    `requested` is what the caller named: `auto`, nothing, an alias, a model or a route. The ladder may be empty: the
    pipeline then refuses, naming the rule and `skipped`. Raises `UnknownModel` for a name that means nothing here.
    """
    limit = limit_of(signals, policy)
    target = policy.aliases.get(requested, requested) if requested else AUTO
    if target != AUTO:
        pinned = pinned_route(target or AUTO, policy, models)
        if pinned is None:
            raise _unknown(requested or "", policy, models)
        masked = _masked(pinned, signals, limit, policy)
        ladder, skipped = _ladder(pinned.rungs, signals, masked or limit, models)
        return Decision(
            PINNED, pinned, tuple(ladder), limit, policy.name, policy.revision, tuple(skipped),
            masked=masked, asked=_asked(pinned, signals, limit, models),
        )  # fmt: skip
    rule = _first(signals, policy)
    name, route, keeper = (rule.name, rule.route, rule) if rule else (DEFAULT, policy.default, policy)
    sticky = keeper.sticky
    canary = _drawn(rule, signals.draw) if rule and rule.canaries else None
    if canary is not None:
        route = canary
    masked = _masked(route, signals, limit, policy)
    ladder, skipped = _ladder(route.rungs, signals, masked or limit, models)
    held = is_held(signals, name, keeper)
    if held:
        ladder.sort(key=lambda model: models[model].kind != "llm")
    shadow: list[str] = []
    if rule and rule.shadow and signals.draw >= rule.shadow.low:  # copied as it is, so inside the ceiling
        shadow, _ = _ladder((rule.shadow.rung,), signals, limit, models)
    return Decision(
        name, route, tuple(ladder), limit, policy.name, policy.revision, tuple(skipped),
        canary is not None, tuple(shadow), held, sticky, masked, _asked(route, signals, limit, models),
        _reserve(ladder, signals, policy, models),
    )  # fmt: skip


def _asked(route: Route, signals: Signals, limit: Zone, models: Mapping[str, Model]) -> tuple[tuple[str, ...], ...]:
    """For each check of a route, the models that it may ask: they see the text as it is, so inside the ceiling."""
    if not any(check.model for check in route.checks):
        return ()
    return tuple(
        tuple(_ladder((check.model,), signals, limit, models)[0]) if check.model else () for check in route.checks
    )


def _reserve(ladder: list[str], signals: Signals, policy: Policy, models: Mapping[str, Model]) -> tuple[str, ...]:
    """Who answers when none of a ladder in the cloud can: the first of the policy's routes that stays on the premises.

    Such a route may take any text that the ladder may, so no guarantee is loosened.
    """
    if not ladder or any(models[name].zone is Zone.PREMISES for name in ladder):
        return ()
    for route in policy.routes.values():
        local, _ = _ladder(route.rungs, signals, Zone.PREMISES, models)
        if local and len(local) == len(_ladder(route.rungs, signals, Zone.WORLD, models)[0]):
            return tuple(local)
    return ()


def is_held(signals: Signals, name: str, keeper: Rule | Policy) -> bool:
    """Whether a conversation goes on where this rule, or the policy's default, moved it: `until` lets it go."""
    if not keeper.sticky or signals.held_by != name:
        return False
    return keeper.released is None or not keeper.released(signals)


def limit_of(signals: Signals, policy: Policy, *, pseudonymised: bool = False) -> Zone:
    """The farthest zone that a request's text may enter: under the guarantees, and what overlays add for its caller."""
    limit = ceiling(signals.data, policy.guarantees, pseudonymised=pseudonymised)
    for overlay in policy.tightened:
        if overlay.concerns(signals):
            limit = min(limit, ceiling(signals.data, overlay.guarantees, pseudonymised=pseudonymised))
    return limit


def _masked(route: Route, signals: Signals, limit: Zone, policy: Policy) -> Zone | None:
    """How much farther the text may go with placeholders; nothing where its route makes none, or it gains nothing."""
    if not route.transform:
        return None
    farther = limit_of(signals, policy, pseudonymised=True)
    return farther if farther > limit else None


def _first(signals: Signals, policy: Policy) -> Rule | None:
    """The first rule that matches, else the default of the first overlay that has one; nothing: the policy's own."""
    for rule in policy.rules:
        if rule.matches(signals):
            return rule
    return next((rule for rule in policy.defaults if rule.matches(signals)), None)


def _drawn(rule: Rule, draw: float) -> Route | None:
    return next((canary.route for canary in rule.canaries if canary.low <= draw < canary.high), None)


def _ladder(
    rungs: Iterable[str], signals: Signals, limit: Zone, models: Mapping[str, Model]
) -> tuple[list[str], list[Skipped]]:
    """The models of some rungs that may and can take this request, in order; and why the others do not."""
    ladder: list[str] = []
    skipped: list[Skipped] = []
    for rung in rungs:
        candidates = rung_models(rung, models)
        if not candidates:
            skipped.append(
                Skipped(rung, f"no model of kind {rung} is configured" if rung in _KINDS else "it is not configured")
            )
        for model in candidates:
            if model.id in ladder:
                continue
            reason = _unfit(model, signals, limit)
            if reason:
                skipped.append(Skipped(model.id, reason))
            else:
                ladder.append(model.id)
    return ladder, skipped


_KINDS: Final = {kind: (kind, Zone.WORLD) for kind in KINDS_OF_MODEL} | {
    f"{kind}@{zone.label}": (kind, zone) for kind in KINDS_OF_MODEL for zone in Zone
}


def pinned_route(target: str, policy: Policy, models: Mapping[str, Model]) -> Route | None:
    """The route of a request that names a model, or else a route; nothing when the name means neither."""
    model = models.get(target)
    if model is not None and model.kind != "embedding":
        return Route(PINNED, (target,))
    return policy.routes.get(target)


def rung_models(rung: str, models: Mapping[str, Model]) -> list[Model]:
    """What a rung stands for: the model of that name, or else every model of that kind in the catalogue's order.

    `llm@eu` is every model of the kind that is in that zone or nearer.
    """
    model = models.get(rung)
    if model is not None:
        return [model] if model.kind != "embedding" else []
    kind = kind_of_rung(rung)
    if kind is None:
        return []
    name, farthest = kind
    return [model for model in models.values() if model.kind == name and model.zone <= farthest]


def kinds_of_rungs() -> tuple[str, ...]:
    """Every rung that is a kind."""
    return tuple(_KINDS)


def kind_of_rung(rung: str) -> tuple[str, Zone] | None:
    """The kind and the farthest zone that a rung means when it names no model; nothing when it means neither."""
    return _KINDS.get(rung)


def _unfit(model: Model, signals: Signals, limit: Zone) -> str:
    """Why a model may not or cannot take this request, or nothing."""
    if model.zone > limit:
        return f"it is in zone {model.zone.label}, and {signals.data.label} data stays inside {limit.label}"
    if model.context_tokens is not None and signals.prompt_tokens > model.context_tokens:
        return f"the request has about {signals.prompt_tokens} tokens, and it takes {model.context_tokens}"
    if signals.modality not in model.modalities:
        return f"it does not take {signals.modality}"
    if signals.tools and not model.tools:
        return "it does not take tools"
    return ""


def _unknown(name: str, policy: Policy, models: Mapping[str, Model]) -> UnknownModel:
    chat = [model.id for model in models.values() if model.kind != "embedding"]
    known = (AUTO, *chat, *policy.aliases, *policy.routes)
    if name in models:
        return UnknownModel(f"{name!r} makes embeddings and does not answer a chat: {listed(chat)} do", param="model")
    if name in policy.aliases:
        target = policy.aliases[name]
        return UnknownModel(f"alias {name!r} means {target!r}, which is not configured: ask operations", param="model")
    shown = name if len(name) <= 80 else name[:77] + "..."
    return UnknownModel(
        f"there is no model {shown!r}.{near(name[:80], known)} Send `auto`, or one of: {listed(known[1:])}",
        param="model",
    )
