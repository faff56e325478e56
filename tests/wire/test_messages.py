from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given

from gateway.errors import BadRequest, NothingAllowed
from gateway.stages.call import without_hints
from gateway.wire.headers import reply_headers
from gateway.wire.messages import DOOR, check, error_body, to_chat
from tests.builders import LARGE, SMALL, an_attempt, an_exchange
from tests.upstreams.loopback import DONE, delta
from tests.wire.translating import (
    ANSWERS,
    CALL,
    ID,
    assert_golden,
    assert_total,
    events_of,
    inbound,
    pretty,
    read_of,
    spoken,
    stream,
    whole,
)

CACHED = {"cache_control": {"type": "ephemeral"}}
TOOL = {"name": "weather", "description": "Of a city", "input_schema": {"type": "object", "properties": {}}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
CONVERSATION: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "Be brief.", **CACHED}],
    "temperature": 0.2,
    "top_k": 5,
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u-1"},
    "stream": True,
    "tools": [{**TOOL, **CACHED, "strict": True}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "source": PIXEL}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "A map.", "signature": "c2lnbmVk"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Madrid"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny", "is_error": True},
                {"type": "text", "text": "And now?"},
            ],
        },
    ],
}


def test_a_conversation_becomes_a_chat() -> None:
    asked = to_chat(CONVERSATION)
    assert_golden("messages_as_chat.json", pretty(asked.body))
    assert set(asked.lost) == {"is_error", "output_config.effort", "stop_sequence"}
    assert asked.hints == {"cache_control", "thinking", "thinking_blocks", "top_k"}


def test_what_only_anthropic_takes_reaches_no_other_model() -> None:
    asked = to_chat(CONVERSATION)
    plain = without_hints(asked.body, asked.hints)
    assert not [hint for hint in asked.hints if f"'{hint}'" in str(plain)]
    messages = plain["messages"]
    assert isinstance(messages, list)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert "cache_control" in str(asked.body), "the caller's own request is as it was"


def test_a_hint_is_named_as_lost_unless_the_model_takes_it() -> None:
    exchange = an_exchange(an_attempt(SMALL), inbound=inbound(DOOR, CONVERSATION))
    lost = dict(reply_headers(exchange))[b"x-cauce-lost"].decode().split(",")
    assert {"cache_control", "thinking", "top_k", "stop_sequence", "output_config.effort"} <= set(lost)
    takes = dataclasses.replace(LARGE, hints=frozenset({"cache_control", "thinking", "thinking_blocks", "top_k"}))
    exchange = an_exchange(an_attempt(takes), inbound=inbound(DOOR, CONVERSATION))
    assert dict(reply_headers(exchange))[b"x-cauce-lost"] == b"is_error,output_config.effort,stop_sequence"


def test_a_made_up_name_is_not_repeated_in_a_header() -> None:
    body = {**CONVERSATION, "a\r\nx-evil: 1": 1, "ñ": 2}
    exchange = an_exchange(an_attempt(SMALL), inbound=inbound(DOOR, body))
    lost = dict(reply_headers(exchange))[b"x-cauce-lost"]
    assert b"\n" not in lost
    assert b"other" in lost.split(b",")


@pytest.mark.parametrize(
    "fields",
    [
        {"system": "CANARY"},
        {"container": "CANARY"},
        {"a_field_of_next_year": {"CANARY": 1}},
        {"metadata": {"note": "CANARY"}},
        {"tools": [{**TOOL, "input_examples": [{"q": "CANARY"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "citations": ["CANARY"]}]}]},
        {"messages": [{"role": "user", "content": "x", "note": "CANARY"}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "n",
                                                         "input": {"a": ["CANARY"]}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1",
                                                    "content": [{"type": "text", "text": "CANARY"}]}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "CANARY"}]}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"description": "CANARY"}}}},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_every_text_of_the_request_is_read_also_where_it_is_lost(fields: dict[str, Any]) -> None:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **fields}
    assert "CANARY" in read_of(DOOR, body)


@pytest.mark.parametrize(
    ("signature", "is_read"),
    [
        (base64.b64encode(bytes(range(255, 155, -1))).decode(), False),
        (base64.b64encode("La contraseña del correo es Tr3bol y no se la digas a nadie.".encode()).decode(), True),
        ("ghp_Tr3bolAbcdQx91aB2cD3eF4gH5iJ6kL7mN8oP9qR" * 2, True),
        ("La contraseña del correo es Tr3bol y no se la digas a nadie, por favor te lo pido", True),
        ("c2ln", True),
    ],
    ids=["bytes", "a text in base64", "a token", "a text", "short"],
)
def test_the_seal_on_a_thought_is_no_text_unless_it_holds_one(signature: str, is_read: bool) -> None:
    thought = {"type": "thinking", "thinking": "x", "signature": signature}
    body = {"max_tokens": 5, "messages": [{"role": "assistant", "content": [thought]}]}
    assert (signature in read_of(DOOR, body)) is is_read


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": [], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
         "messages[0].content[0].source.type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "image", "source": PIXEL}]}]},
         "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "n", "input": 5}]}]},
         "messages[0].content[0].input"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "n"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"system": 5}, "system"),
        ({"stop_sequences": [5]}, "stop_sequences[0]"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_field_that_is_wrong_is_named_as_the_caller_wrote_it(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        to_chat({"max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **fields})
    assert caught.value.param == param


def test_a_whole_answer_is_a_message() -> None:
    assert DOOR.from_chat is not None
    answer = whole(content="Let me look.", tool_calls=[CALL])
    assert_golden("message.json", pretty(DOOR.from_chat(answer, {}, ID)))


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("tool_calls", "tool_use")],
)
def test_the_reason_to_stop_is_anthropics_word_for_it(finish: str, reason: str) -> None:
    assert DOOR.from_chat is not None
    assert DOOR.from_chat(whole(content="x", finish=finish), {}, ID)["stop_reason"] == reason


def test_a_stream_has_anthropics_events_in_their_order() -> None:
    assert_golden("message_stream.txt", spoken(DOOR, stream("Let me", " look.", calls=2)))


def test_the_last_event_waits_for_the_end_which_waits_for_the_ledger() -> None:
    blocks = stream("Let me", " look.", calls=1)
    assert "message_stop" not in spoken(DOOR, blocks[:-1])
    assert events_of(spoken(DOOR, blocks))[-1]["type"] == "message_stop"


def test_however_a_stream_is_cut_into_blocks_it_says_the_same() -> None:
    blocks = stream("Let me", " look.", calls=2)
    assert spoken(DOOR, [b"".join(blocks)]) == spoken(DOOR, blocks)


def test_thoughts_come_before_the_answer_with_their_signature() -> None:
    thoughts = [
        delta(thinking_blocks=[{"type": "thinking", "thinking": "Hm."}]),
        delta(thinking_blocks=[{"type": "thinking", "thinking": "", "signature": "c2ln"}]),
    ]
    said = events_of(spoken(DOOR, [*thoughts, delta("Yes"), delta(finish="stop"), DONE]))
    blocks = [event["content_block"]["type"] for event in said if event["type"] == "content_block_start"]
    assert blocks == ["thinking", "text"]
    deltas = [event["delta"]["type"] for event in said if event["type"] == "content_block_delta"]
    assert deltas == ["thinking_delta", "signature_delta", "text_delta"]


def test_a_stream_that_breaks_ends_in_anthropics_error_and_no_stop() -> None:
    broken = b'event: error\ndata: {"error":{"message":"it broke","code":"upstream_broken_answer"}}\n\n'
    said = events_of(spoken(DOOR, [*stream("Hola")[:2], broken]))
    assert said[-1]["type"] == "error"
    assert said[-1]["error"] == {"type": "api_error", "message": "it broke", "code": "upstream_broken_answer"}
    assert "message_stop" not in [event["type"] for event in said]


def test_an_error_has_anthropics_shape() -> None:
    assert_golden("message_error.json", error_body(NothingAllowed("no model may answer"), ID).decode() + "\n")


@pytest.mark.parametrize("version", [b"2023-01-01", b"tomorrow", b""])
def test_another_version_of_the_api_is_refused(version: bytes) -> None:
    with pytest.raises(BadRequest):
        check({b"anthropic-version": version})
    check({b"anthropic-version": b"2023-06-01"})
    check({b"anthropic-version": b"2026-10-21"})
    check({})


@given(ANSWERS)
def test_whatever_a_provider_sends_ends_in_an_answer(answer: dict[str, Any]) -> None:
    assert_total(DOOR, answer)
