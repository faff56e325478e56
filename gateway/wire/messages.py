"""`POST /v1/messages`, Anthropic's API: its requests as chat completions, and chat completions as its answers.

What only Anthropic's models take (cache hints, thoughts) stays in the neutral form under Anthropic's own names, as
hints: an adapter that does not know them never sees them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from gateway.errors import BadRequest, CauceError
from gateway.sse import events, payload
from gateway.wire.chat import Translated
from gateway.wire.door import (
    Door,
    Json,
    Losses,
    a_list,
    a_mapping,
    a_string,
    chunk_of,
    dumped,
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

# The same shapes in both; the newer one refuses sampling settings for Anthropic's models, and others still take them.
VERSIONS: Final = (b"2023-06-01", b"2026-10-21")
_SAME: Final = {
    "model": "model", "max_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "stream": "stream",
    "stop_sequences": "stop",
}  # fmt: skip
_HINTS: Final = ("thinking", "top_k", "cache_control")
_READ: Final = frozenset(
    {*_SAME, *_HINTS, "messages", "system", "tools", "tool_choice", "metadata", "output_config", "output_format"}
)
_STOP_REASONS: Final = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
    "content_filter": "refusal",
}  # fmt: skip
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
}  # fmt: skip


def to_chat(body: Json) -> Translated:
    """The request as a chat; raises `BadRequest`."""
    return _Reading(body).translated()


class _Reading:
    """One request, read from top to bottom."""

    def __init__(self, body: Json) -> None:
        self._body = body
        self._lost = Losses()
        self._hints: set[str] = set()

    def translated(self) -> Translated:
        body = self._body
        chat = renamed(body, _SAME)
        if not isinstance(chat.get("max_tokens"), int) or isinstance(chat["max_tokens"], bool):
            raise wrong("max_tokens", "must be a whole number")
        if "stop" in chat:
            for number, text in enumerate(a_list(chat["stop"], "stop_sequences")):
                a_string(text, f"stop_sequences[{number}]")
            self._lost.add("stop_sequence", chat["stop"])  # which one it was that ended the answer is not known
        for name in _HINTS:
            if body.get(name) is not None:
                chat[name] = body[name]
                self._hints.add(name)
        chat["messages"] = [*self._system(body.get("system")), *self._messages(body.get("messages"))]
        if body.get("tools"):
            tools = a_list(body["tools"], "tools")
            chat["tools"] = [self._tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
        if body.get("tool_choice") is not None:
            chat |= self._tool_choice(a_mapping(body["tool_choice"], "tool_choice"))
        chat |= self._output(body)
        metadata = a_mapping(body.get("metadata") or {}, "metadata")
        if (user := metadata.get("user_id")) is not None:
            chat["user"] = user
        self._lost.rest(metadata, {"user_id"}, "metadata.")
        self._lost.rest(body, _READ)
        if chat.get("stream") is True:
            chat["stream_options"] = {"include_usage": True}
        return Translated(chat, self._lost.found, frozenset(self._hints))

    def _system(self, system: object) -> list[Json]:
        if system is None or system in ("", []):
            return []
        if isinstance(system, str):
            return [{"role": "system", "content": system}]
        parts = [self._part(block, f"system[{n}]", ("text",)) for n, block in enumerate(a_list(system, "system"))]
        return [{"role": "system", "content": _content(parts)}]

    def _messages(self, messages: object) -> Iterable[Json]:
        if not isinstance(messages, list) or not messages:
            raise wrong("messages", "must be a list with at least one message")
        for number, message in enumerate(messages):
            where = f"messages[{number}]"
            fields = a_mapping(message, where)
            role, content = fields.get("role"), fields.get("content")
            if role not in ("user", "assistant", "system"):
                raise wrong(f"{where}.role", "must be user or assistant")
            self._lost.rest(fields, {"role", "content"}, "messages.")
            if isinstance(content, str):
                yield {"role": role, "content": content}
                continue
            blocks = [
                a_mapping(block, f"{where}.content[{n}]") for n, block in enumerate(a_list(content, f"{where}.content"))
            ]
            if role == "assistant":
                yield self._answered(blocks, f"{where}.content")
            else:
                yield from self._asked(role, blocks, f"{where}.content")

    def _asked(self, role: str, blocks: list[Json], where: str) -> Iterable[Json]:
        """What the user says: results of tools first, as the chat API has them, then the rest."""
        rest: list[Json] = []
        for number, block in enumerate(blocks):
            if block.get("type") != "tool_result":
                rest.append(self._part(block, f"{where}[{number}]"))
                continue
            result, beside = self._result(block, f"{where}[{number}]")
            yield result
            rest += beside
        if rest or not blocks:
            yield {"role": role, "content": _content(rest)}

    def _result(self, block: Json, where: str) -> tuple[Json, list[Json]]:
        """A tool's result, and the images in it: only a user may send those."""
        content = block.get("content")
        parts: list[Json] = []
        if isinstance(content, list):
            parts = [self._part(a_mapping(b, where), f"{where}.content[{n}]") for n, b in enumerate(content)]
        texts = [part for part in parts if part["type"] == "text"]
        if content is not None and not isinstance(content, str | list):
            raise wrong(f"{where}.content", "must be a string or a list of blocks")
        message = {
            "role": "tool",
            "tool_call_id": a_string(block.get("tool_use_id"), f"{where}.tool_use_id"),
            "content": content if isinstance(content, str) else _content(texts),
        }
        if block.get("is_error"):
            self._lost.add("is_error", block["is_error"])
        self._hint(block, message)
        self._lost.rest(block, {"type", "tool_use_id", "content", "is_error", "cache_control"}, "tool_result.")
        return message, [part for part in parts if part["type"] != "text"]

    def _answered(self, blocks: list[Json], where: str) -> Json:
        """What the model said before, and the tools that it called."""
        parts: list[Json] = []
        calls: list[Json] = []
        thoughts: list[Json] = []
        for number, block in enumerate(blocks):
            here = f"{where}[{number}]"
            if block.get("type") == "tool_use":
                calls.append(self._call(block, here))
            elif block.get("type") in _THOUGHTS:
                thoughts.append(block)
            else:
                parts.append(self._part(block, here, ("text",)))
        message: Json = {"role": "assistant", "content": _content(parts) if parts else None}
        if calls:
            message["tool_calls"] = calls
        elif not parts:
            message["content"] = ""
        if thoughts:
            message["thinking_blocks"] = thoughts
            self._hints.add("thinking_blocks")
        return message

    def _call(self, block: Json, where: str) -> Json:
        function = {
            "name": a_string(block.get("name"), f"{where}.name"),
            "arguments": dumped(a_mapping(block.get("input") or {}, f"{where}.input"), f"{where}.input"),
        }
        call = {"id": a_string(block.get("id"), f"{where}.id"), "type": "function", "function": function}
        for name in block.keys() - {"type", "id", "name", "input"}:
            self._lost.add(name if name == "cache_control" else f"tool_use.{name}", block[name])
        return call

    def _part(self, block: object, where: str, kinds: tuple[str, ...] = ("text", "image", "document")) -> Json:
        """A block as a part of a message."""
        fields = a_mapping(block, where)
        kind = fields.get("type")
        if kind not in kinds:
            if not isinstance(kind, str):
                raise wrong(f"{where}.type", f"must be one of {', '.join(kinds)}")
            raise unsupported(f"{where}.type", f"only {', '.join(kinds)} can stand here")
        if kind == "text":
            part: Json = {"type": "text", "text": a_string(fields.get("text"), f"{where}.text")}
            self._lost.rest(fields, {"type", "text", "cache_control"}, "text.")
        else:
            source = a_mapping(fields.get("source"), f"{where}.source")
            part = _image(source, where) if kind == "image" else _document(source, fields, where)
            self._lost.rest(fields, {"type", "source", "cache_control", "title"}, f"{kind}.")
        self._hint(fields, part)
        return part

    def _hint(self, block: Json, part: Json) -> None:
        if block.get("cache_control") is not None:
            part["cache_control"] = block["cache_control"]
            self._hints.add("cache_control")

    def _tool(self, tool: object, where: str) -> Json:
        fields = a_mapping(tool, where)
        if fields.get("type") not in (None, "custom"):
            raise unsupported(f"{where}.type", "a tool that Anthropic runs itself cannot go to any other model")
        function = {
            "name": a_string(fields.get("name"), f"{where}.name"),
            "parameters": a_mapping(fields.get("input_schema"), f"{where}.input_schema"),
            **renamed(fields, {"description": "description", "strict": "strict"}),
        }
        made: Json = {"type": "function", "function": function}
        self._hint(fields, made)
        self._lost.rest(fields, {"type", "name", "input_schema", "description", "strict", "cache_control"}, "tools.")
        return made

    def _tool_choice(self, choice: Json) -> Json:
        kind = choice.get("type")
        if kind == "tool":
            name = a_string(choice.get("name"), "tool_choice.name")
            chat: Json = {"tool_choice": {"type": "function", "function": {"name": name}}}
        elif isinstance(kind, str) and kind in _CHOICES:
            chat = {"tool_choice": _CHOICES[kind]}
        else:
            raise wrong("tool_choice.type", "must be auto, any, tool or none")
        if choice.get("disable_parallel_tool_use"):
            chat["parallel_tool_calls"] = False
        self._lost.rest(choice, {"type", "name", "disable_parallel_tool_use"}, "tool_choice.")
        return chat

    def _output(self, body: Json) -> Json:
        """A schema for the answer, wherever it stands."""
        config = a_mapping(body.get("output_config") or {}, "output_config")
        self._lost.rest(config, {"format"}, "output_config.")
        wanted = config.get("format") or body.get("output_format")
        if wanted is None:
            return {}
        fields = a_mapping(wanted, "output_config.format")
        if fields.get("type") != "json_schema":
            raise wrong("output_config.format.type", "must be json_schema")
        schema = a_mapping(fields.get("schema"), "output_config.format.schema")
        self._lost.rest(fields, {"type", "schema"}, "output_config.format.")
        held = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": held}}


def _content(parts: list[Json]) -> str | list[Json]:
    """Parts as they are; one text alone as a string, which every server takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return text_of(parts[0]["text"])
    return parts


def _image(source: Json, where: str) -> Json:
    return {"type": "image_url", "image_url": {"url": _url(source, f"{where}.source")}}


def _document(source: Json, block: Json, where: str) -> Json:
    title = {"filename": block["title"]} if isinstance(block.get("title"), str) else {}
    if source.get("type") == "text":
        text = a_string(source.get("data"), f"{where}.source.data")
        return {"type": "text", "text": "\n\n".join([*title.values(), text])}
    if source.get("type") != "base64":
        raise unsupported(f"{where}.source.type", "send the document itself, as base64 or text")
    return {"type": "file", "file": {**title, "file_data": _url(source, f"{where}.source")}}


def _url(source: Json, where: str) -> str:
    if source.get("type") == "url":
        return a_string(source.get("url"), f"{where}.url")
    if source.get("type") != "base64":
        raise unsupported(f"{where}.type", "send base64 or a url: files are not kept here")
    kind = a_string(source.get("media_type"), f"{where}.media_type")
    return f"data:{kind};base64,{a_string(source.get('data'), f'{where}.data')}"


# --- answers ----------------------------------------------------------------------------------------------------------


def from_chat(completion: Json, asked: Json, request_id: str) -> Json:
    """A whole answer."""
    answer = said(completion)
    content: list[Json] = [block for block in answer.thinking if block.get("type") in _THOUGHTS]
    if text := answer.text or answer.refusal:
        content.append({"type": "text", "text": text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)} for call in answer.calls
    ]
    return {
        **_message(request_id, answer.model or text_of(asked.get("model"))),
        "content": content,
        "stop_reason": _STOP_REASONS.get(answer.finish, "end_turn"),
        "usage": _usage(answer.usage),
    }


def _message(request_id: str, model: str) -> Json:
    return {
        "id": request_id.replace("req_", "msg_", 1),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage({}),
    }


def _input(arguments: str) -> Json:
    """Arguments as an object. A model that writes no JSON is not made to have written some."""
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": value}


def _usage(usage: Json) -> Json:
    """OpenAI counts what was read from a cache, or written to one, inside the prompt; Anthropic beside it."""
    read = tokens(usage, "prompt_tokens_details", "cached_tokens")
    written = tokens(usage, "cache_creation_input_tokens")
    return {
        "input_tokens": max(0, tokens(usage, "prompt_tokens") - read - written),
        "output_tokens": tokens(usage, "completion_tokens"),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }


class MessageEvents:
    """A streamed answer: a block at a time, closed by the next one. Usage and reason come at the end."""

    def __init__(self, asked: Json, request_id: str) -> None:
        self._model = text_of(asked.get("model"))
        self._request_id = request_id
        self._out: list[bytes] = []
        self._begun = False
        self._blocks = 0
        self._open: str | int | None = None  # `text`, `thinking`, or the number of a tool call
        self._calls: dict[int, int] = {}  # number of a tool call: its block
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
        self._out.append(event(kind, {"type": kind, **fields}))

    def _chunk(self, chunk: Json) -> None:
        if "error" in chunk:
            self._say("error", **_error(mapping(chunk["error"]), self._request_id))
            return
        self._begin(text_of(chunk.get("model")))
        self._usage = mapping(chunk.get("usage")) or self._usage
        for choice in map(mapping, listed(chunk.get("choices"))):
            self._finish = text_of(choice.get("finish_reason")) or self._finish
            self._delta(mapping(choice.get("delta")))

    def _begin(self, model: str) -> None:
        if not self._begun:
            self._begun = True
            self._say("message_start", message=_message(self._request_id, model or self._model))

    def _delta(self, delta: Json) -> None:
        for block in map(mapping, listed(delta.get("thinking_blocks"))):
            self._thought(block)
        if text := text_of(delta.get("content")) or text_of(delta.get("refusal")):
            self._into("text", {"type": "text", "text": ""})
            self._say("content_block_delta", index=self._blocks - 1, delta={"type": "text_delta", "text": text})
        for call in map(mapping, listed(delta.get("tool_calls"))):
            self._call(call)

    def _thought(self, block: Json) -> None:
        if block.get("type") == "redacted_thinking":
            self._into(None, {})
            self._into("redacted", block)
            return
        self._into("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        for name, kind in (("thinking", "thinking_delta"), ("signature", "signature_delta")):
            if piece := text_of(block.get(name)):
                self._say("content_block_delta", index=self._blocks - 1, delta={"type": kind, name: piece})
        if block.get("signature"):
            self._into(None, {})  # it ends a thought

    def _call(self, call: Json) -> None:
        number = call.get("index")
        number = number if isinstance(number, int) else 0
        function = mapping(call.get("function"))
        if number not in self._calls:
            name, call_id = text_of(function.get("name")), text_of(call.get("id"))
            self._into(number, {"type": "tool_use", "id": call_id, "name": name, "input": {}})
            self._calls[number] = self._blocks - 1
        if piece := text_of(function.get("arguments")):
            delta = {"type": "input_json_delta", "partial_json": piece}
            self._say("content_block_delta", index=self._calls[number], delta=delta)

    def _into(self, block: str | int | None, content: Json) -> None:
        """Be in this block: close the one before, open this one; nothing closes only."""
        if self._open == block and type(self._open) is type(block):
            return
        if self._open is not None:
            self._say("content_block_stop", index=self._blocks - 1)
        self._open = block
        if block is not None:
            self._say("content_block_start", index=self._blocks, content_block=content)
            self._blocks += 1

    def _end(self) -> None:
        self._begin("")
        self._into(None, {})
        reason = _STOP_REASONS.get(self._finish, "end_turn")
        self._say("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=_usage(self._usage))
        self._say("message_stop")


# --- errors -----------------------------------------------------------------------------------------------------------


def error_body(error: CauceError, request_id: str) -> bytes:
    """An error in Anthropic's shape, with the gateway's own code beside its type."""
    kind = _ERRORS.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    if error.status == 503 and error.retry_after_s is not None:
        kind = "overloaded_error"
    fields = {"type": kind, "message": error.message, "code": error.code, "param": error.param}
    return orjson.dumps({"type": "error", "error": fields, "request_id": request_id})


def _error(error: Json, request_id: str) -> Json:
    fields = {"type": "api_error", "message": text_of(error.get("message")), "code": error.get("code")}
    return {"error": fields, "request_id": request_id}


def check(headers: Mapping[bytes, bytes]) -> None:
    """Raises `BadRequest` for a version of the API that is not spoken here."""
    if headers.get(b"anthropic-version", VERSIONS[0]) not in VERSIONS:
        known = b" or ".join(VERSIONS).decode()
        raise BadRequest(f"anthropic-version must be {known}, or not sent", param="anthropic-version")


DOOR: Final = Door("messages", to_chat, from_chat, MessageEvents, error_body, b"request-id", check)
