"""A provider that speaks OpenAI's chat API in every way that a client can ask for."""

from __future__ import annotations

from typing import Any

from tests.upstreams.loopback import DONE, USAGE_EVENT, Request, Wire, completion, delta

TEXT = "Hola, ¿qué tal?"
ORDER = '{"dish":"tortilla","people":4}'
PIECES = ('{"city"', ':"Ma', 'drid"}')
ARGUMENTS = "".join(PIECES)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_LOGPROBS = {"content": [{"token": "Hola", "logprob": -0.1, "bytes": [72, 111, 108, 97], "top_logprobs": []}]}
# A model that fails, and how: status, error, headers.
_FAILURES: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {
    "busy-1": (429, {"message": "slow down", "code": "rate_limit_exceeded"}, {"retry-after": "7"}),
    "down-1": (500, {"message": "it burns", "code": None}, {}),
    "picky-1": (400, {"message": "temperature must be below 2", "param": "temperature", "code": "bad"}, {}),
    "full-1": (400, {"message": "maximum context length is 8", "code": "context_length_exceeded"}, {}),
}


async def answer(request: Request, wire: Wire) -> None:
    """One call, answered as its body asks."""
    if request.method == "GET":
        await wire.whole({"object": "list", "data": []})
        return
    body = request.body
    if body["model"] in _FAILURES:
        status, error, headers = _FAILURES[body["model"]]
        await wire.whole({"error": {"type": "some_error", "param": None, **error}}, status=status, headers=headers)
    elif body.get("stream"):
        await wire.events(*_events(body))
    else:
        await wire.whole(completion(choices=[_choice(body, n) for n in range(body.get("n") or 1)]))


def _text(body: dict[str, Any]) -> str:
    last = body["messages"][-1]
    if last["role"] == "tool":
        return f"The tool says: {last['content']}"
    if isinstance(last["content"], list):
        return "I see " + ", ".join(piece["type"] for piece in last["content"])
    if (body.get("response_format") or {}).get("type") == "json_schema":
        return ORDER
    return TEXT


def _calls_a_tool(body: dict[str, Any]) -> bool:
    return bool(body.get("tools")) and body["messages"][-1]["role"] != "tool"


def _choice(body: dict[str, Any], index: int) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": _text(body)}
    finish = "stop"
    if _calls_a_tool(body):
        name = body["tools"][0]["function"]["name"]
        arguments = ORDER if name == "Order" else ARGUMENTS
        call = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": name, "arguments": arguments}}
        said, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    logprobs = _LOGPROBS if body.get("logprobs") else None
    return {"index": index, "message": said, "finish_reason": finish, "logprobs": logprobs}


def _events(body: dict[str, Any]) -> list[bytes]:
    usage = [USAGE_EVENT] if (body.get("stream_options") or {}).get("include_usage") else []
    if _calls_a_tool(body):
        name = body["tools"][0]["function"]["name"]
        first = {
            "index": 0,
            "id": "call_0123456789abcdef",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        rest = [delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in PIECES]
        return [delta(role="assistant", tool_calls=[first]), *rest, delta(finish="tool_calls"), *usage, DONE]
    words = _text(body).split(" ")
    pieces = [delta(word if number == 0 else f" {word}") for number, word in enumerate(words)]
    return [delta("", role="assistant"), *pieces, delta(finish="stop"), *usage, DONE]
