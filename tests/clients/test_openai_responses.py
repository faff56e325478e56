"""OpenAI's own Python client on the other paths: responses, completions and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients.provider import ARGUMENTS, TEXT
from tests.clients.test_openai_python import DOT, ERRORS
from tests.running import Running
from tests.upstreams.loopback import USAGE, Server

ASK = "What are your opening hours?"
WEATHER: Any = {
    "type": "function", "name": "weather", "description": "The weather of a city", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip


class Order(BaseModel):
    dish: str
    people: int


@pytest.fixture
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key="not-needed", max_retries=0) as opened:
        yield opened


def received(provider: Server) -> dict[str, Any]:
    return provider.requests[-1].body


# --- responses --------------------------------------------------------------------------------------------------------


def test_a_response_comes_whole(client: openai.OpenAI, provider: Server) -> None:
    done = client.responses.create(model="auto", instructions="Be brief.", input=ASK, max_output_tokens=50)
    assert (done.output_text, done.status) == (TEXT, "completed")
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    assert done.usage.input_tokens_details.cached_tokens == 4
    got = received(provider)
    assert got["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}]
    assert got["max_tokens"] == 50
    assert "store" not in got


def test_a_response_comes_streamed_and_the_client_puts_it_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model="auto", input=ASK) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert pieces == ["Hola,", " ¿qué", " tal?"]
    assert final.output_text == TEXT
    assert final.usage is not None
    assert final.usage.total_tokens == USAGE["total_tokens"]


def test_the_events_of_a_stream_begin_created_and_end_completed(client: openai.OpenAI) -> None:
    kinds = [event.type for event in client.responses.create(model="auto", input=ASK, stream=True)]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
def test_a_function_is_called_and_its_output_goes_back(client: openai.OpenAI, provider: Server, streamed: bool) -> None:
    if streamed:
        with client.responses.stream(model="auto", input=ASK, tools=[WEATHER]) as stream:
            output: list[Any] = list(stream.get_final_response().output)
    else:
        output = list(client.responses.create(model="auto", input=ASK, tools=[WEATHER]).output)
    (call,) = output
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", ARGUMENTS)

    talk: Any = [
        {"role": "user", "content": ASK},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"},
    ]
    last = client.responses.create(model="auto", input=talk, tools=[WEATHER])
    assert last.output_text == "The tool says: Sunny"
    assert received(provider)["messages"][1]["tool_calls"][0]["id"] == call.call_id


def test_an_answer_in_a_schema_is_parsed(client: openai.OpenAI, provider: Server) -> None:
    done = client.responses.parse(model="auto", input=ASK, text_format=Order)
    assert done.output_parsed == Order(dish="tortilla", people=4)
    assert received(provider)["response_format"]["json_schema"]["name"] == "Order"
    with client.responses.stream(model="auto", input=ASK, text_format=Order) as stream:
        assert stream.get_final_response().output_parsed == Order(dish="tortilla", people=4)


def test_an_image_goes_through(client: openai.OpenAI, provider: Server) -> None:
    content: Any = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": DOT}]
    done = client.responses.create(model="auto", input=[{"role": "user", "content": content}])
    assert done.output_text == "I see text, image_url"
    assert received(provider)["messages"][0]["content"][1]["image_url"]["url"] == DOT


def test_that_nothing_is_stored_is_said(client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="auto", input=ASK, metadata={"a": "b"})
    assert raw.headers["x-cauce-lost"] == "metadata,store"
    raw = client.responses.with_raw_response.create(model="auto", input=ASK, store=False)
    assert "x-cauce-lost" not in raw.headers


def test_a_response_that_was_stored_before_cannot_be_gone_on_with(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="stores no responses") as caught:
        client.responses.create(model="auto", input=ASK, previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize("wanted", ERRORS, ids=[model for model, *_ in ERRORS])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_the_exception_that_the_client_has_for_it(
    client: openai.OpenAI, stream: bool, wanted: tuple[str, type[openai.APIStatusError], int, str]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model=wanted[0], input=ASK, stream=stream)
    assert (wanted[0], type(caught.value), caught.value.status_code, caught.value.code) == wanted


# --- completions ------------------------------------------------------------------------------------------------------


def test_a_completion_comes_whole(client: openai.OpenAI, provider: Server) -> None:
    done = client.completions.create(model="auto", prompt=ASK, max_tokens=7, n=2, logprobs=1)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in done.choices] == [
        (0, TEXT, "stop"), (1, TEXT, "stop"),
    ]  # fmt: skip
    assert done.choices[0].logprobs is not None
    assert done.choices[0].logprobs.tokens == ["Hola"]
    assert done.usage is not None
    assert done.usage.total_tokens == USAGE["total_tokens"]
    assert received(provider)["max_tokens"] == 7


@pytest.mark.parametrize("asked", [True, False])
def test_a_completion_comes_streamed(client: openai.OpenAI, asked: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.completions.create(model="auto", prompt=ASK, stream=True, **options))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([12] if asked else [])


def test_what_no_chat_model_can_do_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="auto", prompt=ASK, suffix="the end")
    assert caught.value.param == "suffix"


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_embeddings_come_as_numbers_whatever_the_client_asks_for(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="auto", input=["hola", "adiós"])
    plain = client.embeddings.create(model="auto", input=["hola", "adiós"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert len(one.embedding) == 128
    assert plain.usage.prompt_tokens > 0


def test_a_model_that_answers_chats_makes_no_embeddings(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="small", input="hola")
