"""`NAME.cases.yaml`: what a policy must do, by example. Each case is a request and what is expected of its decision.

```yaml
- note: a hard question with a DNI in it never leaves the house
  text: "Demuestra el teorema y fírmalo: Ana Ruiz Gil, 12345678Z"
  expect: {rule: personal-stays, zone: premises}
```
A request is a `text`, `messages`, or bare `signals`; signals beside a text stand over what was found in it, and
`model` is what the caller asks for. `zone` is the zone of the first model of the ladder, or the ceiling where none
may answer. A case is in no canary and no shadow unless its signals say `draw`, and no conversation but by `held_by`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.errors import CauceError
from gateway.policy.decide import decide
from gateway.policy.problems import Problem, listed, near
from gateway.policy.rules import AUTO, DEFAULT, PINNED, Policy
from gateway.policy.signal_values import read_signals
from gateway.policy.source import Source, choice, compose, fields, items, place, read_text, scalar, shown
from gateway.policy.trace import decision_values, why_not
from gateway.policy.vocabulary import TRANSFORMS
from gateway.types import DataClass, Decision, Model, Signals, Zone

Message = dict[str, Any]
Classify = Callable[[str | list[Message]], Signals]

_SIGNALS_EXPECTED: Final = ("data", "task", "domain", "language", "modality")
_DECISION_EXPECTED: Final = ("rule", "route", "zone", "model", "ceiling", "canary", "shadow", "sticky", "transform")
EXPECTED: Final = (*_DECISION_EXPECTED, *_SIGNALS_EXPECTED)
_NONE: Final = "None"  # no canary, no shadow, no transform, no model
_KEYS: Final = ("note", "text", "messages", "signals", "model", "expect")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing expected: `rule` is one of `names`, or with `negated`, none of them."""

    what: str
    names: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what must come of it."""

    note: str
    expect: tuple[Expectation, ...]
    line: int
    column: int
    request: str | list[Message] | None = None  # nothing: signals only
    signals: Mapping[str, Any] = field(default_factory=dict)
    model: str = AUTO


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case went; `failures` is empty when it passed. `rule` is the one that fired."""

    case: Case
    rule: str = ""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cases:
    """A cases file: its cases, or its problems."""

    file: str
    cases: tuple[Case, ...] = ()
    problems: tuple[Problem, ...] = ()


def cases_path(policy: Path) -> Path:
    """Where a policy's cases lie: `NAME.cases.yaml` beside it."""
    return policy.with_name(f"{policy.stem}.cases.yaml")


def read_cases(path: Path, policy: Policy) -> Cases:
    """The cases in a file, held against the names of their policy."""
    source = Source(str(path))
    text = read_text(path, source)
    if text is None:
        return Cases(source.file, (), tuple(source.problems))
    return parse_cases(text, policy, file=source.file)


def parse_cases(text: str, policy: Policy, *, file: str = "policy.cases.yaml") -> Cases:
    """The cases in a text, held against the names of their policy."""
    source = Source(file)
    root = compose(text, source)
    if root is None:
        return Cases(file, (), tuple(source.problems))
    cases = [_case(node, number, policy, source) for number, node in enumerate(items(root, source, what="cases"), 1)]
    return Cases(file, tuple(case for case in cases if case is not None), tuple(source.problems))


def _case(node: Node, number: int, policy: Policy, source: Source) -> Case | None:
    what = f"case {number}"
    before = len(source.problems)
    given = fields(node, source, what=what, known=_KEYS)
    if not isinstance(node, MappingNode):
        return None
    note = scalar(given["note"], source, what=f"{what}: note") or what if "note" in given else what
    if "text" in given and "messages" in given:
        source.add(given["messages"], "value", f"{what}: `text` and `messages` cannot go together")
    if not given.keys() & {"text", "messages", "signals"}:
        source.add(node, "missing", f"{what}: a `text`, `messages` or `signals` is missing: what is the request?")
    if "expect" not in given:
        source.add(node, "missing", f"{what}: `expect:` is missing, e.g. `expect: {{rule: {DEFAULT}}}`")
    expect = _expectations(given["expect"], what, policy, source) if "expect" in given else ()
    signals = read_signals(given["signals"], source) if "signals" in given else {}
    request: str | list[Message] | None = None
    if "text" in given:
        request = scalar(given["text"], source, what=f"{what}: text")
    elif "messages" in given:
        request = _messages(given["messages"], what, source)
    model = scalar(given["model"], source, what=f"{what}: model") if "model" in given else AUTO
    if len(source.problems) > before:
        return None
    return Case(note, expect, *place(node), request, signals, model or AUTO)


def _messages(node: Node, what: str, source: Source) -> list[Message]:
    messages = []
    for member in items(node, source, what=f"{what}: messages"):
        value = _plain(member)
        if not isinstance(value, dict) or "role" not in value:
            source.add(member, "type", f"{what}: a message is `{{role: user, content: ...}}`, found {shown(member)}")
            continue
        messages.append(value)
    return messages


def _plain(node: Node) -> Any:
    """Plain values, as JSON would have them."""
    if isinstance(node, MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_plain(member) for member in node.value]
    text = str(node.value)
    if isinstance(node, ScalarNode) and node.style is None and text in {"true", "false", "null", "~", ""}:
        return {"true": True, "false": False}.get(text)
    return text


def _expectations(node: Node, what: str, policy: Policy, source: Source) -> tuple[Expectation, ...]:
    known = (*EXPECTED, *(f"not_{name}" for name in EXPECTED))
    found = []
    given = fields(node, source, what=f"{what}: expect", known=known)
    if isinstance(node, MappingNode) and not node.value:
        source.add(node, "value", f"{what}: expect is empty: a case that expects nothing proves nothing")
    for key, value in given.items():
        name = key.removeprefix("not_")
        members = value.value if isinstance(value, SequenceNode) else [value]
        names = [text for member in members if (text := _expected_name(name, member, f"{what}: {key}", policy, source))]
        if names:
            found.append(Expectation(name, tuple(names), key != name))
    return tuple(found)


def _expected_name(name: str, node: Node, what: str, policy: Policy, source: Source) -> str | None:
    if name == "data":
        return choice(node, source, what=what, known=tuple(member.label for member in DataClass))
    if name in {"zone", "ceiling"}:
        return choice(node, source, what=what, known=tuple(member.label for member in Zone))
    if name == "sticky":
        return choice(node, source, what=what, known=("true", "false"))
    text = scalar(node, source, what=what)
    if name in {"canary", "shadow", "model", "transform"} and text == _NONE.lower():
        text = _NONE
    known = {
        "rule": (*(rule.name for rule in policy.rules), DEFAULT, PINNED),
        "route": (*policy.routes, PINNED),
        "canary": (*dict.fromkeys(c.route.name for rule in policy.rules for c in rule.canaries), _NONE),
        "transform": (*TRANSFORMS, _NONE),
    }.get(name)
    if text is not None and known is not None and text not in known:
        hint = near(text, known) or f" There are {listed(known)}."
        source.add(node, f"unknown_{name}", f"{what}: there is no {name} {text!r}.{hint}")
        return None
    return text


def run_case(case: Case, *, policy: Policy, models: Mapping[str, Model], classify: Classify) -> CaseResult:
    """Decide a case's request and hold the decision against what is expected."""
    try:
        signals = classify(case.request) if case.request is not None else Signals()
        signals = dataclasses.replace(signals, **{"draw": Signals().draw, **case.signals})
        decision = decide(signals, policy=policy, models=models, requested=case.model)
    except CauceError as error:
        return CaseResult(case, failures=(error.message,))
    given = decision_values(decision, models)
    given |= {name: getattr(signals, name) for name in _SIGNALS_EXPECTED} | {"data": signals.data.label}
    given["sticky"] = str(decision.sticky).lower()
    failures = tuple(
        _failure(item, str(given[item.what]), signals, policy, decision)
        for item in case.expect
        if (str(given[item.what]) in item.names) is item.negated
    )
    return CaseResult(case, decision.rule, failures)


def _failure(item: Expectation, got: str, signals: Signals, policy: Policy, decision: Decision) -> str:
    wanted = " or ".join(item.names)
    said = f"{item.what} is {got}, expected {'anything but ' if item.negated else ''}{wanted}"
    if item.what == "rule" and not item.negated:
        order = [rule.name for rule in policy.rules]
        for rule in policy.rules:
            if rule.name in item.names:
                why = why_not(rule.when, signals)
                if why:
                    return f"{said}: {rule.name} does not match, {why}"
                if decision.rule in order and order.index(decision.rule) < order.index(rule.name):
                    return f"{said}: {decision.rule} stands before it and matches too"
    if decision.skipped and item.what in {"model", "zone"}:
        return f"{said} (left out: {'; '.join(f'{skip.model}: {skip.reason}' for skip in decision.skipped)})"
    return said if item.what in {"rule", "route"} else f"{said} (rule {decision.rule})"
