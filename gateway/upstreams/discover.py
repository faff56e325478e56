"""Models without configuration: local servers on their usual ports, keys in the environment, the embedded model."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

from gateway.catalogue import limits
from gateway.telemetry.logs import fields
from gateway.types import Model, Timeouts, Zone
from gateway.upstreams.registry import NEEDS_LITELLM
from gateway.upstreams.weights import SMOLLM2

_log = logging.getLogger("cauce")
_PORTS: Final = {"ollama": 11434, "lmstudio": 1234, "llamacpp": 8080, "vllm": 8000}
_PROBE_S: Final = 0.5
_MAX_LIST_BYTES: Final = 1_000_000
_NOT_FOR_CHAT: Final = re.compile(r"embed|bge-|e5-|minilm|rerank|whisper|tts|clip|guard", re.IGNORECASE)
# Environment variable: provider, and the model that it switches on. The first is the first to climb to.
_CLOUD: Final = {
    "OPENAI_API_KEY": ("openai", "gpt-4.1"),
    "ANTHROPIC_API_KEY": ("anthropic", "claude-sonnet-5"),
    "GEMINI_API_KEY": ("gemini", "gemini-2.5-pro"),
    "MISTRAL_API_KEY": ("mistral", "mistral-large-latest"),
    "GROQ_API_KEY": ("groq", "llama-3.3-70b-versatile"),
    "DEEPSEEK_API_KEY": ("deepseek", "deepseek-v3.2"),
    "XAI_API_KEY": ("xai", "grok-4.7"),
}


async def discover(
    environ: Mapping[str, str], *, own_port: int, ports: Mapping[str, int] = _PORTS, host: str = "127.0.0.1"
) -> list[Model]:
    """What this machine has: small models first. The embedded one only when no local server answers."""
    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        probes = [_probe(session, name, f"http://{host}:{port}/v1") for name, port in ports.items() if port != own_port]
        found = [model for model in await asyncio.gather(*probes) if model is not None]
    return [*(found or [embedded()]), *cloud(environ)]


def embedded() -> Model:
    """The model that is part of the product."""
    return Model(
        "demo", "embedded", SMOLLM2.name, Zone.PREMISES, "slm",
        timeouts=Timeouts(first_token_s=60, total_s=300),
    )  # fmt: skip


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def cloud(environ: Mapping[str, str], *, installed: Callable[[str], bool] = _installed) -> list[Model]:
    """The models of each provider whose key is set, and whose adapter is installed: a stray key stops no start."""
    found = []
    for variable, (provider, name) in _CLOUD.items():
        if not (key := environ.get(variable)):
            continue
        if provider in NEEDS_LITELLM and not installed("litellm"):
            _log.warning(
                "a key is set whose provider needs an extra: pip install 'cauce[litellm]'", extra=fields(key=variable)
            )
            continue
        takes = limits(name)
        found.append(
            Model(
                name, provider, name, Zone.WORLD, "llm", api_key=key,
                context_tokens=takes.context_tokens, modalities=takes.modalities | {"image"}, tools=takes.tools,
            )
        )  # fmt: skip
    return found


async def _probe(session: aiohttp.ClientSession, name: str, url: str) -> Model | None:
    """The first chat model of a server, if what answers there is one."""
    timeout = aiohttp.ClientTimeout(total=_PROBE_S)
    try:
        async with session.get(f"{url}/models", timeout=timeout, allow_redirects=False) as response:
            if response.status != 200 or (response.content_length or 0) > _MAX_LIST_BYTES:
                return None
            listed = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
        return None
    if not isinstance(listed, dict) or not isinstance(entries := listed.get("data"), list):
        return None
    names = [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    chat = next((model for model in names if not _NOT_FOR_CHAT.search(model)), None)
    if chat is None:
        return None
    takes = limits(chat)
    return Model(
        name, name, chat, Zone.PREMISES, "slm", base_url=url,
        context_tokens=takes.context_tokens, modalities=takes.modalities, tools=takes.tools,
    )  # fmt: skip
