"""`POST /v1/responses`: its requests as chat completions, and chat completions as its answers.

Nothing is stored here, so every request brings its whole conversation: what refers to something that was stored before
is refused. `store` counts as false, whatever is sent, and the caller is told that it is lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from gateway.sse import events, payload
from gateway.wire.chat import Translated
from gateway.wire.door import (
    Call,
    Door,
    Json,
    Losses,
    Said,
    a_list,
    a_mapping,
    a_string,
    call_of,
    chunk_of,
    event,
    listed,
    mapping,
    renamed,
    said,
    text_of,
    tokens,
    unsupported,
    wrong,
)

_SAME: Final = {
    name: name
    for name in (
        "model", "temperature", "top_p", "stream", "parallel_tool_calls", "user", "top_logprobs", "service_tier",
        "safety_identifier", "prompt_cache_key",
    )
} | {"max_output_tokens": "max_tokens"}  # fmt: skip
_STORED: Final = {
    "previous_response_id": "send the whole conversation as `input`",
    "conversation": "send the whole conversation as `input`",
    "background": "wait for the answer, or stream it",
    "prompt": "send `instructions` and `input`",
}
_READ: Final = frozenset(
    {*_SAME, *_STORED, "input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "store"}
    | {"truncation", "stream_options"}
)
_PLAIN_CHOICES: Final = frozenset({"auto", "none", "required"})
_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def to_chat(body: Json) -> Translated:
    """The request as a chat; raises `BadRequest`."""
    for name, instead in _STORED.items():
        if body.get(name):
            raise unsupported(name, f"this gateway stores no responses: {instead}")
    lost = Losses()
    chat = renamed(body, _SAME)
    instructions = body.get("instructions")
    first = [{"role": "system", "content": a_string(instructions, "instructions")}] if instructions else []
    chat["messages"] = [*first, *_messages(body.get("input"), lost)]
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{n}]", lost) for n, tool in enumerate(a_list(body["tools"], "tools"))]
    if body.get("tool_choice") is not None:
        chat["tool_choice"] = _tool_choice(body["tool_choice"])
    chat |= _text(a_mapping(body.get("text") or {}, "text"), lost)
    reasoning = a_mapping(body.get("reasoning") or {}, "reasoning")
    chat |= renamed(reasoning, {"effort": "reasoning_effort"})
    lost.rest(reasoning, {"effort"}, "reasoning.")
    chat |= _logprobs(body, lost)
    if body.get("store") is not False:
        lost.found["store"] = True
    if body.get("truncation") not in (None, "disabled"):
        lost.add("truncation", body["truncation"])
    lost.rest(body, _READ)
    if chat.get("stream") is True:
        chat["stream_options"] = {"include_usage": True}
    return Translated(chat, lost.found)


def _logprobs(body: Json, lost: Losses) -> Json:
    include = a_list(body.get("include") or [], "include")
    lost.add("include", [name for name in include if name != "message.output_text.logprobs"])
    return {"logprobs": True} if "message.output_text.logprobs" in include or body.get("top_logprobs") else {}


# --- what is asked ----------------------------------------------------------------------------------------------------


def _messages(asked: object, lost: Losses) -> list[Json]:
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        raise wrong("input", "must be a text, or a list with at least one item")
    messages: list[Json] = []
    for number, item in enumerate(asked):
        where = f"input[{number}]"
        fields = a_mapping(item, where)
        kind = fields.get("type", "message")
        if kind == "message":
            messages.append(_message(fields, where, lost))
        elif kind == "function_call":
            _add_call(fields, where, messages)
        elif kind == "function_call_output":
            messages.append(_result(fields, where, lost))
        elif kind == "reasoning":
            lost.add("input.reasoning", fields)
        elif kind == "item_reference":
            raise unsupported(where, "this gateway stores no items: send the item itself")
        else:
            raise unsupported(f"{where}.type", "only messages, function calls and their outputs can stand here")
    if not messages:
        raise wrong("input", "holds no message")
    return messages


def _message(item: Json, where: str, lost: Losses) -> Json:
    role = _ROLES.get(text_of(item.get("role")))
    if role is None:
        raise wrong(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    lost.rest(item, {"type", "role", "content", "id", "status"}, "input.")
    content = item.get("content")
    if isinstance(content, str):
        return {"role": role, "content": content}
    parts = _parts(content, f"{where}.content", lost)
    if role == "assistant" and all(part["type"] == "refusal" for part in parts) and parts:
        return {"role": role, "content": None, "refusal": "".join(part["refusal"] for part in parts)}
    return {"role": role, "content": _content(parts)}


def _parts(content: object, where: str, lost: Losses) -> list[Json]:
    parts = enumerate(a_list(content, where))
    return [_part(a_mapping(part, f"{where}[{n}]"), f"{where}[{n}]", lost) for n, part in parts]


def _part(part: Json, where: str, lost: Losses) -> Json:
    kind = text_of(part.get("type"))
    if kind in _TEXTS:
        lost.rest(part, {"type", "text"}, "input.")
        return {"type": "text", "text": a_string(part.get("text"), f"{where}.text")}
    if kind == "refusal":
        return {"type": "refusal", "refusal": a_string(part.get("refusal"), f"{where}.refusal")}
    if part.get("file_id"):
        raise unsupported(f"{where}.file_id", "this gateway keeps no files: send the file itself")
    if kind == "input_image":
        url = a_string(part.get("image_url"), f"{where}.image_url")
        return {"type": "image_url", "image_url": {"url": url, **renamed(part, {"detail": "detail"})}}
    if kind == "input_file":
        if part.get("file_url"):
            raise unsupported(f"{where}.file_url", "send the file itself as file_data")
        return {"type": "file", "file": renamed(part, {"filename": "filename", "file_data": "file_data"})}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": a_mapping(part.get("input_audio"), f"{where}.input_audio")}
    raise unsupported(f"{where}.type", "send input_text, input_image, input_file or input_audio")


def _content(parts: list[Json]) -> str | list[Json]:
    if len(parts) == 1 and parts[0]["type"] == "text":
        return text_of(parts[0]["text"])
    return parts or ""


def _add_call(item: Json, where: str, messages: list[Json]) -> None:
    """A call beside those before it: one turn of the assistant holds them all."""
    function = {
        "name": a_string(item.get("name"), f"{where}.name"),
        "arguments": a_string(item.get("arguments"), f"{where}.arguments"),
    }
    call = {"id": a_string(item.get("call_id"), f"{where}.call_id"), "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _result(item: Json, where: str, lost: Losses) -> Json:
    output = item.get("output")
    if not isinstance(output, str):
        parts = _parts(output, f"{where}.output", lost)
        if any(part["type"] != "text" for part in parts):
            raise unsupported(f"{where}.output", "a tool gives text back")
        output = _content(parts)
    return {"role": "tool", "tool_call_id": a_string(item.get("call_id"), f"{where}.call_id"), "content": output}


def _tool(tool: object, where: str, lost: Losses) -> Json:
    fields = a_mapping(tool, where)
    if fields.get("type") != "function":
        raise unsupported(f"{where}.type", "only functions can go to any model")
    a_string(fields.get("name"), f"{where}.name")
    names = {name: name for name in ("name", "description", "parameters", "strict")}
    lost.rest(fields, {"type", *names}, "tools.")
    return {"type": "function", "function": renamed(fields, names)}


def _tool_choice(choice: object) -> object:
    if isinstance(choice, str) and choice in _PLAIN_CHOICES:
        return choice
    fields = a_mapping(choice, "tool_choice")
    if fields.get("type") != "function":
        raise unsupported("tool_choice", "send auto, none, required or a function's name")
    return {"type": "function", "function": {"name": a_string(fields.get("name"), "tool_choice.name")}}


def _text(text: Json, lost: Losses) -> Json:
    lost.rest(text, {"format", "verbosity"}, "text.")
    chat = renamed(text, {"verbosity": "verbosity"})
    form = a_mapping(text.get("format") or {}, "text.format")
    kind = form.get("type", "text")
    if kind == "json_object":
        chat["response_format"] = {"type": kind}
    elif kind == "json_schema":
        a_mapping(form.get("schema"), "text.format.schema")
        names = {name: name for name in ("name", "schema", "strict", "description")}
        chat["response_format"] = {"type": kind, kind: {"name": "answer", **renamed(form, names)}}
    elif kind != "text":
        raise wrong("text.format.type", "must be text, json_object or json_schema")
    return chat


# --- answers ----------------------------------------------------------------------------------------------------------


def from_chat(completion: Json, asked: Json, request_id: str) -> Json:
    """A whole answer."""
    answer = said(completion)
    output = list(_items(answer, request_id))
    return _ended(_response(asked, request_id, answer.model), output, answer.finish, answer.usage)


def _items(answer: Said, request_id: str) -> Iterator[Json]:
    content = [_written(answer.text)] if answer.text or not (answer.refusal or answer.calls) else []
    if answer.refusal:
        content.append(_refused(answer.refusal))
    if content:
        yield _item_of(request_id, content, "completed")
    for number, call in enumerate(answer.calls):
        yield _call_item(request_id, number, call, "completed")


def _written(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _refused(text: str) -> Json:
    return {"type": "refusal", "refusal": text}


def _item_of(request_id: str, content: list[Json], status: str) -> Json:
    item_id = request_id.replace("req_", "msg_", 1)
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _call_item(request_id: str, number: int, call: Call, status: str) -> Json:
    item_id = f"{request_id.replace('req_', 'fc_', 1)}_{number}"
    fields = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    return {"id": item_id, "type": "function_call", "status": status, **fields}


def _response(asked: Json, request_id: str, model: str) -> Json:
    """A response that has begun: what was asked for, said back as the API does."""
    reasoning = mapping(asked.get("reasoning"))
    return {
        "id": request_id.replace("req_", "resp_", 1),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata") or {},
        "model": model or text_of(asked.get("model")),
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "store": False,
        "temperature": asked.get("temperature"),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": asked.get("user"),
    }


def _ended(response: Json, output: list[Json], finish: str, usage: Json) -> Json:
    why = _INCOMPLETE.get(finish)
    return {
        **response,
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": output,
        "usage": _usage(usage) if usage else None,
    }


def _usage(usage: Json) -> Json:
    read, written = tokens(usage, "prompt_tokens"), tokens(usage, "completion_tokens")
    cached = tokens(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = tokens(usage, "completion_tokens_details", "reasoning_tokens")
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + written,
    }


class ResponseEvents:
    """A streamed answer: each item opens when its first piece comes; all of them close at the end, in order."""

    def __init__(self, asked: Json, request_id: str) -> None:
        self._asked = asked
        self._request_id = request_id
        self._out: list[bytes] = []
        self._number = 0
        self._response: Json = {}
        self._texts: dict[str, tuple[int, list[str]]] = {}  # `output_text` or `refusal`: place in the message, pieces
        self._message = -1  # the message's place in the output
        self._calls: dict[int, tuple[int, Call, list[str]]] = {}  # by number: place in the output, call, its arguments
        self._items = 0
        self._finish = ""
        self._usage: Json = {}

    def feed(self, block: bytes) -> bytes:
        """See `Events`."""
        for each in events(block):
            data = payload(each)
            if data == b"[DONE]":
                self._end()
            elif data:
                self._chunk(chunk_of(data))
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _say(self, kind: str, **fields: Any) -> None:
        self._out.append(event(kind, {"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1

    def _chunk(self, chunk: Json) -> None:
        self._begin(text_of(chunk.get("model")))
        if "error" in chunk:
            self._fail(mapping(chunk["error"]))
            return
        self._usage = mapping(chunk.get("usage")) or self._usage
        for choice in map(mapping, listed(chunk.get("choices"))):
            self._finish = text_of(choice.get("finish_reason")) or self._finish
            delta = mapping(choice.get("delta"))
            for kind, name in (("output_text", "content"), ("refusal", "refusal")):
                if piece := text_of(delta.get(name)):
                    self._write(kind, piece)
            for call in map(mapping, listed(delta.get("tool_calls"))):
                self._call(call)

    def _begin(self, model: str) -> None:
        if not self._response:
            self._response = _response(self._asked, self._request_id, model)
            self._say("response.created", response=self._response)
            self._say("response.in_progress", response=self._response)

    def _fail(self, error: Json) -> None:
        code, message = error.get("code"), text_of(error.get("message"))
        self._say("error", code=code, message=message, param=error.get("param"))
        failure = {"code": "server_error", "message": message}
        self._say("response.failed", response={**self._response, "status": "failed", "error": failure})

    def _open(self, item: Json) -> int:
        place = self._items
        self._items += 1
        self._say("response.output_item.added", output_index=place, item=item)
        return place

    def _write(self, kind: str, piece: str) -> None:
        if self._message < 0:
            self._message = self._open(_item_of(self._request_id, [], "in_progress"))
        if kind not in self._texts:
            self._texts[kind] = len(self._texts), []
            part = _written("") if kind == "output_text" else _refused("")
            self._say("response.content_part.added", **self._place(kind), part=part)
        self._texts[kind][1].append(piece)
        more: Json = {"logprobs": []} if kind == "output_text" else {}
        self._say(f"response.{kind}.delta", **self._place(kind), delta=piece, **more)

    def _place(self, kind: str) -> Json:
        item_id = self._request_id.replace("req_", "msg_", 1)
        return {"item_id": item_id, "output_index": self._message, "content_index": self._texts[kind][0]}

    def _call(self, call: Json) -> None:
        number = call.get("index")
        number = number if isinstance(number, int) else 0
        piece = call_of(call)
        if number not in self._calls:
            begun = Call(piece.id, piece.name, "")
            place = self._open(_call_item(self._request_id, number, begun, "in_progress"))
            self._calls[number] = place, begun, []
        if piece.arguments:
            place, begun, pieces = self._calls[number]
            pieces.append(piece.arguments)
            item_id = _call_item(self._request_id, number, begun, "")["id"]
            self._say(
                "response.function_call_arguments.delta", item_id=item_id, output_index=place, delta=piece.arguments
            )

    def _end(self) -> None:
        self._begin("")
        if not self._items:
            self._write("output_text", "")
        closed = dict(self._close_message()) | dict(self._close_calls())
        output = []
        for place, item in sorted(closed.items()):
            self._say("response.output_item.done", output_index=place, item=item)
            output.append(item)
        ended = _ended(self._response, output, self._finish, self._usage)
        self._say(f"response.{ended['status']}", response=ended)

    def _close_message(self) -> Iterator[tuple[int, Json]]:
        parts = []
        for kind, (_, pieces) in self._texts.items():
            text = "".join(pieces)
            part = _written(text) if kind == "output_text" else _refused(text)
            name = {"text": text, "logprobs": []} if kind == "output_text" else {"refusal": text}
            self._say(f"response.{kind}.done", **self._place(kind), **name)
            self._say("response.content_part.done", **self._place(kind), part=part)
            parts.append(part)
        if self._message >= 0:
            yield self._message, _item_of(self._request_id, parts, "completed")

    def _close_calls(self) -> Iterator[tuple[int, Json]]:
        for number, (place, begun, pieces) in self._calls.items():
            arguments = "".join(pieces)
            item = _call_item(self._request_id, number, Call(begun.id, begun.name, arguments), "completed")
            self._say(
                "response.function_call_arguments.done",
                item_id=item["id"], output_index=place, name=begun.name, arguments=arguments,
            )  # fmt: skip
            yield place, item


DOOR: Final = Door("responses", to_chat, from_chat, ResponseEvents)
