"""OpenAI's Python client of the version that is installed beside this: its own features, against BASE_URL."""

import asyncio
import os

import openai
import pytest
from pydantic import BaseModel

URL = os.environ["BASE_URL"]
ASK = [{"role": "user", "content": "What are your opening hours?"}]
TEXT = "Hola, ¿qué tal?"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)


class Order(BaseModel):
    dish: str
    people: int


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(base_url=URL, api_key="not-needed", max_retries=0) as opened:
        yield opened


def test_whole(client):
    done = client.chat.completions.create(model="auto", messages=ASK)
    assert (done.choices[0].message.content, done.usage.total_tokens) == (TEXT, 12)


def test_stream_with_usage(client):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="auto", messages=ASK, stream=True, stream_options=options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage.total_tokens == 12


def test_tools_whole_and_streamed(client):
    done = client.chat.completions.create(model="auto", messages=ASK, tools=[WEATHER])
    assert done.choices[0].message.tool_calls[0].function.arguments == '{"city":"Madrid"}'
    with client.chat.completions.stream(model="auto", messages=ASK, tools=[WEATHER]) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.arguments for call in calls] == ['{"city":"Madrid"}']


def test_parsed(client):
    done = client.chat.completions.parse(model="auto", messages=ASK, response_format=Order)
    assert done.choices[0].message.parsed == Order(dish="tortilla", people=4)


def test_image(client):
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": DOT}}]
    done = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": parts}])
    assert done.choices[0].message.content == "I see text, image_url"


def test_responses(client):
    assert client.responses.create(model="auto", input="Hours?").output_text == TEXT
    with client.responses.stream(model="auto", input="Hours?") as stream:
        assert "".join(event.delta for event in stream if event.type == "response.output_text.delta") == TEXT
    parsed = client.responses.parse(model="auto", input="Hours?", text_format=Order)
    assert parsed.output_parsed == Order(dish="tortilla", people=4)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="auto", input="Hours?", previous_response_id="resp_1")


def test_completions(client):
    assert client.completions.create(model="auto", prompt="Hours?").choices[0].text == TEXT


def test_embeddings(client):
    assert len(client.embeddings.create(model="auto", input="hola").data[0].embedding) == 128


def test_models(client):
    assert client.models.retrieve("small").id in {model.id for model in client.models.list()}


def test_errors(client):
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="busy", messages=ASK)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-99", messages=ASK)


def test_headers_and_ids(client):
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=ASK)
    assert raw.headers["x-cauce-model"] == "small"
    assert raw.request_id == raw.headers["x-cauce-request-id"]


def test_asynchronous():
    async def ask():
        async with openai.AsyncOpenAI(base_url=URL, api_key="not-needed", max_retries=0) as client:
            return (await client.chat.completions.create(model="auto", messages=ASK)).choices[0].message.content

    assert asyncio.run(ask()) == TEXT
