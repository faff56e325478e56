"""Servers of local models as they really answer: Ollama, llama.cpp, LM Studio and TGI, with the faults seen of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from gateway.gate import Released
from gateway.sse import events, payload
from gateway.types import Answer
from gateway.upstreams.base import Call
from gateway.upstreams.local_calls import written_calls
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build
from tests.upstreams.loopback import (
    DONE,
    STREAM,
    USAGE,
    USAGE_EVENT,
    Handler,
    Request,
    Wire,
    a_model,
    clean_run,
    completion,
    delta,
    event,
    read_all,
    released,
    serving,
)  # fmt: skip

SCHEMA = {"type": "object", "properties": {"dish": {"type": "string"}}, "required": ["dish"]}
WANTED = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": SCHEMA}}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("weather", "hours")
]
MADRID, LUGO = '{"city":"Madrid"}', '{"city":"Lugo"}'


def a_call(arguments: object, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"name": "weather", "arguments": arguments}}


def ask(handler: Handler, provider: str, *, stream: bool, **body: Any) -> tuple[Answer | bytes, list[Request], Call]:
    """One call through the adapter of this provider: its answer, what the server got, and the call."""

    async def main() -> tuple[Answer | bytes, list[Request], Call]:
        async with serving(handler) as server:
            pool = Pool()
            upstream = build(a_model(server.url, provider=provider), pool)
            call: Released[Call] = released(upstream.model, stream=stream, **body)
            try:
                said = await read_all(upstream, call) if stream else await upstream.complete(call)
            finally:
                await upstream.aclose()
                await pool.aclose()
            return said, server.requests, call.value

    return clean_run(main())


def put_together(stream: bytes) -> tuple[dict[int, dict[str, str]], str, str, dict[str, Any]]:
    """As a strict client reads it: calls by index, text, finish reason, usage."""
    calls: dict[int, dict[str, str]] = {}
    text = reason = ""
    usage: dict[str, Any] = {}
    for each in events(stream):
        if (data := payload(each)) == b"[DONE]":
            break
        chunk = orjson.loads(data)
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
            for piece in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id", "")
                call["name"] += piece["function"].get("name", "")
                call["arguments"] += piece["function"].get("arguments", "")
    return calls, text, reason, usage


def streams(*given: bytes) -> Callable[[Request, Wire], Any]:
    async def answer(request: Request, wire: Wire) -> None:
        await (wire.events(*given) if request.path.endswith("/chat/completions") else wire.whole({}, status=404))

    return answer


def whole(body: dict[str, Any]) -> Callable[[Request, Wire], Any]:
    async def answer(request: Request, wire: Wire) -> None:
        await (wire.whole(body) if request.path.endswith("/chat/completions") else wire.whole({}, status=404))

    return answer


# --- tool calls -------------------------------------------------------------------------------------------------------

# Each as one server streams two calls: Ollama, one that leaves out index and id, one that sends objects, one in order.
STREAMS: dict[str, Sequence[bytes]] = {
    "every index is 0, and the reason is stop": (
        delta(tool_calls=[a_call(MADRID, index=0, id="call_a1b2c3d4", type="function")], role="assistant"),
        delta(tool_calls=[a_call(LUGO, index=0, id="call_e5f6a7b8", type="function")]),
        delta("", finish="stop"),
    ),
    "no index, no id, no type": (
        delta(tool_calls=[a_call(MADRID)]),
        delta(tool_calls=[a_call(LUGO)]),
        delta(finish="tool_calls"),
    ),
    "arguments as an object, both in one chunk": (
        delta(tool_calls=[a_call({"city": "Madrid"}, index=0), a_call({"city": "Lugo"}, index=1)]),
        delta(finish="stop"),
    ),
    "in pieces, ids empty": (
        delta(tool_calls=[a_call("", index=0, id="")]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '"Madrid"}'}}]),
        delta(tool_calls=[a_call(LUGO, index=1, id="")]),
        delta(finish="tool_calls"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("given", STREAMS.values(), ids=STREAMS)
def test_streamed_tool_calls_arrive_as_tool_calls(given: Sequence[bytes]) -> None:
    said, _, _ = ask(streams(*given, USAGE_EVENT, DONE), "ollama", stream=True, tools=TOOLS)
    assert isinstance(said, bytes)
    calls, text, reason, usage = put_together(said)
    assert [call["name"] for call in calls.values()] == ["weather", "weather"]
    assert [json.loads(call["arguments"]) for call in calls.values()] == [{"city": "Madrid"}, {"city": "Lugo"}]
    assert len({call["id"] for call in calls.values()} - {""}) == 2
    assert (list(calls), text, reason, usage) == ([0, 1], "", "tool_calls", USAGE)


WRITTEN = {
    "bare": ('{"name": "weather", "arguments": {"city": "Madrid"}}', 1),
    "Llama 3": ('<|python_tag|>{"name": "weather", "parameters": {"city": "Madrid"}}', 1),
    "Qwen, Hermes": ('<tool_call>\n{"name": "weather", "arguments": {"city": "Madrid"}}\n</tool_call>' * 2, 2),
    "Mistral": ('[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Madrid"}}]', 1),
    "Markdown": ('```json\n{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Madrid\\"}"}}\n```', 1),
}


@pytest.mark.parametrize(("text", "count"), WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("stream", [False, True])
def test_calls_that_a_model_wrote_as_text_arrive_as_tool_calls(text: str, count: int, stream: bool) -> None:
    pieces = [delta(text[n : n + 7]) for n in range(0, len(text), 7)]
    handler = (
        streams(delta("", role="assistant"), *pieces, delta(finish="stop"), USAGE_EVENT, DONE)
        if stream
        else whole(completion(text))
    )
    said, _, _ = ask(handler, "openai-compatible", stream=stream, tools=TOOLS)
    if isinstance(said, bytes):
        calls, content, reason, usage = put_together(said)
        functions = list(calls.values())
        assert usage == USAGE
    else:
        choice = orjson.loads(said.body)["choices"][0]
        content, reason = choice["message"]["content"] or "", choice["finish_reason"]
        functions = [{**call["function"], "id": call["id"]} for call in choice["message"]["tool_calls"]]
        assert said.tool_calls == count
    assert [(call["name"], json.loads(call["arguments"])) for call in functions] == [
        ("weather", {"city": "Madrid"})
    ] * count
    assert len({call["id"] for call in functions}) == count
    assert (content, reason) == ("", "tool_calls")


TEXTS = {
    "prose": "The weather in Madrid is sunny, and I would not call anything for it.",
    "an answer in JSON": json.dumps({"dish": "tortilla", "people": 4, "notes": "x" * 80}),
    "a name that is no tool": '{"name": "Ana", "arguments": {"city": "Madrid"}}',
    "a call with words after it": '{"name": "weather", "arguments": {"city": "Madrid"}} is what I would call.',
    "short": "{",
    "code": '```json\n{"name": 1}\n```',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_call_arrives_to_the_byte(text: str) -> None:
    given = [delta("", role="assistant"), *[delta(text[n : n + 5]) for n in range(0, len(text), 5)]]
    given += [delta(finish="stop"), USAGE_EVENT, DONE]
    said, _, _ = ask(streams(*given), "ollama", stream=True, tools=TOOLS)
    assert said == b"".join(given)
    answer, _, _ = ask(whole(completion(text)), "ollama", stream=False, tools=TOOLS)
    assert isinstance(answer, Answer)
    assert orjson.loads(answer.body) == completion(text)


def test_a_stream_in_order_arrives_to_the_byte() -> None:
    calls = delta(tool_calls=[a_call(MADRID, index=0, id="call_0123456789abcdef", type="function")])
    given = (calls, delta(finish="tool_calls"), USAGE_EVENT, DONE)
    assert ask(streams(*given), "vllm", stream=True, tools=TOOLS)[0] == b"".join(given)
    assert ask(streams(*STREAM), "vllm", stream=True)[0] == b"".join(STREAM)


def test_a_server_that_streams_no_tools_is_asked_for_the_whole_and_its_calls_are_streamed() -> None:
    async def old_llamacpp(request: Request, wire: Wire) -> None:
        if request.body.get("stream"):
            await wire.whole({"error": {"code": 500, "message": "Cannot use tools with stream"}}, status=500)
            return
        message = {"role": "assistant", "content": None, "tool_calls": [a_call(MADRID, id="", type="function")]}
        await wire.whole(completion(choices=[{"index": 0, "message": message, "finish_reason": "tool_calls"}]))

    said, requests, _ = ask(old_llamacpp, "llamacpp", stream=True, tools=TOOLS)
    assert isinstance(said, bytes)
    calls, _, reason, usage = put_together(said)
    assert (calls[0]["arguments"], bool(calls[0]["id"]), reason, usage) == (MADRID, True, "tool_calls", USAGE)
    assert [bool(request.body.get("stream")) for request in requests] == [True, False]


def test_nothing_that_is_not_all_calls_counts_as_one() -> None:
    names = frozenset({"weather"})
    for text in ("", "{}", "[]x", '{"name": "weather", "arguments": 4}', '{"name": "weather"', '{"name": []}'):
        assert written_calls(text, names) == []
    assert written_calls('{"name": "weather"}', names) == [{"name": "weather", "arguments": "{}"}]


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "wanted", "sent"),
    [
        ("ollama", WANTED, WANTED),  # which makes its own `format` of it
        ("vllm", WANTED, WANTED),
        ("lmstudio", WANTED, WANTED),
        ("llamacpp", WANTED, {"type": "json_object", "schema": SCHEMA}),  # a grammar, in all its versions
        ("tgi", WANTED, {"type": "json_object", "value": SCHEMA}),
        ("ollama", {"type": "json_object"}, {"type": "json_object"}),
        (
            "lmstudio",
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_asked_for_in_the_servers_own_words(provider: str, wanted: Any, sent: Any, stream: bool) -> None:
    handler = streams(*STREAM) if stream else whole(completion('{"dish":"tortilla"}'))
    _, requests, _ = ask(handler, provider, stream=stream, response_format=wanted)
    assert requests[-1].body["response_format"] == sent


def test_what_ollama_does_not_read_is_named() -> None:
    handler = whole(completion())
    _, _, call = ask(handler, "ollama", stream=False, tools=TOOLS, tool_choice="required", n=2, seed=1)
    assert call.aside.lost == {"tool_choice", "n"}
    _, _, call = ask(handler, "ollama", stream=False, tools=TOOLS, tool_choice="auto", n=1)
    assert call.aside.lost == set()


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_a_server_does_not_say_is_counted_and_marked(stream: bool) -> None:
    body = completion("uno dos tres cuatro cinco")
    del body["usage"]
    handler = (
        streams(delta("uno dos tres"), delta(" cuatro cinco"), delta(finish="stop"), DONE) if stream else whole(body)
    )
    said, _, _ = ask(handler, "ollama", stream=stream)
    usage = put_together(said)[3] if isinstance(said, bytes) else orjson.loads(said.body)["usage"]
    assert usage["estimated"] is True
    assert 5 <= usage["completion_tokens"] <= 8
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    if isinstance(said, Answer):
        assert said.usage is not None
        assert said.usage.estimated


@pytest.mark.parametrize("provider", ["llamacpp", "vllm"])
def test_it_is_counted_with_the_models_own_tokenizer_where_its_server_lends_it(provider: str) -> None:
    async def answer(request: Request, wire: Wire) -> None:
        if request.path == "/tokenize":
            text = request.body["content" if provider == "llamacpp" else "prompt"]
            await wire.whole({"tokens": list(range(len(text)))})
        else:
            await wire.events(delta("uno dos"), delta(finish="stop"), DONE)

    said, requests, _ = ask(answer, provider, stream=True)
    assert isinstance(said, bytes)
    assert put_together(said)[3]["completion_tokens"] == len("uno dos")
    assert {request.path for request in requests} == {"/v1/chat/completions", "/tokenize"}
    assert said.endswith(DONE)


def test_a_null_usage_is_none_and_one_that_was_said_is_relayed() -> None:
    nothing = event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": None})
    said, _, _ = ask(streams(delta("uno"), nothing, delta(finish="stop"), DONE), "ollama", stream=True)
    assert isinstance(said, bytes)
    assert put_together(said)[3]["estimated"] is True
    said, _, _ = ask(streams(*STREAM), "ollama", stream=True)
    assert said == b"".join(STREAM)
