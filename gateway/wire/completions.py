"""`POST /v1/completions`, the API before chats: one prompt, one text. The prompt becomes a user's message.

A chat model sees it inside its chat template, so it answers the prompt rather than going on with it.
"""

from __future__ import annotations

from typing import Final

import orjson

from gateway.errors import BadRequest
from gateway.sse import DONE, events, payload
from gateway.wire.chat import Translated
from gateway.wire.door import Door, Json, Losses, chunk_of, listed, mapping, text_of, unsupported, wrong

_DEFAULT_MAX_TOKENS: Final = 16  # as the API has it
_MOST_LOGPROBS: Final = 5
_OURS: Final = frozenset({"prompt", "echo", "suffix", "best_of", "logprobs"})
# Of the chat API: an answer of this one has no place for what they bring.
_CHATS_OWN: Final = ("messages", "tools", "tool_choice", "functions", "function_call", "top_logprobs")


def to_chat(body: Json) -> Translated:
    """The request as a chat with one message; raises `BadRequest`."""
    lost = Losses()
    for name in _CHATS_OWN:
        lost.add(name, body.get(name))
    if body.get("echo"):
        raise unsupported("echo", "a chat model does not give the prompt back")
    if body.get("suffix"):
        raise unsupported("suffix", "a chat model does not fill in the middle of a text")
    if body.get("best_of") not in (None, 1):
        raise unsupported("best_of", "ask for `n` answers and choose")
    chat = {name: value for name, value in body.items() if name not in _OURS and name not in _CHATS_OWN}
    chat["messages"] = [{"role": "user", "content": _prompt(body.get("prompt"))}]
    if chat.get("max_tokens") is None:
        chat["max_tokens"] = _DEFAULT_MAX_TOKENS
    if (wanted := body.get("logprobs")) is not None:
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted <= _MOST_LOGPROBS:
            raise wrong("logprobs", f"must be a whole number from 0 to {_MOST_LOGPROBS}")
        chat |= {"logprobs": True, "top_logprobs": wanted}
    return Translated(chat, lost.found)


def _prompt(prompt: object) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(isinstance(text, str) for text in prompt):
        raise BadRequest("`prompt` has several texts: send a request for each", param="prompt")
    raise BadRequest("`prompt` must be a text, or a list with one; tokens are not read", param="prompt")


def from_chat(completion: Json, asked: Json, _request_id: str) -> Json:
    """A whole answer."""
    choices = [_choice(mapping(choice), "message") for choice in listed(completion.get("choices"))]
    return _shaped(completion, choices, asked)


def _shaped(completion: Json, choices: list[Json], asked: Json) -> Json:
    body: Json = {
        "id": text_of(completion.get("id")).replace("chatcmpl", "cmpl", 1),
        "object": "text_completion",
        "created": completion.get("created") or 0,
        "model": completion.get("model") or asked.get("model") or "",
        "choices": choices,
    }
    return body | {name: completion[name] for name in ("usage", "system_fingerprint") if name in completion}


def _choice(choice: Json, part: str) -> Json:
    return {
        "text": text_of(mapping(choice.get(part)).get("content")),
        "index": choice.get("index", 0),
        "logprobs": _logprobs(mapping(choice.get("logprobs"))),
        "finish_reason": choice.get("finish_reason"),
    }


def _logprobs(logprobs: Json) -> Json | None:
    """Lists of equal length, as this API has them."""
    said = [mapping(token) for token in listed(logprobs.get("content"))]
    if not said:
        return None
    offsets, start = [], 0
    for token in said:
        offsets.append(start)
        start += len(text_of(token.get("token")))
    return {
        "tokens": [text_of(token.get("token")) for token in said],
        "token_logprobs": [token.get("logprob") for token in said],
        "top_logprobs": [
            {text_of(top.get("token")): top.get("logprob") for top in map(mapping, listed(token.get("top_logprobs")))}
            for token in said
        ],
        "text_offset": offsets,
    }


class CompletionEvents:
    """A streamed answer, chunk by chunk."""

    def __init__(self, asked: Json, _request_id: str) -> None:
        self._asked = asked

    def feed(self, block: bytes) -> bytes:
        """See `Events`."""
        return b"".join(map(self._event, events(block)))

    def _event(self, event: bytes) -> bytes:
        data = payload(event)
        if data == b"[DONE]":
            return DONE
        chunk = chunk_of(data)
        if "error" in chunk:
            return event
        choices = [_choice(mapping(choice), "delta") for choice in listed(chunk.get("choices"))]
        said = [choice for choice in choices if choice["text"] or choice["finish_reason"]]
        if not said and not chunk.get("usage"):
            return b""
        return b"data: " + orjson.dumps(_shaped(chunk, said, self._asked)) + b"\n\n"


DOOR: Final = Door("completions", to_chat, from_chat, CompletionEvents)
