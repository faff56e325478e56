"""A policy file to a `Policy`, or to every problem in it.

`parse_policy` reads text and knows nothing of models; `unknown_rungs` holds a policy's names against a catalogue;
`load_policy` is both for whoever only wants a policy that works.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from gateway.errors import ConfigError
from gateway.policy.conditions import read_when
from gateway.policy.decide import kind_of_rung, kinds_of_rungs
from gateway.policy.problems import Problem, listed, near
from gateway.policy.rules import AUTO, DEFAULT, PINNED, Policy, Rule, revision_of, rule
from gateway.policy.source import Source, choice, compose, entries, fields, flag, items, place, read_text, scalar, shown
from gateway.policy.vocabulary import CHECKS, KINDS_OF_MODEL, OPERATING_POINTS
from gateway.types import Check, DataClass, Guarantee, Mode, Model, Route, Zone

_TOP: Final = (
    "version", "description", "guarantees", "routes", "rules", "default", "aliases", "privacy", "time_zone",
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESERVED_RULES: Final = frozenset({DEFAULT, PINNED})
_RESERVED_ROUTES: Final = frozenset({AUTO, PINNED, "embedding", *KINDS_OF_MODEL})
_CLASSES: Final = tuple(member.label for member in DataClass)
_ZONES: Final = tuple(member.label for member in Zone)
_NO_ROUTE: Final = Route("", ())

Place = tuple[int, int]

_PACKAGE: Final = Path(__file__).parents[1]
# The policies that come with the gateway: inside its package in a wheel, beside it in a checkout.
SHIPPED: Final = next(
    (p for p in (_PACKAGE / "shipped_policies", _PACKAGE.parent / "policies") if p.is_dir()), _PACKAGE
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file gave: a policy when there is no problem, and where each of its names stands."""

    policy: Policy | None
    problems: tuple[Problem, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)  # `rules.hard`, `routes.local.0`, `guarantees.0`, ...
    file: str = ""


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
    """The policy in a file, or its problems."""
    source = Source(str(path))
    text = read_text(path, source)
    if text is None:
        return Loaded(None, tuple(source.problems), file=source.file)
    return parse_policy(text, name=path.stem, file=source.file)


def parse_policy(text: str, *, name: str = "policy", file: str = "policy.yaml") -> Loaded:
    """The policy in a text, or its problems."""
    source = Source(file)
    root = compose(text, source)
    if root is None:
        return Loaded(None, tuple(source.problems), file=file)
    reading = _Reading(source)
    policy = reading.policy(root, name)
    problems = tuple(sorted(source.problems, key=lambda p: (p.line, p.column)))
    return Loaded(None if problems else policy, problems, reading.places, file)


def unknown_rungs(loaded: Loaded, models: Mapping[str, Model]) -> list[Problem]:
    """Rungs and aliases that name nothing in the catalogue, and rungs that cannot answer a chat."""
    policy, source = loaded.policy, Source(loaded.file)
    if policy is None:
        return []
    chat = [model.id for model in models.values() if model.kind != "embedding"]
    for route in policy.routes.values():
        for number, rung in enumerate(route.rungs):
            where = loaded.places.get(f"routes.{route.name}.{number}", (1, 1))
            if rung in models and models[rung].kind == "embedding":
                source.at(
                    where, "unknown_model", f"route {route.name}: {rung!r} makes embeddings and cannot answer a chat"
                )
            elif rung not in models and kind_of_rung(rung) is None:
                hint = (
                    near(rung, (*chat, *kinds_of_rungs()))
                    or f" Kinds: slm, llm, or llm@eu for those in a zone. Models: {listed(chat)}."
                )
                source.at(
                    where, "unknown_model", f"route {route.name}: there is no model {rung!r} in cauce.yaml.{hint}"
                )
    for alias, target in policy.aliases.items():
        if target == AUTO or target in policy.routes:
            continue
        where = loaded.places.get(f"aliases.{alias}", (1, 1))
        if target not in models:
            known = (AUTO, *policy.routes, *chat)
            source.at(
                where,
                "unknown_model",
                f"alias {alias}: {target!r} is no model, no route, and not auto.{near(target, known)}",
            )
        elif models[target].kind == "embedding":
            source.at(where, "unknown_model", f"alias {alias}: {target!r} makes embeddings and cannot answer a chat")
    return source.problems


class _Reading:
    """One pass over a document."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.places: dict[str, Place] = {}

    def policy(self, root: Node, name: str) -> Policy | None:
        """The whole document; a policy even when there were problems, for whoever wants to look further."""
        source = self.source
        if not isinstance(root, MappingNode):
            source.add(root, "type", f"a policy is a mapping that begins with `version: 1`, found {shown(root)}")
            return None
        top = fields(root, source, what="policy", known=_TOP)
        self._version(top.get("version"), root)
        routes = self._routes(top.get("routes"), root)
        rules = self._rules(top["rules"], routes) if "rules" in top else ()
        default = self._default(top.get("default"), root, routes)
        aliases = self._aliases(top["aliases"]) if "aliases" in top else {}
        guarantees = self._guarantees(top["guarantees"]) if "guarantees" in top else ()
        unreadable, failure, operating_point = self._privacy(top.get("privacy"))
        draft = Policy(
            name=name,
            default=default,
            rules=rules,
            routes=routes,
            guarantees=guarantees,
            aliases=aliases,
            description=(scalar(top["description"], source, what="description") or "") if "description" in top else "",
            unreadable=unreadable,
            failure=failure,
            operating_point=operating_point,
            time_zone=self._time_zone(top.get("time_zone")),
        )
        return dataclasses.replace(draft, revision=revision_of(draft))

    def _version(self, node: Node | None, root: Node) -> None:
        if node is None:
            self.source.add(
                root, "missing", "`version: 1` is missing: every policy says which language it is written in"
            )
        elif (text := scalar(node, self.source, what="version")) not in {None, "1"}:
            self.source.add(node, "value", f"version: expected 1, found {text!r}: this gateway reads version 1")

    def _name(self, text: str, node: Node, *, what: str, reserved: frozenset[str]) -> bool:
        if not _NAME.fullmatch(text):
            self.source.add(
                node, "name", f"{what}: {text!r} cannot be a name: letters, digits, `_`, `.` and `-`, up to 64"
            )
            return False
        if text in reserved:
            self.source.add(node, "name", f"{what}: {text!r} is a word of Cauce's own: choose another name")
            return False
        return True

    def _routes(self, node: Node | None, root: Node) -> dict[str, Route]:
        if node is None:
            self.source.add(root, "missing", "`routes:` is missing, e.g. `routes: {local: {try: [slm]}}`")
            return {}
        routes = {}
        for name, key_node, value in entries(node, self.source, what="routes"):
            if self._name(name, key_node, what="routes", reserved=_RESERVED_ROUTES):
                self.places[f"routes.{name}"] = place(key_node)
                routes[name] = self._route(name, value)
        if isinstance(node, MappingNode) and not node.value:
            self.source.add(node, "missing", "routes: expected at least one, e.g. `local: {try: [slm]}`")
        return routes

    def _route(self, name: str, node: Node) -> Route:
        source, what = self.source, f"route {name}"
        given = fields(node, source, what=what, known=("try", "verify", "mode", "cache"))
        rungs: list[str] = []
        if "try" not in given:
            if isinstance(node, MappingNode):
                source.add(
                    node, "missing", f"{what}: `try:` is missing: the models or kinds to try, e.g. `try: [slm, llm]`"
                )
        else:
            members = given["try"].value if isinstance(given["try"], SequenceNode) else [given["try"]]
            if not members:
                source.add(given["try"], "value", f"{what}: `try` is empty: name a model, or slm, or llm")
            for member in members:
                rung = scalar(member, source, what=f"{what}: try")
                if rung is None:
                    continue
                if rung in rungs:
                    source.add(member, "value", f"{what}: {rung!r} stands twice in `try`")
                    continue
                self.places[f"routes.{name}.{len(rungs)}"] = place(member)
                rungs.append(rung)
        checks = self._checks(given["verify"], what) if "verify" in given else ()
        mode = choice(given["mode"], source, what=f"{what}: mode", known=tuple(Mode)) if "mode" in given else None
        cache = flag(given["cache"], source, what=f"{what}: cache") if "cache" in given else True
        return Route(name, tuple(rungs), checks, Mode(mode) if mode else None, cache is not False)

    def _checks(self, node: Node, what: str) -> tuple[Check, ...]:
        checks = []
        for member in items(node, self.source, what=f"{what}: verify"):
            if isinstance(member, MappingNode):
                pairs = entries(member, self.source, what=f"{what}: verify")
                checks += [check for pair in pairs if (check := self._check(*pair, what=what))]
            elif (name := scalar(member, self.source, what=f"{what}: verify")) is not None and (
                check := self._check(name, member, None, what=what)
            ):
                checks.append(check)
        return tuple(checks)

    def _check(self, name: str, node: Node, value: Node | None, *, what: str) -> Check | None:
        if name not in CHECKS:
            hint = near(name, CHECKS) or f" The checks are {', '.join(CHECKS)}."
            self.source.add(node, "unknown_check", f"{what}: there is no check {name!r}.{hint}")
            return None
        if not CHECKS[name]:
            if value is not None:
                self.source.add(value, "value", f"{what}: check {name!r} takes no value: write `- {name}`")
            return Check(name)
        if value is None:
            self.source.add(node, "value", f"{what}: check {name!r} takes a threshold from 0 to 1: `{{{name}: 0.6}}`")
            return None
        text = scalar(value, self.source, what=f"{what}: {name}")
        try:
            threshold = float(text or "")
        except ValueError:
            threshold = -1
        if not 0 <= threshold <= 1:
            self.source.add(value, "range", f"{what}: {name}: expected a threshold from 0 to 1, found {shown(value)}")
            return None
        return Check(name, threshold)

    def _rules(self, node: Node, routes: Mapping[str, Route]) -> tuple[Rule, ...]:
        rules: list[Rule] = []
        names: dict[str, int] = {}
        for number, member in enumerate(items(node, self.source, what="rules"), 1):
            given = fields(member, self.source, what=f"rule {number}", known=("name", "when", "use"))
            if not isinstance(member, MappingNode):
                continue
            name = self._rule_name(given.get("name"), member, number, names)
            if "when" not in given:
                self.source.add(member, "missing", f"rule {name}: `when:` is missing; `when: {{}}` matches everything")
            if "use" not in given:
                self.source.add(member, "missing", f"rule {name}: `use:` is missing: the route that it sends to")
            when = read_when(given["when"], self.source) if "when" in given else None
            route = self._route_named(given["use"], routes, what=f"rule {name}: use") if "use" in given else None
            self.places.setdefault(f"rules.{name}", place(given.get("name") or member))
            if when is not None and route is not None:
                rules.append(rule(name, when, route))
        return tuple(rules)

    def _rule_name(self, node: Node | None, member: Node, number: int, names: dict[str, int]) -> str:
        unnamed = f"number {number}"
        if node is None:
            self.source.add(member, "missing", f"rule {number}: `name:` is missing: decisions and reports say it")
            return unnamed
        name = scalar(node, self.source, what=f"rule {number}: name")
        if name is None or not self._name(name, node, what=f"rule {number}", reserved=_RESERVED_RULES):
            return unnamed
        if name in names:
            self.source.add(
                node, "duplicate_name", f"rule {number}: {name!r} is the name of rule {names[name]} already"
            )
            return unnamed
        names[name] = number
        return name

    def _route_named(self, node: Node, routes: Mapping[str, Route], *, what: str) -> Route | None:
        name = scalar(node, self.source, what=what)
        if name is None:
            return None
        if name not in routes:
            hint = near(name, routes) or f" The routes are {listed(routes)}."
            self.source.add(node, "unknown_route", f"{what}: there is no route {name!r}.{hint}")
            return None
        return routes[name]

    def _default(self, node: Node | None, root: Node, routes: Mapping[str, Route]) -> Route:
        if node is None:
            self.source.add(
                root, "missing", "`default:` is missing: the route of what no rule matches. Was the file saved whole?"
            )
            return _NO_ROUTE
        self.places["default"] = place(node)
        return self._route_named(node, routes, what="default") or _NO_ROUTE

    def _aliases(self, node: Node) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for name, key_node, value in entries(node, self.source, what="aliases"):
            target = scalar(value, self.source, what=f"alias {name}")
            if name == AUTO:
                self.source.add(
                    key_node, "name", "aliases: 'auto' always means the policy itself and cannot be an alias"
                )
            elif target is not None:
                self.places[f"aliases.{name}"] = place(value)
                aliases[name] = target
        return aliases

    def _guarantees(self, node: Node) -> tuple[Guarantee, ...]:
        guarantees: list[Guarantee] = []
        for number, member in enumerate(items(node, self.source, what="guarantees")):
            what = f"guarantee {number + 1}"
            given = fields(member, self.source, what=what, known=("data", "stays"))
            for name, example in (("data", "personal"), ("stays", "premises")):
                if name not in given and isinstance(member, MappingNode):
                    self.source.add(member, "missing", f"{what}: `{name}:` is missing, e.g. `{name}: {example}`")
            data = choice(given["data"], self.source, what=f"{what}: data", known=_CLASSES) if "data" in given else None
            stays = (
                choice(given["stays"], self.source, what=f"{what}: stays", known=_ZONES) if "stays" in given else None
            )
            if data and stays:
                self.places[f"guarantees.{len(guarantees)}"] = place(member)
                guarantees.append(Guarantee(DataClass[data.upper()], Zone[stays.upper()]))
        return tuple(guarantees)

    def _privacy(self, node: Node | None) -> tuple[DataClass, DataClass, str]:
        if node is None:
            return DataClass.SPECIAL, DataClass.SPECIAL, OPERATING_POINTS[0]
        given = fields(node, self.source, what="privacy", known=("unreadable", "failure", "operating_point"))
        classes = []
        for name in ("unreadable", "failure"):
            label = choice(given[name], self.source, what=f"privacy: {name}", known=_CLASSES) if name in given else None
            classes.append(DataClass[label.upper()] if label else DataClass.SPECIAL)
        point = given.get("operating_point")
        chosen = choice(point, self.source, what="privacy: operating_point", known=OPERATING_POINTS) if point else None
        return classes[0], classes[1], chosen or OPERATING_POINTS[0]

    def _time_zone(self, node: Node | None) -> str:
        name = scalar(node, self.source, what="time_zone") if node is not None else None
        if name is None:
            return ""
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.source.add(
                node, "value", f"time_zone: {name!r} is not known here: expected a name such as Europe/Madrid"
            )
        return name
