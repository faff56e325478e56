"""Operations change the policy while requests run: none fails, none mixes two revisions."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.running import Running, running

REQUESTS = int(os.environ.get("CAUCE_RELOAD_REQUESTS", "1200"))  # `make soak` sends 10,000
CONFIG = "log_level: error\nmodels: {demo: {provider: fake, model: fake, zone: premises, kind: slm}}\n"
NAMES = ("north", "south")


def a_policy(name: str) -> str:
    return f"version: 1\nroutes: {{{name}: {{try: [slm], cache: false}}}}\nrules: []\ndefault: {name}\n"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, CONFIG, policy=a_policy(NAMES[0])) as started:
        yield started


def put(gateway: Running, text: str) -> None:
    scratch = gateway.folder / "policy.yaml.new"
    scratch.write_text(text)
    scratch.replace(gateway.folder / "policy.yaml")


def ask(client: httpx.Client, number: int) -> tuple[int, str, str]:
    body = {"messages": [{"role": "user", "content": f"question {number}"}]}
    reply = client.post("/v1/chat/completions", json=body)
    return reply.status_code, reply.headers.get("x-cauce-policy", ""), reply.headers.get("x-cauce-route", "")


def test_requests_under_continuous_reload_neither_fail_nor_mix_revisions(gateway: Running) -> None:
    done = threading.Event()

    def reload() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            put(gateway, a_policy(NAMES[turn % 2]))
            done.wait(2.2)  # a change is in force once it has been seen twice, a second apart

    changer = threading.Thread(target=reload)
    changer.start()
    try:
        with httpx.Client(base_url=gateway.url, timeout=30) as client, ThreadPoolExecutor(8) as pool:
            answers: list[tuple[int, str, str]] = []
            while len(answers) < REQUESTS or len({policy for _, policy, _ in answers}) < 2:
                answers += pool.map(lambda n: ask(client, n), range(len(answers), len(answers) + 100))
                assert len(answers) < 50 * REQUESTS, "the policy never changed"
    finally:
        done.set()
        changer.join()

    assert Counter(status for status, _, _ in answers) == {200: len(answers)}
    assert len({(policy, route) for _, policy, route in answers}) == 2, "a revision answers with its own route only"


def test_a_refused_policy_is_loud_and_the_good_one_stays(gateway: Running) -> None:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        before = ask(client, 0)
        put(gateway, "version: 1\nroutes: {north: {try: [slm]}}\nrules: [{name: x, when: {gian: '> 1'}, use: north}]\n")

        refused = ""
        for _ in range(100):
            refused = client.get("/readyz").json()["policy_refused"] or ""
            if refused:
                break
            threading.Event().wait(0.1)

        assert "policy.yaml:3" in refused
        assert "gain" in refused
        assert ask(client, 1) == before
        assert 'cauce_policy_reloads_total{outcome="refused"} 1.0' in client.get("/metrics").text
        assert "policy.yaml:3" in client.get("/console").text
    assert any("refused" in json.loads(line)["message"] for line in gateway.output.splitlines() if line.startswith("{"))
