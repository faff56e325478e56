"""The JSON Schema of policy files, out of the same vocabulary that the loader reads.

An editor completes and checks with it; `cauce check` knows more. Written by `python -m gateway.policy.schema` into
`policies/schema.json`; a test fails when that file is not what this module makes.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import orjson

from gateway.policy.verifiers import CHECKS, MOST_SAMPLES, CheckKind, Takes
from gateway.policy.vocabulary import (
    CALLER_FIELDS,
    EXCEPTIONS,
    OPERATING_POINTS,
    OVERLAY_FIELDS,
    SIGNALS,
    TRANSFORMS,
    Form,
    Signal,
)
from gateway.types import DataClass, Mode, Zone

_CLASSES: Final = [member.label for member in DataClass]
_ZONES: Final = [member.label for member in Zone]
_NUMBER: Final = r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?"
_OP: Final = r"\s*(>=|<=|==|!=|>|<|=)?\s*"
_NAME: Final = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def schema() -> dict[str, Any]:
    """The schema of `policies/NAME.yaml`."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Cauce policy",
        "description": "From signals to a route. The first rule that matches wins.",
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {"^x-": {"description": "Yours: a place for anchors. Not read."}},
        "required": ["version"],
        "anyOf": [{"required": ["routes", "default"]}, {"required": ["include"]}],
        "properties": {
            "version": {"const": 1, "description": "The version of this language."},
            "description": {"type": "string", "description": "What this policy is for, in a line."},
            "include": {
                "type": "string",
                "description": "A base policy in this folder or below: its rules come after these.",
            },
            "guarantees": _list(_guarantee(), "Promises that the gate enforces and `cauce check` proves."),
            "routes": {
                "type": "object",
                "description": "Named ladders of models, with the checks that an answer must pass.",
                "minProperties": 1,
                "propertyNames": {"pattern": _NAME},
                "additionalProperties": _route(),
            },
            "overlays": _list(_overlay(), "What is otherwise for some callers; their rules are tried first."),
            "rules": _list(_rule(), "Tried in order; the first that matches names the route."),
            "default": {"type": "string", "description": "The route of what no rule matches."},
            "aliases": {
                "type": "object",
                "description": "Model names that applications send: to auto, a route or a model.",
                "additionalProperties": {"type": "string"},
            },
            "privacy": _privacy(),
            "sticky": _sticky("What rules that do not say otherwise do."),
            "time_zone": {"type": "string", "description": "Of the signal `hour`, e.g. Europe/Madrid."},
        },
        "definitions": {"when": _when()},
    }


def _object(properties: dict[str, Any], required: list[str], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


def _list(item: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "description": description, "items": item}


def _guarantee() -> dict[str, Any]:
    return _object(
        {
            "data": {"enum": _CLASSES, "description": "This class and every class above it ..."},
            "stays": {"enum": _ZONES, "description": "... never goes farther than this zone."},
            "unless": {
                "enum": list(EXCEPTIONS),
                "description": "With data: personal. A personal text may go farther once placeholders stand for it.",
            },
        },
        ["data", "stays"],
        "This class and above stays inside this zone.",
    )


def _route() -> dict[str, Any]:
    rung = {
        "type": "string",
        "description": "A model's name, or a kind: slm, llm; llm@eu: those in that zone or nearer.",
    }
    budget = {
        "tokens": {"type": "integer", "minimum": 1, "description": "Of prompts and answers together."},
        "ms": {"type": "integer", "minimum": 1, "description": "Milliseconds."},
    }
    return _object(
        {
            "try": {"anyOf": [rung, {"type": "array", "minItems": 1, "uniqueItems": True, "items": rung}]},
            "verify": _list(_check(), "Checks of an answer; one that fails moves to the next rung."),
            "verify_budget": _object(
                budget, [], "What judge and samples of one request may use; beyond it the answer is accepted."
            ),
            "draft": {
                "type": "boolean",
                "description": "Whether the next rung is shown the answer that was turned down; default false.",
            },
            "mode": {"enum": [mode.value for mode in Mode], "description": "How a stream is sent."},
            "cache": {"type": "boolean", "description": "Whether answers may be kept; default true."},
            "transform": {
                "enum": list(TRANSFORMS),
                "description": "Personal data that may not leave goes as placeholders; the answer gets it back.",
            },
        },
        ["try"],
        "A ladder: the models to try in order.",
    )


def _check() -> dict[str, Any]:
    """A name, or a name with what it takes."""
    plain = [name for name, kind in CHECKS.items() if kind.takes in {Takes.NOTHING, Takes.USUAL}]
    measured = {name: _takes(kind) for name, kind in CHECKS.items() if kind.takes is not Takes.NOTHING}
    return {"anyOf": [{"enum": plain}, {"type": "object", "additionalProperties": False, "properties": measured}]}


def _takes(kind: CheckKind) -> dict[str, Any]:
    number = {"type": "number", "minimum": 0, "maximum": 1}
    model = {"type": "string", "description": "A model's name, or a kind: slm, llm, llm@eu."}
    described = {"description": f"Turns down {kind.help}."}
    if kind.takes is Takes.JUDGE:
        return described | {"anyOf": [model, _object({"model": model, "at_least": number}, ["model"], "Who judges.")]}
    if kind.takes is Takes.SAMPLES:
        times = {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES}
        more = {"times": times, "agree": number, "model": model}
        return described | {"anyOf": [times, _object(more, ["times"], "How many, and who gives them.")]}
    return described | number


def _rule() -> dict[str, Any]:
    return _object(
        {
            "name": {"type": "string", "pattern": _NAME, "not": {"enum": ["default", "pinned"]}},
            "when": {"$ref": "#/definitions/when"},
            "use": {"type": "string", "description": "The route."},
            "canary": {
                "type": "object",
                "description": "Other routes, each with the share of the conversations that it takes: {cloud: 5%}.",
                "minProperties": 1,
                "additionalProperties": _share(),
            },
            "shadow": _shadow(),
            "sticky": _sticky("Whether a conversation that a large model has answered here stays here."),
        },
        ["name", "when", "use"],
        "When all of this holds, use that route.",
    )


def _share() -> dict[str, Any]:
    return {
        "type": "string",
        "pattern": r"^\d{1,3}(\.\d{1,2})?\s*%$",
        "description": "A share of the conversations: 5%, 0.25%.",
        "examples": ["5%"],
    }


def _shadow() -> dict[str, Any]:
    to = {"type": "string", "description": "A model's name, or a kind: slm, llm, llm@eu."}
    sampled = _object({"to": to, "share": _share()}, ["to"], "Where, and how many.")
    description = "A copy for another model after the reply, judged and thrown away."
    return {"description": description, "anyOf": [to, sampled]}


def _sticky(description: str) -> dict[str, Any]:
    until = {"$ref": "#/definitions/when"} | {"description": "Lets a conversation go that this holds."}
    released = _object({"until": until}, ["until"], "Kept until a turn of which this holds.")
    return {"anyOf": [{"enum": ["conversation", "none"]}, released], "description": description}


def _overlay() -> dict[str, Any]:
    field = _one_or_more({"type": ["string", "number"]}, "One, or any of a list.")
    callers = _object(dict.fromkeys(OVERLAY_FIELDS, field), [], "Whose requests.") | {"minProperties": 1}
    said = {
        "for": callers,
        "rules": _list(_rule(), "Tried before the policy's own, for these callers."),
        "default": {"type": "string", "description": "Their route when no rule matches."},
        "guarantees": _list(_guarantee(), "Promises to these callers beyond the policy's own, never looser."),
    }
    return _object(said, ["for"], "What is otherwise for some callers.") | {"minProperties": 2}


def _privacy() -> dict[str, Any]:
    point = {"enum": list(OPERATING_POINTS), "description": "How eagerly the scan finds."}
    limits = _object(
        {
            "unreadable": {"enum": _CLASSES, "description": "The class of what no detector can read: images, blobs."},
            "failure": {"enum": _CLASSES, "description": "The class of a text whose scan failed."},
            "operating_point": point,
        },
        [],
        "What the privacy scan does at its limits.",
    )
    return {"description": "How eagerly the scan finds, and what it does at its limits.", "anyOf": [point, limits]}


def _when() -> dict[str, Any]:
    this = {"$ref": "#/definitions/when"}
    properties: dict[str, Any] = {name: _signal(signal) for name, signal in SIGNALS.items()}
    properties["all"] = _list(this, "Every one of these.") | {"minItems": 1}
    properties["any"] = _list(this, "At least one of these.") | {"minItems": 1}
    properties["not"] = this | {"description": "This does not hold."}
    return _object(properties, [], "Signals, all of which must hold.")


def _signal(signal: Signal) -> dict[str, Any]:
    if signal.form is Form.FLAG:
        return {"type": "boolean", "description": signal.help}
    if signal.form is Form.CALLER:
        field = _one_or_more({"type": ["string", "number"]}, "One, or any of a list.")
        described = _object(dict.fromkeys(CALLER_FIELDS, field), [], signal.help)
        return described | {"minProperties": 1}
    return _one_or_more({"anyOf": _values(signal)}, signal.help)


def _values(signal: Signal) -> list[dict[str, Any]]:
    if signal.form is Form.CLASS:
        names = "|".join(_CLASSES)
        suggested = [*_CLASSES, *(f">= {name}" for name in _CLASSES[1:]), *(f"< {name}" for name in _CLASSES[1:])]
        one = rf"{_OP}({names})\s*"
        return [{"enum": suggested}, {"type": "string", "pattern": f"^{one}(,{one})*$"}]
    if signal.form in {Form.NUMBER, Form.AMOUNT, Form.COUNT}:
        bounds = {
            key: bound
            for key, bound in (("minimum", signal.low), ("maximum", signal.high))
            if abs(bound) < float("inf")
        }
        one = rf"{_OP}{_NUMBER}\s*"
        kind = "integer" if signal.form is Form.COUNT else "number"
        return [{"type": kind, **bounds}, {"type": "string", "pattern": f"^{one}(,{one})*$"}]
    if signal.form is Form.HOUR:
        one = rf"{_OP}\d{{1,2}}\s*"
        window = r"\s*\[?\s*\d{1,2}(:00)?\s*[-,]\s*\d{1,2}(:00)?\s*\)?\s*"
        return [
            {"type": "integer", "minimum": 0, "maximum": 23},
            {"type": "string", "pattern": f"^({window}|{one}(,{one})*)$"},
        ]
    differs = [f"!= {name}" for name in signal.values]
    known: list[dict[str, Any]] = [{"enum": [*signal.values, *differs]}]
    if signal.name == "language":
        return [*known, {"type": "string", "pattern": "^(!=\\s*)?[A-Za-z]{2,3}$"}]
    return [*known, {"type": "string", "pattern": "^(!=\\s*)?[a-z][a-z0-9_]*$"}] if signal.open else known


def _one_or_more(item: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "anyOf": [item, {"type": "array", "minItems": 1, "items": item}]}


def schema_text() -> bytes:
    """The file's bytes."""
    return orjson.dumps(schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(schema_text())
