"""A model of Anthropic's behind the running gateway: OpenAI's client sees OpenAI's API, and the ledger what it cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from tests.entries import attempts, entry, metric
from tests.running import Running, running
from tests.upstreams.dialects import ARGUMENTS, CACHED, COMPLETION, KEY, PROMPT, TEXT, Say
from tests.upstreams.loopback import Request, Server, Wire
from tests.upstreams.test_contract import WEATHER
from tests.upstreams.threaded import served
from tests.upstreams.translated import Anthropic

ANTHROPIC = Anthropic()
CALLERS_KEY = "sk-the-callers-own-key"
PRICES = "claude-sonnet-4-5: {prompt: 3.0, cached: 0.3, completion: 15.0, from: 2026-01-01, source: contract}\n"
COST_NANO = (PROMPT - CACHED) * 3_000 + CACHED * 300 + COMPLETION * 15_000
# Runs in the gateway's process before anything else does.
LOOKOUT = """
import sys
def look(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        where = arguments[1]
    elif event == "socket.getaddrinfo" and arguments[0] not in (None, "localhost", "127.0.0.1", "::1"):
        where = arguments[0]
    else:
        return
    with open({file!r}, "a") as abroad:
        abroad.write(f"{{where}}\\n")
sys.addaudithook(look)
"""


async def answer(request: Request, wire: Wire) -> None:
    if "no such thing" in request.raw.decode():
        refusal = ANTHROPIC.refusals["rejected"]
        await wire.whole(refusal.body, status=refusal.status)
    else:
        called = "tools" in request.body
        await ANTHROPIC.answer(request, wire, Say("tool_calls" if called else "stop", tool=called))


@pytest.fixture(scope="module")
def provider() -> Iterator[Server]:
    with served(answer) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("anthropic")
    (folder / "prices.yaml").write_text(PRICES)
    (folder / "sitecustomize.py").write_text(LOOKOUT.format(file=str(folder / "abroad.txt")))
    config = (
        f"models:\n  claude: {{provider: anthropic, base_url: '{provider.url}', model: {ANTHROPIC.model_name}, "
        "api_key: '${ANTHROPIC_API_KEY}', zone: world, kind: llm, modalities: [image]}\n"
        "prices: prices.yaml\ncache: {enabled: false}\n"
    )
    elsewhere = "http://127.0.0.1:9"
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": elsewhere, "PYTHONPATH": str(folder)}
    with running(folder, config, environ=environ) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False) as http,
        openai.OpenAI(
            base_url=gateway.base_url, api_key=CALLERS_KEY, max_retries=0, timeout=60, http_client=http
        ) as made,
    ):
        yield made


def ask(client: openai.OpenAI, text: str = "Hi", **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return client.chat.completions.with_raw_response.create(model="claude", messages=messages, **more)


def test_a_whole_answer_reaches_the_client_and_the_ledger(client: openai.OpenAI, gateway: Running) -> None:
    reply = ask(client)
    answered = reply.parse()
    assert answered.choices[0].message.content == TEXT
    assert (answered.usage.prompt_tokens, answered.usage.completion_tokens) == (PROMPT, COMPLETION)
    check_ledger(gateway, reply.headers["x-request-id"])


@pytest.mark.parametrize("include", [True, False])
def test_a_stream_reaches_the_client_and_the_ledger(client: openai.OpenAI, gateway: Running, include: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include else {}
    reply = ask(client, stream=True, **options)
    chunks = list(reply.parse())
    content = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in content] == [None] * (len(content) - 1) + ["stop"]
    assert [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage] == ([PROMPT] if include else [])
    check_ledger(gateway, reply.headers["x-request-id"])


def check_ledger(gateway: Running, request_id: str) -> None:
    row, (call,) = entry(gateway, request_id), attempts(gateway, request_id)
    assert (row["outcome"], row["model"], row["estimated"]) == ("ok", "claude", 0)
    assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (PROMPT, CACHED, COMPLETION)
    assert (call["outcome"], call["cost_nano_usd"]) == ("ok", COST_NANO)
    assert row["cost_nano_usd"] == COST_NANO


def test_a_tool_is_called(client: openai.OpenAI) -> None:
    (call,) = ask(client, tools=[WEATHER]).parse().choices[0].message.tool_calls
    assert (call.function.name, orjson.loads(call.function.arguments)) == ("weather", orjson.loads(ARGUMENTS))


def test_what_the_provider_turns_down_is_told_in_its_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, "There is no such thing")
    assert raised.value.code == "upstream_rejected"
    assert "top_p: range: 0..1" in raised.value.message


def test_the_provider_never_sees_the_callers_key(client: openai.OpenAI, provider: Server) -> None:
    ask(client, extra_body={"mock_response": "steered", "api_base": "http://127.0.0.1:9"})
    for request in provider.requests:
        assert request.headers["x-api-key"] == KEY
        assert CALLERS_KEY not in str(request.headers)
        assert b"steered" not in request.raw


def test_the_library_stays_at_home_and_says_nothing(client: openai.OpenAI, gateway: Running) -> None:
    ask(client)
    list(ask(client, stream=True).parse())
    assert not Path(gateway.folder / "abroad.txt").exists()
    lines = [orjson.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
    assert all(line["logger"].startswith(("cauce", "uvicorn")) for line in lines), lines
    assert "litellm" not in gateway.output.lower()
    assert metric(gateway, "cauce_crashes_total") == 0


def test_it_ends_at_once_when_it_is_told_to(gateway: Running) -> None:
    with contextlib.suppress(httpx.HTTPError):
        assert gateway.stop() == 0
    assert "Traceback" not in gateway.output
    assert "Unclosed" not in gateway.output
