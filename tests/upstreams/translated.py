"""The wire formats of Anthropic, Gemini and Bedrock. See `dialects.py`."""

from __future__ import annotations

import struct
import zlib
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import orjson

from gateway.types import Model
from tests.upstreams.dialects import (
    ARGUMENTS,
    CACHED,
    COMPLETION,
    KEY,
    PROMPT,
    TEXT,
    WORDS,
    Dialect,
    Heard,
    Json,
    Refusal,
    Say,
    halves,
)
from tests.upstreams.loopback import Request, event

_AFTER_7_S: Final = {"retry-after": "7"}


def _named(name: str, **fields: Any) -> bytes:
    return b"event: " + name.encode() + b"\n" + event({"type": name, **fields})


def _anthropic_error(status: int, kind: str, message: str, **headers: str) -> Refusal:
    error = {"type": kind, "message": message}
    return Refusal(status, {"type": "error", "error": error, "request_id": "req_1"}, headers)


class Anthropic(Dialect):
    """Messages, with named events."""

    provider = "anthropic"
    model_name = "claude-sonnet-4-5"
    stops: ClassVar = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }
    refusals: ClassVar = {
        "denied": _anthropic_error(401, "authentication_error", f"invalid x-api-key {KEY}"),
        "busy": _anthropic_error(429, "rate_limit_error", "This request would exceed your rate limit", **_AFTER_7_S),
        "failed": _anthropic_error(500, "api_error", "Internal server error"),
        "context": _anthropic_error(400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
        "filtered": _anthropic_error(400, "invalid_request_error", "Output blocked by content filtering policy"),
        "rejected": _anthropic_error(400, "invalid_request_error", "top_p: range: 0..1"),
    }
    trouble = _named("error", error={"type": "overloaded_error", "message": "Overloaded"})
    usage: ClassVar[Json] = {
        "input_tokens": PROMPT - CACHED,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED,
    }

    def streams(self, request: Request) -> bool:
        assert (request.path, request.headers["anthropic-version"]) == ("/v1/messages", "2023-06-01")
        assert request.body["model"] == self.model_name
        return bool(request.body.get("stream"))

    def whole(self, say: Say) -> Json:
        tool = {"type": "tool_use", "id": "call_1", "name": "weather", "input": orjson.loads(ARGUMENTS)}
        return self._message([tool if say.tool else {"type": "text", "text": TEXT}], self.stops[say.finish], COMPLETION)

    def _message(self, content: list[Json], stop: str | None, output: int) -> Json:
        usage = {**self.usage, "output_tokens": output}
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": self.model_name,
            "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def pieces(self, say: Say) -> list[bytes]:
        block: Json = {"type": "text", "text": ""}
        deltas: list[Json] = [{"type": "text_delta", "text": word} for word in WORDS]
        if say.tool:
            block = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in halves(ARGUMENTS)]
        end = {"stop_reason": self.stops[say.finish], "stop_sequence": None}
        return [
            _named("message_start", message=self._message([], None, 1)),
            _named("content_block_start", index=0, content_block=block),
            _named("ping"),
            *(_named("content_block_delta", index=0, delta=delta) for delta in deltas),
            _named("content_block_stop", index=0),
            _named("message_delta", delta=end, usage={"output_tokens": COMPLETION}) + _named("message_stop"),
        ]

    def heard(self, body: Json) -> Heard:
        blocks = [block for message in body["messages"] for block in message["content"]]
        return Heard(
            system=" ".join(block["text"] for block in body.get("system", ())),
            texts=tuple(block["text"] for block in blocks if block["type"] == "text"),
            tools=tuple(tool["name"] for tool in body.get("tools", ())),
            calls=tuple(block["name"] for block in blocks if block["type"] == "tool_use"),
            results=tuple(_result_text(block["content"]) for block in blocks if block["type"] == "tool_result"),
            images=tuple(_anthropic_image(block["source"]) for block in blocks if block["type"] == "image"),
            max_tokens=body["max_tokens"],
        )

    def key(self, request: Request) -> str:
        return request.headers["x-api-key"]


def _result_text(content: Any) -> str:
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def _anthropic_image(source: Json) -> str:
    return f"data:{source['media_type']};base64,{source['data']}"


def _gemini_error(status: int, kind: str, message: str, **headers: str) -> Refusal:
    return Refusal(status, {"error": {"code": status, "message": message, "status": kind}}, headers)


class Gemini(Dialect):
    """generateContent: each event of a stream is a whole answer with a piece of the text."""

    provider = "gemini"
    model_name = "gemini-2.5-pro"
    stops: ClassVar = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
    refusals: ClassVar = {
        "denied": _gemini_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        "busy": _gemini_error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", **_AFTER_7_S),
        "failed": _gemini_error(500, "INTERNAL", "An internal error has occurred. Please retry."),
        "context": _gemini_error(
            400, "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        "rejected": _gemini_error(400, "INVALID_ARGUMENT", "Unable to submit request: topP must be below 1."),
    }  # fmt: skip
    trouble = event({"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})
    usage: ClassVar[Json] = {
        "promptTokenCount": PROMPT,
        "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": COMPLETION,
        "totalTokenCount": PROMPT + COMPLETION,
    }

    def model(self, url: str, **changes: Any) -> Model:
        return super().model(url, **{"base_url": f"{url}/v1beta", **changes})

    def streams(self, request: Request) -> bool:
        path, _, query = request.path.partition("?")
        assert path.startswith(f"/v1beta/models/{self.model_name}:")
        if path.endswith(":streamGenerateContent"):
            assert query == "alt=sse"
            return True
        assert path.endswith(":generateContent")
        return False

    def whole(self, say: Say) -> Json:
        call = {"functionCall": {"name": "weather", "args": orjson.loads(ARGUMENTS)}}
        return self._answer([call if say.tool else {"text": TEXT}], self.stops[say.finish])

    def _answer(self, parts: list[Json], finish: str | None = None) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate], "usageMetadata": self.usage, "modelVersion": self.model_name, "responseId": "r1",
        }  # fmt: skip

    def pieces(self, say: Say) -> list[bytes]:
        if say.tool:
            return [event(self.whole(say))]
        *begin, end = [[{"text": word}] for word in WORDS]
        return [*(event(self._answer(parts)) for parts in begin), event(self._answer(end, self.stops[say.finish]))]

    def heard(self, body: Json) -> Heard:
        parts = [part for content in body["contents"] for part in content["parts"]]
        results = (part["function_response"]["response"] for part in parts if "function_response" in part)
        tools = (tool for each in body.get("tools", ()) for tool in each["function_declarations"])
        return Heard(
            system=" ".join(part["text"] for part in body.get("system_instruction", {}).get("parts", ())),
            texts=tuple(part["text"] for part in parts if "text" in part),
            tools=tuple(tool["name"] for tool in tools),
            calls=tuple(part["function_call"]["name"] for part in parts if "function_call" in part),
            results=tuple(" ".join(map(str, result.values())) for result in results),
            images=tuple(_gemini_image(part["inline_data"]) for part in parts if "inline_data" in part),
            max_tokens=body.get("generationConfig", {}).get("max_output_tokens"),
        )

    def key(self, request: Request) -> str:
        return request.headers["x-goog-api-key"]


def _gemini_image(inline: Json) -> str:
    return f"data:{inline['mime_type']};base64,{inline['data']}"


def _bedrock_error(status: int, kind: str, message: str, **headers: str) -> Refusal:
    return Refusal(status, {"message": message}, {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/", **headers})


def frame(name: str, payload: Json, *, kind: str = "event") -> bytes:
    """One frame of `application/vnd.amazon.eventstream`."""
    fields = {":message-type": kind, f":{kind}-type": name, ":content-type": "application/json"}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in fields.items()
    )
    data = orjson.dumps(payload)
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    begun = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return begun + struct.pack(">I", zlib.crc32(begun))


class Bedrock(Dialect):
    """Converse, signed; a stream is made of Amazon's binary frames."""

    provider = "bedrock"
    model_name = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    stream_type = "application/vnd.amazon.eventstream"
    stops: ClassVar = {
        "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "guardrail_intervened"
    }  # fmt: skip
    refusals: ClassVar = {
        "denied": _bedrock_error(403, "UnrecognizedClientException", "The security token is invalid."),
        "busy": _bedrock_error(429, "ThrottlingException", "Too many requests", **_AFTER_7_S),
        "failed": _bedrock_error(500, "InternalServerException", "The system encountered an unexpected error"),
        "context": _bedrock_error(400, "ValidationException", "Input is too long for requested model."),
        "rejected": _bedrock_error(400, "ValidationException", "The value at inferenceConfig.topP must be below 1"),
    }
    trouble = frame("throttlingException", {"message": "Too many requests"}, kind="exception")
    usage: ClassVar[Json] = {
        "inputTokens": PROMPT - CACHED,
        "cacheReadInputTokens": CACHED,
        "cacheWriteInputTokens": 0,
        "outputTokens": COMPLETION,
        "totalTokens": PROMPT + COMPLETION,
    }

    def model(self, url: str, **changes: Any) -> Model:
        options = {"region": "eu-west-1", "access_key_id": "AKIAEXAMPLE", "secret_access_key": KEY}
        return super().model(url, **{"api_key": "", "options": options, **changes})

    def streams(self, request: Request) -> bool:
        path = unquote(request.path)
        assert path.startswith(f"/model/{self.model_name}/")
        assert path.endswith(("/converse", "/converse-stream"))
        return path.endswith("/converse-stream")

    def whole(self, say: Say) -> Json:
        tool = {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": orjson.loads(ARGUMENTS)}}
        message = {"role": "assistant", "content": [tool if say.tool else {"text": TEXT}]}
        return {
            "output": {"message": message}, "stopReason": self.stops[say.finish], "usage": self.usage,
            "metrics": {"latencyMs": 1},
        }  # fmt: skip

    def pieces(self, say: Say) -> list[bytes]:
        frames = [frame("messageStart", {"role": "assistant"})]
        deltas: list[Json] = [{"text": word} for word in WORDS]
        if say.tool:
            start = {"toolUse": {"toolUseId": "call_1", "name": "weather"}}
            frames.append(frame("contentBlockStart", {"start": start, "contentBlockIndex": 0}))
            deltas = [{"toolUse": {"input": part}} for part in halves(ARGUMENTS)]
        frames += (frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0}) for delta in deltas)
        return [
            *frames,
            frame("contentBlockStop", {"contentBlockIndex": 0}),
            frame("messageStop", {"stopReason": self.stops[say.finish]})
            + frame("metadata", {"usage": self.usage, "metrics": {"latencyMs": 1}}),
        ]

    def heard(self, body: Json) -> Heard:
        blocks = [block for message in body["messages"] for block in message["content"]]
        return Heard(
            system=" ".join(block["text"] for block in body.get("system", ())),
            texts=tuple(block["text"] for block in blocks if "text" in block),
            tools=tuple(tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ())),
            calls=tuple(block["toolUse"]["name"] for block in blocks if "toolUse" in block),
            results=tuple(_result_text(block["toolResult"]["content"]) for block in blocks if "toolResult" in block),
            images=tuple(_bedrock_image(block["image"]) for block in blocks if "image" in block),
            max_tokens=body.get("inferenceConfig", {}).get("maxTokens"),
        )

    def key(self, request: Request) -> str:
        assert "Credential=AKIAEXAMPLE/" in request.headers["authorization"]
        assert KEY not in str(request.headers)
        return KEY  # the secret itself never travels: it signs


def _bedrock_image(image: Json) -> str:
    return f"data:image/{image['format']};base64,{image['source']['bytes']}"
