"""Providers whose wire format is not OpenAI's: Anthropic, Gemini, Bedrock, watsonx, through LiteLLM's SDK.

Never its proxy nor its Router: one call, no retries, no callbacks, no look-ups of its own, over our own connections
(`litellm_wire.py`). The library is large (seconds to import), so it is imported in a thread, when a configured model
needs it. Only fields of the chat-completion API are handed over: LiteLLM takes addresses, keys and credentials as
fields too, and a caller's body must not set those.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import gc
import importlib
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from yarl import URL

from gateway.errors import ConfigError, UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamRejected
from gateway.gate import Released
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.failures import broken, said
from gateway.upstreams.ibm_iam import IamToken
from gateway.upstreams.litellm_chunks import Chunks, whole
from gateway.upstreams.openai_http import read_answer
from gateway.upstreams.passing import taken
from gateway.upstreams.pool import Pool, translated
from gateway.upstreams.slots import Slots

if TYPE_CHECKING:
    from gateway.upstreams.litellm_wire import Wire

# Options in cauce.yaml, by provider, and what LiteLLM calls them; nothing: they are for us.
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
    "watsonx": {"project_id": "project_id", "space_id": "space_id", "token": "", "iam_url": ""},
}
# What a provider cannot do without: one of each. LiteLLM would take it from the environment, or choose a region.
_NEEDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "anthropic": (("api_key",),),
    "gemini": (("api_key",),),
    "bedrock": (("options.region",),),
    "watsonx": (
        ("base_url",),
        ("api_key", "options.token"),
        ("options.project_id", "options.space_id", "a deployment/... as model"),
    ),
}
# Where a provider is when base_url does not say it.
_HOSTS: Final = {
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "bedrock": "https://bedrock-runtime.{region}.amazonaws.com",
}
_FIELDS: Final = frozenset(
    {
        "messages", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens", "presence_penalty",
        "frequency_penalty", "logit_bias", "user", "response_format", "seed", "tools", "tool_choice",
        "parallel_tool_calls", "logprobs", "top_logprobs", "reasoning_effort", "thinking", "modalities", "top_k",
        "cache_control",
    }
)  # fmt: skip
# What only Anthropic's models take, under its own names.
_HINTS: Final = frozenset({"cache_control", "thinking", "thinking_blocks", "top_k"})
_ALWAYS: Final = frozenset({"model", "messages", "stream", "stream_options"})
# What is the same as not being said.
_USUAL: Final[dict[str, object]] = {"n": 1, "parallel_tool_calls": True, "modalities": ["text"]}
_INNER_MESSAGE: Final = re.compile(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"')
# Fields of a message whose text is only text, whatever it holds.
_TEXTS: Final = frozenset({"content", "text", "arguments", "name", "refusal", "reasoning_content", "thinking"})
_LITELLMS_OWN: Final = 502
_END: Final = object()


class LiteLLMUpstream:
    """One model of a provider that LiteLLM translates for."""

    def __init__(self, model: Model, pool: Pool) -> None:
        if importlib.util.find_spec("litellm") is None:
            raise ConfigError(
                f"models.{model.id}: provider {model.provider} needs an extra: pip install 'cauce[litellm]'"
            )
        hints = _HINTS if _is_anthropics(model) else frozenset()
        self.model = dataclasses.replace(model, hints=hints, headers=taken(model))
        self._pool = pool
        self._slots = Slots(model)
        self._fixed = _fixed_arguments(model)
        self._origin = URL(model.base_url or _HOSTS[model.provider].format(**model.options)).origin()
        with_iam = model.provider == "watsonx" and "token" not in model.options
        self._iam = IamToken(model, pool) if with_iam else None

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, in the chat-completion shape."""
        body = self._arguments(call.value)
        await _load()
        await self._slots.take()
        wire = self._wire(call.value)
        try:
            async with asyncio.timeout(self.model.timeouts.total_s):
                answer = await self._ask(body, wire, call.value)
            shaped = whole(answer)
        except Exception as error:  # LiteLLM raises whatever its translation happens to raise
            raise self._translated(error, wire, streamed=False) from error
        finally:
            self._slots.give()
            wire.close()
        if not wire.gave_reason:
            raise broken(self.model, "sent something that is no answer")
        return read_answer(self.model, orjson.dumps(shaped), shaped, hide_logprobs=bool(call.value.logprobs))

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """Its chunks as events in the chat-completion shape, with usage and `[DONE]` at the end."""
        body = {**self._arguments(call.value), "stream": True, "stream_options": {"include_usage": True}}
        limits = self.model.timeouts
        shaped = Chunks(self.model, call.value.request_id)
        chunks: Any = None
        await _load()
        await self._slots.take()
        wire = self._wire(call.value)
        try:
            async with asyncio.timeout(min(limits.first_token_s, limits.total_s)):
                # The provider's own translation: LiteLLM's wrapper around it makes up finish reasons and usage.
                chunks = aiter(await (await self._ask(body, wire, call.value)).fetch_stream())
                events = await _next(chunks, shaped)
            while events:
                yield events
                events = await _next(chunks, shaped)
        except Exception as error:  # as above
            raise self._translated(error, wire, streamed=True) from error
        finally:
            self._slots.give()
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
            wire.close()
        if not (wire.gave_reason and shaped.finished):
            raise broken(self.model, "ended its stream before the answer was complete")
        yield shaped.end()

    async def health(self) -> Health:
        """Loads the library, so that the first request does not wait for it. No call is made: each would cost."""
        await _load()
        return Health(ready=True)

    async def aclose(self) -> None:
        """The pool owns the connections."""

    def _wire(self, call: Call) -> Wire:
        """The way out for one call."""
        from gateway.upstreams.litellm_wire import Wire  # noqa: PLC0415 - its httpx comes with LiteLLM

        return Wire(self.model, self._pool, origin=self._origin, call=call)

    async def _ask(self, body: dict[str, Any], wire: Wire, call: Call) -> Any:
        call.aside.lost |= _lost(call.body, _supported(self.model.model, self.model.provider))
        if self.model.provider == "watsonx":  # as a header: LiteLLM 1.105 sends a `token` in the body too
            token = self.model.options.get("token") or (await self._iam.get() if self._iam else "")
            body = {**body, "extra_headers": {"Authorization": f"Bearer {token}"}}
        return await _library().acompletion(**body, client=_client(wire))

    def _arguments(self, call: Call) -> dict[str, Any]:
        body = {name: value for name, value in call.body.items() if name in _FIELDS and value is not None}
        if _holds_address(body.get("messages")):
            raise UpstreamRejected(
                f"{self.model.id}: images and files must be sent as data: URLs; the gateway fetches none",
                upstream=self.model.id,
            )
        if call.logprobs:
            body["logprobs"] = True
        if call.logprobs > 1:
            body["top_logprobs"] = 2
        return {**copy.deepcopy(body), **self._fixed}  # its translations change what they are given

    def _translated(self, error: Exception, wire: Wire, *, streamed: bool) -> UpstreamError:
        failure = wire.failure or (error if isinstance(error, UpstreamError) else None)
        if isinstance(failure, UpstreamDenied) and self._iam is not None:
            self._iam.forget()
        if failure is not None:
            return failure
        if isinstance(error, TimeoutError):
            return translated(self.model, error)
        status, kind = getattr(error, "status_code", None), type(error).__name__
        if wire.answered:
            # A stream's own error has a status. 502 is LiteLLM's, for what it cannot decode, and quotes it.
            if streamed and isinstance(status, int) and status >= 400 and status != _LITELLMS_OWN:
                return said(self.model, _message(error), status=status)
            return broken(self.model, f"sent an answer that cannot be translated ({kind})")
        # Its own words are not repeated: they quote the conversation.
        name = self.model.id
        what = f"{name}: the request could not be put into the words of its provider ({kind})"
        if isinstance(status, int) and 400 <= status < 500:
            return UpstreamRejected(what, upstream=name)
        return UpstreamFailed(what, upstream=name)


def _lost(body: Mapping[str, object], supported: frozenset[str]) -> set[str]:
    """The fields that say something, and that LiteLLM leaves out for this model (`drop_params`), or we do."""
    went = (_FIELDS & (supported | _HINTS)) | _ALWAYS
    return {
        name
        for name, value in body.items()
        if name not in went and value and value != _USUAL.get(name) and value not in ("auto", "default")
    }


@functools.lru_cache(maxsize=256)
def _supported(model: str, provider: str) -> frozenset[str]:
    """The chat API's fields that LiteLLM knows how to say to this model."""
    return frozenset(_library().get_supported_openai_params(model, custom_llm_provider=provider) or ())


async def _next(chunks: AsyncIterator[Any], shaped: Chunks) -> bytes:
    """The next events; nothing at the end."""
    while (chunk := await anext(chunks, _END)) is not _END:
        if chunk is not None and (events := shaped.take(chunk)):
            return events
    return b""


def _is_anthropics(model: Model) -> bool:
    return model.provider == "anthropic" or (model.provider == "bedrock" and "anthropic" in model.model)


def _fixed_arguments(model: Model) -> dict[str, Any]:
    """What cauce.yaml says of a model, as LiteLLM's arguments; raises `ConfigError` for what is unknown or missing."""
    known = _OPTIONS[model.provider]
    if unknown := set(model.options) - set(known):
        takes = f"{model.provider} takes: {', '.join(known) or 'none'}"
        raise ConfigError(f"models.{model.id}.options: {min(unknown)!r} is not known; {takes}")
    given: dict[str, object] = {"api_key": model.api_key, "base_url": model.base_url}
    given["a deployment/... as model"] = model.model.startswith("deployment/")
    given |= {f"options.{name}": value for name, value in model.options.items()}
    for needed in _NEEDS[model.provider]:
        if not any(given.get(name) for name in needed):
            raise ConfigError(f"models.{model.id}: provider {model.provider} needs {' or '.join(needed)}")
    arguments: dict[str, Any] = {
        "model": f"{model.provider}/{model.model}",
        "custom_llm_provider": model.provider,
        "timeout": model.timeouts.total_s,
        "num_retries": 0,
        "max_retries": 0,
        "drop_params": True,
        "no-log": True,
        **{known[name]: value for name, value in model.options.items() if known[name]},
    }
    if model.api_key and model.provider != "watsonx":
        arguments["api_key"] = model.api_key
    if model.base_url:
        # LiteLLM adds /v1/messages; a base_url of ours ends in /v1.
        arguments["api_base"] = model.base_url.removesuffix("/v1") if model.provider == "anthropic" else model.base_url
    return arguments


async def _load() -> None:
    """From then on the library is there. The first time takes seconds, in a thread; `health` does it at the start."""
    if _library.cache_info().currsize == 0:
        await asyncio.to_thread(_library)


@functools.cache
def _library() -> Any:
    """LiteLLM, told to stay at home: no `.env` file, no lists from the network, no logging of content."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    # Pydantic's, of LiteLLM's own types, which nobody here can mend.
    warnings.filterwarnings("ignore", "Item '.*' on TypedDict class '.*' is using the `ReadOnly`", UserWarning)
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.redact_messages_in_exceptions = True
    litellm.disable_streaming_logging = True
    litellm.disable_hf_tokenizer_download = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Its 300,000 objects stay: looking through them would take each full collection 0.2 s, in which nobody is served.
    gc.collect()
    gc.freeze()
    return litellm


def _client(wire: Wire) -> Any:
    """What LiteLLM asks through, for one call."""
    # Its own calls to itself are those that it keeps no log of, which would go on in tasks after the answer.
    importlib.import_module("litellm._internal_context").is_internal_call.set(True)
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    handler = handlers.AsyncHTTPHandler(transport=wire, follow_redirects=False)
    handler.client = handler.client  # so it counts as ours, and no task is made to close it
    return handler


def _holds_address(value: object) -> bool:
    """Whether there is an address, outside of texts, that translating these messages would fetch."""
    if isinstance(value, str):
        return "://" in value
    if isinstance(value, list):
        return any(map(_holds_address, value))
    if isinstance(value, dict):
        fields = (field for name, field in value.items() if name not in _TEXTS or not isinstance(field, str))
        return any(map(_holds_address, fields))
    return False


def _message(error: Exception) -> str:
    """What the provider said, perhaps inside its error object."""
    text = str(getattr(error, "message", "") or error)
    inner = _INNER_MESSAGE.search(text)
    if inner is None:
        return text
    try:
        return str(orjson.loads(b'"' + inner[1].encode() + b'"'))
    except orjson.JSONDecodeError:
        return inner[1]
