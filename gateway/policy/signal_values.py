"""Signals as plain values and back: in cases, in counter-examples, in `explain --signals` and `--json`.

A counter-example that `check` prints is read again by the same names, so it can be run as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from ruamel.yaml.nodes import Node, SequenceNode

from gateway.errors import BadRequest
from gateway.policy.problems import near
from gateway.policy.source import Source, choice, entries, fields, flag, items, scalar
from gateway.policy.vocabulary import CALLER_FIELDS, EVERY, Form, Signal
from gateway.types import Caller, Cloud, DataClass, Signals

# What a counter-example says besides its signals.
NOT_SIGNALS: Final = ("rule", "route", "model", "zone", "requested", "shadow", "judge", "samples")


def as_values(signals: Signals) -> dict[str, Any]:
    """Every signal by its name in policies."""
    return {
        "slm_success": signals.slm_success,
        "gain": signals.gain,
        "difficulty": signals.difficulty,
        "stay_score": signals.stay_score,
        "task": signals.task,
        "domain": signals.domain,
        "data": signals.data.label,
        "data_kinds": sorted(signals.data_kinds),
        "language": signals.language,
        "prompt_tokens": signals.prompt_tokens,
        "modality": signals.modality,
        "tools": signals.tools,
        "json": signals.json,
        "caller": _caller_values(signals.caller),
        "budget_left": signals.budget_left,
        "cloud": signals.cloud.value,
        "hour": signals.hour,
        "low_confidence": signals.low_confidence,
        "follow_up": signals.follow_up,
        "draw": signals.draw,
        "held_by": signals.held_by,
    }


def _caller_values(caller: Caller) -> dict[str, Any]:
    return {"key": caller.id, "team": caller.team, "app": caller.app, "tags": list(caller.tags)}


def from_values(values: Mapping[str, Any]) -> Signals:
    """Signals out of plain values, as `as_values` and the ledger say them; what is not there keeps its default.

    Raises `BadRequest` for what no signal can be.
    """
    given = {name: value for name, value in values.items() if name not in NOT_SIGNALS}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in EVERY:
            raise BadRequest(f"there is no signal {name!r}.{near(name, EVERY)}")
        if name != "difficulty":
            found[name] = _plain(EVERY[name], value)
        elif "slm_success" not in given:
            found["slm_success"] = 1.0 - _plain(EVERY[name], value)
    return Signals(**found)


def _plain(signal: Signal, value: Any) -> Any:
    """One value, as the field of `Signals` has it."""
    if signal.form is Form.AMOUNT and value is None:
        return None
    if not _is_value(signal, value):
        raise BadRequest(f"{signal.name}: {value!r} is none of its values")
    if signal.name == "cloud":
        return Cloud(value)
    if signal.form is Form.CLASS:
        return DataClass[value.upper()]
    if signal.form is Form.KINDS:
        return frozenset(value)
    return _plain_caller(value) if signal.form is Form.CALLER else value


def _is_value(signal: Signal, value: object) -> bool:
    match signal.form:
        case Form.FLAG:
            return isinstance(value, bool)
        case Form.KINDS:
            return isinstance(value, list) and all(kind in signal.values for kind in value)
        case Form.CALLER:
            return isinstance(value, dict) and set(value) <= set(CALLER_FIELDS)
        case Form.CLASS | Form.WORD:
            return isinstance(value, str) and (signal.open or value in signal.values)
        case _:
            kind = int if signal.form in {Form.COUNT, Form.HOUR} else int | float
            return isinstance(value, kind) and not isinstance(value, bool) and signal.low <= value <= signal.high


def _plain_caller(value: Mapping[str, Any]) -> Caller:
    texts = {name: value.get(name) or "" for name in ("key", "team", "app")}
    tags = value.get("tags") or []
    if not all(isinstance(text, str) for text in (*texts.values(), *tags)):
        raise BadRequest("caller: key, team, app and each of the tags are texts")
    return Caller(texts["key"] or Caller().id, texts["team"], texts["app"], tuple(tags))


def unusual(signals: Signals, *, always: tuple[str, ...] = ()) -> dict[str, Any]:
    """Only the signals that differ from their defaults: the shortest way to say a request."""
    plain, given = as_values(Signals()), as_values(signals)
    short = {name: value for name, value in given.items() if name in always or value != plain[name]}
    short.pop("difficulty", None)
    if "caller" in short:
        short["caller"] = {name: value for name, value in short["caller"].items() if value != plain["caller"][name]}
    return short


def read_signals(node: Node, source: Source, *, ignore: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of `Signals` that a mapping names; what is not there keeps its default."""
    found: dict[str, Any] = {}
    for name, key_node, value in entries(node, source, what="signals"):
        if name in ignore:
            continue
        if name not in EVERY:
            hint = near(name, EVERY) or f" The signals are {', '.join(EVERY)}."
            source.add(key_node, "unknown_signal", f"there is no signal {name!r}.{hint}")
            continue
        read = _value(EVERY[name], value, source)
        if name == "difficulty":
            if read is not None:
                found["slm_success"] = 1.0 - read
        elif read is not None:
            found[name] = read
    return found


def _value(signal: Signal, node: Node, source: Source) -> Any:
    read = _READERS.get(signal.form)
    return read(signal, node, source) if read else _word(signal, node, source)


def _number(signal: Signal, node: Node, source: Source) -> float | None:
    if signal.form is Form.AMOUNT and getattr(node, "value", None) in {"null", "~", ""}:
        return None
    text = scalar(node, source, what=signal.name)
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.nan
    whole = signal.form in {Form.COUNT, Form.HOUR}
    if math.isnan(value) or (whole and not value.is_integer()):
        if text is not None:
            expected = "a whole number" if whole else "a number"
            source.add(node, "type", f"{signal.name}: expected {expected}, found {text!r}")
        return None
    if not signal.low <= value <= signal.high:
        source.add(node, "range", f"{signal.name}: {text} is outside {signal.low:g} to {signal.high:g}")
        return None
    return int(value) if whole else value


def _class(signal: Signal, node: Node, source: Source) -> DataClass | None:
    label = choice(node, source, what=signal.name, known=signal.values)
    return DataClass[label.upper()] if label else None


def _flag(signal: Signal, node: Node, source: Source) -> bool | None:
    return flag(node, source, what=signal.name)


def _word(signal: Signal, node: Node, source: Source) -> Any:
    if signal.open:
        return scalar(node, source, what=signal.name)
    name = choice(node, source, what=signal.name, known=signal.values)
    return Cloud(name) if name and signal.name == "cloud" else name


def _kinds(signal: Signal, node: Node, source: Source) -> frozenset[str]:
    members = items(node, source, what=signal.name) if isinstance(node, SequenceNode) else [node]
    names = [choice(member, source, what=signal.name, known=signal.values) for member in members]
    return frozenset(name for name in names if name)


def _caller(_signal: Signal, node: Node, source: Source) -> Caller:
    given = fields(node, source, what="caller", known=CALLER_FIELDS)
    texts = {
        name: scalar(value, source, what=f"caller.{name}") or "" for name, value in given.items() if name != "tags"
    }
    tags: tuple[str, ...] = ()
    if "tags" in given:
        members = items(given["tags"], source, what="caller.tags")
        tags = tuple(tag for member in members if (tag := scalar(member, source, what="caller.tags")))
    return Caller(texts.get("key") or Caller().id, texts.get("team", ""), texts.get("app", ""), tags)


_READERS: Final[dict[Form, Callable[[Signal, Node, Source], Any]]] = {
    Form.NUMBER: _number,
    Form.AMOUNT: _number,
    Form.COUNT: _number,
    Form.HOUR: _number,
    Form.CLASS: _class,
    Form.FLAG: _flag,
    Form.KINDS: _kinds,
    Form.CALLER: _caller,
}
