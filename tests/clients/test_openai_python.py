"""OpenAI's own Python client against the gateway: what works with OpenAI works here, whole and streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from gateway.ledger.keys import create_key
from gateway.ledger.store import open_engine
from tests.builders import a_caller
from tests.clients.conftest import config
from tests.clients.provider import ARGUMENTS, TEXT, WEATHER
from tests.running import Running, running
from tests.upstreams.loopback import USAGE, Server

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What are your opening hours?"}]
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
HEADERS = (
    "request-id", "model", "route", "rule", "zone", "data-class", "slm-success", "gain", "cache", "escalated",
    "cost-usd", "policy",
)  # fmt: skip


class Order(BaseModel):
    dish: str
    people: int


@pytest.fixture
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key="not-needed", max_retries=0) as opened:
        yield opened


def received(provider: Server) -> dict[str, Any]:
    """What the provider got last."""
    return provider.requests[-1].body


def test_auto_lets_the_policy_choose_and_the_provider_gets_its_own_model_name(
    client: openai.OpenAI, provider: Server
) -> None:
    done = client.chat.completions.create(model="auto", messages=ASK)
    assert done.choices[0].message.content == TEXT
    assert done.choices[0].finish_reason == "stop"
    assert done.usage is not None
    assert done.usage.total_tokens == USAGE["total_tokens"]
    assert done.choices[0].logprobs is None
    assert received(provider)["model"] == "small-1"
    assert received(provider)["messages"] == ASK


def test_a_stream_arrives_in_the_pieces_that_the_provider_sent(client: openai.OpenAI) -> None:
    pieces = [
        chunk.choices[0].delta.content
        for chunk in client.chat.completions.create(model="auto", messages=ASK, stream=True)
    ]
    assert pieces == ["", "Hola,", " ¿qué", " tal?", None]


@pytest.mark.parametrize("asked", [True, False])
def test_the_usage_chunk_of_a_stream_comes_only_when_it_was_asked_for(
    client: openai.OpenAI, provider: Server, asked: bool
) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.chat.completions.create(model="auto", messages=ASK, stream=True, **options))
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([12] if asked else [])
    assert all(chunk.choices for chunk in chunks[: -1 if asked else None])
    assert received(provider)["stream_options"]["include_usage"] is True


def test_a_tool_is_called_and_its_result_goes_back(client: openai.OpenAI, provider: Server) -> None:
    tools: Any = [WEATHER]
    first = client.chat.completions.create(model="auto", messages=ASK, tools=tools, tool_choice="auto")
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", ARGUMENTS)
    assert received(provider)["tools"] == tools

    spoken: Any = message.model_dump(exclude_none=True)
    talk = [*ASK, spoken, {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}]
    last = client.chat.completions.create(model="auto", messages=talk, tools=tools)
    assert last.choices[0].message.content == "The tool says: Sunny"
    assert received(provider)["messages"][1]["tool_calls"][0]["id"] == call.id


def test_a_streamed_tool_call_is_put_together_by_the_client(client: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    with client.chat.completions.stream(model="auto", messages=ASK, tools=tools) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert [call.function.arguments for call in message.tool_calls] == [ARGUMENTS]


def test_an_answer_in_a_schema_is_parsed(client: openai.OpenAI, provider: Server) -> None:
    done = client.chat.completions.parse(model="auto", messages=ASK, response_format=Order)
    assert done.choices[0].message.parsed == Order(dish="tortilla", people=4)
    assert received(provider)["response_format"]["json_schema"]["name"] == "Order"


def test_a_streamed_answer_in_a_schema_is_parsed(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=ASK, response_format=Order) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Order(dish="tortilla", people=4)


def test_logprobs_come_when_they_are_asked_for(client: openai.OpenAI) -> None:
    logprobs = client.chat.completions.create(model="auto", messages=ASK, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert logprobs.content[0].logprob == -0.1


def test_several_answers_come_as_several_choices(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="auto", messages=ASK, n=2)
    assert [(choice.index, choice.message.content) for choice in done.choices] == [(0, TEXT), (1, TEXT)]


def test_an_image_goes_through_as_it_is_to_a_model_that_takes_images(client: openai.OpenAI, provider: Server) -> None:
    content: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": DOT}}]
    done = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": content}])
    assert done.choices[0].message.content == "I see text, image_url"
    assert received(provider)["messages"][0]["content"] == content


def test_fields_that_nobody_here_knows_reach_the_provider(client: openai.OpenAI, provider: Server) -> None:
    extra = {"top_k": 3, "chat_template_kwargs": {"enable_thinking": False}, "a_field_of_next_year": ["x", None]}
    client.chat.completions.create(model="auto", messages=ASK, temperature=0.1, seed=7, extra_body=extra)
    got = received(provider)
    assert {name: got[name] for name in extra} == extra
    assert (got["temperature"], got["seed"]) == (0.1, 7)


def test_what_the_caller_sends_as_credentials_and_headers_stays_here(client: openai.OpenAI, provider: Server) -> None:
    client.chat.completions.create(model="auto", messages=ASK, extra_headers={"x-team": "billing"})
    sent = provider.requests[-1].headers
    assert "x-team" not in sent
    assert "not-needed" not in str(sent)
    assert not any(name.startswith("x-stainless") for name in sent)


def test_the_headers_say_what_happened(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASK)
    said = {name: raw.headers.get(f"x-cauce-{name}") for name in HEADERS}
    assert None not in said.values(), said
    assert said["model"] == "small"
    assert said["zone"] == "premises"
    assert said["data-class"] == "public"
    assert said["cache"] == "off"
    assert said["escalated"] == "false"
    assert str(said["policy"]).startswith("default@")
    assert raw.parse()._request_id == said["request-id"]


def test_a_stream_says_the_same_but_for_what_it_costs(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(model="auto", messages=ASK, stream=True) as raw:
        said = {name: raw.headers.get(f"x-cauce-{name}") for name in HEADERS}
        assert [name for name, value in said.items() if value is None] == ["cost-usd"]
        assert raw.headers["content-type"].startswith("text/event-stream")


ERRORS: list[tuple[str, type[openai.APIStatusError], int, str]] = [
    ("gpt-99", openai.NotFoundError, 404, "model_not_found"),
    ("busy", openai.RateLimitError, 429, "upstream_overloaded"),
    ("down", openai.InternalServerError, 502, "upstream_error"),
    ("picky", openai.BadRequestError, 400, "upstream_rejected"),
    ("full", openai.BadRequestError, 400, "context_length_exceeded"),
]


@pytest.mark.parametrize("wanted", ERRORS, ids=[model for model, *_ in ERRORS])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_the_exception_that_the_client_has_for_it(
    client: openai.OpenAI, stream: bool, wanted: tuple[str, type[openai.APIStatusError], int, str]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=wanted[0], messages=ASK, stream=stream)
    error = caught.value
    assert (wanted[0], type(error), error.status_code, error.code) == wanted
    assert error.request_id == error.response.headers["x-cauce-request-id"]
    assert isinstance(error.body, dict)
    assert error.body["message"]


def test_a_wrong_field_is_a_bad_request_that_names_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[])
    assert caught.value.param == "messages"


def test_how_long_to_wait_is_what_the_provider_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="busy", messages=ASK)
    assert caught.value.response.headers["retry-after"] == "7"


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [
        "auto", "small", "busy", "down", "picky", "full", "cauce-static-128",
    ]  # fmt: skip
    assert client.models.retrieve("small").owned_by == "openai-compatible"
    assert client.models.retrieve("auto").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-99")
    assert caught.value.code == "model_not_found"


def test_the_asynchronous_client_gets_its_answers_too(gateway: Running) -> None:
    async def ask() -> tuple[str | None, str, list[str]]:
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="not-needed", max_retries=0) as client:
            whole = await client.chat.completions.create(model="auto", messages=ASK)
            text = ""
            async for chunk in await client.chat.completions.create(model="auto", messages=ASK, stream=True):
                text += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content, text, [model.id async for model in client.models.list()][:2]

    assert asyncio.run(ask()) == (TEXT, TEXT, ["auto", "small"])


def test_with_keys_set_up_a_right_key_is_served_and_any_other_is_an_authentication_error(
    provider: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    engine = open_engine(f"sqlite:///{folder / 'cauce.db'}")
    key = create_key(engine, a_caller(models=frozenset({"auto"}))).key
    engine.dispose()
    with running(folder, config(provider.url)) as gateway:
        with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
            assert client.chat.completions.create(model="auto", messages=ASK).choices[0].message.content == TEXT
            assert received(provider)["messages"] == ASK
            assert key not in str(provider.requests[-1].headers)
            with pytest.raises(openai.PermissionDeniedError) as denied:
                client.chat.completions.create(model="small", messages=ASK)
            assert denied.value.code == "model_not_allowed"
        with openai.OpenAI(base_url=gateway.base_url, api_key="ck-wrong", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                stranger.chat.completions.create(model="auto", messages=ASK)
            assert caught.value.code == "invalid_api_key"
            assert "ck-wrong" not in str(caught.value)
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
