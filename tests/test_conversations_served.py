"""Canaries, shadows and sticky rules through a running gateway: what clients see, and what is written down."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.entries import attempts, entry, eventually
from tests.running import Running, running

CONFIG = """
discover: false
prices: prices.yaml
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  large: {provider: fake, model: large-1, zone: world, kind: llm}
cache: {enabled: false}
"""
PRICES = "large: {prompt: 2.0, completion: 8.0, from: 2020-01-01, source: contract}\n"
POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes:
  local: {try: [slm], verify: [json]}
  cloud: {try: [llm, slm]}
rules:
  - {name: stays, when: {data: ">= personal"}, use: local}
  - {name: moved, when: {tools: true}, use: cloud, sticky: conversation}
  - {name: copied, when: {json: true}, use: local, shadow: llm}
  - {name: tried, when: {language: en}, use: local, canary: {cloud: 50%}}
default: local
"""
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
JSON: dict[str, Any] = {"response_format": {"type": "json_object"}}
HOURS = "¿A qué hora abre la biblioteca municipal los sábados por la mañana?"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conversations")
    (folder / "prices.yaml").write_text(PRICES)
    with running(folder, CONFIG, policy=POLICY) as started:
        yield started


def ask(gateway: Running, *said: str, path: str = "chat/completions", **body: Any) -> httpx.Response:
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(said)]
    reply = httpx.post(f"{gateway.base_url}/{path}", json={"messages": messages, **body}, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply


def cauce(gateway: Running, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *words, "--config", "cauce.yaml"],
        cwd=gateway.folder, capture_output=True, check=True, text=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_copy_is_a_call_of_the_kind_shadow_with_its_verdict_and_its_cost(gateway: Running, stream: bool) -> None:
    reply = ask(gateway, HOURS, stream=stream, **JSON)
    assert (reply.headers["x-cauce-rule"], reply.headers["x-cauce-model"]) == ("copied", "small")
    request_id = reply.headers["x-cauce-request-id"]
    eventually(lambda: len(attempts(gateway, request_id)) == 2)
    own, copy = attempts(gateway, request_id)
    assert (own["model"], own["kind"]) == ("small", "slm")
    assert (copy["model"], copy["kind"], copy["outcome"], copy["rejected_by"]) == ("large", "shadow", "ok", "json")
    assert copy["cost_nano_usd"] > 0
    assert entry(gateway, request_id)["model"] == "small"
    assert entry(gateway, request_id)["escalated"] == 0


def test_a_report_counts_what_copies_cost_and_no_request_twice(gateway: Running) -> None:
    request_id = ask(gateway, HOURS, **JSON).headers["x-cauce-request-id"]
    eventually(lambda: len(attempts(gateway, request_id)) == 2)
    own, copy = attempts(gateway, request_id)
    (row,) = [row for row in cauce(gateway, "report", "--by", "request", "--json") if row["request"] == request_id]
    assert row["cost_nano_usd"] == own["cost_nano_usd"] + copy["cost_nano_usd"]
    assert row["prompt_tokens"] == own["prompt_tokens"] + copy["prompt_tokens"]
    (whole,) = [row for row in cauce(gateway, "report", "--by", "rule", "--json") if row["rule"] == "copied"]
    rows = [row for row in cauce(gateway, "report", "--by", "request", "--json") if row["rule"] == "copied"]
    assert (whole["requests"], whole["cost_nano_usd"]) == (len(rows), sum(row["cost_nano_usd"] for row in rows))


def test_the_audit_knows_where_copies_went(gateway: Running) -> None:
    headers = {"x-cauce-data-class": "internal"}
    body = {"messages": [{"role": "user", "content": HOURS}], **JSON}
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=30)
    request_id = reply.headers["x-cauce-request-id"]
    eventually(lambda: len(attempts(gateway, request_id)) == 2)
    assert cauce(gateway, "audit", "verify", "--json")["whole"] is True
    month = dt.datetime.now(ZoneInfo("Europe/Madrid")).strftime("%Y-%m")
    told = cauce(gateway, "audit", "export", "--month", month, "--format", "json")
    assert told["ledger"]["agrees"] is True
    assert ("internal", "world", "copied") in {
        (flow["data_class"], flow["zone"], flow["rule"]) for flow in told["flows"]
    }


def test_every_turn_of_a_conversation_takes_the_same_side_of_a_canary(gateway: Running) -> None:
    sides = set()
    for number in range(12):
        first = f"Which opening hours does library number {number} have on Saturday mornings?"
        one = ask(gateway, first).headers["x-cauce-route"]
        assert ask(gateway, first, "From nine", "And on Sundays?").headers["x-cauce-route"] == one
        sides.add(one)
    assert sides == {"local", "cloud"}


def test_a_conversation_that_moved_to_the_large_model_stays_there(gateway: Running) -> None:
    assert ask(gateway, HOURS, "A las nueve", "gracias").headers["x-cauce-model"] == "small"
    moved = ask(gateway, HOURS, tools=TOOLS)
    assert (moved.headers["x-cauce-rule"], moved.headers["x-cauce-model"]) == ("moved", "large")
    stays = ask(gateway, HOURS, "A las nueve", "gracias")
    assert (stays.headers["x-cauce-rule"], stays.headers["x-cauce-model"]) == ("moved", "large")
    personal = ask(gateway, HOURS, "A las nueve", "gracias", "De nada", "Soy Ana Ruiz Gil, DNI 12345678Z")
    assert (personal.headers["x-cauce-rule"], personal.headers["x-cauce-model"]) == ("stays", "small")


def test_a_route_says_what_would_follow_and_makes_no_copy(gateway: Running) -> None:
    told = ask(gateway, HOURS, path="route", **JSON).json()
    assert (told["decision"]["shadow"], told["decision"]["canary"]) == ("large", None)
    assert told["decision"]["sticky"] is False
    assert 0 <= told["signals"]["draw"] <= 0.9999
    assert "a copy of 100% of the conversations goes to llm" in told["tried"][-1]["why"]
