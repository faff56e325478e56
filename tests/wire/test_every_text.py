"""What the privacy scan is given of a request: all of it that could be text, and nothing of the protocol's own."""

from __future__ import annotations

import pytest

from gateway.types import Part
from tests.wire.test_chat import all_text, read, user

USUAL = {
    "model": "auto", "stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.2, "top_p": 0.9, "n": 1, "seed": 123_456_789, "max_tokens": 500, "max_completion_tokens": 500,
    "presence_penalty": 0, "frequency_penalty": 0.5, "logprobs": True, "top_logprobs": 5, "store": False,
    "parallel_tool_calls": True,
}  # fmt: skip


def test_the_usual_fields_are_no_text() -> None:
    assert read({**user("hola"), **USUAL}).parts == (Part("user", "hola"),)


@pytest.mark.parametrize("value", [True, None, 7, 0.5, [], {}, [1, 2], {"a": 1}, "data:image/png;base64,AAAA"])
def test_a_name_that_a_caller_made_up_is_text_whatever_it_holds(value: object) -> None:
    assert "CANARY" in all_text(read({**user("x"), "CANARY": value}))
    assert "CANARY" in all_text(read({**user("x"), "metadata": {"CANARY": value}}))
    assert "CANARY" in all_text(read({"messages": [{"role": "user", "content": "x", "CANARY": value}]}))


@pytest.mark.parametrize("number", [612345678, -612345678, 612345678.0, 4111111111111111])
def test_a_long_number_is_text_wherever_it_stands(number: float) -> None:
    for body in ({"phone": number}, {"metadata": {"phone": number}}, {"x": [[number]]}):
        assert f"{number:.0f}".lstrip("-") in all_text(read({**user("x"), **body}))


def test_short_numbers_in_a_list_are_no_text() -> None:
    assert all_text(read({**user("x"), "vector": [0.25] * 1000})) == "x\nvector"
    assert all_text(read({**user("x"), "logit_bias": {"50256": -100, "11": 5}})) == "x\nlogit_bias"


def test_a_refusal_beside_a_text_is_text() -> None:
    piece = {"type": "text", "text": "x", "refusal": "CANARY"}
    assert "CANARY" in all_text(read({"messages": [{"role": "assistant", "content": [piece]}]}))


def test_a_sentence_among_names_is_read_alone_and_names_together() -> None:
    sentence = "Soy diabético y llevo tres meses con ansiedad"
    parts = read({**user("x"), "metadata": {"nota": sentence, "a": "b", "c": "d"}}).parts
    assert parts == (Part("user", "x"), Part("field", f"nota: {sentence}"), Part("field", "metadata\na: b\nc: d"))


def test_a_request_cannot_ask_for_any_number_of_readings() -> None:
    sentences = [f"Soy diabético y llevo {number} meses con ansiedad" for number in range(1000)]
    inbound = read({**user("x"), "x_notes": sentences})
    assert len(inbound.parts) < 100
    assert all(sentence in all_text(inbound) for sentence in sentences)
