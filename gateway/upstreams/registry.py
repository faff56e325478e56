"""Which adapter speaks to which provider: one line a provider."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Final

from gateway.errors import ConfigError
from gateway.types import Model
from gateway.upstreams.base import Embedder, Upstream
from gateway.upstreams.fake import FakeUpstream
from gateway.upstreams.local_http import LocalUpstream
from gateway.upstreams.openai_http import OpenAIUpstream
from gateway.upstreams.pool import Pool

# Where an OpenAI-compatible provider answers, unless cauce.yaml says otherwise; nothing: it must say so.
_OPENAI_COMPATIBLE: Final = {
    "openai-compatible": "",
    "openai": "https://api.openai.com/v1",
    "ollama": "http://127.0.0.1:11434/v1",
    "lmstudio": "http://127.0.0.1:1234/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "vllm": "http://127.0.0.1:8000/v1",
    "tgi": "",
    "mistral": "https://api.mistral.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together": "https://api.together.xyz/v1",
    "xai": "https://api.x.ai/v1",
}

# Wire formats that LiteLLM translates to; it is an extra.
NEEDS_LITELLM: Final = ("anthropic", "gemini", "bedrock", "watsonx")


# Where models run at home: they differ from the API in ways of their own.
_LOCAL: Final = frozenset({"openai-compatible", "ollama", "lmstudio", "llamacpp", "vllm", "tgi"})


def _openai(model: Model, pool: Pool) -> OpenAIUpstream:
    url = model.base_url or _OPENAI_COMPATIBLE[model.provider]
    if not url:
        raise ConfigError(f"models.{model.id}: provider {model.provider} needs base_url, e.g. http://localhost:8000/v1")
    return (LocalUpstream if model.provider in _LOCAL else OpenAIUpstream)(
        dataclasses.replace(model, base_url=url), pool
    )


def _litellm(model: Model, pool: Pool) -> Upstream:
    from gateway.upstreams.litellm_sdk import LiteLLMUpstream  # noqa: PLC0415 - only for those who configure it

    return LiteLLMUpstream(model, pool)


def _embedded(model: Model, pool: Pool) -> Upstream:
    from gateway.upstreams.embedded import EmbeddedUpstream  # noqa: PLC0415 - an optional extra

    return EmbeddedUpstream(model, pool)


def _fake(model: Model, _pool: Pool) -> Upstream:
    return FakeUpstream(model)


def _static(model: Model, _pool: Pool) -> Embedder:
    from gateway.upstreams.static import StaticEmbedder  # noqa: PLC0415 - not without a model of its kind

    return StaticEmbedder(model)


_BUILDERS: Final[dict[str, Callable[[Model, Pool], Upstream]]] = {
    **dict.fromkeys(_OPENAI_COMPATIBLE, _openai),
    **dict.fromkeys(NEEDS_LITELLM, _litellm),
    "embedded": _embedded,
    "fake": _fake,
}
_EMBEDDERS: Final[dict[str, Callable[[Model, Pool], Embedder]]] = {
    **dict.fromkeys(_OPENAI_COMPATIBLE, _openai),
    "static": _static,
}
PROVIDERS: Final = tuple(dict.fromkeys((*_BUILDERS, *_EMBEDDERS)))


def build(model: Model, pool: Pool) -> Upstream:
    """The adapter for a model that answers chats; raises `ConfigError` for a provider that nobody here speaks to."""
    builder = _BUILDERS.get(model.provider)
    if builder is None:
        raise _unknown(model, _BUILDERS)
    return builder(model, pool)


def build_embedder(model: Model, pool: Pool) -> Embedder:
    """The same for a model that makes embeddings."""
    builder = _EMBEDDERS.get(model.provider)
    if builder is None:
        raise _unknown(model, _EMBEDDERS)
    return builder(model, pool)


def _unknown(model: Model, known: Iterable[str]) -> ConfigError:
    what = "makes no embeddings" if model.kind == "embedding" else "answers no chats"
    what = what if model.provider in PROVIDERS else "is not known"
    near = difflib.get_close_matches(model.provider.lower(), known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return ConfigError(f"models.{model.id}: provider {model.provider!r} {what}; {hint}")
