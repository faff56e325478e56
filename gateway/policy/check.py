"""check: what can be known of a policy before any request: proofs, not samples.

For every rule: whether some request fires it, and which earlier rules take all of its requests when none does. For
every guarantee: whether some request would reach a rung (or a rung behind it, or an alias) in a zone that it forbids;
if so, the plainest such request. The gate would refuse those calls whatever the policy says: a policy that passes
never meets it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.policy.cases import CaseResult, Classify, cases_path, read_cases, run_case
from gateway.policy.cells import Node, Space
from gateway.policy.decide import pinned_route, rung_models
from gateway.policy.load import Loaded, Place, read_policy, unknown_rungs
from gateway.policy.problems import Problem, listed
from gateway.policy.rules import AUTO, DEFAULT, PINNED, AllOf, Compare, Condition, OneOf, Policy
from gateway.policy.signal_values import unusual
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
    """One guarantee: held by every path of the policy, or broken by the request in `counter_example`."""

    guarantee: Guarantee
    held: bool
    counter_example: Mapping[str, Any] | None = None


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
            "guarantees": [
                {
                    "data": kept.guarantee.data.label,
                    "stays": kept.guarantee.stays.label,
                    "held": kept.held,
                    "counter_example": kept.counter_example,
                }
                for kept in self.guarantees
            ],
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
    loaded = read_policy(path)
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
    return [
        Problem(loaded.file, *loaded.places[f"rules.{rule.name}"], "uncovered", f"no case fires rule {rule.name!r}")
        for rule in loaded.policy.rules
        if rule.name not in fired
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
        tuple(sorted(proving.errors, key=lambda problem: (problem.line, problem.column))),
        tuple(sorted(proving.notes, key=lambda problem: (problem.line, problem.column))),
        tuple(proving.dead),
        tuple(proving.kept),
    )


@dataclass(frozen=True, slots=True)
class _Path:
    """A way to a route: a rule, the default or an alias, with what is true of every request that takes it."""

    name: str
    route: Route
    nodes: tuple[Node, ...]
    where: Place
    requested: str = AUTO

    @property
    def rule(self) -> str:
        return self.name if self.requested == AUTO else PINNED

    @property
    def said(self) -> str:
        if self.requested != AUTO:
            return f"alias {self.requested!r}"
        return "the default" if self.name == DEFAULT else f"rule {self.name!r}"


_TAKEN: Final = "every request that it would match. Move it up, or remove it"


class _Proving:
    """One policy under one catalogue, while it is being proved."""

    def __init__(self, loaded: Loaded, policy: Policy, models: Mapping[str, Model], *, explicit: bool) -> None:
        self._file = loaded.file
        self._places = loaded.places
        self._policy = policy
        self._models = models
        self._explicit = explicit
        self._fits = {model.id: _fits(model) for model in models.values()}
        self._space = Space([*(r.when for r in policy.rules), *self._fits.values(), Compare("data", ">=", 0)])
        self._met = [self._space.node(rule.when) for rule in policy.rules]
        self._unmet = [self._space.node(rule.when, negated=True) for rule in policy.rules]
        self.errors: list[Problem] = []
        self.notes: list[Problem] = []
        self.dead: list[str] = []
        self.kept: list[Kept] = []

    def rules(self) -> None:
        """Which rules no request can fire, and whether any request reaches the default."""
        for number, rule in enumerate(self._policy.rules):
            if self._takes_all(number, range(number)):
                self.dead.append(rule.name)
                message = f"rule {rule.name!r} can never fire: {self._shadows(number)}"
                self._error(self._place(f"rules.{rule.name}"), "dead_rule", message)
        if self._policy.rules and self._space.find(self._unmet) is None:
            self._note(
                self._place("default"), "default_unreached", "no request reaches the default: the rules take them all"
            )

    def _takes_all(self, number: int, earlier: Iterable[int]) -> bool:
        """Whether every request that a rule would match is one of these earlier rules'."""
        return self._space.find([self._met[number], *(self._unmet[n] for n in earlier)]) is None

    def _shadows(self, number: int) -> str:
        """The earlier rules that take all requests of a dead one: one if one does, else as few as are needed."""
        if self._takes_all(number, []):
            return "its condition contradicts itself"
        names = [rule.name for rule in self._policy.rules]
        for earlier in range(number):
            if self._takes_all(number, [earlier]):
                return f"{names[earlier]!r} stands before it and takes {_TAKEN}"
        needed = self._needed(number)
        together = listed(repr(names[n]) for n in needed)
        return f"{together} together take {_TAKEN}"

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
        paths = list(self._paths())
        for number, guarantee in enumerate(self._policy.guarantees):
            where = self._place(f"guarantees.{number}")
            broken = [example for path in paths if (example := self._broken(path, guarantee)) is not None]
            smallest = min(broken, key=len, default=None)
            self.kept.append(Kept(guarantee, smallest is None, smallest))
            chat = [model for model in self._models.values() if model.kind != "embedding"]
            if self._explicit and not any(model.zone <= guarantee.stays for model in chat):
                have = listed(f"{model.id} in {model.zone.label}" for model in chat)
                message = (
                    f"no model stays inside {guarantee.stays.label}, so {guarantee.data.label} data would never be "
                    f"answered: add one to cauce.yaml (models: {have})"
                )
                self._error(where, "guarantee_unmeetable", message)

    def _paths(self) -> Iterable[_Path]:
        for number, rule in enumerate(self._policy.rules):
            nodes = (self._met[number], *self._unmet[:number])
            yield _Path(rule.name, rule.route, nodes, self._place(f"rules.{rule.name}"))
        yield _Path(DEFAULT, self._policy.default, tuple(self._unmet), self._place("default"))
        for alias, target in self._policy.aliases.items():
            route = None if target == AUTO else pinned_route(target, self._policy, self._models)
            if route is not None:
                yield _Path(alias, route, (), self._place(f"aliases.{alias}"), requested=alias)

    def _broken(self, path: _Path, guarantee: Guarantee) -> dict[str, Any] | None:
        """The plainest request that this path would send too far; the problem is noted."""
        protected = self._space.node(Compare("data", ">=", guarantee.data))
        for rung in path.route.rungs:
            for model in rung_models(rung, self._models):
                if model.zone <= guarantee.stays:
                    continue
                nodes = [protected, self._space.node(self._fits[model.id]), *path.nodes]
                signals = self._space.plainest(nodes, first=("data",))
                if signals is None:
                    continue
                example = _example(signals, path, model)
                self._error(path.where, "guarantee", self._said_broken(path, guarantee, rung, model, example))
                return example
        return None

    def _said_broken(
        self, path: _Path, guarantee: Guarantee, rung: str, model: Model, example: Mapping[str, Any]
    ) -> str:
        signals = {name: value for name, value in example.items() if name not in {"rule", "route", "model", "zone"}}
        named = f"rung {rung!r}" if rung == model.id else f"rung {rung!r} ({model.id})"
        return (
            f"{path.said} breaks the guarantee that {guarantee.data.label} data stays inside {guarantee.stays.label}: "
            f"{named} of route {path.route.name!r} is in {model.zone.label}. For example {_said(signals)}. "
            f'Put a rule for `data: ">= {guarantee.data.label}"` before it, or take the rung out'
        )

    def names(self) -> None:
        """Kinds without models and routes that nothing uses: worth knowing, not wrong."""
        policy = self._policy
        for route in policy.routes.values():
            for number, rung in enumerate(route.rungs):
                if not rung_models(rung, self._models):
                    where = self._place(f"routes.{route.name}.{number}")
                    self._note(where, "empty_kind", f"route {route.name}: no model of kind {rung} is configured")
        used = {rule.route.name for rule in policy.rules} | {policy.default.name, *policy.aliases.values()}
        if not policy.guarantees:
            said = "there is no guarantee: every class of data may go wherever the rules send it"
            self._note((1, 1), "no_guarantee", said)
        for name in policy.routes:
            if name not in used:
                self._note(self._place(f"routes.{name}"), "unused_route", f"nothing uses route {name!r}")
        for name in sorted(set(policy.aliases) & {*policy.routes, *self._models}):
            said = f"{name!r} is an alias and the name of a model or route: a caller who asks for it gets the alias"
            self._note(self._place(f"aliases.{name}"), "same_name", said)
        for name in sorted(set(policy.routes) & set(self._models)):
            self._note(
                self._place(f"routes.{name}"),
                "same_name",
                f"{name!r} is a route and a model: a caller who asks for it gets the model",
            )

    def _place(self, name: str) -> Place:
        return self._places.get(name, (1, 1))

    def _error(self, where: Place, kind: str, message: str) -> None:
        self.errors.append(Problem(self._file, *where, kind, message))

    def _note(self, where: Place, kind: str, message: str) -> None:
        self.notes.append(Problem(self._file, *where, kind, message))


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
    went = {"rule": path.rule, "route": path.route.name, "model": model.id, "zone": model.zone.label}
    return {**unusual(signals, always=("data",)), **asked, **went}


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
