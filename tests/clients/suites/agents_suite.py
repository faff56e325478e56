"""pydantic-ai and instructor: their own features, against BASE_URL."""

import asyncio
import os

import instructor
import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

URL = os.environ["BASE_URL"]
TEXT = "Hola, ¿qué tal?"
ASK = "What are your opening hours?"


class Order(BaseModel):
    """An order in a restaurant."""

    dish: str
    people: int


@pytest.fixture
def model():
    return OpenAIChatModel("auto", provider=OpenAIProvider(base_url=URL, api_key="not-needed"))


def test_an_agent_answers(model):
    done = Agent(model, instructions="Be brief.").run_sync(ASK)
    assert done.output == TEXT
    assert done.usage.output_tokens == 3


def test_an_agent_streams(model):
    async def ask():
        async with Agent(model).run_stream(ASK) as run:
            return "".join([piece async for piece in run.stream_text(delta=True)])

    assert asyncio.run(ask()) == TEXT


def test_an_agent_calls_its_tool(model):
    agent = Agent(model)
    asked = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "Sunny"

    assert agent.run_sync(ASK).output == "The tool says: Sunny"
    assert asked == ["Madrid"]


@pytest.mark.parametrize("wanted", [Order, NativeOutput(Order)], ids=["by a tool", "by a schema"])
def test_an_agent_gives_an_object(model, wanted):
    assert Agent(model, output_type=wanted).run_sync(ASK).output == Order(dish="tortilla", people=4)


def test_an_agent_sees(model):
    dot = BinaryContent(data=b"\x89PNG", media_type="image/png")
    assert Agent(model).run_sync(["What is this?", dot]).output == "I see text, image_url"


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA])
def test_instructor_gives_an_object(mode):
    with openai.OpenAI(base_url=URL, api_key="not-needed", max_retries=0) as opened:
        client = instructor.from_openai(opened, mode=mode)
        messages = [{"role": "user", "content": ASK}]
        done = client.chat.completions.create(model="auto", messages=messages, response_model=Order)
        assert (done.dish, done.people) == ("tortilla", 4)
        *_, last = client.chat.completions.create_partial(model="auto", messages=messages, response_model=Order)
        assert (last.dish, last.people) == ("tortilla", 4)
