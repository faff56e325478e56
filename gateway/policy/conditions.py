"""`when:` of a rule, from YAML nodes to a condition. Every problem is noted where it stands, with what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from gateway.policy.problems import listed, near
from gateway.policy.rules import OPERATORS, AllOf, AnyOf, Compare, Condition, Holds, Not, OneOf
from gateway.policy.source import Source, entries, flag, items, scalar, shown
from gateway.policy.vocabulary import CALLER_FIELDS, CONVERSATION, OVERLAY_FIELDS, SIGNALS, Form, Signal
from gateway.types import DataClass

_COMPARISON: Final = re.compile(r"(>=|<=|==|!=|>|<|=|)\s*(\S.*)")
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?")
_HOURS: Final = re.compile(r"\s*\[?\s*(\d{1,2})(?::(\d\d))?\s*[-,]\s*(\d{1,2})(?::(\d\d))?\s*\)?\s*")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}")
_CLASSES: Final = {member.label: member for member in DataClass}
_WORDS: Final = ("all", "any", "not")
_HOURS_A_DAY: Final = 24


def read_when(node: Node, source: Source) -> Condition:
    """A mapping of signals, all of which must hold; `any`, `all` and `not` nest."""
    parts: list[Condition] = []
    for key, key_node, value in entries(node, source, what="when"):
        if key == "not":
            parts.append(Not(read_when(value, source)))
        elif key in {"any", "all"}:
            parts.append(_group(key, value, source))
        elif key in SIGNALS:
            parts.append(_read_signal(SIGNALS[key], value, source))
        elif key in CONVERSATION:
            said = "`when` cannot ask for it: write `canary:`, `shadow:` or `sticky:` beside `when`"
            source.add(key_node, "unknown_signal", f"{key!r} follows the conversation, and {said}")
        else:
            known = (*SIGNALS, *_WORDS)
            hint = near(key, known) or f" The signals are {', '.join(SIGNALS)}."
            source.add(key_node, "unknown_signal", f"there is no signal {key!r}.{hint}")
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _group(word: str, node: Node, source: Source) -> Condition:
    members = items(node, source, what=word)
    if isinstance(node, SequenceNode) and not members:
        source.add(node, "value", f"{word}: expected at least one condition, e.g. `{word}: [{{task: faq}}]`")
    parts = tuple(read_when(member, source) for member in members)
    return AllOf(parts) if word == "all" or not parts else AnyOf(parts)


def _read_signal(signal: Signal, node: Node, source: Source) -> Condition:
    if signal.form is Form.CALLER:
        return _caller(node, source)
    if signal.form is Form.FLAG:
        return OneOf(signal.name, frozenset({flag(node, source, what=signal.name) is True}))
    read = _READERS[signal.form]
    if not isinstance(node, SequenceNode):
        return read(signal, node, source)
    members = items(node, source, what=signal.name)
    if not members:
        source.add(node, "value", f"{signal.name}: an empty list matches nothing: name at least one value")
    return _any_of([read(signal, member, source) for member in members])


def _any_of(parts: list[Condition]) -> Condition:
    """One of several; plain names become one set."""
    if parts and all(isinstance(part, OneOf) for part in parts):
        return OneOf(parts[0].signal, frozenset().union(*(p.values for p in parts if isinstance(p, OneOf))))  # type: ignore[union-attr]
    if parts and all(isinstance(part, Holds) for part in parts):
        return Holds(parts[0].signal, frozenset().union(*(p.values for p in parts if isinstance(p, Holds))))  # type: ignore[union-attr]
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts)) if parts else AllOf()


def _ordered(
    signal: Signal, node: Node, source: Source, value_of: Callable[[str], float | None], expected: str
) -> Condition:
    """One or more comparisons with commas between them: `>= 0.2, < 0.6`."""
    text = scalar(node, source, what=signal.name)
    if text is None:
        return AllOf()
    parts: list[Condition] = []
    for piece in text.split(","):
        match = _COMPARISON.fullmatch(piece.strip())
        value = value_of(match[2]) if match else None
        if match is None or value is None:
            hint = near(match[2], signal.values) if match else ""
            source.add(node, "type", f"{signal.name}: expected {expected}, found {text!r}.{hint}")
            return AllOf()
        op = {"": "==", "=": "=="}.get(match[1], match[1])
        if not _possible(signal, op, value):
            source.add(node, "range", _impossible(signal, text, op, value))
            return AllOf()
        parts.append(Compare(signal.name, op, value))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _number(signal: Signal, node: Node, source: Source) -> Condition:
    expected = "a comparison with a number, e.g. `>= 0.35`"
    return _ordered(signal, node, source, _as_number, expected)


def _count(signal: Signal, node: Node, source: Source) -> Condition:
    expected = "a comparison with a whole number, e.g. `> 8000`"
    return _ordered(signal, node, source, _as_whole, expected)


def _class(signal: Signal, node: Node, source: Source) -> Condition:
    expected = f"a comparison with one of {', '.join(_CLASSES)}, e.g. `>= personal`"
    return _ordered(signal, node, source, _CLASSES.get, expected)


def _as_number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def _as_whole(text: str) -> float | None:
    value = _as_number(text)
    return int(value) if value is not None and value == int(value) else None


def _possible(signal: Signal, op: str, value: float) -> bool:
    """Whether any value of the signal can meet the comparison."""
    if signal.form is Form.CLASS:
        return any(OPERATORS[op](member, value) for member in DataClass)
    too_high = value > signal.high or (op == ">" and value == signal.high)
    too_low = value < signal.low or (op == "<" and value == signal.low)
    return not (too_high and op in {">=", ">", "=="}) and not (too_low and op in {"<=", "<", "=="})


def _impossible(signal: Signal, text: str, op: str, value: float) -> str:
    if signal.form is Form.CLASS:
        return f"{signal.name}: nothing can be {text!r}: the classes are {' < '.join(_CLASSES)}"
    low, high = (f"{bound:g}" if math.isfinite(bound) else "any number" for bound in (signal.low, signal.high))
    hint = f" Did you mean '{op} {value / 100:g}'?" if signal.high == 1 < value <= 100 else ""
    return f"{signal.name}: nothing can be {text!r}: it goes from {low} to {high}.{hint}"


def _word(signal: Signal, node: Node, source: Source) -> Condition:
    text = scalar(node, source, what=signal.name)
    if text is None:
        return AllOf()
    differs = text.startswith("!=")
    name = text.removeprefix("!=").removeprefix("==").strip()
    if signal.name == "language":
        name = name.lower()
    if not _known_word(signal, name, node, source):
        return AllOf()
    chosen = OneOf(signal.name, frozenset({name}))
    return Not(chosen) if differs else chosen


def _known_word(signal: Signal, name: str, node: Node, source: Source) -> bool:
    if name[:1] in "<>!=":
        source.add(
            node,
            "type",
            f"{signal.name}: expected a name, found {name!r}: names have no order; use a list, or `!= name`",
        )
        return False
    if name in signal.values:
        return True
    if signal.name == "language":
        if _LANGUAGE.fullmatch(name):
            return True
        source.add(node, "value", f"language: expected a code of two or three letters (es, en, und), found {name!r}")
        return False
    hint = near(name, signal.values)
    # A router that an operator trained may know other tasks and domains: only what looks like a slip is refused.
    if signal.open and not hint and re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return True
    source.add(node, "value", f"{signal.name}: {name!r} is not one of {listed(signal.values)}.{hint}")
    return False


def _kind(signal: Signal, node: Node, source: Source) -> Condition:
    text = scalar(node, source, what=signal.name)
    if text is None:
        return AllOf()
    differs = text.startswith("!=")
    name = text.removeprefix("!=").strip()
    if name not in signal.values:
        source.add(
            node, "value", f"{signal.name}: {name!r} is not one of {listed(signal.values)}.{near(name, signal.values)}"
        )
        return AllOf()
    chosen = Holds(signal.name, frozenset({name}))
    return Not(chosen) if differs else chosen


def _hour(signal: Signal, node: Node, source: Source) -> Condition:
    text = scalar(node, source, what=signal.name)
    if text is None:
        return AllOf()
    expected = 'whole hours: `"09:00-18:00"`, `>= 18` or `[8, 9]`'
    window = _HOURS.fullmatch(text)
    if window is None:
        return _ordered(signal, node, source, _as_whole, expected)
    start, end = int(window[1]), int(window[3])
    if any(minutes not in {None, "00"} for minutes in (window[2], window[4])):
        source.add(node, "value", f"hour: {text!r} has minutes, and the signal is the whole hour: expected {expected}")
        return AllOf()
    if start >= _HOURS_A_DAY or end > _HOURS_A_DAY or start == end:
        source.add(node, "range", f"hour: {text!r} is no part of a day: from 00:00 to 24:00, the end is not included")
        return AllOf()
    hours = range(start, end) if start < end else (*range(start, _HOURS_A_DAY), *range(end))
    return OneOf("hour", frozenset(hours))


def read_callers(node: Node, source: Source, *, what: str) -> Condition:
    """The callers of an overlay: by key, team or app, never by what a request says of itself."""
    return _callers(node, source, what=what, known=OVERLAY_FIELDS)


def _caller(node: Node, source: Source) -> Condition:
    return _callers(node, source, what="caller", known=CALLER_FIELDS)


def _callers(node: Node, source: Source, *, what: str, known: tuple[str, ...]) -> Condition:
    if not isinstance(node, MappingNode):
        source.add(node, "type", f"{what}: expected fields, e.g. `{{team: billing}}`, found {shown(node)}")
        return AllOf()
    parts: list[Condition] = []
    for key, key_node, value in entries(node, source, what=what):
        if key not in known:
            hint = near(key, known) or f" It has {', '.join(known)}."
            source.add(key_node, "unknown_key", f"{what}: there is no {key!r}.{hint}")
            continue
        members = items(value, source, what=key) if isinstance(value, SequenceNode) else [value]
        if not members:
            source.add(value, "value", f"{what}.{key}: an empty list matches nobody: name at least one")
        names = [name for member in members if (name := scalar(member, source, what=f"{what}.{key}")) is not None]
        if names:
            make = Holds if key == "tags" else OneOf
            parts.append(make(f"caller.{key}", frozenset(names)))
    if not node.value:
        source.add(node, "value", f"{what}: expected at least one of {', '.join(known)}")
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


_READERS: Final[dict[Form, Callable[[Signal, Node, Source], Condition]]] = {
    Form.NUMBER: _number,
    Form.AMOUNT: _number,
    Form.COUNT: _count,
    Form.CLASS: _class,
    Form.WORD: _word,
    Form.KINDS: _kind,
    Form.HOUR: _hour,
}
