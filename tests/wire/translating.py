"""One answer in the chat shape, whole and streamed, and what each door makes of it, beside the page that says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from gateway.types import ANONYMOUS, DataClass, Inbound
from gateway.wire.chat import read_translated
from gateway.wire.door import Door
from tests.upstreams.loopback import DONE, delta, event

ID = "req_0123456789abcdef0123456789abcdef"
USAGE = {
    "prompt_tokens": 90, "completion_tokens": 20, "total_tokens": 110,
    "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 8},
}  # fmt: skip
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Madrid"}'}}
_GOLDEN = Path(__file__).parent / "golden"


def whole(**message: Any) -> dict[str, Any]:
    """A whole answer."""
    finish = message.pop("finish", "tool_calls" if "tool_calls" in message else "stop")
    said = {"role": "assistant", "content": None, **message}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "small-1",
        "choices": [{"index": 0, "message": said, "finish_reason": finish, "logprobs": None}], "usage": USAGE,
    }  # fmt: skip


def stream(*pieces: str, calls: int = 0, finish: str = "stop") -> list[bytes]:
    """The same answer in events: text, then tool calls in pieces."""
    out = [delta("", role="assistant"), *map(delta, pieces)]
    for number in range(calls):
        function = {"name": "weather", "arguments": ""}
        out.append(
            delta(tool_calls=[{"index": number, "id": f"call_{number}", "type": "function", "function": function}])
        )
        pieces_of_it = ('{"city"', ':"Madrid"}')
        out += [delta(tool_calls=[{"index": number, "function": {"arguments": piece}}]) for piece in pieces_of_it]
    usage = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return [*out, delta(finish="tool_calls" if calls else finish), usage, DONE]


def spoken(door: Door, blocks: list[bytes], **asked: Any) -> str:
    """A stream through a door."""
    assert door.events is not None
    events = door.events({"model": "small", **asked}, ID)
    return b"".join(events.feed(block) for block in blocks).decode()


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ") and line != "data: [DONE]"]
    return [orjson.loads(line) for line in lines]


def inbound(door: Door, body: dict[str, Any]) -> Inbound:
    """A request as the pipeline gets it."""
    return read_translated(
        door.to_chat(body), endpoint=door.name, request_id=ID, received_ns=1, caller=ANONYMOUS, data=DataClass.PUBLIC,
        tags=(), cacheable=True, max_messages=100,
    )  # fmt: skip


def read_of(door: Door, body: dict[str, Any]) -> str:
    """All that the privacy scan is given of a request."""
    return "\n".join(part.text for part in inbound(door, body).parts)


def assert_golden(name: str, text: str) -> None:
    """The page is this text. With CAUCE_WRITE_GOLDEN=1 it is written, to be read before it is committed."""
    page = _GOLDEN / name
    if os.environ.get("CAUCE_WRITE_GOLDEN") == "1":
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text


def pretty(body: object) -> str:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


# Anything that a provider might send, some of it under the names that are looked for.
_NAMES = st.sampled_from(
    ["choices", "message", "delta", "content", "tool_calls", "function", "arguments", "usage", "finish_reason", "index",
     "prompt_tokens", "prompt_tokens_details", "thinking_blocks", "type", "logprobs", "error", "id", "name", "model"]
)  # fmt: skip
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
ANSWERS = st.dictionaries(_NAMES, ANYTHING, max_size=4)


def assert_total(door: Door, answer: dict[str, Any]) -> None:
    """Whatever an answer holds, a door makes something of it: it has been paid for."""
    if door.from_chat is not None:
        orjson.dumps(door.from_chat(answer, {"model": "small"}, ID))
    if door.events is not None:
        spoken(door, [event(answer), event(answer), DONE])
