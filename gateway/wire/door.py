"""A door: how one API's requests become chat completions, and chat completions its answers.

Everything between two doors is the same for all of them: policy, gate, cache, checks, ledger and headers know the
chat-completion shape alone. What has no place in it is lost, and the caller is told what (`x-cauce-lost`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from gateway.errors import BadRequest, CauceError
from gateway.wire.chat import Translated
from gateway.wire.errors import error_body

Json = dict[str, Any]
_ALONE: Final = "there is no place for it behind this gateway"


class Events(Protocol):
    """One streamed answer on its way out. Never raises: what is not in a chunk is left out."""

    def feed(self, block: bytes) -> bytes:
        """Whole events of a chat completion to whole events of this API, perhaps none; `[DONE]` is the last of them."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """One API. A door without translations speaks the chat-completion shape itself, and nothing is touched."""

    name: str  # `endpoint` in the ledger
    to_chat: Callable[[Json], Translated] = Translated
    from_chat: Callable[[Json, Json, str], Json] | None = None  # answer, what was asked, request id
    events: Callable[[Json, str], Events] | None = None  # what was asked, request id
    error_body: Callable[[CauceError, str], bytes] = error_body
    request_id_header: bytes = b"x-request-id"
    check: Callable[[Mapping[bytes, bytes]], None] = lambda _headers: None  # raises `BadRequest`


class Losses:
    """What a translation has no place for, gathered while it is made."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[str, object] = {}

    def add(self, name: str, value: object) -> None:
        """A field that is lost, once or several times. Nothing is lost with what says nothing."""
        if value is None or value in ([], {}):
            return
        self.found[name] = [self.found[name], value] if name in self.found else value

    def rest(self, fields: Mapping[str, object], known: Iterable[str], prefix: str = "") -> None:
        """Every field that is not one of the known."""
        for name in fields.keys() - set(known):
            self.add(f"{prefix}{name}", fields[name])


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of an answer."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a whole chat completion says, whatever a provider has left out of it."""

    model: str
    created: int
    text: str
    refusal: str
    calls: tuple[Call, ...]
    finish: str
    usage: Json = field(default_factory=dict)
    thinking: tuple[Json, ...] = ()


def said(completion: Json) -> Said:
    """The first choice of an answer. Never raises: the answer has been paid for."""
    choices = listed(completion.get("choices"))
    choice = mapping(choices[0] if choices else None)
    message = mapping(choice.get("message"))
    calls = [call_of(mapping(call)) for call in listed(message.get("tool_calls"))]
    if old := mapping(message.get("function_call")):
        calls.append(call_of({"function": old}))
    created = completion.get("created")
    return Said(
        text_of(completion.get("model")),
        created if isinstance(created, int) else 0,
        text_of(message.get("content")),
        text_of(message.get("refusal")),
        tuple(calls),
        text_of(choice.get("finish_reason")) or "stop",
        mapping(completion.get("usage")),
        tuple(mapping(block) for block in listed(message.get("thinking_blocks"))),
    )


def call_of(call: Json) -> Call:
    """A tool call, or as much of it as there is."""
    function = mapping(call.get("function"))
    return Call(text_of(call.get("id")), text_of(function.get("name")), text_of(function.get("arguments")))


def mapping(value: object) -> Json:
    """The value, if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """The value, if it is a list; else an empty one."""
    return value if isinstance(value, list) else []


def text_of(value: object) -> str:
    """The value, if it is a string; else an empty one."""
    return value if isinstance(value, str) else ""


def tokens(usage: Json, name: str, detail: str = "") -> int:
    """A count in a usage object, or in one of its details; 0 where it is not said."""
    value = mapping(usage.get(name)).get(detail) if detail else usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def chunk_of(event_data: bytes) -> Json:
    """An event's data as an object; an empty one when it is none."""
    try:
        return mapping(orjson.loads(event_data))
    except orjson.JSONDecodeError:
        return {}


def event(kind: str, body: Json) -> bytes:
    """A server-sent event with its name."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(body))


def dumped(value: object, where: str) -> str:
    """A JSON value as a string; raises `BadRequest` where it is nested too deeply to be written."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise wrong(where, "is nested too deeply") from None


# --- reading requests -------------------------------------------------------------------------------------------------


def wrong(where: str, what: str) -> BadRequest:
    """A field that is not as it should be."""
    return BadRequest(f"`{where}` {what}", param=where)


def unsupported(where: str, why: str = _ALONE) -> BadRequest:
    """A field that asks for something that nobody here can do."""
    return BadRequest(f"`{where}` is not supported: {why}", param=where)


def a_mapping(value: object, where: str) -> Json:
    """An object; raises `BadRequest`."""
    if not isinstance(value, dict):
        raise wrong(where, "must be an object")
    return value


def a_list(value: object, where: str) -> list[Any]:
    """A list; raises `BadRequest`."""
    if not isinstance(value, list):
        raise wrong(where, "must be a list")
    return value


def a_string(value: object, where: str) -> str:
    """A string; raises `BadRequest`."""
    if not isinstance(value, str):
        raise wrong(where, "must be a string")
    return value


def renamed(body: Json, names: Mapping[str, str]) -> Json:
    """The fields that a body has, under their names in the chat API."""
    return {new: body[old] for old, new in names.items() if body.get(old) is not None}
