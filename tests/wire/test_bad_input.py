from __future__ import annotations

import json

import pytest

from tests.running import Running
from tests.wire.asking import MESSAGES, a_body, a_head, ask, connected, reply_on, the_refusal

# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b'{"messages": [{"role": "user", "content": "he',
        a_body() + a_body(),
        b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "caf\xe9"}]}',
        b"\xff\xfe" + a_body().decode().encode("utf-16-le"),
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b'{"messages": [{"role": "user", "content": "a\x00b"}]}',
        b"\x00" * 100,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
    ids=[
        "empty", "words", "half", "cut off", "two", "NaN", "Latin-1", "UTF-16", "lone surrogate", "surrogate in bytes",
        "NUL", "NULs", "deep lists", "deep messages", "deep objects",
    ],
)  # fmt: skip
def test_what_is_not_json_is_told_so(gateway: Running, body: bytes) -> None:
    the_refusal(gateway, ask(gateway, body), 400, "invalid_json")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"5", b"true"])
def test_json_that_is_no_object_is_told_so(gateway: Running, body: bytes) -> None:
    the_refusal(gateway, ask(gateway, body), 400, "invalid_request_error")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": {"role": "user", "content": "hello"}}, "messages"),
        ({"messages": MESSAGES * 100_000}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [*MESSAGES, None]}, "messages[1]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": 5}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
        ({"model": 5}, "model"),
        ({"model": ["auto"]}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": [1]}, "top_p"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": {}}, "n"),
        ({"seed": "a word"}, "seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:50],
)
def test_a_field_that_is_wrong_is_named(gateway: Running, changes: dict[str, object], param: str) -> None:
    error = the_refusal(gateway, ask(gateway, a_body(**changes)), 400, "invalid_request_error")
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_no_messages_at_all_is_told_so(gateway: Running) -> None:
    assert the_refusal(gateway, ask(gateway, b"{}"), 400, "invalid_request_error")["param"] == "messages"


@pytest.mark.parametrize("depth", [250, 1000])
@pytest.mark.parametrize("where", ["metadata", "tools", "a_field_of_next_year"])
def test_nesting_that_can_be_read_but_not_passed_on_is_refused(gateway: Running, where: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = a_body()[:-1] + b', "%s": %s}' % (where.encode(), deep)
    the_refusal(gateway, ask(gateway, body), 400, "invalid_request_error")


def test_any_value_in_a_field_that_the_gateway_does_not_know_ends_in_a_reply(gateway: Running) -> None:
    names = (
        "tools", "functions", "tool_choice", "response_format", "stop", "logit_bias", "user", "metadata", "logprobs",
        "audio", "modalities", "max_completion_tokens", "service_tier", "a_field_of_next_year", "",
    )  # fmt: skip
    values: tuple[object, ...] = (
        None, True, -1, 1e300, 10**30, "x", "\x00", [], {}, [[]], [None], {"": None}, {"type": 5},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}},
    )  # fmt: skip
    statuses = {ask(gateway, a_body(**{name: value})).status for name in names for value in values}
    assert statuses <= {200, 400}


def test_a_nul_that_is_escaped_is_a_character_like_any_other(gateway: Running) -> None:
    assert ask(gateway, a_body(messages=[{"role": "user", "content": "a\x00b"}])).status == 200


@pytest.mark.parametrize(
    "name", ["gpt-nobody-has", "", " ", "auto\x00", "../../etc/passwd", "x" * 100_000, "\U0001f600"]
)
def test_an_unknown_model_is_told_so(gateway: Running, name: str) -> None:
    if not name:
        assert ask(gateway, a_body(model=name)).status == 200  # as none: the policy chooses
        return
    error = the_refusal(gateway, ask(gateway, a_body(model=name)), 404, "model_not_found")
    assert error["param"] == "model"
    assert len(error["message"]) < 500


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "top-secret", "secret, public", "5", "p\xfablico", "secret " * 1000])
def test_an_unknown_data_class_is_told_so(gateway: Running, value: str) -> None:
    error = the_refusal(gateway, ask(gateway, a_body(), {"x-cauce-data-class": value}), 400, "invalid_request_error")
    assert error["param"] == "x-cauce-data-class"


def test_a_data_class_sent_twice_is_not_lowered_by_the_second(gateway: Running) -> None:
    with connected(gateway) as wire:
        body = a_body()
        wire.sendall(a_head("x-cauce-data-class: secret", "x-cauce-data-class: public", length=len(body)) + body)
        the_refusal(gateway, reply_on(wire), 400, "invalid_request_error")


@pytest.mark.parametrize("value", ["two words", "a;b", "x" * 65, ",".join(map(str, range(17))), "a\xf1o", "{}"])
def test_what_cannot_be_a_tag_is_told_so(gateway: Running, value: str) -> None:
    error = the_refusal(gateway, ask(gateway, a_body(), {"x-cauce-tags": value}), 400, "invalid_request_error")
    assert error["param"] == "x-cauce-tags"


def test_a_compressed_body_is_told_so(gateway: Running) -> None:
    error = the_refusal(gateway, ask(gateway, a_body(), {"content-encoding": "gzip"}), 400, "invalid_request_error")
    assert error["param"] == "content-encoding"
