from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamTimeout
from gateway.sse import DONE, MAX_EVENT_BYTES, Aligner, Relay, error_event, events, payload, read_usage
from gateway.types import Usage

USAGE = {"prompt_tokens": 57, "completion_tokens": 20, "total_tokens": 77}


def chunk(content: str | None = "hi", **fields: object) -> bytes:
    delta = {} if content is None else {"content": content}
    body = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **fields}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def usage_event(**fields: object) -> bytes:
    return b"data: " + orjson.dumps({"id": "c", "choices": [], "usage": USAGE, **fields}) + b"\n\n"


STREAM = chunk("Hola") + chunk(" ¿qué tal?") + chunk(None) + usage_event() + DONE


def decoded(data: bytes) -> list[bytes]:
    return [payload(event) for event in events(data)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_split_anywhere_decodes_the_same(cuts: list[int], newline: bytes) -> None:
    stream = STREAM.replace(b"\n", newline)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    aligner = Aligner()
    blocks = [aligner.feed(stream[a:b]) for a, b in itertools.pairwise(edges)]
    assert decoded(b"".join(blocks) + aligner.rest) == decoded(STREAM)
    for block in filter(None, blocks):
        assert block.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))


def test_half_an_event_is_held_back() -> None:
    aligner = Aligner()
    assert aligner.feed(b'data: {"a"') == b""
    assert aligner.rest == b'data: {"a"'


def test_an_event_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        Aligner().feed(b"data: " + b"x" * MAX_EVENT_BYTES)


def test_what_the_gateway_does_not_need_to_touch_goes_out_as_it_came() -> None:
    odd = b'data:{"choices" : [ {"delta":{"content":"\\u00e1"} } ] ,"x":1.0e2}\n\n: a comment\n\n'
    assert Relay(include_usage=False).feed(odd) == odd


def test_usage_is_read_and_hidden_from_a_client_that_did_not_ask() -> None:
    relay = Relay(include_usage=False)
    sent = relay.feed(chunk(usage=None) + chunk() + usage_event() + DONE)
    assert relay.usage == Usage(57, 20)
    assert b"usage" not in sent
    assert len(decoded(sent)) == 2


def test_usage_is_shown_to_a_client_that_asked() -> None:
    relay = Relay(include_usage=True)
    block = chunk(usage=None) + usage_event()
    assert relay.feed(block + DONE) == block
    assert relay.usage == Usage(57, 20)


def test_usage_in_the_last_content_event_is_taken_out_of_it() -> None:
    relay = Relay(include_usage=False)
    sent = relay.feed(chunk("bye", usage=USAGE))
    assert relay.usage == Usage(57, 20)
    assert orjson.loads(decoded(sent)[0])["choices"][0]["delta"] == {"content": "bye"}
    assert b"usage" not in sent


@pytest.mark.parametrize("text", ['"usage":null', ',"usage":null,', "[DONE]", "data: [DONE]", '"finish_reason":"stop"'])
def test_a_text_that_looks_like_the_protocol_is_only_text(text: str) -> None:
    relay = Relay(include_usage=False, collect_chars=1000)
    assert relay.feed(chunk(text)) == chunk(text)
    assert relay.text == text
    assert not relay.done
    assert relay.finish_reason == ""


def test_done_is_kept_back_until_the_ledger_is_written() -> None:
    relay = Relay(include_usage=False)
    assert relay.feed(chunk() + DONE) == chunk()
    assert (relay.done, relay.done_bytes) == (True, DONE)


def test_details_of_usage_are_read() -> None:
    relay = Relay(include_usage=False)
    usage = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    relay.feed(usage_event(usage=usage))
    assert relay.usage == Usage(57, 20, cached_tokens=7, reasoning_tokens=3)


def test_content_and_tool_calls_are_counted() -> None:
    relay = Relay(include_usage=False)
    relay.feed(chunk(""))
    assert relay.content_events == 0
    relay.feed(chunk("a") + chunk("b"))
    assert relay.content_events == 2
    relay.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]},"finish_reason":null}]}\n\n')
    assert (relay.content_events, relay.tool_calls) == (3, 1)
    relay.feed(b'data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}\n\n')
    assert relay.finish_reason == "tool_calls"


@given(st.binary(max_size=200))
def test_any_bytes_are_relayed_without_a_fault(data: bytes) -> None:
    aligner, relay = Aligner(), Relay(include_usage=False, collect_chars=100)
    relay.feed(aligner.feed(data))


def test_a_broken_stream_ends_in_an_error_with_its_code_and_no_done() -> None:
    event = error_event(UpstreamTimeout("no answer"), "req_1")
    assert orjson.loads(payload(event))["error"]["code"] == "upstream_timeout"
    assert b"[DONE]" not in event


def test_every_kind_of_token_is_read_as_its_provider_says_it() -> None:
    openai = {
        "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 10},
    }  # fmt: skip
    anthropic = {  # as LiteLLM translates it
        "prompt_tokens": 100, "completion_tokens": 50, "cache_creation_input_tokens": 60, "cache_read_input_tokens": 30,
        "prompt_tokens_details": {
            "cached_tokens": 30, "cache_creation_tokens": 60,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 20},
        },
    }  # fmt: skip
    gemini = {
        "prompt_tokens": 100, "completion_tokens": 50,
        "prompt_tokens_details": {"image_tokens": 25}, "completion_tokens_details": {"image_tokens": 15},
    }  # fmt: skip
    assert read_usage(openai, "flex") == Usage(
        100, 50, 40, 20, prompt_audio_tokens=30, completion_audio_tokens=10, tier="flex"
    )
    assert read_usage(anthropic) == Usage(100, 50, 30, cache_write_tokens=60, cache_write_1h_tokens=20)
    assert read_usage(gemini) == Usage(100, 50, prompt_image_tokens=25, completion_image_tokens=15)


def test_a_kind_that_was_not_reported_is_unknown_and_not_zero() -> None:
    usage = read_usage({"prompt_tokens": 100, "completion_tokens": 50})
    assert usage == Usage(100, 50)
    assert usage.cached_tokens is None
