"""Models without configuration: what is found on this machine, and what is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.types import Model, Zone
from gateway.upstreams.discover import cloud, discover
from tests.running import free_port, running
from tests.upstreams.loopback import Handler, Request, Wire, clean_run, head, openai, serving

KEYS = {
    "OPENAI_API_KEY": "openai", "ANTHROPIC_API_KEY": "anthropic", "GEMINI_API_KEY": "gemini",
    "MISTRAL_API_KEY": "mistral", "GROQ_API_KEY": "groq", "DEEPSEEK_API_KEY": "deepseek", "XAI_API_KEY": "xai",
}  # fmt: skip


def look(environ: Mapping[str, str] | None = None, own: str = "", **servers: Handler) -> list[Model]:
    """What is found with these servers listening, and nobody on one more port. `own` is the gateway itself."""

    async def found() -> list[Model]:
        async with AsyncExitStack() as stack, asyncio.timeout(20):
            ports = {
                name: (await stack.enter_async_context(serving(handler))).port for name, handler in servers.items()
            }
            own_port = ports.get(own, 0)
            return await discover(environ or {}, own_port=own_port, ports={**ports, "nobody": free_port()})

    return clean_run(found())


def a_list(*names: str) -> bytes:
    return orjson.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


def listing(*names: str) -> Handler:
    return answering(a_list(*names))


def answering(body: object, **how: Any) -> Handler:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(body, **how)

    return handler


async def silent(_request: Request, wire: Wire) -> None:
    await wire.hang()


async def dripping(_request: Request, wire: Wire) -> None:
    await wire.send(head(200, {"content-type": "application/json", "content-length": "5000"}))
    while True:
        await wire.send(b" ")
        await asyncio.sleep(0.05)


async def elsewhere(request: Request, wire: Wire) -> None:
    if request.path == "/v1/models":
        await wire.whole(b"", status=307, headers={"location": "/models"})
    else:
        await wire.whole(a_list("gemma3:4b"))


async def hanging_up(_request: Request, wire: Wire) -> None:
    wire.reset()


# --- local servers ----------------------------------------------------------------------------------------------------


def test_every_local_server_gives_its_first_chat_model_and_stays_on_the_premises() -> None:
    models = look(ollama=listing("nomic-embed-text", "gemma3:4b", "qwen3:8b"), vllm=openai)
    assert [(model.id, model.provider, model.model) for model in models] == [
        ("ollama", "ollama", "gemma3:4b"),
        ("vllm", "vllm", "served-name"),
    ]
    assert {(model.zone, model.kind) for model in models} == {(Zone.PREMISES, "slm")}
    assert all(model.base_url.startswith("http://127.0.0.1:") and model.base_url.endswith("/v1") for model in models)


NOT_ONE: dict[str, Handler] = {
    "makes embeddings only": listing("nomic-embed-text", "bge-m3", "all-minilm"),
    "is silent": silent,
    "drips": dripping,
    "hangs up": hanging_up,
    "is a web site": answering(b"<html>hello</html>", headers={"content-type": "text/html"}),
    "asks for a key": answering(a_list("gemma3:4b"), status=401),
    "has nothing there": answering(a_list("gemma3:4b"), status=404),
    "sends elsewhere": elsewhere,
    "lists nothing": listing(),
    "lists something else": answering({"object": "list", "data": [3, {"id": None}, {"name": "x"}]}),
    "is no object": answering([]),
    "is nested without end": answering(b"[" * 200_000),
    "is not text": answering(b"\xff\xfe\x00"),
    "is too long": answering(b" " * 1_500_000 + a_list("gemma3:4b")),
}


@pytest.mark.parametrize("what", NOT_ONE)
def test_what_is_no_chat_server_is_left_alone_and_holds_nothing_up(what: str) -> None:
    assert [model.id for model in look(odd=NOT_ONE[what])] == ["demo"]


def test_a_good_server_is_found_beside_one_that_is_silent() -> None:
    assert [model.id for model in look(lmstudio=silent, ollama=openai)] == ["ollama"]


def test_the_gateway_does_not_find_itself() -> None:
    assert [model.id for model in look(vllm=openai, own="vllm")] == ["demo"]


def test_where_nothing_answers_there_is_the_embedded_model() -> None:
    (model,) = look()
    assert (model.id, model.provider, model.zone, model.kind) == ("demo", "embedded", Zone.PREMISES, "slm")


# --- the cloud --------------------------------------------------------------------------------------------------------


def test_a_cloud_key_in_the_environment_adds_a_rung_above_what_is_local() -> None:
    models = look({"OPENAI_API_KEY": "sk-1"}, ollama=openai)
    assert [(model.id, model.kind, model.zone) for model in models] == [
        ("ollama", "slm", Zone.PREMISES),
        ("gpt-4.1", "llm", Zone.WORLD),
    ]
    assert models[1].api_key == "sk-1"
    assert "sk-1" not in repr(models)


@pytest.mark.parametrize("name", KEYS)
def test_each_providers_key_switches_on_its_model_and_no_other(name: str) -> None:
    models = cloud({name: "k", "PATH": "/bin", "OTHER_API_KEY": "x"}, installed=lambda _package: True)
    assert [(model.provider, model.zone, model.kind) for model in models] == [(KEYS[name], Zone.WORLD, "llm")]


def test_an_empty_key_is_none() -> None:
    assert cloud(dict.fromkeys(KEYS, "")) == []


def test_a_key_whose_adapter_is_not_installed_is_named_and_stops_no_start(caplog: pytest.LogCaptureFixture) -> None:
    missing: Callable[[str], bool] = lambda package: package != "litellm"  # noqa: E731
    models = cloud({"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, installed=missing)
    assert [model.provider for model in models] == ["openai"]
    assert "pip install 'cauce[litellm]'" in caplog.text


# --- the gateway ------------------------------------------------------------------------------------------------------


def test_with_discovery_off_and_no_models_the_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text("discover: false\n")
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "serve", "--port", "0"],
        cwd=tmp_path, capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("cauce: models: none are configured, and discover is off: name at least one model")


def test_with_nothing_configured_the_gateway_starts_with_what_this_machine_has(tmp_path: Path) -> None:
    with running(tmp_path, "") as gateway:
        listed = httpx.get(f"{gateway.base_url}/models", trust_env=False).json()["data"]
        assert listed[0]["id"] == "auto"
        assert len(listed) > 1
        assert {model["cauce"]["zone"] for model in listed[1:]} == {"premises"}
        assert "no model off the premises: the ladder is local" in gateway.output
