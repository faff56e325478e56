"""The cascade in a running gateway: a judge through real sockets, in headers, ledger, metrics and report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import httpx
import orjson
import pytest

from tests.entries import attempts, entry
from tests.running import Running, running
from tests.witness import ANSWER, Witness, witnesses

SERVERS = {
    "near": ("premises", "slm", "good"),
    "strict": ("premises", "slm", "strict"),
    "absent": ("premises", "slm", "refuse"),
    "far": ("world", "llm", "good"),
}
POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes:
  local: {try: [near]}
  judged: {try: [near, far], verify: [finish, {judge: strict}], draft: true, cache: false}
  unjudged: {try: [near, far], verify: [finish, {judge: absent}], cache: false}
  checked: {try: [near, far], verify: [finish, repeats, length, {checker: 0.0}], cache: false}
rules: [{name: personal-stays, when: {data: ">= personal"}, use: local}]
default: judged
"""
QUESTION = {"messages": [{"role": "user", "content": "¿Desde dónde se ve el faro?"}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, Witness]]]:
    folder = tmp_path_factory.mktemp("cascade")
    with witnesses({name: how for name, (_, _, how) in SERVERS.items()}) as servers:
        lines = ["discover: false", "prices: prices.yaml", "baseline: far", "models:"]
        for name, (zone, kind, _) in SERVERS.items():
            where = f"base_url: 'http://127.0.0.1:{servers[name].port}/v1'"
            lines.append(f"  {name}: {{provider: openai-compatible, {where}, model: m, zone: {zone}, kind: {kind}}}")
        prices = "far: {prompt: 2.0, cached: 0.5, completion: 8.0, from: 2020-01-01, source: contract}\n"
        (folder / "prices.yaml").write_text(prices, encoding="utf-8")
        with running(folder, "\n".join(lines), policy=POLICY) as gateway:
            yield gateway, servers


def ask(gateway: Running, route: str) -> httpx.Response:
    return httpx.post(f"{gateway.base_url}/chat/completions", json={**QUESTION, "model": route}, timeout=30)


def test_a_judge_turns_an_answer_down_and_the_next_rung_sees_the_draft(
    served: tuple[Running, dict[str, Witness]],
) -> None:
    gateway, servers = served
    reply = ask(gateway, "judged")
    assert (reply.status_code, reply.headers["x-cauce-model"]) == (200, "far")
    assert reply.headers["x-cauce-escalated"] == "true"
    calls = attempts(gateway, reply.headers["x-cauce-request-id"])
    assert [(call["model"], call["kind"], call["rejected_by"]) for call in calls] == [
        ("near", "slm", "judge"), ("strict", "judge", ""), ("far", "llm", ""),
    ]  # fmt: skip
    assert ANSWER.encode() in servers["strict"].seen
    assert ANSWER.encode() in servers["far"].seen
    assert entry(gateway, reply.headers["x-cauce-request-id"])["prompt_tokens"] == sum(
        c["prompt_tokens"] for c in calls
    )

    page = httpx.get(f"{gateway.url}/metrics").text
    assert 'cauce_verdicts_total{check="judge",verdict="turned_down"} 1.0' in page
    assert 'cauce_verdicts_total{check="finish",verdict="passed"}' in page
    assert 'cauce_escalations_total{route="judged"} 1.0' in page
    assert 'cauce_wasted_tokens_total{model="near",why="turned_down"}' in page
    assert 'cauce_wasted_tokens_total{model="strict",why="verifying"}' in page

    command = [sys.executable, "-m", "gateway.cli.main", "report", "--cascade", "--json", "--config", "cauce.yaml"]
    told = subprocess.run(command, cwd=gateway.folder, capture_output=True, check=True)
    (row,) = (row for row in orjson.loads(told.stdout) if row["route"] == "judged")
    assert (row["escalated"], row["turned_down_answers"], row["verifying_calls"]) == (1, 1, 1)
    assert row["wasted_tokens"] > 0


def test_a_judge_that_is_away_is_not_in_the_way(served: tuple[Running, dict[str, Witness]]) -> None:
    gateway, _ = served
    reply = ask(gateway, "unjudged")
    assert (reply.status_code, reply.headers["x-cauce-model"]) == (200, "near")
    assert [c["kind"] for c in attempts(gateway, reply.headers["x-cauce-request-id"])] == ["slm", "judge"]
    assert 'cauce_verdicts_total{check="judge",verdict="failed"} 1.0' in httpx.get(f"{gateway.url}/metrics").text


def test_the_trained_checker_reads_an_answer_in_the_running_gateway(
    served: tuple[Running, dict[str, Witness]],
) -> None:
    gateway, _ = served
    assert ask(gateway, "checked").headers["x-cauce-model"] == "near"
    page = httpx.get(f"{gateway.url}/metrics").text
    assert 'cauce_verdicts_total{check="checker",verdict="passed"} 1.0' in page
