"""The sections of a policy file, from YAML nodes to routes, rules, overlays and the rest, each problem at its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.policy.conditions import read_callers, read_when
from gateway.policy.documents import Document
from gateway.policy.problems import listed, near
from gateway.policy.rules import AUTO, DEFAULT, PINNED, AllOf, Canary, Condition, Rule, Shadow, rule
from gateway.policy.source import Place, choice, entries, fields, flag, items, place, scalar
from gateway.policy.verifiers import Verifying
from gateway.policy.vocabulary import EXCEPTIONS, KINDS_OF_MODEL, OPERATING_POINTS, TRANSFORMS
from gateway.types import DataClass, Guarantee, Mode, Route, VerifyBudget, Zone

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHARE: Final = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?\s*%")
_WHOLE: Final = 10_000  # a conversation's lot is one of so many
_RESERVED_RULES: Final = frozenset({DEFAULT, PINNED})
_RESERVED_ROUTES: Final = frozenset({AUTO, PINNED, "embedding", *KINDS_OF_MODEL})
_CLASSES: Final = tuple(member.label for member in DataClass)
_ZONES: Final = tuple(member.label for member in Zone)
Sticky = tuple[bool, Condition | None]  # whether a conversation is kept, and what lets it go
RULE: Final = ("name", "when", "use", "canary", "shadow", "sticky")
NO_ROUTE: Final = Route("", ())


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a file says of the scan's limits."""

    unreadable: DataClass = DataClass.SPECIAL
    failure: DataClass = DataClass.SPECIAL
    operating_point: str = OPERATING_POINTS[0]


@dataclass(frozen=True, slots=True)
class Overlay:
    """What an overlay says of its callers. `default` is nothing where it leaves the policy's."""

    said: str
    callers: Condition
    rules: tuple[Rule, ...]
    default: Rule | None
    guarantees: tuple[tuple[Guarantee, Place], ...]


@dataclass(slots=True)
class Names:
    """What the sections of all files share: where each name stands, and the names that rules have."""

    places: dict[str, Place]
    rules: dict[str, Place]
    sticky: Sticky = (False, None)
    overlays: int = 0
    defaults: int = 0


class Sections:
    """One file's sections."""

    def __init__(self, document: Document, names: Names) -> None:
        self.source = document.source
        self.top = document.top
        self._root = document.root
        self._including = document.including
        self._names = names
        self._places = names.places

    def version(self) -> None:
        """`version: 1`, in every file."""
        node = self.top.get("version")
        if node is None:
            said = "`version: 1` is missing: every policy says which language it is written in"
            self.source.add(self._root, "missing", said)
        elif (text := scalar(node, self.source, what="version")) not in {None, "1"}:
            self.source.add(node, "value", f"version: expected 1, found {text!r}: this gateway reads version 1")

    def description(self) -> str:
        """What the file says of itself."""
        node = self.top.get("description")
        return (scalar(node, self.source, what="description") or "") if node is not None else ""

    # --- routes -----------------------------------------------------------------------------------------------------

    def routes(self) -> dict[str, Route]:
        """The file's own routes."""
        if (node := self.top.get("routes")) is None:
            return {}
        routes = {}
        for name, key_node, value in entries(node, self.source, what="routes"):
            if self._name(name, key_node, what="routes", reserved=_RESERVED_ROUTES):
                self._places[f"routes.{name}"] = self.source.place(key_node)
                routes[name] = self._route(name, value)
        if isinstance(node, MappingNode) and not node.value:
            self.source.add(node, "missing", "routes: expected at least one, e.g. `local: {try: [slm]}`")
        return routes

    def no_routes(self) -> None:
        """Neither this file nor any that it includes has routes."""
        self.source.add(self._root, "missing", "`routes:` is missing, e.g. `routes: {local: {try: [slm]}}`")

    def _route(self, name: str, node: Node) -> Route:
        source, what = self.source, f"route {name}"
        known = ("try", "verify", "verify_budget", "draft", "mode", "cache", "transform")
        given = fields(node, source, what=what, known=known)
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
                self._places[f"routes.{name}.{len(rungs)}"] = source.place(member)
                rungs.append(rung)
        verifying = Verifying(source, what, self._places, name)
        checks = verifying.checks(given["verify"]) if "verify" in given else ()
        budget = verifying.budget(given["verify_budget"]) if "verify_budget" in given else VerifyBudget()
        draft = flag(given["draft"], source, what=f"{what}: draft") if "draft" in given else False
        mode = choice(given["mode"], source, what=f"{what}: mode", known=tuple(Mode)) if "mode" in given else None
        cache = flag(given["cache"], source, what=f"{what}: cache") if "cache" in given else True
        transform = given.get("transform")
        named = choice(transform, source, what=f"{what}: transform", known=TRANSFORMS) if transform else None
        sent = Mode(mode) if mode else None
        return Route(name, tuple(rungs), checks, sent, cache is not False, named or "", budget, draft is True)

    # --- rules ------------------------------------------------------------------------------------------------------

    def rules(self, routes: Mapping[str, Route]) -> tuple[Rule, ...]:
        """The file's own rules, their routes among these."""
        node = self.top.get("rules")
        return self._rules(node, routes, None) if node is not None else ()

    def _rules(self, node: Node, routes: Mapping[str, Route], callers: Condition | None) -> tuple[Rule, ...]:
        rules: list[Rule] = []
        for number, member in enumerate(items(node, self.source, what="rules"), 1):
            given = fields(member, self.source, what=f"rule {number}", known=RULE)
            if not isinstance(member, MappingNode):
                continue
            name = self._rule_name(given.get("name"), member, number)
            if "when" not in given:
                self.source.add(member, "missing", f"rule {name}: `when:` is missing; `when: {{}}` matches everything")
            if "use" not in given:
                self.source.add(member, "missing", f"rule {name}: `use:` is missing: the route that it sends to")
            when = read_when(given["when"], self.source) if "when" in given else None
            what = f"rule {name}"
            route = self._route_named(given["use"], routes, what=f"{what}: use") if "use" in given else None
            canaries = self._canaries(given["canary"], route, routes, what=what) if "canary" in given else ()
            shadow = self._shadow(given["shadow"], name) if "shadow" in given else None
            keeps, until = self._sticky(given["sticky"], what=what) if "sticky" in given else self._names.sticky
            self._places.setdefault(f"rules.{name}", self.source.place(given.get("name") or member))
            if when is not None and route is not None:
                rules.append(
                    rule(
                        name, when, route, callers=callers, canaries=canaries, shadow=shadow, sticky=keeps, until=until
                    )
                )
        return tuple(rules)

    def _rule_name(self, node: Node | None, member: Node, number: int) -> str:
        unnamed = f"number {number}"
        if node is None:
            self.source.add(member, "missing", f"rule {number}: `name:` is missing: decisions and reports say it")
            return unnamed
        name = scalar(node, self.source, what=f"rule {number}: name")
        if name is None or not self._name(name, node, what=f"rule {number}", reserved=_RESERVED_RULES):
            return unnamed
        if (first := self._names.rules.get(name)) is not None:
            self._clash(node, number, name, first)
            return unnamed
        self._names.rules[name] = self.source.place(node)
        return name

    def _clash(self, node: Node, number: int, name: str, first: Place) -> None:
        file, line, _ = first
        if self._including is None or file == self.source.file:
            said = f"rule {number}: {name!r} is the name of the rule in line {line} already"
            self.source.add(node, "duplicate_name", said)
            return
        source, line_node = self._including
        said = f"include: rule {name!r} ({self.source.file}:{place(node)[0]}) has the name of the rule in {file}:{line}"
        source.add(line_node, "duplicate_name", f"{said}: rename one of them")

    def _canaries(self, node: Node, own: Route | None, routes: Mapping[str, Route], *, what: str) -> tuple[Canary, ...]:
        canaries: list[Canary] = []
        low = 0
        for name, key_node, value in entries(node, self.source, what=f"{what}: canary"):
            route = self._route_named(key_node, routes, what=f"{what}: canary")
            share = self._share(value, what=f"{what}: canary {name}")
            if route is None or share is None:
                continue
            if own is not None and name == own.name:
                self.source.add(key_node, "value", f"{what}: canary: {name!r} is the rule's own route: name another")
                continue
            canaries.append(Canary(route, low / _WHOLE, (low + share) / _WHOLE))
            low += share
        if isinstance(node, MappingNode) and not node.value:
            self.source.add(node, "value", f"{what}: canary: expected a route and its share, e.g. `{{cloud: 5%}}`")
        if low >= _WHOLE:
            said = f"{what}: canary: {low / 100:g}% in all leaves nothing to the rule's own route: stay below 100%"
            self.source.add(node, "range", said)
        return tuple(canaries)

    def _share(self, node: Node, *, what: str) -> int | None:
        """A percentage as ten-thousandths: as finely as conversations are told apart."""
        text = scalar(node, self.source, what=what)
        if text is None:
            return None
        match = _SHARE.fullmatch(text)
        if match is None:
            expected = f"{what}: expected a share such as 5% or 0.25%, found {text!r}."
            self.source.add(node, "type", f"{expected}{_as_percentage(text)}")
            return None
        share = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
        if not 0 < share <= _WHOLE:
            self.source.add(node, "range", f"{what}: a share goes from 0.01% to 100%, found {text!r}")
            return None
        return share

    def _shadow(self, node: Node, name: str) -> Shadow | None:
        what = f"rule {name}: shadow"
        given: dict[str, Node] = {"to": node}
        if isinstance(node, MappingNode):
            given = fields(node, self.source, what=what, known=("to", "share"))
            if "to" not in given:
                self.source.add(node, "missing", f"{what}: `to:` is missing: a model's name, slm, or llm")
                return None
        rung = scalar(given["to"], self.source, what=what)
        share = self._share(given["share"], what=f"{what}: share") if "share" in given else _WHOLE
        self._places[f"rules.{name}.shadow"] = self.source.place(given["to"])
        return Shadow(rung, (_WHOLE - share) / _WHOLE) if rung is not None and share is not None else None

    def sticky(self) -> Sticky | None:
        """Whether rules that do not say keep conversations with a large model; nothing where the file does not say."""
        node = self.top.get("sticky")
        return self._sticky(node, what="policy") if node is not None else None

    def _sticky(self, node: Node, *, what: str) -> Sticky:
        what = f"{what}: sticky"
        if not isinstance(node, MappingNode):
            return choice(node, self.source, what=what, known=("conversation", "none")) == "conversation", None
        given = fields(node, self.source, what=what, known=("until",))
        if "until" not in given:
            self.source.add(node, "missing", f"{what}: `until:` is missing: the condition that lets a conversation go")
            return True, None
        return True, read_when(given["until"], self.source)

    def _route_named(self, node: Node, routes: Mapping[str, Route], *, what: str) -> Route | None:
        name = scalar(node, self.source, what=what)
        if name is None:
            return None
        if name not in routes:
            hint = near(name, routes) or f" The routes are {listed(routes)}."
            self.source.add(node, "unknown_route", f"{what}: there is no route {name!r}.{hint}")
            return None
        return routes[name]

    def default(self, routes: Mapping[str, Route]) -> Route | None:
        """The route of what no rule matches; nothing where the file names none."""
        if (node := self.top.get("default")) is None:
            return None
        self._places["default"] = self.source.place(node)
        return self._route_named(node, routes, what="default") or NO_ROUTE

    def no_default(self) -> None:
        """Neither this file nor any that it includes has a default."""
        said = "`default:` is missing: the route of what no rule matches. Was the file saved whole?"
        self.source.add(self._root, "missing", said)

    # --- overlays ---------------------------------------------------------------------------------------------------

    def overlays(self, routes: Mapping[str, Route]) -> tuple[Overlay, ...]:
        """What the file says for some callers only."""
        if (node := self.top.get("overlays")) is None:
            return ()
        members = items(node, self.source, what="overlays")
        return tuple(overlay for member in members if (overlay := self._overlay(member, routes)) is not None)

    def _overlay(self, node: Node, routes: Mapping[str, Route]) -> Overlay | None:
        self._names.overlays += 1
        what = f"overlay {self._names.overlays}"
        given = fields(node, self.source, what=what, known=("for", "rules", "default", "guarantees"))
        if not isinstance(node, MappingNode):
            return None
        if "for" not in given:
            self.source.add(node, "missing", f"{what}: `for:` is missing, e.g. `for: {{team: legal}}`")
            return None
        callers = read_callers(given["for"], self.source, what=f"{what}: for")
        if len(given) == 1:
            self.source.add(node, "missing", f"{what}: it says nothing: expected rules, default or guarantees")
        rules = self._rules(given["rules"], routes, callers) if "rules" in given else ()
        default: Rule | None = None
        if "default" in given:
            route = self._route_named(given["default"], routes, what=f"{what}: default")
            if route is not None:
                self._places[f"defaults.{self._names.defaults}"] = self.source.place(given["default"])
                self._names.defaults += 1
                keeps, until = self._names.sticky
                default = rule(DEFAULT, AllOf(), route, callers=callers, sticky=keeps, until=until)
        guarantees = self._guarantees(given["guarantees"], what=f"{what}: guarantee") if "guarantees" in given else ()
        return Overlay(what, callers, rules, default, guarantees)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def guarantees(self) -> tuple[tuple[Guarantee, Place], ...]:
        """The file's own guarantees, each with its place."""
        node = self.top.get("guarantees")
        return self._guarantees(node, what="guarantee") if node is not None else ()

    def _guarantees(self, node: Node, *, what: str) -> tuple[tuple[Guarantee, Place], ...]:
        guarantees: list[tuple[Guarantee, Place]] = []
        for number, member in enumerate(items(node, self.source, what="guarantees")):
            which = f"{what} {number + 1}"
            given = fields(member, self.source, what=which, known=("data", "stays", "unless"))
            for name, example in (("data", "personal"), ("stays", "premises")):
                if name not in given and isinstance(member, MappingNode):
                    self.source.add(member, "missing", f"{which}: `{name}:` is missing, e.g. `{name}: {example}`")
            data = (
                choice(given["data"], self.source, what=f"{which}: data", known=_CLASSES) if "data" in given else None
            )
            stays = (
                choice(given["stays"], self.source, what=f"{which}: stays", known=_ZONES) if "stays" in given else None
            )
            unless = self._exception(given["unless"], data, what=which) if "unless" in given else ""
            if data and stays:
                kept = Guarantee(DataClass[data.upper()], Zone[stays.upper()], unless)
                guarantees.append((kept, self.source.place(member)))
        return tuple(guarantees)

    def _exception(self, node: Node, data: str | None, *, what: str) -> str:
        unless = choice(node, self.source, what=f"{what}: unless", known=EXCEPTIONS)
        if unless and data not in {None, DataClass.PERSONAL.label}:
            said = (
                f"{what}: `unless: {unless}` goes with `data: personal` only, found {data}: placeholders take out "
                "who a text is about, not what is special, secret or confidential in it"
            )
            self.source.add(node, "value", said)
            return ""
        return unless or ""

    def aliases(self) -> dict[str, str]:
        """Names that applications send."""
        if (node := self.top.get("aliases")) is None:
            return {}
        aliases: dict[str, str] = {}
        for name, key_node, value in entries(node, self.source, what="aliases"):
            target = scalar(value, self.source, what=f"alias {name}")
            if name == AUTO:
                self.source.add(
                    key_node, "name", "aliases: 'auto' always means the policy itself and cannot be an alias"
                )
            elif target is not None:
                self._places[f"aliases.{name}"] = self.source.place(value)
                aliases[name] = target
        return aliases

    def privacy(self) -> Privacy | None:
        """What the scan does at its limits; nothing where the file does not say."""
        if (node := self.top.get("privacy")) is None:
            return None
        if isinstance(node, ScalarNode):  # `privacy: strict` alone
            named = choice(node, self.source, what="privacy", known=OPERATING_POINTS)
            return Privacy(operating_point=named) if named else Privacy()
        given = fields(node, self.source, what="privacy", known=("unreadable", "failure", "operating_point"))
        unreadable, failure = (
            choice(given[name], self.source, what=f"privacy: {name}", known=_CLASSES) if name in given else None
            for name in ("unreadable", "failure")
        )
        point = given.get("operating_point")
        chosen = choice(point, self.source, what="privacy: operating_point", known=OPERATING_POINTS) if point else None
        usual = Privacy()
        return Privacy(
            DataClass[unreadable.upper()] if unreadable else usual.unreadable,
            DataClass[failure.upper()] if failure else usual.failure,
            chosen or usual.operating_point,
        )

    def time_zone(self) -> str:
        """Of the signal `hour`; empty where the file does not say."""
        node = self.top.get("time_zone")
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


def _as_percentage(text: str) -> str:
    """What was probably meant by a number without its sign: `0.05` and `5` are both 5%."""
    try:
        value = float(text)
    except ValueError:
        return ""
    meant = value * 100 if value < 1 else value
    return f" Did you mean '{meant:g}%'?" if 0 < meant <= 100 else ""
