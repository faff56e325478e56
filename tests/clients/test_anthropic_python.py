"""Anthropic's own Python client against the gateway, whose models speak another API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from gateway.ledger.keys import create_key
from gateway.ledger.store import open_engine
from tests.builders import a_caller
from tests.clients.conftest import config
from tests.clients.provider import TEXT
from tests.clients.test_openai_python import DOT
from tests.running import Running, running
from tests.upstreams.loopback import USAGE, Server

ASK: Any = [{"role": "user", "content": "What are your opening hours?"}]
WEATHER: Any = {
    "name": "weather", "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip
CACHED: Any = {"cache_control": {"type": "ephemeral"}}
LIMIT = 50


class Order(BaseModel):
    dish: str
    people: int


@pytest.fixture
def client(gateway: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="not-needed", max_retries=0) as opened:
        yield opened


def received(provider: Server) -> dict[str, Any]:
    return provider.requests[-1].body


def test_a_message_comes_whole(client: anthropic.Anthropic, provider: Server) -> None:
    done = client.messages.create(model="auto", max_tokens=LIMIT, system="Be brief.", messages=ASK)
    (block,) = done.content
    assert (block.type, getattr(block, "text", "")) == ("text", TEXT)
    assert (done.stop_reason, done.role) == ("end_turn", "assistant")
    assert (done.usage.input_tokens, done.usage.cache_read_input_tokens) == (5, 4)  # of 9, 4 were cached
    assert done.usage.output_tokens == USAGE["completion_tokens"]
    assert received(provider)["messages"] == [{"role": "system", "content": "Be brief."}, *ASK]
    assert received(provider)["max_tokens"] == LIMIT
    assert done._request_id is not None
    assert done._request_id.startswith("req_")


def test_tokens_are_counted_about_without_a_call(client: anthropic.Anthropic, provider: Server) -> None:
    before = len(provider.requests)
    few = client.messages.count_tokens(model="auto", messages=ASK)
    many = client.messages.count_tokens(model="auto", system="Be brief. " * 100, messages=ASK)
    assert 5 <= few.input_tokens <= 20
    assert 200 <= many.input_tokens - few.input_tokens <= 400
    assert len(provider.requests) == before
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model="auto", messages=[])


def test_a_message_comes_streamed_and_the_client_puts_it_together(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="auto", max_tokens=LIMIT, messages=ASK) as stream:
        assert list(stream.text_stream) == ["Hola,", " ¿qué", " tal?"]
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (5, 4, 3)


def test_the_events_of_a_stream_are_anthropics(client: anthropic.Anthropic) -> None:
    events = client.messages.create(model="auto", max_tokens=LIMIT, messages=ASK, stream=True)
    assert [event.type for event in events] == [
        "message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_used_and_its_result_goes_back(client: anthropic.Anthropic, provider: Server, streamed: bool) -> None:
    fields: Any = {"model": "auto", "max_tokens": LIMIT, "tools": [WEATHER]}
    if streamed:
        with client.messages.stream(**fields, messages=ASK) as stream:
            first: Any = stream.get_final_message()
    else:
        first = client.messages.create(**fields, messages=ASK)
    assert first.stop_reason == "tool_use"
    (use,) = first.content
    assert (use.type, use.name, use.input) == ("tool_use", "weather", {"city": "Madrid"})

    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Sunny"}]}
    spoken: Any = {"role": "assistant", "content": first.content}
    given: Any = {"role": "user", "content": [result]}
    last = client.messages.create(**fields, messages=[*ASK, spoken, given])
    assert getattr(last.content[0], "text", "") == "The tool says: Sunny"
    asked, called, told = received(provider)["messages"]
    assert asked == ASK[0]
    assert called["tool_calls"][0]["id"] == told["tool_call_id"] == use.id


def test_an_answer_in_a_schema_is_parsed(client: anthropic.Anthropic, provider: Server) -> None:
    done = client.messages.parse(model="auto", max_tokens=LIMIT, messages=ASK, output_format=Order)
    assert done.parsed_output == Order(dish="tortilla", people=4)
    assert received(provider)["response_format"]["type"] == "json_schema"


def test_an_image_goes_through(client: anthropic.Anthropic, provider: Server) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": DOT.partition(",")[2]}
    content: Any = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
    done = client.messages.create(model="auto", max_tokens=LIMIT, messages=[{"role": "user", "content": content}])
    assert getattr(done.content[0], "text", "") == "I see text, image_url"
    assert received(provider)["messages"][0]["content"][1]["image_url"]["url"] == DOT


def test_cache_hints_do_not_reach_a_model_that_knows_none_and_are_named(
    client: anthropic.Anthropic, provider: Server
) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", **CACHED}]
    raw = client.messages.with_raw_response.create(model="auto", max_tokens=LIMIT, system=system, messages=ASK)
    assert raw.headers["x-cauce-lost"] == "cache_control"
    assert b"cache_control" not in provider.requests[-1].raw


ERRORS: list[tuple[str, type[anthropic.APIStatusError], int, str]] = [
    ("gpt-99", anthropic.NotFoundError, 404, "not_found_error"),
    ("busy", anthropic.RateLimitError, 429, "rate_limit_error"),
    ("down", anthropic.InternalServerError, 502, "api_error"),
    ("picky", anthropic.BadRequestError, 400, "invalid_request_error"),
    ("full", anthropic.BadRequestError, 400, "invalid_request_error"),
]


@pytest.mark.parametrize("wanted", ERRORS, ids=[model for model, *_ in ERRORS])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_the_exception_that_the_client_has_for_it(
    client: anthropic.Anthropic, stream: bool, wanted: tuple[str, type[anthropic.APIStatusError], int, str]
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=wanted[0], max_tokens=LIMIT, messages=ASK, stream=stream)
    error = caught.value
    assert isinstance(error.body, dict)
    assert (wanted[0], type(error), error.status_code, error.body["error"]["type"]) == wanted
    assert error.request_id == error.response.headers["x-cauce-request-id"] == error.body["request_id"]


def test_with_keys_set_up_a_key_is_taken_from_either_header(
    provider: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("anthropic-keys")
    engine = open_engine(f"sqlite:///{folder / 'cauce.db'}")
    key = create_key(engine, a_caller()).key
    engine.dispose()
    with running(folder, config(provider.url)) as gateway:
        for fields in ({"api_key": key}, {"api_key": None, "default_headers": {"x-api-key": key}}):
            with anthropic.Anthropic(base_url=gateway.url, max_retries=0, **fields) as client:
                done = client.messages.create(model="auto", max_tokens=LIMIT, messages=ASK)
                assert getattr(done.content[0], "text", "") == TEXT
                assert key not in str(provider.requests[-1].headers)
        with (
            anthropic.Anthropic(base_url=gateway.url, api_key="ck-wrong", max_retries=0) as stranger,
            pytest.raises(anthropic.AuthenticationError),
        ):
            stranger.messages.create(model="auto", max_tokens=LIMIT, messages=ASK)
