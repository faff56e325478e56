"""check: what can be known of a policy before any request: proofs, not samples.

For every rule: whether some request fires it, and which earlier rules take all of its requests when none does. For
every guarantee: whether some request would reach a rung (or a rung behind it, a canary's, a shadow or an alias) in a
zone that it forbids; if so, the plainest such request. The gate would refuse those calls whatever the policy says: a
policy that passes never meets it. Overlays' and included rules are rules like any other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from gateway.policy.cases import CaseResult, Classify, cases_path, read_cases, run_case
from gateway.policy.cells import And, Node, Or, Space, leaves_of
from gateway.policy.decide import pinned_route, rung_models
from gateway.policy.load import Loaded, read_policy, unknown_rungs
from gateway.policy.problems import Problem, listed
from gateway.policy.rules import (
    AUTO,
    DEFAULT,
    PINNED,
    AllOf,
    Compare,
    Condition,
    Not,
    OneOf,
    Policy,
    Rule,
    conditions_of,
    held_by,
)
from gateway.policy.signal_values import NOT_SIGNALS, unusual
from gateway.policy.source import Place
from gateway.policy.trace import said_condition
from gateway.types import Guarantee, Model, Route, Signals, Zone

# What a policy is held against where no models are configured: a small model here, a large one in the world.
NOMINAL: Final[Mapping[str, Model]] = {
    model.id: model
    for model in (
        Model(
            "nominal-slm", "fake", "slm", Zone.PREMISES, "slm", modalities=frozenset({"text", "image", "audio", "file"})
        ),
        Model(
            "nominal-llm", "fake", "llm", Zone.WORLD, "llm", modalities=frozenset({"text", "image", "audio", "file"})
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Kept:
    """One guarantee: held by every path of the policy, or broken by the request in `counter_example`.

    One of an overlay is for its callers only.
    """

    guarantee: Guarantee
    held: bool
    counter_example: Mapping[str, Any] | None = None
    callers: Condition | None = None

    @property
    def where(self) -> str:
        """Where the data stays, what excepts it, and for whom, where it is not for everyone."""
        unless = f" unless {self.guarantee.unless}" if self.guarantee.unless else ""
        whose = f" for {said_condition(self.callers)}" if self.callers is not None else ""
        return f"{self.guarantee.stays.label}{unless}{whose}"

    def as_values(self) -> dict[str, Any]:
        """The shape of `check --json`: `for` only in an overlay's."""
        named = {
            leaf.signal.removeprefix("caller."): sorted(map(str, leaf.values))
            for leaf in (leaves_of(self.callers) if self.callers is not None else ())
            if not isinstance(leaf, Compare)
        }
        return {
            "data": self.guarantee.data.label,
            "stays": self.guarantee.stays.label,
            **({"unless": self.guarantee.unless} if self.guarantee.unless else {}),
            "held": self.held,
            "counter_example": self.counter_example,
            **({"for": named} if named else {}),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found out about one policy file."""

    path: str
    errors: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    dead_rules: tuple[str, ...] = ()
    guarantees: tuple[Kept, ...] = ()
    cases: tuple[CaseResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the policy may go live."""
        return not self.errors

    def with_error(self, error: Problem) -> Report:
        """The same with one more error."""
        return dataclasses.replace(self, errors=(*self.errors, error))

    def as_values(self) -> dict[str, Any]:
        """The shape of `check --json`."""
        failed = sum(bool(result.failures) for result in self.cases)
        return {
            "path": self.path,
            "ok": self.ok,
            "errors": [_problem_values(problem, self.path) for problem in self.errors],
            "notes": [_problem_values(problem, self.path) for problem in self.notes],
            "dead_rules": list(self.dead_rules),
            "guarantees": [kept.as_values() for kept in self.guarantees],
            "cases": {"passed": len(self.cases) - failed, "failed": failed},
        }


def _problem_values(problem: Problem, path: str) -> dict[str, Any]:
    """Line and column are the policy's; a problem of its cases says which file it means."""
    elsewhere = "" if problem.file == path else f"{Path(problem.file).name}: "
    return {
        "line": problem.line,
        "column": problem.column,
        "kind": problem.kind,
        "message": elsewhere + problem.message,
    }


def check_file(path: Path, *, models: Mapping[str, Model] | None, classify: Callable[[Policy], Classify]) -> Report:
    """Everything about a policy file and the cases beside it. Without `models`, against a nominal catalogue."""
    return check_loaded(read_policy(path), path, models=models, classify=classify)


def check_loaded(
    loaded: Loaded, path: Path, *, models: Mapping[str, Model] | None, classify: Callable[[Policy], Classify]
) -> Report:
    """The same of a text that was read already, as if it stood in the file: a draft, say."""
    if loaded.policy is None:
        return Report(str(path), loaded.problems)
    proof = prove(loaded, models)
    errors, notes = list(proof.errors), list(proof.notes)
    beside = cases_path(path)
    results: tuple[CaseResult, ...] = ()
    if not beside.exists():
        notes.append(Problem(str(path), 1, 1, "no_cases", f"there is no {beside.name}: write what this policy must do"))
    elif proof.runnable:
        cases = read_cases(beside, loaded.policy)
        errors += cases.problems
        # Built for the first case that has a text: classifying needs the models, and most checks do not.
        built = functools.cache(functools.partial(classify, proof.policy))
        lazily: Classify = lambda request: built()(request)  # noqa: E731, PLW0108 - `built()` alone would build at once
        results = tuple(run_case(c, policy=proof.policy, models=proof.models, classify=lazily) for c in cases.cases)
        errors += [
            Problem(cases.file, r.case.line, r.case.column, "case", f"{r.case.note}: {'; '.join(r.failures)}")
            for r in results
            if r.failures
        ]
        notes += _uncovered(loaded, results)
    return Report(str(path), tuple(errors), tuple(notes), proof.dead_rules, proof.guarantees, results)


def _uncovered(loaded: Loaded, results: Iterable[CaseResult]) -> list[Problem]:
    if loaded.policy is None:
        return []
    fired = {result.rule for result in results}
    unfired = [rule.name for rule in loaded.policy.rules if rule.name not in fired]
    return [
        Problem(*where, "uncovered", f"no case fires rule {name!r}")
        for name in unfired
        if (where := loaded.place(f"rules.{name}"))[0] == loaded.file  # what is included has cases of its own
    ]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved of a policy under a catalogue. `runnable`: its names all mean something."""

    policy: Policy
    models: Mapping[str, Model]
    errors: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    dead_rules: tuple[str, ...] = ()
    guarantees: tuple[Kept, ...] = ()
    runnable: bool = True


def prove(loaded: Loaded, models: Mapping[str, Model] | None = None) -> Proof:
    """Names, dead rules and guarantees of a policy that was read without problems."""
    policy = loaded.policy
    if policy is None:
        raise ValueError("a policy with problems cannot be proved: mend them first")
    catalogue = models or NOMINAL
    if unknown := unknown_rungs(loaded, catalogue):
        return Proof(policy, catalogue, tuple(unknown), runnable=False)
    proving = _Proving(loaded, policy, catalogue, explicit=bool(models))
    proving.rules()
    proving.guarantees()
    proving.names()
    return Proof(
        policy,
        catalogue,
        _in_order(proving.errors, loaded.file),
        _in_order(proving.notes, loaded.file),
        tuple(proving.dead),
        tuple(proving.kept),
    )


def _in_order(problems: Iterable[Problem], own: str) -> tuple[Problem, ...]:
    """The policy's own file first, each file from its top."""
    return tuple(sorted(problems, key=lambda p: (p.file != own, p.file, p.line, p.column)))


@dataclass(frozen=True, slots=True)
class _Path:
    """A way to some rungs: a rule, its canary or shadow, a default or an alias; what is true of all that takes it."""

    name: str
    said: str
    route: Route
    nodes: tuple[Node, ...]
    where: Place
    requested: str = AUTO
    part: str = "rung"  # or canary, or shadow, or a check that asks: judge, samples

    @property
    def rule(self) -> str:
        return self.name if self.requested == AUTO else PINNED


_Way = tuple[str, Model]  # a rung, and a model that it means
_EXAMPLES_OF_AN_OVERLAY: Final = 3
_TAKES: Final = "every request that it would match"


class _Proving:
    """One policy under one catalogue, while it is being proved."""

    def __init__(self, loaded: Loaded, policy: Policy, models: Mapping[str, Model], *, explicit: bool) -> None:
        self._loaded = loaded
        self._policy = policy
        self._models = models
        self._explicit = explicit
        self._fits = {model.id: _fits(model) for model in models.values()}
        never_held = OneOf("held_by", frozenset(self._never_hold()))
        self._space = Space([*conditions_of(policy), *self._fits.values(), Compare("data", ">=", 0), never_held])
        self._always = [self._space.node(never_held, negated=True)]
        self._met = [self._space.node(rule.fires) for rule in policy.rules]
        self._unmet = [self._space.node(rule.fires, negated=True) for rule in policy.rules]
        # A rule that fires only for what it holds already never begins to hold anything.
        self._afresh = [self._space.node(Not(held_by(r.name)) if r.sticky else AllOf()) for r in policy.rules]
        self.errors: list[Problem] = []
        self.notes: list[Problem] = []
        self.dead: list[str] = []
        self.kept: list[Kept] = []

    def _never_hold(self) -> list[str]:
        """The sticky rules that keep nothing: no large model ever answers there."""
        policy = self._policy
        found = [rule.name for rule in policy.rules if rule.sticky and not self._large_in(_routes_of(rule))]
        defaults = [policy.default, *(rule.route for rule in policy.defaults)]
        return [*found, DEFAULT] if policy.sticky and not self._large_in(defaults) else found

    def _large_in(self, routes: Iterable[Route]) -> bool:
        rungs = (rung for route in routes for rung in route.rungs)
        return any(model.kind == "llm" for rung in rungs for model in rung_models(rung, self._models))

    def rules(self) -> None:
        """Which rules no request can fire, and whether any request reaches the defaults."""
        for number, rule in enumerate(self._policy.rules):
            if self._takes_all(number, range(number)):
                self.dead.append(rule.name)
                self._say_dead(number, rule)
        if self._policy.rules and self._find(self._unmet) is None:
            said = "no request reaches the default: the rules take them all"
            self._note(self._loaded.place("default"), "default_unreached", said)

    def _say_dead(self, number: int, rule: Rule) -> None:
        """A rule that is dead in its own file is wrong; one that was included may be meant to be: it is overridden."""
        where = self._loaded.place(f"rules.{rule.name}")
        beside = [n for n in range(number) if self._file_of(n) == where[0]]
        if where[0] == self._loaded.file or self._takes_all(number, beside):
            message = f"rule {rule.name!r} can never fire: {self._shadows(number)}. Move it up, or remove it"
            self._error(where, "dead_rule", message)
        else:
            self._note(where, "overridden", f"rule {rule.name!r} never fires here: {self._shadows(number)}")

    def _file_of(self, number: int) -> str:
        return self._loaded.place(f"rules.{self._policy.rules[number].name}")[0]

    def _find(self, nodes: Iterable[Node]) -> object | None:
        return self._space.find([*self._always, *nodes])

    def _takes_all(self, number: int, earlier: Iterable[int]) -> bool:
        """Whether every request that a rule would match is one of these earlier rules'."""
        nodes = [self._met[number], self._afresh[number], *(self._unmet[n] for n in earlier)]
        return self._find(nodes) is None

    def _shadows(self, number: int) -> str:
        """The earlier rules that take all requests of a dead one: one if one does, else as few as are needed."""
        if self._takes_all(number, []):
            return "its condition contradicts itself"
        names = [rule.name for rule in self._policy.rules]
        for earlier in range(number):
            if self._takes_all(number, [earlier]):
                return f"{names[earlier]!r} stands before it and takes {_TAKES}"
        needed = self._needed(number)
        together = listed(repr(names[n]) for n in needed)
        return f"{together} together take {_TAKES}"

    def _needed(self, number: int) -> list[int]:
        """Earlier rules that together take all requests of a dead one; few, when few do.

        Rules are left out in ever smaller groups while the others still suffice. When no eighth of them can be missed,
        the answer is not a short one, and looking on would cost more than it tells.
        """
        needed, size = list(range(number)), number
        while size:
            before = len(needed)
            for start in range(0, number, size):
                fewer = [n for n in needed if not start <= n < start + size]
                if len(fewer) < len(needed) and self._takes_all(number, fewer):
                    needed = fewer
            if len(needed) == before == number and size <= number // 8:
                break
            size //= 2
        return needed

    def guarantees(self) -> None:
        """Each guarantee against every path, and every rung of each."""
        policy, place = self._policy, self._loaded.place
        promises = [(Kept(one, True), place(f"guarantees.{n}")) for n, one in enumerate(policy.guarantees)]
        promises += [
            (Kept(one, True, callers=overlay.callers), place(f"tightened.{number}.{n}"))
            for number, overlay in enumerate(policy.tightened)
            for n, one in enumerate(overlay.guarantees)
        ]
        # Asked at once of all promises that a zone would break, since most paths break none.
        forbidden = {
            (zone, masked): Or(
                tuple(And(self._protected(one, masked)) for one, _ in promises if one.guarantee.stays < zone)
            )
            for zone in Zone
            for masked in (False, True)
        }
        ways = [(path, found) for path in self._paths() if (found := self._open_ways(path, forbidden))]
        for promise, where in promises:
            self._prove(promise, ways, where)

    def _open_ways(self, path: _Path, forbidden: Mapping[tuple[Zone, bool], Node]) -> list[_Way]:
        """The rungs of a path that break some promise."""
        ways = [(rung, model) for rung in path.route.rungs for model in rung_models(rung, self._models)]
        return [
            (rung, model)
            for rung, model in ways
            if self._find(
                [self._space.node(self._fits[model.id]), *path.nodes, forbidden[model.zone, path.route.transform != ""]]
            )
            is not None
        ]

    def _protected(self, promise: Kept, masked: bool) -> tuple[Node, ...]:
        """The requests that a promise is about: not the personal ones of a route that pseudonymises, if it says so."""
        excepted = masked and promise.guarantee.unless != ""
        data = self._space.node(Compare("data", ">" if excepted else ">=", promise.guarantee.data))
        return (data,) if promise.callers is None else (data, self._space.node(promise.callers))

    def _prove(self, promise: Kept, ways: Iterable[tuple[_Path, list[_Way]]], where: Place) -> None:
        guarantee = promise.guarantee
        broken = (example for path, found in ways if (example := self._broken(path, found, promise)) is not None)
        # Of an overlay's, a few say enough: a rule that breaks one of them may break all.
        examples = list(broken if promise.callers is None else islice(broken, _EXAMPLES_OF_AN_OVERLAY))
        smallest = min(examples, key=len, default=None)
        self.kept.append(dataclasses.replace(promise, held=smallest is None, counter_example=smallest))
        chat = [model for model in self._models.values() if model.kind != "embedding"]
        if self._explicit and not any(model.zone <= guarantee.stays for model in chat):
            have = listed(f"{model.id} in {model.zone.label}" for model in chat)
            message = (
                f"no model stays inside {guarantee.stays.label}, so {guarantee.data.label} data would never be "
                f"answered: add one to cauce.yaml (models: {have})"
            )
            self._error(where, "guarantee_unmeetable", message)

    def _paths(self) -> Iterable[_Path]:
        """Every way that a text can go: the ladders, and whom the checks of each of their routes ask."""
        for path in self._ladders():
            yield path
            for check in path.route.checks:
                if check.model:
                    yield dataclasses.replace(path, route=Route(path.route.name, (check.model,)), part=check.name)

    def _ladders(self) -> Iterable[_Path]:
        policy, node = self._policy, self._space.node
        for number, rule in enumerate(policy.rules):
            where, said = self._loaded.place(f"rules.{rule.name}"), f"rule {rule.name!r}"
            nodes = (self._met[number], *self._unmet[:number])
            for canary in rule.canaries:
                drawn = (*nodes, node(canary.condition))
                yield _Path(rule.name, said, canary.route, drawn, where, part="canary")
            own = (*nodes, *(node(canary.condition, negated=True) for canary in rule.canaries))
            yield _Path(rule.name, said, rule.route, own, where)
            if rule.shadow is not None:
                copied = (*nodes, node(rule.shadow.condition))
                yield _Path(rule.name, said, Route("", (rule.shadow.rung,)), copied, where, part="shadow")
        left = tuple(self._unmet)
        for number, rule in enumerate(policy.defaults):
            where, said = self._loaded.place(f"defaults.{number}"), f"the default for {said_condition(rule.when)}"
            yield _Path(DEFAULT, said, rule.route, (*left, node(rule.fires)), where)
            left = (*left, node(rule.fires, negated=True))
        yield _Path(DEFAULT, "the default", policy.default, left, self._loaded.place("default"))
        for alias, target in policy.aliases.items():
            route = None if target == AUTO else pinned_route(target, policy, self._models)
            if route is not None:
                where = self._loaded.place(f"aliases.{alias}")
                yield _Path(alias, f"alias {alias!r}", route, (), where, requested=alias)

    def _broken(self, path: _Path, ways: Iterable[_Way], promise: Kept) -> dict[str, Any] | None:
        """The plainest request that this path would send too far; the problem is noted."""
        protected = [*self._always, *self._protected(promise, path.route.transform != "")]
        for rung, model in ways:
            if model.zone <= promise.guarantee.stays:
                continue
            nodes = [*protected, self._space.node(self._fits[model.id]), *path.nodes]
            signals = self._space.plainest(nodes, first=("data", "held_by"))
            if signals is None:
                continue
            example = _example(signals, path, model)
            self._error(path.where, "guarantee", _said_broken(path, promise, rung, model, example))
            return example
        return None

    def names(self) -> None:
        """Kinds without models and names that nothing uses: worth knowing, not wrong."""
        policy, place = self._policy, self._loaded.place
        rungs = [
            (f"routes.{route.name}.{number}", f"route {route.name}", rung)
            for route in policy.routes.values()
            for number, rung in enumerate(route.rungs)
        ]
        rungs += [(f"rules.{r.name}.shadow", f"rule {r.name}: shadow", r.shadow.rung) for r in policy.rules if r.shadow]
        rungs += [
            (f"routes.{route.name}.verify.{number}", f"route {route.name}: {check.name}", check.model)
            for route in policy.routes.values()
            for number, check in enumerate(route.checks)
            if check.model
        ]
        for where, what, rung in rungs:
            if not rung_models(rung, self._models):
                self._note(place(where), "empty_kind", f"{what}: no model of kind {rung} is configured")
        for name in [] if policy.sticky else self._never_hold():
            said = f"rule {name!r}: no large model answers there, so `sticky` keeps nothing"
            self._note(place(f"rules.{name}"), "idle_sticky", said)
        if not (policy.guarantees or policy.tightened):
            said = "there is no guarantee: every class of data may go wherever the rules send it"
            self._note((self._loaded.file, 1, 1), "no_guarantee", said)
        excepted = any(one.unless for one in self._promised())
        for name, route in policy.routes.items():
            if route.transform and not excepted:
                said = f"route {name!r} pseudonymises for nothing: no guarantee says `unless: pseudonymised`"
                self._note(place(f"routes.{name}"), "idle_transform", said)
        if excepted and not any(route.transform for route in policy.routes.values()):
            said = "a guarantee says `unless: pseudonymised`, and no route has `transform: pseudonymise`"
            self._note((self._loaded.file, 1, 1), "idle_exception", said)
        used = {policy.default.name, *policy.aliases.values()}
        used |= {route.name for rule in (*policy.rules, *policy.defaults) for route in _routes_of(rule)}
        for name in policy.routes:
            if name not in used and place(f"routes.{name}")[0] == self._loaded.file:
                self._note(place(f"routes.{name}"), "unused_route", f"nothing uses route {name!r}")
        for name in sorted(set(policy.aliases) & {*policy.routes, *self._models}):
            said = f"{name!r} is an alias and the name of a model or route: a caller who asks for it gets the alias"
            self._note(place(f"aliases.{name}"), "same_name", said)
        for name in sorted(set(policy.routes) & set(self._models)):
            said = f"{name!r} is a route and a model: a caller who asks for it gets the model"
            self._note(place(f"routes.{name}"), "same_name", said)

    def _promised(self) -> Iterable[Guarantee]:
        yield from self._policy.guarantees
        for overlay in self._policy.tightened:
            yield from overlay.guarantees

    def _error(self, where: Place, kind: str, message: str) -> None:
        self.errors.append(Problem(*where, kind, message))

    def _note(self, where: Place, kind: str, message: str) -> None:
        self.notes.append(Problem(*where, kind, message))


def _routes_of(rule: Rule) -> tuple[Route, ...]:
    return (rule.route, *(canary.route for canary in rule.canaries))


def _fits(model: Model) -> Condition:
    """The requests that a model can take at all."""
    parts: list[Condition] = [OneOf("modality", frozenset(model.modalities))]
    if not model.tools:
        parts.append(OneOf("tools", frozenset({False})))
    if model.context_tokens is not None:
        parts.append(Compare("prompt_tokens", "<=", model.context_tokens))
    return AllOf(tuple(parts))


def _example(signals: Signals, path: _Path, model: Model) -> dict[str, Any]:
    asked = {} if path.requested == AUTO else {"requested": path.requested}
    way = {"shadow": path.route.rungs[0]} if path.part == "shadow" else {"route": path.route.name}
    if path.part in {"judge", "samples"}:
        way[path.part] = path.route.rungs[0]
    went = {"rule": path.rule, **way, "model": model.id, "zone": model.zone.label}
    return {**unusual(signals, always=("data",)), **asked, **went}


def _said_broken(path: _Path, kept: Kept, rung: str, model: Model, example: Mapping[str, Any]) -> str:
    guarantee = kept.guarantee
    signals = {name: value for name, value in example.items() if name not in NOT_SIGNALS or name == "requested"}
    named = repr(rung) if rung == model.id else f"{rung!r} ({model.id})"
    where = {
        "rung": f"rung {named} of route {path.route.name!r}",
        "canary": f"rung {named} of its canary {path.route.name!r}",
        "shadow": f"its shadow {named}",
        "judge": f"the judge {named} of route {path.route.name!r}",
        "samples": f"{named}, which `samples` of route {path.route.name!r} asks,",
    }[path.part]
    masks = guarantee.unless and path.part != "shadow" and not path.route.transform
    more = f", or let route {path.route.name!r} pseudonymise (`transform: pseudonymise`)" if masks else ""
    return (
        f"{path.said} breaks the guarantee that {guarantee.data.label} data stays inside {kept.where}: "
        f"{where} is in {model.zone.label}. For example {_said(signals)}. "
        f'Put a rule for `data: ">= {guarantee.data.label}"` before it, or take the {path.part} out{more}'
    )


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
