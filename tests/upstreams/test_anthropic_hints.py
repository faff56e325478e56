"""What only Anthropic's models take arrives there as its own API has it, and comes back."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from gateway.gate import Gate
from gateway.stages.call import open_door
from gateway.types import Aside, Model, Zone
from gateway.upstreams.litellm_sdk import LiteLLMUpstream
from gateway.upstreams.pool import Pool
from gateway.wire.door import Door
from gateway.wire.messages import DOOR
from tests.builders import a_decision, some_signals
from tests.upstreams.loopback import PATIENT, Request, Wire, clean_run, serving
from tests.wire.translating import ID, inbound

CACHED = {"cache_control": {"type": "ephemeral"}}
THOUGHT = {"type": "thinking", "thinking": "Rain?", "signature": "c2lnbmVk"}
ASKED: dict[str, Any] = {
    "model": "auto",
    "max_tokens": 2048,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "system": [{"type": "text", "text": "Be brief.", **CACHED}],
    "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}, **CACHED}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weather?", **CACHED}]},
        {
            "role": "assistant",
            "content": [THOUGHT, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"}]},
    ],
}


async def answer(_request: Request, wire: Wire) -> None:
    usage = {
        "input_tokens": 20, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 40, "output_tokens": 5,
    }  # fmt: skip
    await wire.whole(
        {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
            "content": [THOUGHT, {"type": "text", "text": "Sunny."}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": usage,
        }
    )  # fmt: skip


LIMITS = {"anthropic-ratelimit-requests-remaining": "49", "request-id": "req_of_anthropic", "set-cookie": "a=b"}
BETA = "extended-cache-ttl-2025-04-11"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_betas_reach_anthropic_its_limits_come_back_and_what_it_cannot_be_told_is_named() -> None:
    async def limited(_request: Request, wire: Wire) -> None:
        said = {"type": "text", "text": "Sunny."}
        body = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [said],
            "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 2, "output_tokens": 1},
        }  # fmt: skip
        await wire.whole(body, headers=LIMITS)

    async def main() -> tuple[Request, Aside]:
        async with serving(limited) as server:
            pool = Pool()
            model = Model(
                "claude", "anthropic", "claude-sonnet-4-5", Zone.WORLD, "llm",
                base_url=server.url, api_key="sk-ant-key", timeouts=PATIENT,
            )  # fmt: skip
            upstream = LiteLLMUpstream(model, pool)
            asked = {
                "messages": [{"role": "user", "content": "Weather?"}], "n": 2, "logprobs": True, "seed": 7,
                "presence_penalty": 0, "parallel_tool_calls": True, "stop": ["END"], "metadata": {"a": "b"},
                "a_field_of_next_year": 1,
            }  # fmt: skip
            headers = {"anthropic-beta": BETA, "traceparent": TRACE, "openai-project": "proj_1234", "tracestate": "a=b"}
            call = open_door(
                dataclasses.replace(inbound(Door("chat"), asked), headers=headers), upstream.model,
                gate=Gate(), signals=some_signals(), decision=a_decision("claude"), logprobs=False,
            )  # fmt: skip
            await upstream.complete(call)
            await upstream.aclose()
            await pool.aclose()
            return server.requests[-1], call.value.aside

    request, aside = clean_run(main())
    assert BETA in request.headers["anthropic-beta"].split(",")
    assert request.headers["traceparent"] == TRACE
    assert not request.headers.keys() & {"openai-project", "tracestate", "authorization"}
    assert aside.headers == {
        "anthropic-ratelimit-requests-remaining": "49", "x-cauce-provider-request-id": "req_of_anthropic",
    }  # fmt: skip
    assert aside.lost == {"n", "logprobs", "seed", "metadata", "a_field_of_next_year"}


def test_cache_hints_and_thoughts_survive_the_way_to_anthropic_and_back() -> None:
    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with serving(answer) as server:
            pool = Pool()
            model = Model(
                "claude", "anthropic", "claude-sonnet-4-5", Zone.WORLD, "llm",
                base_url=server.url, api_key="sk-ant-key", timeouts=PATIENT,
            )  # fmt: skip
            upstream = LiteLLMUpstream(model, pool)
            call = open_door(
                inbound(DOOR, ASKED), upstream.model, gate=Gate(), signals=some_signals(),
                decision=a_decision("claude"), logprobs=False,
            )  # fmt: skip
            done = await upstream.complete(call)
            await upstream.aclose()
            await pool.aclose()
            return server.requests[-1].body, orjson.loads(done.body)

    sent, said = clean_run(main())
    assert sent["system"][0]["cache_control"] == CACHED["cache_control"]
    assert sent["tools"][0]["cache_control"] == CACHED["cache_control"]
    assert sent["messages"][0]["content"][0]["cache_control"] == CACHED["cache_control"]
    assert sent["thinking"] == ASKED["thinking"]
    assert sent["messages"][1]["content"][0] == THOUGHT
    assert DOOR.from_chat is not None
    message = DOOR.from_chat(said, ASKED, ID)
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["content"][0]["signature"] == THOUGHT["signature"]
    assert message["usage"] == {
        "input_tokens": 20, "output_tokens": 5, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 40,
    }  # fmt: skip
