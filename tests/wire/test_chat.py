from __future__ import annotations

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import BadJson, BadRequest, RequestError
from gateway.types import ANONYMOUS, DataClass, Inbound
from gateway.wire.chat import read_chat


def read(body: object, *, max_messages: int = 100) -> Inbound:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_chat(
        raw,
        request_id="req_1",
        received_ns=0,
        caller=ANONYMOUS,
        data=DataClass.PUBLIC,
        tags=(),
        cacheable=True,
        max_messages=max_messages,
    )


def user(content: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}]}


def all_text(inbound: Inbound) -> str:
    return "\n".join(part.text for part in inbound.parts)


def test_unknown_fields_stay_in_the_body() -> None:
    body = {**user("hola"), "model": "auto", "verbosity": {"level": 3}, "temperature": 0.2}
    assert read(body).body == body


def test_no_model_means_auto() -> None:
    assert read(user("hola")).model == "auto"
    assert read({**user("hola"), "model": None}).model == "auto"


@pytest.mark.parametrize(
    "body",
    [
        {**user("x"), "user": "CANARY"},
        {**user("x"), "metadata": {"a": {"b": ["CANARY"]}}},
        {**user("x"), "tools": [{"type": "function", "function": {"name": "CANARY", "parameters": {}}}]},
        {**user("x"), "tools": [{"type": "function", "function": {"parameters": {"properties": {"CANARY": {}}}}}]},
        {**user("x"), "response_format": {"type": "json_schema", "json_schema": {"name": "CANARY"}}},
        {**user("x"), "stop": ["CANARY"]},
        {**user("x"), "prediction": {"type": "content", "content": "CANARY"}},
        {**user("x"), "a_field_of_next_year": "CANARY"},
        user([{"type": "text", "text": "CANARY"}]),
        user([{"type": "image_url", "image_url": {"url": "https://host/CANARY.png"}}]),
        user([{"type": "file", "file": {"filename": "CANARY.pdf", "file_data": "data:application/pdf;base64,AA"}}]),
        user([{"type": "text", "text": "x", "annotations": ["CANARY"]}]),
        {"messages": [{"role": "system", "content": "CANARY"}, {"role": "user", "content": "x"}]},
        {"messages": [{"role": "user", "name": "CANARY", "content": "x"}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": "CANARY"}}],
                }
            ]
        },
        {"messages": [{"role": "tool", "tool_call_id": "CANARY", "content": "x"}]},
        {"messages": [{"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "CANARY"}]}]},
        {"messages": [{"role": "assistant", "refusal": "CANARY", "content": None}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "CANARY"}}]},
    ],
)
def test_the_privacy_scan_sees_every_text_that_an_upstream_would_see(body: object) -> None:
    assert "CANARY" in all_text(read(body))


def test_a_number_as_long_as_a_telephone_is_text() -> None:
    assert "612345678" in all_text(read({**user("x"), "metadata": {"phone": 612345678}}))


@pytest.mark.parametrize(
    ("piece", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "image"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file"),
        ({"type": "hologram", "x": 1}, "file"),
    ],
)
def test_a_part_without_readable_text_is_named(piece: dict[str, object], kind: str) -> None:
    assert kind in read(user([piece])).opaque


def test_a_data_url_anywhere_counts_as_unreadable() -> None:
    assert read({**user("x"), "extra": "data:,12345678Z"}).opaque == ("file",)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"messages": "\xc3"}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"a": "\x00"}',
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    ],
)
def test_what_is_not_json_is_refused_by_its_place_never_by_its_text(raw: bytes) -> None:
    with pytest.raises(BadJson, match="not valid JSON"):
        read(raw)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hola"}, "messages"),
        ({"messages": ["hola"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        (user([3]), "messages[0].content[0]"),
        (user([{"type": "text"}]), "messages[0].content[0].text"),
        ({**user("x"), "model": 3}, "model"),
        ({**user("x"), "stream": "yes"}, "stream"),
        ({**user("x"), "stream_options": 3}, "stream_options"),
        ({"messages": [{"role": "user", "content": "x"}] * 101}, "messages"),
    ],
)
def test_a_wrong_field_is_named(body: object, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    if param is not None:
        assert param in caught.value.message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(extra=st.dictionaries(st.sampled_from(["model", "messages", "stream", "tools", "x"]), JSON))
def test_any_json_is_read_or_refused_and_nothing_else(extra: dict[str, object]) -> None:
    try:
        inbound = read({**user("hola"), **extra})
    except RequestError:
        return
    assert inbound.parts
