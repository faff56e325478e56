"""What every adapter does alike, against a server in its provider's format. For faults: `test_contract_faults.py`."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamFailed, UpstreamRejected
from gateway.sse import DONE
from gateway.types import Usage
from gateway.upstreams.fake import FakeUpstream, an_answer
from tests.upstreams.dialects import ARGUMENTS, COMPLETION, KEY, PROMPT, TEXT, Dialect, Heard, Say
from tests.upstreams.loopback import a_model, clean_run, released
from tests.upstreams.speaking import BOTH, DIALECTS, EVERY, EVERY_TRANSLATED, LITELLMS_WARNING, ask, sound, speaking
from tests.upstreams.translated import Bedrock

pytestmark = [pytest.mark.usefixtures("at_home"), LITELLMS_WARNING]

_CITY: dict[str, Any] = {"$ref": "#/$defs/City", "title": "Where"}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "strict": True,
        "schema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$defs": {"City": {"type": "string", "title": "City", "default": "Ávila"}},
            "type": "object",
            "properties": {"city": _CITY, "size": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}},
            "required": ["city", "size"],
            "additionalProperties": False,
        },
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CONVERSATION: dict[str, Any] = {
    "max_tokens": 50,
    "tools": [WEATHER],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Where is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Sun; see https://example.com"},
        {"role": "user", "content": "So, http://example.com or not?"},
    ],
}


def counted(usage: Usage | None) -> tuple[int, int, int]:
    """Tokens in, out, and of those in, read from a cache."""
    assert usage is not None
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0


@EVERY
@BOTH
def test_an_answer_comes_in_openais_shape_with_its_usage(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            got = await ask(upstream, stream=stream)
            assert (got.text, got.finish, got.calls) == (TEXT, "stop", ())
            assert counted(got.usage) == (PROMPT, COMPLETION, dialect.cached)
            (request,) = server.requests
            assert dialect.key(request) == KEY

    clean_run(main())


@EVERY
@BOTH
def test_a_conversation_reaches_the_provider_in_its_own_words(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            await ask(upstream, stream=stream, **CONVERSATION)
            assert dialect.heard(server.requests[0].body) == Heard(
                system="Be brief.",
                texts=("Where is this?", "So, http://example.com or not?"),
                tools=("weather",),
                calls=("weather",),
                results=("Sun; see https://example.com",),
                images=(PIXEL,),
                max_tokens=50,
            )

    clean_run(main())


@EVERY
@BOTH
def test_a_call_of_a_tool_comes_back(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect, sound(dialect, Say("tool_calls", tool=True))) as (upstream, _server):
            got = await ask(upstream, stream=stream, tools=[WEATHER])
            assert (got.finish, got.calls) == ("tool_calls", (("weather", orjson.loads(ARGUMENTS)),))
            assert counted(got.usage) == (PROMPT, COMPLETION, dialect.cached)

    clean_run(main())


@BOTH
@pytest.mark.parametrize(
    ("dialect", "finish"),
    [(dialect, finish) for dialect in DIALECTS for finish in ("length", "content_filter") if finish in dialect.stops],
    ids=lambda value: value if isinstance(value, str) else value.provider,
)
def test_why_an_answer_ends_is_said_in_openais_words(dialect: Dialect, stream: bool, finish: str) -> None:
    async def main() -> None:
        async with speaking(dialect, sound(dialect, Say(finish))) as (upstream, _server):
            assert (await ask(upstream, stream=stream)).finish == finish

    clean_run(main())


@EVERY
def test_the_callers_body_is_left_as_it_was(dialect: Dialect) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, _server):
            body = {**copy.deepcopy(CONVERSATION), "response_format": copy.deepcopy(SCHEMA)}
            await ask(upstream, **body)
            await ask(upstream, stream=True, **body)
            assert body == {**CONVERSATION, "response_format": SCHEMA}

    clean_run(main())


@EVERY
def test_connections_are_kept_and_used_again(dialect: Dialect) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            for stream in (False, True, True, False):
                await ask(upstream, stream=stream)
            assert (len(server.requests), server.connections) == (4, 1)

    clean_run(main())


@EVERY
def test_calls_at_once_do_not_mix(dialect: Dialect) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            texts = [f"question {number}" for number in range(4)]
            questions = [[{"role": "user", "content": text}] for text in texts]
            asked = (ask(upstream, stream=bool(n % 2), messages=messages) for n, messages in enumerate(questions))
            assert {got.text for got in await asyncio.gather(*asked)} == {TEXT}
            assert sorted(dialect.heard(request.body).texts[0] for request in server.requests) == texts

    clean_run(main())


# --- what LiteLLM must not be told, nor do ---------------------------------------------------------------------------

STEERING: dict[str, Any] = {
    "api_base": "http://127.0.0.1:9/steered",
    "base_url": "http://127.0.0.1:9/steered",
    "api_key": "sk-callers-own-steered",
    "custom_llm_provider": "openai",
    "mock_response": "steered",
    "mock_timeout": True,
    "fallbacks": ["openai/steered"],
    "extra_headers": {"x-steered": "steered"},
    "headers": {"x-steered": "steered"},
    "extra_body": {"steered": True},
    "aws_region_name": "steered",
    "aws_bedrock_runtime_endpoint": "http://127.0.0.1:9/steered",
    "vertex_project": "steered",
    "project_id": "steered",
    "token": "steered",
    "timeout": 0.0001,
    "num_retries": 3,
    "metadata": {"steered": "steered"},
    "litellm_metadata": {"steered": "steered"},
    "cache": {"steered": True},
    "client": "steered",
    "drop_params": False,
    "stream_options": {"include_usage": False},
}


@EVERY_TRANSLATED
@BOTH
def test_a_callers_body_cannot_steer_the_call(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            got = await ask(upstream, stream=stream, **STEERING)
            assert (got.text, counted(got.usage)) == (TEXT, (PROMPT, COMPLETION, dialect.cached))
            (request,) = server.requests
            assert dialect.key(request) == KEY
            assert b"steered" not in request.raw
            assert "steered" not in str(request.headers)

    clean_run(main())


PART = {"type": "text", "text": "Look"}
ADDRESSES: dict[str, dict[str, Any]] = {
    "image": {"type": "image_url", "image_url": {"url": "{}"}},
    "image-as-text": {"type": "image_url", "image_url": "{}"},
    "image-with-a-prefix": {"type": "image_url", "image_url": {"url": "png:{}"}},
    "data-with-an-address": {"type": "image_url", "image_url": {"url": "data:image/png,{}"}},
    "file": {"type": "file", "file": {"file_id": "{}"}},
    "video": {"type": "video_url", "video_url": {"url": "{}"}},
    "source": {"type": "image", "source": {"type": "url", "url": "{}"}},
    "in-a-result": {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {"url": "{}"}}]},
}


@EVERY_TRANSLATED
@pytest.mark.parametrize("part", ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_in_a_message_is_refused_and_never_fetched(dialect: Dialect, part: dict[str, Any]) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, server):
            address = f"{server.url}/cat.png".encode()
            with_address = orjson.loads(orjson.dumps(part).replace(b"{}", address))
            messages = [{"role": "user", "content": [PART, with_address]}]
            with pytest.raises(UpstreamRejected, match="data: URLs"):
                await ask(upstream, messages=messages)
            with pytest.raises(UpstreamRejected, match="data: URLs"):
                await ask(upstream, stream=True, messages=messages)
            assert server.connections == 0

    clean_run(main())


def test_a_bedrock_key_is_sent_in_place_of_a_signature() -> None:
    async def main() -> None:
        async with speaking(Bedrock(), api_key=KEY, options={"region": "eu-west-1"}) as (upstream, server):
            await ask(upstream)
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    clean_run(main())


# --- the fake --------------------------------------------------------------------------------------------------------


def test_the_fake_answers_in_the_same_shape() -> None:
    async def main() -> None:
        upstream = FakeUpstream(a_model(provider="fake"), [an_answer(TEXT), TEXT])
        assert (await ask(upstream)).text == TEXT
        got = await ask(upstream, stream=True)
        assert (got.text, got.finish) == (TEXT, "stop")
        assert got.usage is not None

    clean_run(main())


def test_the_fake_raises_what_its_script_says_and_can_break_a_stream() -> None:
    async def main() -> None:
        upstream = FakeUpstream(a_model(provider="fake"), [UpstreamFailed("one"), "Half a...", UpstreamFailed("two")])
        with pytest.raises(UpstreamFailed, match="one"):
            await ask(upstream)
        blocks: list[bytes] = []
        with pytest.raises(UpstreamFailed, match="two"):
            async for block in upstream.stream(released(upstream.model, stream=True)):
                blocks.append(block)  # noqa: PERF401 - it ends in an error
        assert blocks
        assert DONE not in blocks

    clean_run(main())
