"""LlamaIndex's LLM for OpenAI-like servers: its own features, against BASE_URL."""

import asyncio
import os

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

TEXT = "Hola, ¿qué tal?"
ASK = [ChatMessage(role="user", content="What are your opening hours?")]


class Order(BaseModel):
    """An order in a restaurant."""

    dish: str
    people: int


def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


@pytest.fixture(scope="module")
def llm():
    return OpenAILike(
        model="auto", api_base=os.environ["BASE_URL"], api_key="not-needed", is_chat_model=True,
        is_function_calling_model=True, should_use_structured_outputs=True, context_window=8000, max_retries=0,
    )  # fmt: skip


def test_complete_and_chat(llm):
    assert llm.complete("Hours?").text == TEXT
    assert llm.chat(ASK).message.content == TEXT


def test_streams(llm):
    assert list(llm.stream_chat(ASK))[-1].message.content == TEXT
    assert list(llm.stream_complete("Hours?"))[-1].text == TEXT


def test_tools(llm):
    tool = FunctionTool.from_defaults(fn=weather)
    calls = llm.get_tool_calls_from_response(llm.chat_with_tools([tool], user_msg="Weather?"))
    assert [(call.tool_name, call.tool_kwargs) for call in calls] == [("weather", {"city": "Madrid"})]
    last = list(llm.stream_chat_with_tools([tool], user_msg="Weather?"))[-1]
    assert [call.tool_kwargs for call in llm.get_tool_calls_from_response(last)] == [{"city": "Madrid"}]


def test_structured(llm):
    assert llm.as_structured_llm(Order).chat(ASK).raw == Order(dish="tortilla", people=4)


def test_asynchronous(llm):
    async def ask():
        pieces = [piece.delta async for piece in await llm.astream_chat(ASK)]
        return (await llm.achat(ASK)).message.content, "".join(piece or "" for piece in pieces)

    assert asyncio.run(ask()) == (TEXT, TEXT)
