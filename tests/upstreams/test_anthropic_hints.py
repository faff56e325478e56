"""What only Anthropic's models take arrives there as its own API has it, and comes back."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.gate import Gate
from gateway.stages.call import open_door
from gateway.types import Model, Zone
from gateway.upstreams.litellm_sdk import LiteLLMUpstream
from gateway.upstreams.pool import Pool
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
