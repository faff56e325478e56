"""`POST /v1/embeddings`: texts to vectors. They are read as a chat's messages are; the upstream gets them as sent."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np

from gateway.wire.chat import Translated
from gateway.wire.door import Door, Json, a_string, listed, mapping, wrong

_MOST_TEXTS: Final = 2048
_CHATS_OWN: Final = ("messages", "stream", "stream_options")
_FORMATS: Final = ("float", "base64")


def to_chat(body: Json) -> Translated:
    """The texts as messages, to be read; raises `BadRequest`. Tokens cannot be read, and count as such."""
    if body.get("encoding_format") not in (None, *_FORMATS):
        raise wrong("encoding_format", f"must be {' or '.join(_FORMATS)}")
    dimensions = body.get("dimensions")
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1):
        raise wrong("dimensions", "must be a whole number of at least 1")
    sent = {name: value for name, value in body.items() if name not in _CHATS_OWN}
    lost: Json = {name: body[name] for name in _CHATS_OWN if name in body}
    rest = {name: value for name, value in sent.items() if name != "input"}
    return Translated({**rest, "messages": _read(body.get("input"))}, lost, sent=sent)


def _read(given: object) -> list[Json]:
    texts = given if isinstance(given, list) else [given]
    if not texts or len(texts) > _MOST_TEXTS:
        raise wrong("input", f"must be a text, or a list of 1 to {_MOST_TEXTS} texts")
    if _are_tokens(texts) or all(isinstance(text, list) and text and _are_tokens(text) for text in texts):
        return [{"role": "user", "content": [{"type": "file"}]}]
    for number, text in enumerate(texts):
        if not a_string(text, f"input[{number}]" if isinstance(given, list) else "input"):
            raise wrong("input", "holds an empty text")
    return [{"role": "user", "content": text} for text in texts]


def _are_tokens(values: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def from_chat(answer: Json, asked: Json, _request_id: str) -> Json:
    """The vectors in the form that was asked for: not every server knows both."""
    wanted = asked.get("encoding_format") or "float"
    for entry in map(mapping, listed(answer.get("data"))):
        vector = entry.get("embedding")
        if wanted == "base64" and isinstance(vector, list):
            entry["embedding"] = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
        elif wanted == "float" and isinstance(vector, str):
            entry["embedding"] = np.frombuffer(base64.b64decode(vector), "<f4").tolist()
    return answer


DOOR: Final = Door("embeddings", to_chat, from_chat)
