"""LiteLLM's shapes as OpenAI's, without its own fields."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.sse import DONE
from gateway.types import Model

Json = dict[str, Any]
_BODY: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "choices", "usage")
_CHOICE: Final = ("index", "message", "finish_reason", "logprobs")
# The last three are not OpenAI's: what a model thought, and what Anthropic wants back with a tool's result.
_MESSAGE: Final = (
    "role", "content", "tool_calls", "refusal", "annotations", "audio", "images", "reasoning_content", "thinking_blocks"
)  # fmt: skip


def whole(answer: Any) -> Json:
    """A whole answer."""
    body = _only(_BODY, answer.model_dump(mode="json", exclude_none=True))
    body["choices"] = [
        {**_only(_CHOICE, choice), "message": _message(choice["message"])} for choice in body.get("choices", ())
    ]
    return body


class Chunks:
    """One stream. Finish reasons and usage wait for its end.

    LiteLLM 1.105 has a finish reason in each of Gemini's chunks, Anthropic counts at its stream's begin too, and OpenAI
    sends first the reason, then the usage.
    """

    __slots__ = ("_head", "_reasons", "_roles", "_usage")

    def __init__(self, model: Model, request_id: str) -> None:
        self._head: Json = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model.model,
        }
        self._reasons: dict[int, str] = {}
        self._roles: set[int] = set()
        self._usage: Json | None = None

    def take(self, chunk: Any) -> bytes:
        """The events of one chunk; perhaps none."""
        body = _from_parts(chunk) if isinstance(chunk, dict) else chunk.model_dump(mode="json", exclude_none=True)
        self._usage = body.get("usage") or self._usage
        return b"".join(map(self._choice, body.get("choices", ())))

    def _choice(self, choice: Json) -> bytes:
        index = choice.get("index", 0)
        if reason := choice.get("finish_reason"):
            self._reasons[index] = reason
        delta = {name: value for name, value in _only(_MESSAGE, choice.get("delta") or {}).items() if value}
        delta.pop("role", None)
        if not delta:
            return b""
        if index not in self._roles:
            self._roles.add(index)
            delta = {"role": "assistant", **delta}
        shaped = {"index": index, "delta": delta, "finish_reason": None}
        if logprobs := choice.get("logprobs"):
            shaped["logprobs"] = logprobs
        return self._event({"choices": [shaped]})

    @property
    def finished(self) -> bool:
        """Whether a finish reason has come."""
        return bool(self._reasons)

    def end(self) -> bytes:
        """The finish reasons, the usage if the provider said it, and `[DONE]`."""
        ends = [
            self._event({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
            for index, reason in self._reasons.items()
        ]
        if self._usage is not None:
            ends.append(self._event({"choices": [], "usage": self._usage}))
        return b"".join((*ends, DONE))

    def _event(self, fields: Json) -> bytes:
        return b"data: " + orjson.dumps({**self._head, **fields}) + b"\n\n"


def _from_parts(chunk: Json) -> Json:
    """LiteLLM's other kind of chunk, of the providers that it translates by halves."""
    delta: Json = {"content": chunk.get("text")}
    if tool := chunk.get("tool_use"):
        function = {name: value for name, value in tool["function"].items() if value is not None}
        delta["tool_calls"] = [{**{k: v for k, v in tool.items() if v is not None}, "function": function}]
    reason = chunk.get("finish_reason") if chunk.get("is_finished") else None
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": chunk.get("usage")}


def _message(message: Json) -> Json:
    kept = {name: value for name, value in _only(_MESSAGE, message).items() if value not in ([], None)}
    for call in kept.get("tool_calls", ()):
        call.pop("index", None)  # which only a stream has
    return {"content": None, **kept}


def _only(names: tuple[str, ...], fields: Mapping[str, Any]) -> Json:
    return {name: fields[name] for name in names if name in fields}
