"""Adapters that talk to a loopback server of their provider, and what they bring back, for the contract's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.errors import UpstreamError
from gateway.sse import DONE, events, payload, read_usage
from gateway.types import Usage
from gateway.upstreams.base import Upstream
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build
from tests.upstreams.dialects import WORDS, Dialect, OpenAI, Say, Watsonx
from tests.upstreams.loopback import Handler, Request, Server, Wire, released, serving
from tests.upstreams.translated import Anthropic, Bedrock, Gemini

TRANSLATED: Final[list[Dialect]] = [Anthropic(), Gemini(), Bedrock(), Watsonx()]
DIALECTS: Final[list[Dialect]] = [OpenAI(), *TRANSLATED]
EVERY = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.provider)
EVERY_TRANSLATED = pytest.mark.parametrize("dialect", TRANSLATED, ids=lambda dialect: dialect.provider)
# The product ignores it, once; pytest forgets that after each test.
LITELLMS_WARNING = pytest.mark.filterwarnings(
    "ignore:Item .* on TypedDict class .* is using the `ReadOnly`:UserWarning"
)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass(frozen=True)
class Got:
    """An answer, whole or streamed, as a client reads it."""

    text: str
    finish: str | None
    usage: Usage | None
    calls: tuple[tuple[str, Any], ...] = ()


def sound(dialect: Dialect, say: Say = Say()) -> Handler:  # noqa: B008 - frozen
    async def handler(request: Request, wire: Wire) -> None:
        await dialect.answer(request, wire, say)

    return handler


@asynccontextmanager
async def speaking(
    dialect: Dialect, handler: Handler | None = None, **changes: Any
) -> AsyncIterator[tuple[Upstream, Server]]:
    """An adapter and the server that it asks."""
    pool = Pool()
    async with serving(handler or sound(dialect)) as server:
        upstream = build(dialect.model(server.url, **changes), pool)
        try:
            yield upstream, server
        finally:
            await upstream.aclose()
            await pool.aclose()


async def ask(upstream: Upstream, *, stream: bool = False, **body: Any) -> Got:
    call = released(upstream.model, stream=stream, **body)
    if not stream:
        answer = await upstream.complete(call)
        got = read_whole(answer.body)
        assert (got.text, got.finish, got.usage) == (answer.text, answer.finish_reason, answer.usage)
        assert answer.tool_calls == len(got.calls)
        return got
    blocks = [block async for block in upstream.stream(call)]
    assert all(block.endswith(b"\n\n") for block in blocks)
    return read_stream(b"".join(blocks))


def read_whole(body: bytes) -> Got:
    fields = orjson.loads(body)
    usage = read_usage(fields.pop("usage"))  # providers count more than OpenAI does
    (choice,) = ChatCompletion.model_validate(fields, extra="forbid").choices
    functions = [call.function for call in choice.message.tool_calls or () if call.type == "function"]
    calls = tuple((function.name, orjson.loads(function.arguments)) for function in functions)
    return Got(choice.message.content or "", choice.finish_reason, usage, calls)


def read_stream(stream: bytes) -> Got:
    """Text and tool calls, then the finish reason, then the usage, then `[DONE]`: in this order, each once."""
    *before, done = events(stream)
    assert done == DONE
    chunks = [ChatCompletionChunk.model_validate_json(payload(event)) for event in before]
    *content, end, last = chunks
    assert len({(chunk.id, chunk.model) for chunk in chunks}) == 1
    assert content[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].finish_reason is None and chunk.usage is None for chunk in content)
    assert end.choices[0].delta.content is None
    assert last.choices == []
    text = "".join(chunk.choices[0].delta.content or "" for chunk in content)
    parts = [part for chunk in content for part in chunk.choices[0].delta.tool_calls or ()]
    calls: dict[int, list[str]] = {}
    for part in parts:
        function = part.function
        assert function is not None
        name, arguments = calls.setdefault(part.index, ["", ""])
        calls[part.index] = [name + (function.name or ""), arguments + (function.arguments or "")]
    made = tuple((name, orjson.loads(arguments)) for name, arguments in calls.values())
    return Got(text, end.choices[0].finish_reason, read_usage(orjson.loads(payload(before[-1]))["usage"]), made)


async def until_it_breaks(upstream: Upstream) -> tuple[list[bytes], UpstreamError]:
    blocks: list[bytes] = []
    with pytest.raises(UpstreamError) as raised:
        async for block in upstream.stream(released(upstream.model, stream=True)):
            blocks.append(block)  # noqa: PERF401 - it ends in an error
    return blocks, raised.value


def begun(dialect: Dialect, then: Any) -> Handler:
    """All but the end of an answer, and then something else."""

    async def handler(_request: Request, wire: Wire) -> None:
        await dialect.begin(wire)
        for piece in without_end(dialect):
            await wire.chunk(piece)
        await asyncio.sleep(0.1)  # in which it is read: a reset would take it along
        await then(wire)

    return handler


def without_end(dialect: Dialect) -> list[bytes]:
    pieces = dialect.pieces(Say())
    return pieces[: next(number for number, piece in enumerate(pieces) if WORDS[-1].encode() in piece)]
