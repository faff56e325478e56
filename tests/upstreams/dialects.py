"""The wire formats of the providers: how each asks, answers, streams and refuses. Those of OpenAI and watsonx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from gateway.types import Model
from tests.upstreams.loopback import Request, Wire, a_model, event, head

KEY: Final = "sk-upstream-secret-key"
WORDS: Final = ("Hola", ", ¿qué", " tal?")
TEXT: Final = "".join(WORDS)
ARGUMENTS: Final = '{"city":"Ávila"}'
PROMPT, CACHED, COMPLETION = 9, 4, 3
Json = dict[str, Any]


@dataclass(frozen=True)
class Say:
    """What a server answers: a text, and perhaps a call of the tool `weather`, and why it stops."""

    finish: str = "stop"
    tool: bool = False


@dataclass(frozen=True)
class Heard:
    """What a server was asked, out of its provider's own words."""

    system: str
    texts: tuple[str, ...]
    tools: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    max_tokens: int | None = None


@dataclass(frozen=True)
class Refusal:
    """An error as the provider sends it."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


class Dialect:
    """One provider: OpenAI's format, until a subclass says otherwise."""

    provider = "openai-compatible"
    model_name = "served-name"
    stream_type = "text/event-stream"
    cached = CACHED
    # OpenAI's finish reason -> the provider's own.
    stops: ClassVar[Mapping[str, str]] = {name: name for name in ("stop", "length", "tool_calls", "content_filter")}
    refusals: ClassVar[Mapping[str, Refusal]]
    trouble: ClassVar[bytes]  # an error after a stream has begun

    def model(self, url: str, **changes: Any) -> Model:
        return a_model(**{"url": url, "provider": self.provider, "model": self.model_name, "base_url": url, **changes})

    def streams(self, request: Request) -> bool:
        return bool(request.body.get("stream"))

    def whole(self, say: Say) -> Json:
        raise NotImplementedError

    def pieces(self, say: Say) -> list[bytes]:
        """A stream's events; the last but one of them ends the answer."""
        raise NotImplementedError

    def heard(self, body: Json) -> Heard:
        raise NotImplementedError

    def key(self, request: Request) -> str:
        return request.headers["authorization"].removeprefix("Bearer ")

    async def begin(self, wire: Wire) -> None:
        await wire.send(head(200, {"content-type": self.stream_type, "transfer-encoding": "chunked"}))

    async def answer(self, request: Request, wire: Wire, say: Say) -> None:
        """What a sound server does."""
        if not self.streams(request):
            return await wire.whole(self.whole(say))
        await self.begin(wire)
        for piece in self.pieces(say):
            await wire.chunk(piece)
        return await wire.end_stream()


def _error(status: int, message: str, code: str, **headers: str) -> Refusal:
    error = {"message": message, "type": "some_error", "param": None, "code": code}
    return Refusal(status, {"error": error}, _dashed(headers))


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class OpenAI(Dialect):
    """Chat completions, as OpenAI, vLLM, Ollama and the like speak them."""

    refusals: ClassVar = {
        "denied": _error(401, f"Incorrect API key provided: {KEY}.", "invalid_api_key"),
        "busy": _error(429, "Rate limit reached for requests", "rate_limit_exceeded", retry_after="7"),
        "failed": _error(500, "The server had an error", "server_error"),
        "context": _error(400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
        "filtered": _error(400, "The prompt triggered the content management policy.", "content_filter"),
        "rejected": _error(400, "Invalid 'top_p': must be below 1.", "decimal_above_max_value"),
    }
    trouble = event({"error": {"message": "The model is on fire", "type": "server_error", "code": None}})
    head: ClassVar[Json] = {"id": "chatcmpl-1", "created": 1, "model": "served-name"}
    usage: ClassVar[Json] = {
        "prompt_tokens": PROMPT,
        "completion_tokens": COMPLETION,
        "total_tokens": PROMPT + COMPLETION,
        "prompt_tokens_details": {"cached_tokens": CACHED},
    }

    def model(self, url: str, **changes: Any) -> Model:
        return super().model(url, **{"base_url": f"{url}/v1", **changes})

    def whole(self, say: Say) -> Json:
        message: Json = {"role": "assistant", "content": None if say.tool else TEXT}
        if say.tool:
            message["tool_calls"] = [_called(ARGUMENTS)]
        choice = {"index": 0, "message": message, "finish_reason": self.stops[say.finish]}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": self.usage}

    def pieces(self, say: Say) -> list[bytes]:
        deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS)]
        if say.tool:
            parts = ({"index": 0, "function": {"arguments": part}} for part in halves(ARGUMENTS))
            deltas = [{"role": "assistant", "tool_calls": [{"index": 0, **_called("")}]}]
            deltas += ({"tool_calls": [part]} for part in parts)
        choices: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": self.stops[say.finish]})
        chunk = {**self.head, "object": "chat.completion.chunk"}
        events = [event({**chunk, "choices": [choice]}) for choice in choices]
        return [*events, event({**chunk, "choices": [], "usage": self.usage}), b"data: [DONE]\n\n"]

    def heard(self, body: Json) -> Heard:
        messages = body["messages"]
        parts = [part for message in messages for part in _parts(message)]
        return Heard(
            system=" ".join(text for m in messages if m["role"] == "system" for text in _texts(m)),
            texts=tuple(text for m in messages if m["role"] in {"user", "assistant"} for text in _texts(m)),
            tools=tuple(tool["function"]["name"] for tool in body.get("tools", ())),
            calls=tuple(call["function"]["name"] for m in messages for call in m.get("tool_calls") or ()),
            results=tuple(text for m in messages if m["role"] == "tool" for text in _texts(m)),
            images=tuple(part["image_url"]["url"] for part in parts if part["type"] == "image_url"),
            max_tokens=body.get("max_tokens"),
        )


def halves(text: str) -> tuple[str, str]:
    return text[:6], text[6:]


def _called(arguments: str) -> Json:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def _parts(message: Json) -> list[Json]:
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _texts(message: Json) -> list[str]:
    return [part["text"] for part in _parts(message) if "text" in part]


def _watsonx_error(status: int, code: str, message: str, **headers: str) -> Refusal:
    error = {"code": code, "message": message, "more_info": "https://cloud.ibm.com/apidocs/watsonx-ai"}
    return Refusal(status, {"errors": [error], "trace": "0123", "status_code": status}, _dashed(headers))


class Watsonx(OpenAI):
    """IBM's: OpenAI's format but for paths, names and errors. It says nothing of cached tokens, and filters nothing."""

    provider = "watsonx"
    model_name = "ibm/granite-4-h-small"
    cached = 0
    stops: ClassVar = {name: name for name in ("stop", "length", "tool_calls")}
    head: ClassVar[Json] = {"id": "chatcmpl-1", "created": 1, "model_id": model_name, "model": model_name}
    usage: ClassVar[Json] = {
        "prompt_tokens": PROMPT,
        "completion_tokens": COMPLETION,
        "total_tokens": PROMPT + COMPLETION,
    }
    refusals: ClassVar = {
        "denied": _watsonx_error(401, "authentication_token_not_valid", f"Failed to authenticate: token {KEY}"),
        "busy": _watsonx_error(429, "rate_limit_reached_requests", "Too many requests", retry_after="7"),
        "failed": _watsonx_error(500, "downstream_request_failed", "Downstream request failed"),
        "context": _watsonx_error(
            400, "invalid_input_argument",
            "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model",
        ),
        "rejected": _watsonx_error(400, "json_type_error", "Json field type error: expected 'top_p' to be number"),
    }  # fmt: skip

    trouble = event({"errors": [{"code": "downstream_request_failed", "message": "On fire"}], "status_code": 500})

    def model(self, url: str, **changes: Any) -> Model:
        options = {"project_id": "project-1", "token": KEY}
        return super().model(url, **{"base_url": url, "api_key": "", "options": options, **changes})

    def streams(self, request: Request) -> bool:
        assert request.path.startswith(("/ml/v1/text/chat?version=", "/ml/v1/text/chat_stream?version="))
        assert request.body["model_id"] == self.model_name
        assert request.body["project_id"] == "project-1"
        return "chat_stream" in request.path

    def pieces(self, say: Say) -> list[bytes]:
        *events, _done = super().pieces(say)
        return [b"id: %d\nevent: message\n%s" % (number, piece) for number, piece in enumerate(events, 1)]
