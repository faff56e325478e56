"""Tool calls of local servers, as OpenAI has them.

What was seen of them: Ollama (0.20 still) gives every call of a stream the index 0, and ends with `stop`; other servers
leave out index, id or type, or send the arguments as an object; and where a model's template is not known to its
server, the calls stand in the text, as the model was trained to write them. Nothing that is in order is touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.sse import events, payload

Json = dict[str, Any]
# What models put around their calls: Qwen and Hermes, Mistral, Llama 3, and those who write Markdown.
_AROUND: Final = re.compile(r"</?tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|```(?:json)?")
_BEGINS: Final = re.compile(
    r"(?:<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|```(?:json)?)?\s*\[?\s*"
    r"\{\s*\"(?:name|function|type|id|arguments|parameters)\""
)
_MARKS: Final = ("{", "[", "<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "```")
_MOST_HELD_CHARS: Final = 200_000  # of a text that still may be one
_ENOUGH_CHARS: Final = 48  # of a text to see whether it may be a call
_BETWEEN: Final = " \t\r\n,;[]"
_DECODER: Final = json.JSONDecoder()


def tool_names(body: Mapping[str, object]) -> frozenset[str]:
    """The functions that a request lets the model call."""
    tools = body.get("tools")
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return frozenset(f["name"] for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str))


def written_calls(text: str, names: frozenset[str]) -> list[Json]:
    """The calls that a text consists of, as `function` objects; none when it is anything else, or only begins so."""
    rest = _AROUND.sub(" ", text)
    calls: list[Json] = []
    place = 0
    while True:
        while place < len(rest) and rest[place] in _BETWEEN:
            place += 1
        if place == len(rest):
            return calls
        try:
            value, place = _DECODER.raw_decode(rest, place)
        except (ValueError, RecursionError):
            return []
        call = _written(value, names)
        if call is None:
            return []
        calls.append(call)


def _written(value: object, names: frozenset[str]) -> Json | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    fields = inner if isinstance(inner, dict) else value
    name = fields.get("name") or (inner if isinstance(inner, str) else None)
    arguments: object = next((fields[key] for key in ("arguments", "parameters", "input") if key in fields), {})
    if name not in names or not isinstance(arguments, dict | str):
        return None
    return {"name": name, "arguments": _as_text(arguments)}


def _as_text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else "" if arguments is None else orjson.dumps(arguments).decode()


def mend_whole(body: Json, names: frozenset[str], request_id: str) -> bool:
    """Put the calls of a whole answer in order; whether there was anything to do."""
    changed = False
    for choice in body["choices"]:
        message = choice["message"]
        text, calls = message.get("content"), message.get("tool_calls")
        if not calls and isinstance(text, str) and text.lstrip().startswith(_MARKS):
            functions = written_calls(text, names)
            if functions:
                calls = message["tool_calls"] = [{"function": function} for function in functions]
                message["content"] = None
        for number, call in enumerate(calls or ()):
            changed |= _complete(call, number, request_id)
        if calls and choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
            changed = True
    return changed


def _complete(call: Json, number: int, request_id: str) -> bool:
    """Give a call what is missing in it; whether anything was."""
    before = dict(call)
    call["id"] = call.get("id") or _made_id(request_id, number)
    call["type"] = call.get("type") or "function"
    return _complete_function(call) or call != before


def _complete_function(call: Json) -> bool:
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments", ""), str):
        return False
    function["arguments"] = _as_text(function["arguments"])
    return True


def _made_id(request_id: str, number: int) -> str:
    return f"call_{request_id.removeprefix('req_')[:24]}{number:02}"


class StreamedCalls:
    """One stream's calls. `feed` takes whole events and gives whole events; `end` what was still held back.

    A text that may be a call is held back until it is one, or is none.
    """

    def __init__(self, names: frozenset[str], request_id: str) -> None:
        self._names = names
        self._request_id = request_id
        self._open: dict[object, tuple[int, str, list[str]]] = {}  # by the index given: own number, id, arguments
        self._calls = 0
        self._undecided = True  # whether the first words of the text have not come yet, or may begin a call
        self._held: list[bytes] = []
        self._text = ""
        self._head: Json = {}

    def feed(self, block: bytes) -> bytes:
        """The events to pass on for this block, perhaps none."""
        if not self._undecided and b'"tool_calls"' not in block and not (self._calls and b'"stop"' in block):
            return block
        return b"".join(map(self._event, events(block)))

    def end(self) -> bytes:
        """The text that was held back, as what it is."""
        self._undecided = False
        held, self._held = b"".join(self._held), []
        functions = written_calls(self._text, self._names) if held else []
        if not functions:
            return held
        self._calls += len(functions)
        calls = [
            {"index": n, "id": _made_id(self._request_id, n), "type": "function", "function": function}
            for n, function in enumerate(functions)
        ]
        delta = {"role": "assistant", "content": None, "tool_calls": calls}
        return self._chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])

    def _chunk(self, **fields: Any) -> bytes:
        return b"data: " + orjson.dumps({**self._head, **fields}) + b"\n\n"

    def _event(self, event: bytes) -> bytes:
        try:
            chunk = orjson.loads(payload(event))
            choices = chunk["choices"]
            deltas = [(choice, choice["delta"]) for choice in choices]
            text = "".join(delta.get("content") or "" for _, delta in deltas)
            reason = next((choice.get("finish_reason") for choice in choices if choice.get("finish_reason")), None)
            has_calls = any(delta.get("tool_calls") for _, delta in deltas)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return self.end() + event  # none of ours to understand
        if self._undecided and text:
            return self._hold(event, chunk, text, reason)
        if not (self._undecided and self._held) and not has_calls and not (self._calls and reason == "stop"):
            return event
        before = self.end() if has_calls or reason else b""
        if self._held:
            self._held.append(event)
            return b""
        changed = [self._mend(choice, delta) for choice, delta in deltas]
        return before + (b"data: " + orjson.dumps(chunk) + b"\n\n" if any(changed) else event)

    def _hold(self, event: bytes, chunk: Json, text: str, reason: str | None) -> bytes:
        self._text += text
        self._head = self._head or {k: v for k, v in chunk.items() if k not in {"choices", "usage"}}
        said = self._text.lstrip()
        may_be = not said or any(said.startswith(mark[: len(said)]) for mark in _MARKS)
        may_be = may_be and len(self._text) <= _MOST_HELD_CHARS
        if may_be and len(said) >= _ENOUGH_CHARS:
            may_be = _BEGINS.match(said) is not None
        if may_be and reason is None:
            self._held.append(event)
            return b""
        if may_be and written_calls(self._text, self._names):
            self._held.append(event)
            ended = [self.end(), self._chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])]
            if chunk.get("usage"):
                ended.append(self._chunk(choices=[], usage=chunk["usage"]))
            return b"".join(ended)
        return self.end() + event

    def _mend(self, choice: Json, delta: Json) -> bool:
        changed = False
        for call in delta.get("tool_calls") or ():
            changed |= self._number(call, choice.get("index", 0))
        if self._calls and choice.get("finish_reason") == "stop":
            choice["finish_reason"] = "tool_calls"
            changed = True
        return changed

    def _number(self, call: Json, choice: int) -> bool:
        """Give a piece of a call its own number, and a new call what is missing in it; whether anything changed."""
        function = call.get("function") or {}
        changed = _complete_function(call)
        arguments, key = function.get("arguments") or "", (choice, call.get("index"))
        known = self._open.get(key)
        if known is None or self._is_another(call, function, known):
            number = self._calls
            self._calls += 1
            changed |= _complete(call, number, self._request_id)
            known = self._open[key] = number, call["id"], []
        known[2].append(arguments)
        changed |= call.get("index") != known[0]
        call["index"] = known[0]
        return changed

    def _is_another(self, call: Json, function: Json, known: tuple[int, str, list[str]]) -> bool:
        """Whether a piece under a known index begins another call: it has a name, and an id or an end before it."""
        if not function.get("name"):
            return False
        if call.get("id"):
            return bool(call["id"] != known[1])
        try:
            orjson.loads("".join(known[2]))
        except orjson.JSONDecodeError:
            return False
        return True
