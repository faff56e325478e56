from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from gateway.errors import BadRequest
from gateway.wire.completions import DOOR, to_chat
from tests.wire.translating import (
    ANSWERS,
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


@pytest.mark.parametrize("prompt", ["Hola", ["Hola"]])
def test_the_prompt_becomes_a_users_message(prompt: object) -> None:
    asked = to_chat({"model": "auto", "prompt": prompt, "temperature": 0.1, "a_field_of_next_year": [1]})
    assert asked.body == {
        "model": "auto", "messages": [{"role": "user", "content": "Hola"}], "max_tokens": 16, "temperature": 0.1,
        "a_field_of_next_year": [1],
    }  # fmt: skip
    assert asked.lost == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_no_chat_model_can_do_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        to_chat({"prompt": "Hola", **fields})
    assert caught.value.param == param


def test_what_only_a_chat_has_is_lost_and_read_all_the_same() -> None:
    body = {"prompt": "Hola", "messages": [{"role": "user", "content": "CANARY-1"}], "tools": [{"x": "CANARY-2"}]}
    asked = to_chat(body)
    assert set(asked.lost) == {"messages", "tools"}
    assert "CANARY" not in str(asked.body)
    read = read_of(DOOR, body)
    assert "CANARY-1" in read
    assert "CANARY-2" in read


def test_a_whole_answer_is_a_text_completion() -> None:
    answer = whole(content="Hola")
    answer["choices"][0]["logprobs"] = {
        "content": [{"token": "Ho", "logprob": -0.1, "top_logprobs": [{"token": "Ho", "logprob": -0.1}]},
                    {"token": "la", "logprob": -0.2, "top_logprobs": []}]
    }  # fmt: skip
    assert DOOR.from_chat is not None
    assert_golden("completion.json", pretty(DOOR.from_chat(answer, {}, ID)))


def test_a_stream_is_chunks_of_text_and_its_end() -> None:
    assert_golden("completion_stream.txt", spoken(DOOR, stream("Hola", ", ¿qué tal?")))


def test_however_a_stream_is_cut_into_blocks_it_says_the_same() -> None:
    blocks = stream("Hola", ", ¿qué tal?")
    assert spoken(DOOR, [b"".join(blocks)]) == spoken(DOOR, blocks)


def test_an_error_in_a_stream_is_left_as_it_is() -> None:
    broken = b'event: error\ndata: {"error":{"message":"it broke","code":"upstream_broken_answer"}}\n\n'
    assert spoken(DOOR, [*stream("Hola")[:2], broken]).endswith(broken.decode())
    assert events_of(broken.decode())[0]["error"]["message"] == "it broke"


@given(ANSWERS)
def test_whatever_a_provider_sends_ends_in_an_answer(answer: dict[str, Any]) -> None:
    assert_total(DOOR, answer)
