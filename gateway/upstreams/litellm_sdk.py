"""Providers whose wire format is not OpenAI's: Anthropic, Gemini, Bedrock, watsonx, through LiteLLM's SDK.

Never its proxy nor its Router: one call, no retries, no callbacks, no look-ups of its own. The library is large (seconds
to import), so it is imported in a thread, when a configured model needs it. Only fields of the chat-completion API are
handed over: LiteLLM takes addresses, keys and credentials as fields too, and a caller's body must not set those.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from yarl import URL

from gateway.errors import ConfigError, UpstreamError, UpstreamRejected
from gateway.gate import Released
from gateway.sse import DONE
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.failures import broken, said
from gateway.upstreams.litellm_wire import Wire
from gateway.upstreams.openai_http import read_answer
from gateway.upstreams.pool import Pool, translated
from gateway.upstreams.slots import Slots

# Options in cauce.yaml, by provider, and what LiteLLM calls them.
_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "anthropic": {},
    "gemini": {},
    "bedrock": {
        "region": "aws_region_name",
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
        "profile": "aws_profile_name",
        "role": "aws_role_name",
    },
    "watsonx": {"project_id": "project_id", "space_id": "space_id", "token": "token"},
}
_FIELDS: Final = frozenset(
    {
        "messages", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "response_format", "seed", "tools", "tool_choice",
        "parallel_tool_calls", "logprobs", "top_logprobs", "reasoning_effort", "thinking", "modalities", "top_k",
    }
)  # fmt: skip
# Where a provider is when base_url does not say it.
_HOSTS: Final = {
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "bedrock": "https://bedrock-runtime.{region}.amazonaws.com",
}
_PREFIX: Final = re.compile(r"^(?:litellm\.\w+:\s*)+(?:\w+Exception\s*-?\s*)?")
_INNER_MESSAGE: Final = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"')


class LiteLLMUpstream:
    """One model of a provider that LiteLLM translates for."""

    def __init__(self, model: Model, pool: Pool) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise ConfigError(
                f"models.{model.id}: provider {model.provider} needs an extra: pip install 'cauce[litellm]'"
            )
        self.model = model
        self._pool = pool
        self._slots = Slots(model)
        self._fixed = _fixed_arguments(model)
        self._origin = URL(model.base_url or _HOSTS[model.provider].format(**model.options)).origin()

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, in the chat-completion shape."""
        body = self._arguments(call.value)
        await self._slots.take()
        wire = Wire(self.model, self._pool, origin=self._origin)
        try:
            litellm = await _library()
            async with asyncio.timeout(self.model.timeouts.total_s):
                answer = await litellm.acompletion(**body, client=_client(wire))
            shaped = answer.model_dump(mode="json", exclude_none=True)
        except Exception as error:  # LiteLLM raises whatever its translation happens to raise
            raise self._translated(error, wire) from error
        finally:
            self._slots.give()
            wire.close()
        raw = orjson.dumps(_plain(shaped))
        return read_answer(self.model, raw, shaped, hide_logprobs=call.value.logprobs)

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """Its chunks as events in the chat-completion shape, with usage and `[DONE]` at the end."""
        body = {**self._arguments(call.value), "stream": True, "stream_options": {"include_usage": True}}
        limits = self.model.timeouts
        chunks: Any = None
        await self._slots.take()
        wire = Wire(self.model, self._pool, origin=self._origin)
        try:
            litellm = await _library()
            async with asyncio.timeout(limits.first_token_s):
                chunks = await litellm.acompletion(**body, client=_client(wire))
                chunk = await anext(chunks, None)
            while chunk is not None:
                yield _event(_plain(chunk.model_dump(mode="json", exclude_none=True)))
                chunk = await anext(chunks, None)
        except GeneratorExit:
            raise
        except Exception as error:  # as above
            raise self._translated(error, wire) from error
        finally:
            self._slots.give()
            if chunks is not None:
                await chunks.aclose()
            wire.close()
        if chunks.received_finish_reason is None:  # LiteLLM would make one up
            raise broken(self.model, "ended its stream without a finish reason")
        yield DONE

    async def health(self) -> Health:
        """Loads the library, so that the first request does not wait for it. No call is made: each would cost."""
        await _library()
        return Health(ready=True)

    async def aclose(self) -> None:
        """The pool owns the connections."""

    def _arguments(self, call: Call) -> dict[str, Any]:
        body = {name: value for name, value in call.body.items() if name in _FIELDS and value is not None}
        if _fetches(body.get("messages")):
            raise UpstreamRejected(
                f"{self.model.id}: images and files must be sent as data: URLs; the gateway fetches none",
                upstream=self.model.id,
            )
        if call.logprobs:
            body["logprobs"] = True
        return {**body, **self._fixed}

    def _translated(self, error: BaseException, wire: Wire) -> UpstreamError:
        if wire.failure is not None:
            return wire.failure
        if isinstance(error, TimeoutError):
            return translated(self.model, error)
        kind = type(error).__name__
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or status < 400:
            return broken(self.model, f"sent an answer that cannot be translated ({kind})")
        code = {"ContextWindowExceededError": "context_length_exceeded", "ContentPolicyViolationError": "content_filter"}
        fields = {"message": _message(error), "code": code.get(kind, "")}
        return said(self.model, fields, status=status, retry_after=_retry_after(error))


def _fixed_arguments(model: Model) -> dict[str, Any]:
    """What cauce.yaml says of a model, as LiteLLM's arguments; raises `ConfigError` for an option nobody knows."""
    known = _OPTIONS[model.provider]
    if unknown := set(model.options) - set(known):
        allowed = ", ".join(known) or "none"
        raise ConfigError(f"models.{model.id}.options: {min(unknown)!r} is not known; {model.provider} takes: {allowed}")
    arguments: dict[str, Any] = {
        "model": f"{model.provider}/{model.model}",
        "custom_llm_provider": model.provider,
        "timeout": model.timeouts.total_s,
        "num_retries": 0,
        "max_retries": 0,
        "drop_params": True,
        "no-log": True,
        **{known[name]: value for name, value in model.options.items()},
    }
    if model.api_key:
        arguments["api_key"] = model.api_key
    if model.base_url:
        arguments["api_base"] = model.base_url
    return arguments


@functools.cache
def _import() -> Any:
    """LiteLLM, told to stay at home: no `.env` file, no price list from the network, no logging of content."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.redact_messages_in_exceptions = True
    litellm.disable_streaming_logging = True
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


async def _library() -> Any:
    """The imported library; in a thread the first time, because it takes seconds."""
    return await asyncio.to_thread(_import) if _import.cache_info().currsize == 0 else _import()


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's fields only, and those that its clients expect even when they say nothing."""
    for choice in body.get("choices", ()):
        choice.setdefault("finish_reason", None)
        for part in (choice.get("message"), choice.get("delta")):
            if isinstance(part, dict):
                part.pop("provider_specific_fields", None)
                part.setdefault("content", None) if part is choice.get("message") else None
    return body


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _client(wire: Wire) -> Any:
    """What LiteLLM asks through, for one call."""
    importlib.import_module("litellm._internal_context").is_internal_call.set(True)
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    handler = handlers.AsyncHTTPHandler(transport=wire, follow_redirects=False)
    handler.client = handler.client  # so it counts as ours, and no task is made to close it
    return handler


def _fetches(messages: object) -> bool:
    """Whether translating these messages would make LiteLLM fetch an address that the caller chose."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and any(map(_is_address, _urls(part))):
                return True
    return False


def _urls(part: Mapping[str, Any]) -> list[object]:
    found: list[object] = []
    for value in part.values():
        found += [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else []
    return found if part.get("type") != "text" else []


def _is_address(value: object) -> bool:
    return isinstance(value, str) and re.match(r"\s*[a-z][a-z0-9+.-]*://", value, re.IGNORECASE) is not None


def _message(error: BaseException) -> str:
    """What the provider said, without LiteLLM's wrapping."""
    text = str(getattr(error, "message", "") or error)
    inner = _INNER_MESSAGE.search(text)
    if inner is None:
        return _PREFIX.sub("", text)
    try:
        return str(orjson.loads(b'"' + inner[1].encode() + b'"'))
    except orjson.JSONDecodeError:
        return inner[1]


def _retry_after(error: BaseException) -> str | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    value = headers.get("retry-after") if isinstance(headers, Mapping) else None
    return value if isinstance(value, str) else None
