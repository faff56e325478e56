"""Which headers pass through the gateway, both ways, and in which form; and that no other one does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import Running, running
from tests.upstreams.loopback import DONE, Request, Server, Wire, completion, delta
from tests.upstreams.threaded import served
from tests.wire.asking import Reply, a_body, ask

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UUID = "0b1e5a4c-3f0d-4c55-9d0c-6f2a1f0a7c11"
ORGANISATION = "org-a1B2c3D4e5F6g7H8i9J0k1L2"
KEYS = {"CLOUD_KEY": "sk-cloud-0123456789", "HOUSE_KEY": "sk-house-9876543210"}
POLICY = """
version: 1
description: The cloud first, the house when it fails; personal data stays.
guarantees:
  - {data: personal, stays: premises}
routes:
  all: {try: [cloud, house]}
  local: {try: [house]}
rules:
  - {name: stays, when: {data: ">= personal"}, use: local}
default: all
"""
GIVEN = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-requests": "12ms",
    "openai-processing-ms": "412",
    "openai-version": "2020-10-01",
    "x-request-id": "req_provider_1",
    "openai-organization": "the-operators-own-account",
    "set-cookie": "a=b",
    "server": "nginx",
    "x-ratelimit-limit-tokens": "Ana Ruiz <ana@example.com>",
}
FAILS = "fail please"


async def answer(request: Request, wire: Wire) -> None:
    if request.method == "GET":
        await wire.whole({"object": "list", "data": []})
    elif request.body["model"] == "cloud-1" and request.body["messages"][-1]["content"] == FAILS:
        await wire.whole({"error": {"message": "it burns"}}, status=500)
    elif request.body.get("stream"):
        await wire.events(delta("Hola"), delta(finish="stop"), DONE)
    else:
        await wire.whole(completion(), headers=GIVEN)


@pytest.fixture(scope="module")
def provider() -> Iterator[Server]:
    with served(answer) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    at = f"base_url: '{provider.url}/v1'"
    config = (
        "models:\n"
        f"  cloud: {{provider: openai, model: cloud-1, zone: world, kind: llm, {at}, api_key: '${{CLOUD_KEY}}', "
        "retries: {most: 0}, breaker: {failures: 0}}\n"
        f"  house: {{provider: vllm, model: house-1, zone: premises, kind: slm, {at}, api_key: '${{HOUSE_KEY}}'}}\n"
        "cache: {enabled: false}\n"
    )
    folder = tmp_path_factory.mktemp("passing")
    with running(folder, config, policy=POLICY, environ=KEYS) as started:
        yield started


def sent(gateway: Running, provider: Server, headers: dict[str, str], **body: Any) -> tuple[Reply, list[Request]]:
    """The reply, and what went upstream for it."""
    before = len(provider.requests)
    reply = ask(gateway, a_body(**body), headers)
    assert reply.status == 200, reply.raw
    calls = [request for request in provider.requests[before:] if request.path.endswith("/chat/completions")]
    return reply, calls  # without health checks, and questions of how many tokens a text has


def test_a_trace_goes_on_to_the_model(gateway: Running, provider: Server) -> None:
    reply, (request,) = sent(gateway, provider, {"traceparent": TRACE})
    assert request.headers["traceparent"] == TRACE
    assert "x-cauce-lost" not in reply.headers


def test_organisation_and_project_go_to_the_provider_that_knows_them_and_to_no_other(
    gateway: Running, provider: Server
) -> None:
    headers = {"OpenAI-Organization": ORGANISATION, "OpenAI-Project": "proj_a1B2c3D4e5F6g7H8i9J0k1L2"}
    reply, (request,) = sent(gateway, provider, headers | {"OpenAI-Beta": "assistants=v2"})
    assert request.headers["openai-organization"] == ORGANISATION
    assert request.headers["openai-project"] == "proj_a1B2c3D4e5F6g7H8i9J0k1L2"
    assert request.headers["openai-beta"] == "assistants=v2"
    assert "x-cauce-lost" not in reply.headers
    reply, (request,) = sent(gateway, provider, headers, model="house")
    assert not request.headers.keys() & {"openai-organization", "openai-project"}
    assert reply.headers["x-cauce-lost"] == "openai-organization,openai-project"


def test_what_a_header_says_of_a_person_counts_as_what_the_text_says(gateway: Running, provider: Server) -> None:
    reply, (request,) = sent(gateway, provider, {"OpenAI-Organization": "org-AnaGarcia12345678Z"})
    assert request.body["model"] == "house-1"
    assert "openai-organization" not in request.headers
    assert (reply.headers["x-cauce-data-class"], reply.headers["x-cauce-zone"]) == ("personal", "premises")


def test_a_key_of_idempotency_is_the_same_for_the_same_and_never_the_callers_own(
    gateway: Running, provider: Server
) -> None:
    keys = []
    for key in (UUID, UUID, f"stainless-python-retry-{UUID}"):
        _, (request,) = sent(gateway, provider, {"Idempotency-Key": key})
        keys.append(request.headers["idempotency-key"])
    assert keys[0] == keys[1] != keys[2]
    assert not any(UUID in key for key in keys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idempotency-key", "ana.ruiz@example.com"),
        ("idempotency-key", "12345678Z"),
        ("traceparent", "00-ana-ruiz-01"),
        ("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        ("openai-organization", "Ana Ruiz"),
        ("openai-beta", "call me on 600 123 456"),
        ("anthropic-beta", "x" * 600),
    ],
)
def test_a_value_that_is_not_in_its_strict_form_goes_nowhere_and_the_caller_is_told(
    gateway: Running, provider: Server, name: str, value: str
) -> None:
    reply, (request,) = sent(gateway, provider, {name: value})
    assert name not in request.headers
    assert reply.headers["x-cauce-lost"] == name


def test_the_state_of_a_trace_is_free_text_and_stays_on_the_premises(gateway: Running, provider: Server) -> None:
    headers = {"traceparent": TRACE, "tracestate": "congo=t61rcWkgMzE,rojo=ana"}
    reply, (request,) = sent(gateway, provider, headers)
    assert "tracestate" not in request.headers
    assert reply.headers["x-cauce-lost"] == "tracestate"
    _, (request,) = sent(gateway, provider, headers, model="house")
    assert request.headers["tracestate"] == headers["tracestate"]


def test_a_call_carries_nothing_else_that_the_client_or_the_gateway_knows(gateway: Running, provider: Server) -> None:
    headers = {
        "Authorization": "Bearer the-callers-own-key", "x-api-key": "the-callers-own-key", "Cookie": "a=b",
        "User-Agent": "Ana's script", "x-cauce-tags": "secret-project", "x-cauce-data-class": "internal",
        "X-Forwarded-For": "10.0.0.1", "x-stainless-os": "Linux", "Referer": "http://intranet/",
    }  # fmt: skip
    _, (request,) = sent(gateway, provider, headers)
    assert request.headers.keys() == {
        "host", "accept", "accept-encoding", "content-type", "content-length", "user-agent", "authorization",
        "x-request-id",
    }  # fmt: skip
    said = str(request.headers)
    assert not any(word in said for word in ("the-callers-own-key", "Ana", "secret-project", "10.0.0.1", "intranet"))
    assert request.body == {"model": "cloud-1", "messages": request.body["messages"]}


@pytest.mark.parametrize("stream", [False, True])
def test_the_next_rung_gets_its_own_credentials_and_none_of_the_first_ones_headers(
    gateway: Running, provider: Server, stream: bool
) -> None:
    asked = [{"role": "user", "content": FAILS}]
    headers = {"OpenAI-Organization": ORGANISATION, "traceparent": TRACE}
    reply, (first, second) = sent(gateway, provider, headers, messages=asked, stream=stream)
    assert first.headers["authorization"] == f"Bearer {KEYS['CLOUD_KEY']}"
    assert second.headers["authorization"] == f"Bearer {KEYS['HOUSE_KEY']}"
    assert KEYS["CLOUD_KEY"] not in str(second.headers) + second.raw.decode()
    assert "openai-organization" not in second.headers
    assert second.headers["traceparent"] == TRACE
    assert reply.headers["x-cauce-lost"] == "openai-organization"


def test_the_providers_limits_come_back_and_nothing_else_of_its_headers(gateway: Running, provider: Server) -> None:
    reply, _ = sent(gateway, provider, {})
    for name in ("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests"):
        assert reply.headers[name] == GIVEN[name]
    assert (reply.headers["openai-processing-ms"], reply.headers["openai-version"]) == ("412", "2020-10-01")
    assert reply.headers["x-cauce-provider-request-id"] == "req_provider_1"
    assert reply.headers["x-request-id"] == reply.headers["x-cauce-request-id"]
    assert not reply.headers.keys() & {"set-cookie", "openai-organization", "x-ratelimit-limit-tokens"}
    assert reply.headers.get("server") != "nginx"


def test_what_openai_knows_reaches_it_and_comes_back_to_the_byte(gateway: Running, provider: Server) -> None:
    """Fields of the API, of other providers and of next year: as they were sent."""
    asked = {
        "messages": [
            {"role": "developer", "content": "Be brief.", "name": "ops"},
            {"role": "user", "content": [
                {"type": "text", "text": "What are your opening hours?", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "And on Sundays?"},
            ]},
            {"role": "assistant", "content": None, "refusal": "No.", "reasoning_content": "They ask for hours."},
            {"role": "user", "content": "Please."},
        ],
        "n": 2, "logprobs": True, "top_logprobs": 3, "stop": ["\n\n", "END"], "seed": 7, "service_tier": "flex",
        "tool_choice": {"type": "function", "function": {"name": "hours"}}, "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "hours", "parameters": {}, "strict": True}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {}}},
        "reasoning_effort": "low", "prompt_cache_key": "faq", "prompt_cache_retention": "24h", "verbosity": "low",
        "temperature": 0.0, "logit_bias": {"50256": -100}, "prediction": {"type": "content", "content": "x"},
        "max_completion_tokens": 50, "a_field_of_next_year": {"deep": [1, 2.5, None, "é"]},
    }  # fmt: skip
    reply, (request,) = sent(gateway, provider, {}, model="cloud", **asked)
    assert json.dumps(request.body) == json.dumps(request.body | asked)
    assert list(request.body) == ["messages", "model", *[name for name in asked if name != "messages"]]
    assert json.loads(request.raw) == {**asked, "model": "cloud-1"}
    assert json.loads(reply.raw) == completion()
