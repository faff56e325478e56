"""`POST /v1/chat/completions`: the bytes of a request to an `Inbound`; and the neutral form of every other API's.

One parse, no copy of the body, no model of it: what is not looked at here travels on as it came. Every text in the
body is collected, in messages or not, because the privacy scan must see whatever an upstream would see.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.errors import BadJson, BadRequest
from gateway.types import Caller, DataClass, Inbound, Part

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_NUMBERS: Final = ("temperature", "top_p", "max_tokens", "n", "seed")
# Values that are checked to hold names of ours or of OpenAI's, or numbers: no place for text.
_PLAIN: Final = frozenset({"model", "messages", "stream", *_NUMBERS})
_STREAM_OPTIONS: Final = frozenset({"include_usage", "include_obfuscation"})
# Other names of the protocol's own that stand before numbers and switches. Any other name may be a text by itself.
_SWITCHES: Final = frozenset(
    {"max_completion_tokens", "top_k", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "store"}
    | {"parallel_tool_calls", "strict", "additionalProperties", "minimum", "maximum", "minLength", "maxLength"}
    | {"minItems", "maxItems", "nullable", *_NUMBERS}
)
_MOST_DIGITS: Final = 5  # of a number that says nothing of anyone: a token's, a count
_SPACES_OF_A_SENTENCE: Final = 5
_MOST_ALONE: Final = 64  # sentences that are read alone, so that a request cannot ask for any number of readings
_PLAIN_MESSAGE: Final = frozenset({"role", "content"})
# An id that a provider made: no text of the caller's, and its letters would look like a secret.
_MADE_ID: Final = re.compile(r"(?:call|toolu|chatcmpl|msg|fc)[_-][A-Za-z0-9]{16,64}")
_SEALS: Final = frozenset({"signature", "encrypted_content"})
_SEALED: Final = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")
_DATA_URL: Final = re.compile(r"data:[a-z0-9.+-]*/?[a-z0-9.+-]*[;,]", re.IGNORECASE)
_OPAQUE: Final = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "input_audio": "audio",
    "file": "file",
}
_PROTOCOL_WORDS: Final = frozenset(
    {
        "function",
        "object",
        "string",
        "number",
        "integer",
        "boolean",
        "array",
        "json_schema",
        "json_object",
        "text",
        "auto",
    }
)
# What can be read can also be written again: orjson reads 1024 levels and writes 254.
_MAX_DEPTH: Final = 200
_TEXTUAL: Final = frozenset({"text", "input_text", "output_text", "refusal"})


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the chat-completion shape.

    `lost` holds what has no place in that shape, by name: it goes nowhere, it is scanned all the same, and the caller
    is told. `hints` names fields of `body` that only some providers take. `sent` is what an upstream is given, where
    that is not the chat.
    """

    body: dict[str, Any]
    lost: Mapping[str, object] = field(default_factory=dict)
    hints: frozenset[str] = frozenset()
    sent: dict[str, Any] | None = None


def parse_json(raw: bytes) -> dict[str, object]:
    """The body as a JSON object; raises `BadJson`."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # The library's message names the place and never quotes the text.
        raise BadJson(f"the body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def read_chat(  # noqa: PLR0913 - the request line's facts, each named
    raw: bytes,
    *,
    request_id: str,
    received_ns: int,
    caller: Caller,
    data: DataClass,
    tags: tuple[str, ...],
    cacheable: bool,
    max_messages: int,
) -> Inbound:
    """A request of the chat API; raises `BadJson` or `BadRequest` naming the field."""
    return read_translated(
        Translated(parse_json(raw)),
        endpoint="chat",
        request_id=request_id,
        received_ns=received_ns,
        caller=caller,
        data=data,
        tags=tags,
        cacheable=cacheable,
        max_messages=max_messages,
    )


def read_translated(  # noqa: PLR0913 - as above
    asked: Translated,
    *,
    endpoint: str,
    request_id: str,
    received_ns: int,
    caller: Caller,
    data: DataClass,
    tags: tuple[str, ...],
    cacheable: bool,
    max_messages: int,
) -> Inbound:
    """A request of any API, in the chat shape; raises `BadRequest` naming the field."""
    body = asked.body
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message", param="messages")
    if len(messages) > max_messages:
        raise BadRequest(f"`messages` has {len(messages)} entries; the limit is {max_messages}", param="messages")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequest('`model` must be a string, e.g. "auto"', param="model")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    for name in _NUMBERS:
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadRequest(f"`{name}` must be a number", param=name)
    parts: list[Part] = []
    opaque: list[str] = []
    _read_body(body, messages, parts, opaque)
    if asked.lost:
        _collect(dict(asked.lost), "field", parts, opaque)
    return Inbound(
        request_id=request_id,
        endpoint=endpoint,
        body=body if asked.sent is None else asked.sent,
        parts=tuple(parts),
        caller=caller,
        model=model or "auto",
        stream=stream is True,
        received_ns=received_ns,
        opaque=tuple(opaque),
        include_usage=_asks_usage(body.get("stream_options")),
        data=data,
        tags=tags,
        cacheable=cacheable,
        lost=tuple(asked.lost),
        hints=asked.hints,
    )


def read_texts(body: Mapping[str, object]) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Every text of a body that was read before, and the kinds of its parts that hold no readable text."""
    parts: list[Part] = []
    opaque: list[str] = []
    messages = body.get("messages")
    _read_body(body, messages if isinstance(messages, list) else [], parts, opaque)
    return tuple(parts), tuple(opaque)


def _read_body(body: Mapping[str, object], messages: list[object], parts: list[Part], opaque: list[str]) -> None:
    for index, message in enumerate(messages):
        _read_message(message, index, parts, opaque)
    _read_fields(body, parts, opaque)


def _asks_usage(options: object) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict):
        raise BadRequest("`stream_options` must be an object", param="stream_options")
    for name in _STREAM_OPTIONS & options.keys():
        if not isinstance(options[name], bool | None):
            raise BadRequest(f"`stream_options.{name}` must be true or false", param=f"stream_options.{name}")
    return options.get("include_usage") is True


def _read_message(message: object, index: int, parts: list[Part], opaque: list[str]) -> None:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise BadRequest(f"`{where}` must be an object with `role` and `content`", param=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRequest(f"`{where}.role` must be one of {', '.join(sorted(_ROLES))}", param=f"{where}.role")
    content = message.get("content")
    if isinstance(content, str):
        parts.append(Part(role, content))
    elif isinstance(content, list):
        for number, piece in enumerate(content):
            _read_piece(piece, role, f"{where}.content[{number}]", parts, opaque)
    elif content is not None:
        raise BadRequest(f"`{where}.content` must be a string or a list of parts", param=f"{where}.content")
    elif role == "user":
        raise BadRequest(f"`{where}.content` is missing", param=f"{where}.content")
    if not message.keys() <= _PLAIN_MESSAGE:
        _collect({k: v for k, v in message.items() if k not in _PLAIN_MESSAGE}, role, parts, opaque)


def _read_piece(piece: object, role: str, where: str, parts: list[Part], opaque: list[str]) -> None:
    if not isinstance(piece, dict) or not isinstance(kind := piece.get("type"), str):
        raise BadRequest(f"`{where}` must be an object with `type`", param=where)
    if kind in _TEXTUAL:
        said = "refusal" if kind == "refusal" and "text" not in piece else "text"
        text = piece.get(said)
        if not isinstance(text, str):
            raise BadRequest(f"`{where}.text` must be a string", param=f"{where}.text")
        parts.append(Part(role, text))
        rest = {k: v for k, v in piece.items() if k not in {"type", said}}
    else:
        # A kind that is not known is taken as unreadable, and still searched for text.
        opaque.append(_OPAQUE.get(kind, "file"))
        rest = {k: v for k, v in piece.items() if k != "type" or v not in _OPAQUE}
        opaque = []  # a data URL in here is this part itself, not one more file
    if rest:
        _collect(rest, role, parts, opaque)


def _read_fields(body: Mapping[str, object], parts: list[Part], opaque: list[str]) -> None:
    """Text outside the messages: tools, schemas, metadata, and fields that nobody has heard of."""
    for name, value in body.items():
        if name in _PLAIN or (name in _SWITCHES and not isinstance(value, str | list | dict)) or _is_usual(name, value):
            continue
        role = "tools" if name in {"tools", "functions"} else "schema" if name == "response_format" else "field"
        _collect({name: value}, role, parts, opaque)


def _is_usual(name: str, value: object) -> bool:
    """Stream options as nearly all clients send them."""
    if name != "stream_options" or not isinstance(value, dict):
        return False
    return value.keys() <= _STREAM_OPTIONS and all(isinstance(option, bool) for option in value.values())


def _collect(value: object, role: str, parts: list[Part], opaque: list[str]) -> None:
    """Names and short values together, since they explain each other; a sentence alone, since among them it is lost."""
    together: list[str] = []
    alone = 0
    for text in _strings(value, opaque):
        if alone < _MOST_ALONE and text.count(" ") >= _SPACES_OF_A_SENTENCE:
            parts.append(Part(role, text))
            alone += 1
        else:
            together.append(text)
    if together:
        parts.append(Part(role, "\n".join(together)))


def _strings(value: object, opaque: list[str]) -> Iterator[str]:
    """Every text in a JSON value, with the name it stands under, so that `password: x` is seen together."""
    stack: list[tuple[str, object, int]] = [("", value, 0)]
    while stack:
        name, node, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise BadRequest(f"the body is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(node, str):
            if _DATA_URL.match(node):
                opaque.append("file")
                yield from _name(name)
            elif not _is_made(name, node):
                yield f"{name}: {node}" if name else node
        elif isinstance(node, dict):
            yield from _name(name)
            stack.extend((str(key), child, depth + 1) for key, child in reversed(node.items()))
        elif isinstance(node, list):
            said = [child for child in node if isinstance(child, str | list | dict) or _is_long(child)]
            stack.extend((name, child, depth + 1) for child in reversed(said))
            if not said:
                yield from _name(name)
        elif _is_long(node):
            yield f"{name}: {node:.0f}" if isinstance(node, float) else f"{name}: {node}"
        else:
            yield from _name(name)


def _name(name: str) -> Iterator[str]:
    """A field's name, where its value does not carry it: one that a caller made up may say anything."""
    if name and name not in _SWITCHES and not (name.isdecimal() and len(name) <= _MOST_DIGITS):
        yield name


def _is_long(node: object) -> bool:
    """Whether a value is a number as long as a telephone's or a card's, which needs no quotes."""
    return isinstance(node, int | float) and not isinstance(node, bool) and abs(node) >= 10**_MOST_DIGITS


def _is_made(name: str, node: str) -> bool:
    """Whether a value is a word of the protocol or an id that a provider made, rather than text."""
    if name in {"type", "role"} and node in _PROTOCOL_WORDS:
        return True
    if name in _SEALS:
        return _is_sealed(node)
    return name in {"id", "tool_call_id", "call_id"} and _MADE_ID.fullmatch(node) is not None


def _is_sealed(node: str) -> bool:
    """Whether a value is a provider's own bytes, with which a model's thoughts come back: base64, and no text in it."""
    if not _SEALED.fullmatch(node):
        return False
    try:
        base64.b64decode(node, validate=True).decode()
    except UnicodeDecodeError:
        return True
    except ValueError:
        return False
    return False
