"""Which adapter is built for which entry of cauce.yaml, and what it says to one that it cannot be built for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.types import Model
from gateway.upstreams.openai_http import OpenAIUpstream
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import PROVIDERS, build
from tests.upstreams.loopback import a_model


def a_model_of(provider: str, **changes: Any) -> Model:
    return a_model(**{"provider": provider, "model": "some-model", "base_url": "", "api_key": "sk-key", **changes})


def refusal(model: Model) -> str:
    with pytest.raises(ConfigError) as raised:
        build(model, Pool())
    return raised.value.message


@pytest.mark.parametrize(
    ("written", "meant"),
    [("opneai", "openai"), ("OpenAI", "openai"), ("antropic", "anthropic"), ("gemni", "gemini"), ("bedrok", "bedrock"),
     ("watson", "watsonx"), ("lm-studio", "lmstudio"), ("open-ai-compatible", "openai-compatible"), ("fakes", "fake")],
)  # fmt: skip
def test_a_provider_that_is_nearly_right_is_answered_with_the_right_one(written: str, meant: str) -> None:
    assert refusal(a_model_of(written)) == f"models.small: provider '{written}' is not known; did you mean '{meant}'?"


def test_a_provider_that_is_like_none_is_answered_with_all_of_them() -> None:
    said = refusal(a_model_of("zzz"))
    assert "provider 'zzz' is not known; known: " in said
    assert all(provider in said for provider in PROVIDERS if provider != "static")


@pytest.mark.parametrize("provider", ["openai-compatible", "tgi"])
def test_a_provider_without_a_usual_address_must_be_given_one(provider: str) -> None:
    assert refusal(a_model_of(provider)).startswith(f"models.small: provider {provider} needs base_url, e.g. http")


@pytest.mark.parametrize("provider", ["openai", "ollama", "lmstudio", "llamacpp", "vllm", "mistral", "groq", "xai"])
def test_a_provider_with_a_usual_address_is_asked_there_unless_another_is_given(provider: str) -> None:
    usual = build(a_model_of(provider), Pool())
    assert isinstance(usual, OpenAIUpstream)
    assert usual.model.base_url.startswith(("https://api.", "http://127.0.0.1:"))
    assert usual.model.base_url.endswith("/v1")
    given = build(a_model_of(provider, base_url="http://127.0.0.1:1/v1"), Pool())
    assert given.model.base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("provider", "changes", "needed"),
    [
        ("anthropic", {"api_key": ""}, "api_key"),
        ("gemini", {"api_key": ""}, "api_key"),
        ("bedrock", {}, "options.region"),
        ("watsonx", {}, "base_url"),
        ("watsonx", {"api_key": "", "base_url": "http://127.0.0.1:1"}, "api_key or options.token"),
        (
            "watsonx",
            {"base_url": "http://127.0.0.1:1"},
            "options.project_id or options.space_id or a deployment/... as model",
        ),
    ],
)
def test_what_a_provider_cannot_do_without_is_asked_for_at_the_start(
    provider: str, changes: dict[str, Any], needed: str
) -> None:
    assert refusal(a_model_of(provider, **changes)) == f"models.small: provider {provider} needs {needed}"


def test_an_option_that_a_provider_does_not_know_is_named_with_those_that_it_knows() -> None:
    said = refusal(a_model_of("bedrock", options={"region": "eu-west-1", "regoin": "x"}))
    assert said.startswith("models.small.options: 'regoin' is not known; bedrock takes: region, access_key_id")
    assert refusal(a_model_of("anthropic", options={"a": "b"})).endswith("anthropic takes: none")


# --- what is imported, and when --------------------------------------------------------------------------------------

HEAVY = ("litellm", "openai", "boto3", "botocore", "httpx", "xllamacpp", "torch", "tokenizers")
BUILDS = """
import sys
from gateway.settings import Settings
from gateway.app import build_gateway
models = {
    "a": {"provider": "openai-compatible", "model": "m", "zone": "premises", "kind": "slm", "base_url": "http://127.0.0.1:1/v1"},
    "b": {"provider": "openai", "model": "gpt-4.1", "zone": "world", "kind": "llm"},
    "c": {"provider": "fake", "model": "m", "zone": "world", "kind": "llm"},
}
settings = Settings(models=models, ledger="sqlite://")
build_gateway(settings, settings.catalogue())
print(sorted(name for name in %r if name in sys.modules))
"""
NOT_INSTALLED = """
import sys
sys.modules[%r] = None
from gateway.types import Model, Zone
from gateway.errors import ConfigError
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build
try:
    build(Model("a", %r, "m", Zone.WORLD, "llm", api_key="sk-key"), Pool())
except ConfigError as error:
    print(error)
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_gateway_of_openai_compatible_models_starts_without_what_other_providers_need() -> None:
    assert run(BUILDS % (HEAVY,)) == "[]"


@pytest.mark.parametrize(
    ("module", "provider", "extra"),
    [("litellm", "anthropic", "cauce[litellm]"), ("xllamacpp", "embedded", "cauce[embedded]")],
)
def test_a_provider_that_needs_an_extra_says_which(module: str, provider: str, extra: str) -> None:
    assert f"needs an extra: pip install '{extra}'" in run(NOT_INSTALLED % (module, provider))


def test_an_adapter_of_litellms_is_built_without_importing_it() -> None:
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    program = f"""
import sys
from gateway.types import Model, Zone
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build
build(Model("a", "anthropic", "m", Zone.WORLD, "llm", api_key="sk-key"), Pool())
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run(program) == "[]"
