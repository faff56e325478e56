from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from gateway.errors import BadRequest
from gateway.wire.responses import DOOR, to_chat
from tests.wire.translating import (
    ANSWERS,
    CALL,
    ID,
    assert_golden,
    assert_total,
    events_of,
    pretty,
    read_of,
    spoken,
    stream,
    whole,
)

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CONVERSATION: dict[str, Any] = {
    "model": "auto",
    "instructions": "Be brief.",
    "max_output_tokens": 50,
    "temperature": 0.2,
    "stream": True,
    "store": False,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "weather"},
    "text": {"format": {"type": "json_schema", "name": "order", "schema": {"type": "object"}, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "Rain"}]},
        {"role": "developer", "content": "Answer now."},
    ],
}  # fmt: skip


def dated(text: str) -> str:
    """Without the time, which is always another."""
    return re.sub(r'"created_at":\s*\d+', '"created_at": 0', text)


def test_a_text_is_a_chat_with_one_message() -> None:
    asked = to_chat({"model": "auto", "input": "Hola"})
    assert asked.body == {"model": "auto", "messages": [{"role": "user", "content": "Hola"}]}


def test_items_become_a_chat() -> None:
    asked = to_chat(CONVERSATION)
    assert_golden("responses_as_chat.json", pretty(asked.body))
    assert set(asked.lost) == {"input.reasoning", "metadata", "reasoning.summary"}


@pytest.mark.parametrize(("store", "lost"), [(None, True), (True, True), (False, False)])
def test_that_nothing_is_stored_is_said_unless_the_caller_knows_it(store: bool | None, lost: bool) -> None:
    assert ("store" in to_chat({"input": "Hola", "store": store}).lost) is lost
    assert DOOR.from_chat is not None
    assert DOOR.from_chat(whole(content="x"), {"store": store}, ID)["store"] is False


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": []}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
         "input[0].content[0].file_id"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "n", "arguments": "{}"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"instructions": 5}, "instructions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_needs_a_store_or_is_wrong_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        to_chat({"input": "Hola", **fields})
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "CANARY"},
        {"metadata": {"note": "CANARY"}},
        {"a_field_of_next_year": ["CANARY"]},
        {"reasoning": {"summary": "CANARY"}},
        {"tools": [{**TOOL, "note": "CANARY"}]},
        {"text": {"format": {"type": "text"}, "note": "CANARY"}},
        {"input": [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": [{"text": "CANARY"}]}]},
        {"input": [{"role": "user", "content": "x", "note": "CANARY"}]},
        {"input": [{"type": "function_call", "call_id": "1", "name": "n", "arguments": "CANARY"}]},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": "CANARY"}]},
        {"include": ["CANARY"]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_text_of_the_request_is_read_also_where_it_is_lost(fields: dict[str, Any]) -> None:
    assert "CANARY" in read_of(DOOR, {"input": "x", **fields})


def test_a_whole_answer_is_a_response() -> None:
    assert DOOR.from_chat is not None
    answer = whole(content="Let me look.", tool_calls=[CALL])
    assert_golden("response.json", dated(pretty(DOOR.from_chat(answer, {"input": "x", "tools": [TOOL]}, ID))))


def test_a_stream_has_the_events_of_the_api_in_their_order() -> None:
    assert_golden("response_stream.txt", dated(spoken(DOOR, stream("Let me", " look.", calls=2))))


def test_the_last_event_waits_for_the_end_which_waits_for_the_ledger() -> None:
    blocks = stream("Let me", " look.", calls=1)
    assert "response.completed" not in spoken(DOOR, blocks[:-1])
    assert events_of(spoken(DOOR, blocks))[-1]["type"] == "response.completed"


def test_however_a_stream_is_cut_into_blocks_it_says_the_same() -> None:
    blocks = stream("Let me", " look.", calls=2)
    assert dated(spoken(DOOR, [b"".join(blocks)])) == dated(spoken(DOOR, blocks))


def test_events_are_numbered_without_a_gap() -> None:
    said = events_of(spoken(DOOR, stream("Hola", calls=1)))
    assert [event["sequence_number"] for event in said] == list(range(len(said)))


@pytest.mark.parametrize(("finish", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(finish: str, why: str) -> None:
    last = events_of(spoken(DOOR, stream("Hola", finish=finish)))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": why}


def test_a_refusal_is_a_refusal() -> None:
    assert DOOR.from_chat is not None
    (item,) = DOOR.from_chat(whole(refusal="No."), {}, ID)["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "No."}]


def test_a_stream_that_breaks_ends_in_an_error_and_is_not_completed() -> None:
    broken = b'event: error\ndata: {"error":{"message":"it broke","code":"upstream_broken_answer"}}\n\n'
    said = events_of(spoken(DOOR, [*stream("Hola")[:2], broken]))
    assert [event["type"] for event in said[-2:]] == ["error", "response.failed"]
    assert (said[-2]["code"], said[-2]["message"]) == ("upstream_broken_answer", "it broke")


@given(ANSWERS)
def test_whatever_a_provider_sends_ends_in_an_answer(answer: dict[str, Any]) -> None:
    assert_total(DOOR, answer)
