"""A provider that speaks OpenAI's chat API in every way that a client can ask for."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.upstreams.loopback import DONE, USAGE_EVENT, Request, Wire, completion, delta

TEXT = "Hola, ¿qué tal?"
ORDER = '{"dish":"tortilla","people":4}'
PIECES = ('{"city"', ':"Ma', 'drid"}')
ARGUMENTS = "".join(PIECES)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_LOGPROBS = {"content": [{"token": "Hola", "logprob": -0.1, "bytes": [72, 111, 108, 97], "top_logprobs": []}]}
# A model that fails, and how: status, error, headers.
_FAILURES: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {
    "busy-1": (429, {"message": "slow down", "code": "rate_limit_exceeded"}, {"retry-after": "7"}),
    "down-1": (500, {"message": "it burns", "code": None}, {}),
    "picky-1": (400, {"message": "temperature must be below 2", "param": "temperature", "code": "bad"}, {}),
    "full-1": (400, {"message": "maximum context length is 8", "code": "context_length_exceeded"}, {}),
}


async def answer(request: Request, wire: Wire) -> None:
    """One call, answered as its body asks."""
    if request.method == "GET":
        await wire.whole({"object": "list", "data": []})
        return
    body = request.body
    if body["model"] in _FAILURES:
        status, error, headers = _FAILURES[body["model"]]
        await wire.whole({"error": {"type": "some_error", "param": None, **error}}, status=status, headers=headers)
    elif body.get("stream"):
        await wire.events(*_events(body))
    else:
        await wire.whole(completion(choices=[_choice(body, n) for n in range(body.get("n") or 1)]))


def _text(body: dict[str, Any]) -> str:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return f"The tool says: {last['content']}"
    if isinstance(last["content"], list):
        return "I see " + ", ".join(piece["type"] for piece in last["content"])
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(_filled(wanted["json_schema"]["schema"], body), separators=(",", ":"))
    return json.dumps({"setup": "Hola", "punchline": "Adiós"}) if wanted.get("type") == "json_object" else TEXT


_VALUES: dict[str, object] = {"dish": "tortilla", "people": 4, "city": "Madrid", "input": 3}
_BY_TYPE: dict[str, object] = {"string": "text", "integer": 3, "number": 3.5, "boolean": True, "null": None}


def _filled(schema: dict[str, Any], body: dict[str, Any], name: str = "", root: dict[str, Any] | None = None) -> Any:
    """A value that a schema allows; a name in the question's quotes is a value that was asked for."""
    root = schema if root is None else root
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if options := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return options[0]
    if several := schema.get("anyOf"):
        return _filled(several[0], body, name, root)
    if schema is root and not schema.get("properties"):
        return {"dish": "tortilla", "people": 4} if name == "" and "tools" not in body else {}
    if "properties" in schema or schema.get("type") == "object":
        return {key: _filled(value, body, key, root) for key, value in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_filled(schema.get("items", {"type": "string"}), body, name, root)]
    quoted = re.search("'([^']+)'", str(body["messages"][-1].get("content"))) if "name" in name else None
    return quoted[1] if quoted else _VALUES.get(name, _BY_TYPE.get(str(schema.get("type")), "text"))


def _arguments(body: dict[str, Any]) -> str:
    """Of the tool that is called: the first, or the one that must be."""
    parameters = _tool(body).get("parameters") or {}
    return json.dumps(_filled(parameters, body), separators=(",", ":"), ensure_ascii=False)


def _tool(body: dict[str, Any]) -> dict[str, Any]:
    functions: list[dict[str, Any]] = [tool["function"] for tool in body["tools"]]
    choice = body.get("tool_choice")
    wanted = choice["function"]["name"] if isinstance(choice, dict) else functions[0]["name"]
    return next(function for function in functions if function["name"] == wanted)


def _calls_a_tool(body: dict[str, Any]) -> bool:
    """As a model does that is asked for one; with `none`, or a result to speak of, it answers."""
    return bool(body.get("tools")) and body.get("tool_choice") != "none" and body["messages"][-1]["role"] != "tool"


def _choice(body: dict[str, Any], index: int) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": _text(body)}
    finish = "stop"
    if _calls_a_tool(body):
        name, arguments = _tool(body)["name"], _arguments(body)
        call = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": name, "arguments": arguments}}
        said, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    logprobs = _LOGPROBS if body.get("logprobs") else None
    return {"index": index, "message": said, "finish_reason": finish, "logprobs": logprobs}


def _events(body: dict[str, Any]) -> list[bytes]:
    usage = [USAGE_EVENT] if (body.get("stream_options") or {}).get("include_usage") else []
    if _calls_a_tool(body):
        name, arguments = _tool(body)["name"], _arguments(body)
        pieces = PIECES if arguments == ARGUMENTS else (arguments[:5], arguments[5:])
        first = {
            "index": 0,
            "id": "call_0123456789abcdef",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        rest = [delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in pieces]
        return [delta(role="assistant", tool_calls=[first]), *rest, delta(finish="tool_calls"), *usage, DONE]
    words = _text(body).split(" ")
    spoken = [delta(word if number == 0 else f" {word}") for number, word in enumerate(words)]
    return [delta("", role="assistant"), *spoken, delta(finish="stop"), *usage, DONE]
