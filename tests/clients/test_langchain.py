"""LangChain's OpenAI chat model against the gateway."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from tests.clients.provider import TEXT
from tests.running import Running
from tests.upstreams.loopback import USAGE, Server

ASK = "What are your opening hours?"


class Order(BaseModel):
    """An order in a restaurant."""

    dish: str
    people: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


@pytest.fixture
def chat(gateway: Running) -> ChatOpenAI:
    return ChatOpenAI(model="auto", base_url=gateway.base_url, api_key=SecretStr("not-needed"), max_retries=0)


def test_invoke_answers_with_its_usage(chat: ChatOpenAI) -> None:
    said = chat.invoke([SystemMessage("Be brief."), HumanMessage(ASK)])
    assert said.content == TEXT
    assert said.usage_metadata is not None
    assert said.usage_metadata["total_tokens"] == USAGE["total_tokens"]


def test_a_stream_adds_up_to_the_answer_and_its_usage(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream(ASK, stream_usage=True))
    assert "".join(str(chunk.content) for chunk in chunks) == TEXT
    assert [chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata] == [USAGE["total_tokens"]]


def test_a_bound_tool_is_called_and_its_result_is_answered(chat: ChatOpenAI, provider: Server) -> None:
    bound = chat.bind_tools([weather])
    asked = bound.invoke(ASK)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [("weather", {"city": "Madrid"})]
    result = weather.invoke(asked.tool_calls[0])
    assert isinstance(result, ToolMessage)
    assert bound.invoke([HumanMessage(ASK), asked, result]).content == "The tool says: Sunny in Madrid"
    assert provider.requests[-1].body["messages"][-1]["tool_call_id"] == asked.tool_calls[0]["id"]


def test_a_streamed_tool_call_is_put_together(chat: ChatOpenAI) -> None:
    first, *rest = chat.bind_tools([weather]).stream(ASK)
    whole = sum(rest, first)
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", {"city": "Madrid"})]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object_of_the_class(chat: ChatOpenAI, method: str) -> None:
    structured = chat.with_structured_output(Order, method=method)  # type: ignore[arg-type]
    assert structured.invoke(ASK) == Order(dish="tortilla", people=4)


def test_the_asynchronous_methods_answer_too(chat: ChatOpenAI) -> None:
    async def ask() -> tuple[object, str]:
        return (await chat.ainvoke(ASK)).content, "".join([str(chunk.content) async for chunk in chat.astream(ASK)])

    assert asyncio.run(ask()) == (TEXT, TEXT)
