"""Checks of an answer's structure: the JSON that was asked for, the tools that were offered."""

from __future__ import annotations

from typing import Final, NoReturn

import orjson

from gateway.stages.verify.question import Question
from gateway.types import Answer, Check

_MOST_BYTES: Final = 2_000_000


def json_kept(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down what is not the JSON that was asked for, or breaks its schema."""
    wanted = question.inbound.body.get("response_format")
    if answer.tool_calls or not isinstance(wanted, dict) or wanted.get("type") not in {"json_object", "json_schema"}:
        return ""
    try:
        value = orjson.loads(answer.text)
    except orjson.JSONDecodeError:
        return "JSON was asked for and it is not JSON"
    holder = wanted.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    return "" if not isinstance(schema, dict) or _fits(value, schema) else "it breaks the schema"


def tools_kept(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down a call of a tool that was not offered, arguments that are no JSON object or break the tool's schema,
    and no call where one was required. Of a stream's calls only the number is known: it says nothing of them.
    """
    offered = _offered(question.inbound.body.get("tools"))
    if not offered:
        return ""
    if not answer.tool_calls:
        required = question.inbound.body.get("tool_choice")
        return "a tool call was required" if required == "required" or isinstance(required, dict) else ""
    return next(filter(None, (_wrong(call, offered) for call in _calls(answer.body))), "")


def _offered(tools: object) -> dict[str, object]:
    """The schema of each tool's arguments by the tool's name."""
    found: dict[str, object] = {}
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(name := function.get("name"), str):
            found[name] = function.get("parameters")
    return found


def _calls(body: bytes) -> list[object]:
    """The tool calls of a whole answer; nothing where they cannot be read."""
    if not body or len(body) > _MOST_BYTES:
        return []
    try:
        calls = orjson.loads(body)["choices"][0]["message"].get("tool_calls")
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return []
    return calls if isinstance(calls, list) else []


def _wrong(call: object, offered: dict[str, object]) -> str:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return ""  # another kind of tool: nothing to hold it against
    name, given = function.get("name"), function.get("arguments")
    if name not in offered:
        return "it calls a tool that was not offered"
    try:
        arguments = orjson.loads(given) if isinstance(given, str | bytes) and given else {}
    except orjson.JSONDecodeError:
        return "the arguments of its tool call are not JSON"
    if not isinstance(arguments, dict):
        return "the arguments of its tool call are no object"
    schema = offered[name]
    fits = not isinstance(schema, dict) or _fits(arguments, schema)
    return "" if fits else "the arguments of its tool call break the tool's schema"


def _fits(value: object, schema: dict[str, object]) -> bool:
    import jsonschema_rs  # noqa: PLC0415 - 3 MB that only callers with a schema need

    try:
        # Linear-time patterns and no fetching: the schema is the caller's, and must neither stall us nor send us out.
        validator = jsonschema_rs.validator_for(
            schema, retriever=_fetch_nothing, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return True  # the caller's schema is not one: nothing to hold the answer against
    return bool(validator.is_valid(value))


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"schemas are not fetched: {uri}")
