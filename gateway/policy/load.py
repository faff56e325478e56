"""A policy file to a `Policy`, or to every problem in it.

`parse_policy` reads text and knows nothing of models; `unknown_rungs` holds a policy's names against a catalogue;
`load_policy` is both for whoever only wants a policy that works. What a file includes is read with it
(`documents.py`), each section by itself (`sections.py`), and put together here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from gateway.gate import ceiling
from gateway.policy.decide import kind_of_rung, kinds_of_rungs
from gateway.policy.documents import Document, gather
from gateway.policy.problems import Problem, listed, near
from gateway.policy.rules import AUTO, Policy, Tightened, compiled, revision_of, tightened
from gateway.policy.sections import NO_ROUTE, Names, Overlay, Privacy, Sections
from gateway.policy.source import Place, Source, read_text
from gateway.policy.vocabulary import OPERATING_POINTS
from gateway.types import Guarantee, Model, Route

_PACKAGE: Final = Path(__file__).parents[1]
# The policies that come with the gateway: inside its package in a wheel, beside it in a checkout.
SHIPPED: Final = next(
    (p for p in (_PACKAGE / "shipped_policies", _PACKAGE.parent / "policies") if p.is_dir()), _PACKAGE
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file gave: a policy when there is no problem, and where each of its names stands.

    `files` are those that were read or looked for: the policy's own, and what it includes.
    """

    policy: Policy | None
    problems: tuple[Problem, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)  # `rules.hard`, `routes.local.0`, `guarantees.0`, ...
    file: str = ""
    files: tuple[Path, ...] = ()

    def place(self, name: str) -> Place:
        """Where a name stands; the file's start for what stands nowhere."""
        return self.places.get(name, (self.file, 1, 1))


def load_policy(path: Path, *, models: Mapping[str, Model] | None = None) -> Policy:
    """The policy in a file. Raises `ConfigError` with every problem; with `models`, names of none of them too."""
    loaded = read_policy(path)
    problems = list(loaded.problems)
    if loaded.policy is not None and models is not None:
        problems += unknown_rungs(loaded, models)
    if loaded.policy is None or problems:
        more = "".join(f"\n{problem}" for problem in problems[1:])
        first = problems[0]
        raise ConfigError(first.message + more, where=f"{first.file}:{first.line}:{first.column}")
    return loaded.policy


def read_policy(path: Path) -> Loaded:
    """The policy in a file with what it includes, or its problems."""
    source = Source(str(path))
    text = read_text(path, source)
    if text is None:
        return Loaded(None, tuple(source.problems), file=source.file, files=(path,))
    return parse_policy(text, name=path.stem, file=source.file, path=path)


def parse_policy(text: str, *, name: str = "policy", file: str = "policy.yaml", path: Path | None = None) -> Loaded:
    """The policy in a text, or its problems. What it includes lies beside `path`; without one it includes nothing."""
    gathered = gather(text, Source(file), path=path)
    if not gathered.documents:
        return Loaded(None, tuple(gathered.problems), file=file, files=gathered.files)
    names = Names({}, {})
    policy = dataclasses.replace(_merged(gathered.documents, names, name), files=tuple(map(str, gathered.files)))
    problems = gathered.problems
    if not gathered.whole:  # what seems to be missing may stand in the file that could not be read
        problems = [problem for problem in problems if problem.kind not in {"missing", "unknown_route"}]
    return Loaded(None if problems else policy, tuple(problems), names.places, file, gathered.files)


# --- several files, one policy --------------------------------------------------------------------------------------


def _merged(documents: Sequence[Document], names: Names, name: str) -> Policy:
    """The own file first: it wins, its rules come first; guarantees and privacy only tighten."""
    files = [Sections(document, names) for document in documents]
    own = files[0]
    for one in files:
        one.version()
    names.sticky = next((said for one in files if (said := one.sticky()) is not None), (False, None))
    routes: dict[str, Route] = {}
    for one in reversed(files):
        routes |= one.routes()
    if not any("routes" in one.top for one in files):
        own.no_routes()
    overlays, rules = zip(*((one.overlays(routes), one.rules(routes)) for one in files), strict=True)
    above = [overlay for found in overlays for overlay in found]
    default = next((route for one in files if (route := one.default(routes)) is not None), None)
    if default is None:
        own.no_default()
    aliases: dict[str, str] = {}
    for one in reversed(files):
        aliases |= one.aliases()
    guarantees = _guarantees(files, names.places)
    privacy = _strictest([limits for one in files if (limits := one.privacy()) is not None])
    zones = [one.time_zone() for one in files]
    policy = Policy(
        name=name,
        default=default or NO_ROUTE,
        rules=tuple(rule for group in (*(overlay.rules for overlay in above), *rules) for rule in group),
        routes=routes,
        guarantees=guarantees,
        aliases=aliases,
        description=own.description(),
        unreadable=privacy.unreadable,
        failure=privacy.failure,
        operating_point=privacy.operating_point,
        time_zone=next(filter(None, zones), ""),
        defaults=tuple(overlay.default for overlay in above if overlay.default is not None),
        tightened=tuple(_tightened(files, overlays, guarantees, names.places)),
        sticky=names.sticky[0],
        until=names.sticky[1],
        released=compiled(names.sticky[1]),
    )
    return dataclasses.replace(policy, revision=revision_of(policy))


def _guarantees(files: Iterable[Sections], places: dict[str, Place]) -> tuple[Guarantee, ...]:
    """All of them, each once; one that is looser than what is included is a problem."""
    own_first: list[tuple[Guarantee, Place]] = []
    for one in reversed(list(files)):
        own = one.guarantees()
        _refuse_looser(one.source, own, [kept for kept, _ in own_first], "the included policy")
        own_first = [*own, *(kept for kept in own_first if kept[0] not in [guarantee for guarantee, _ in own])]
    for number, (_, where) in enumerate(own_first):
        places[f"guarantees.{number}"] = where
    return tuple(guarantee for guarantee, _ in own_first)


def _tightened(
    files: Iterable[Sections],
    overlays: Iterable[Iterable[Overlay]],
    guarantees: Sequence[Guarantee],
    places: dict[str, Place],
) -> Iterable[Tightened]:
    """What the overlays promise beyond the policy's guarantees."""
    number = 0
    for one, above in zip(files, overlays, strict=True):
        for overlay in above:
            if not overlay.guarantees:
                continue
            _refuse_looser(one.source, overlay.guarantees, guarantees, "the policy", what=f"{overlay.said}: ")
            for place, (_, where) in enumerate(overlay.guarantees):
                places[f"tightened.{number}.{place}"] = where
            number += 1
            yield tightened(overlay.callers, tuple(guarantee for guarantee, _ in overlay.guarantees))


def _refuse_looser(
    source: Source, own: Iterable[tuple[Guarantee, Place]], base: Sequence[Guarantee], whose: str, *, what: str = ""
) -> None:
    for guarantee, (_, line, column) in own:
        limit = ceiling(guarantee.data, base)
        if guarantee.stays > limit:
            said = f"{what}{guarantee.data.label} data stays inside {guarantee.stays.label}, and {whose} keeps it"
            source.at((line, column), "looser", f"{said} inside {limit.label}: a guarantee may only be tightened")


def _strictest(said: Sequence[Privacy]) -> Privacy:
    """The higher classes and the sharper eye of all that is said; the usual where nothing is."""
    if not said:
        return Privacy()
    return Privacy(
        max(one.unreadable for one in said),
        max(one.failure for one in said),
        max((one.operating_point for one in said), key=OPERATING_POINTS.index),
    )


# --- names of models ------------------------------------------------------------------------------------------------


def unknown_rungs(loaded: Loaded, models: Mapping[str, Model]) -> list[Problem]:
    """Rungs, shadows and aliases that name nothing in the catalogue, or something that cannot answer a chat."""
    policy = loaded.policy
    if policy is None:
        return []
    known = _Known(models)
    rungs = [
        (f"routes.{route.name}.{number}", f"route {route.name}", rung)
        for route in policy.routes.values()
        for number, rung in enumerate(route.rungs)
    ]
    rungs += [
        (f"rules.{rule.name}.shadow", f"rule {rule.name}: shadow", rule.shadow.rung)
        for rule in policy.rules
        if rule.shadow is not None
    ]
    rungs += [
        (f"routes.{route.name}.verify.{number}", f"route {route.name}: {check.name}", check.model)
        for route in policy.routes.values()
        for number, check in enumerate(route.checks)
        if check.model
    ]
    found = [(where, f"{what}: {wrong}") for where, what, rung in rungs if (wrong := known.wrong_rung(rung))]
    found += [
        (f"aliases.{alias}", f"alias {alias}: {wrong}")
        for alias, target in policy.aliases.items()
        if target != AUTO and target not in policy.routes and (wrong := known.wrong_target(target, policy))
    ]
    return [Problem(*loaded.place(where), "unknown_model", said) for where, said in found]


class _Known:
    """The names that a catalogue knows, and what is wrong with any other."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models
        self._chat = [model.id for model in models.values() if model.kind != "embedding"]

    def wrong_rung(self, rung: str) -> str:
        """Why a name can be no rung, or nothing."""
        if rung in self._models:
            return self._no_chat(rung)
        if kind_of_rung(rung) is not None:
            return ""
        hint = near(rung, (*self._chat, *kinds_of_rungs()))
        known = f" Kinds: slm, llm, or llm@eu for those in a zone. Models: {listed(self._chat)}."
        return f"there is no model {rung!r} in cauce.yaml.{hint or known}"

    def wrong_target(self, target: str, policy: Policy) -> str:
        """Why a name can be no alias's target, or nothing."""
        if target in self._models:
            return self._no_chat(target)
        hint = near(target, (AUTO, *policy.routes, *self._chat))
        return f"{target!r} is no model, no route, and not auto.{hint}"

    def _no_chat(self, name: str) -> str:
        return f"{name!r} makes embeddings and cannot answer a chat" if self._models[name].kind == "embedding" else ""
