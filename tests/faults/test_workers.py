"""Two processes on one port: budgets, ledger and the console's sessions are those of one gateway."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.ledger.keys import Role, create_key
from gateway.ledger.limits import set_limits
from gateway.ledger.store import open_engine
from gateway.types import Budget, Caller
from tests.entries import eventually, rows
from tests.running import Running, running
from tests.upstreams.loopback import openai
from tests.upstreams.threaded import served

CENT = 10_000_000
TOKENS = 3  # of each answer: `loopback.USAGE`
COVERED = 40  # answers that the budget is for
ASKED = {"poor": 80, "rich": 80, "": 20}  # by the name of the key; none is refused
POLICY = "version: 1\nroutes: {near: {try: [slm], cache: false}}\nrules: []\ndefault: near\n"
# A cent for each token of an answer.
PRICES = "near: {prompt: 0, cached: 0, completion: 10000, from: 2020-01-01, source: contract}\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "prices.yaml").write_text(PRICES)
    engine = open_engine(f"sqlite:///{folder}/cauce.db")
    with engine.begin() as connection:
        set_limits(connection, [Budget("team:poor", "month", COVERED * TOKENS * CENT)])
    for name in ("poor", "rich"):
        (folder / name).write_text(create_key(engine, Caller(team=name, app="bot")).key)
    (folder / "admin").write_text(create_key(engine, Caller(team="ops", app="console"), role=Role.ADMIN).key)
    engine.dispose()
    with served(openai) as upstream:
        config = (
            "discover: false\nworkers: 2\nprices: prices.yaml\nlog_level: warning\nmodels:\n"
            f"  near: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{upstream.port}/v1', model: m, "
            "zone: premises, kind: slm}\n"
        )
        with running(folder, config, policy=POLICY) as started:
            yield started


def key(gateway: Running, name: str) -> str:
    return (gateway.folder / name).read_text()


def ask(gateway: Running, name: str, number: int) -> tuple[str, str, int]:
    """One request over a connection of its own, so that either process may get it: its key, id and status."""
    body = {
        "messages": [{"role": "user", "content": f"Mi DNI es 12345678Z, ¿a qué hora abren el día {number}?"}],
        "stream": number % 2 == 0,
        "max_tokens": TOKENS,
    }
    headers = {"authorization": f"Bearer {key(gateway, name)}"} if name else {}
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers, timeout=60)
    return name, reply.headers["x-cauce-request-id"], reply.status_code


def test_budgets_and_the_ledger_of_two_processes_are_those_of_one(gateway: Running) -> None:
    names = [name for name, number in ASKED.items() for _ in range(number)]
    random.Random(1).shuffle(names)
    with ThreadPoolExecutor(12) as clients:
        seen = list(clients.map(lambda each: ask(gateway, each[1], each[0]), enumerate(names)))
    assert Counter((name, status) for name, _, status in seen) == {
        ("poor", 200): COVERED,
        ("poor", 429): ASKED["poor"] - COVERED,
        ("rich", 200): ASKED["rich"],
        ("", 401): ASKED[""],
    }
    eventually(lambda: len(rows(gateway, "SELECT request_id FROM entries")) >= len(seen))
    kept = rows(gateway, "SELECT request_id, status, team, cost_nano_usd FROM entries")
    assert sorted((row["request_id"], row["status"]) for row in kept) == sorted((id, status) for _, id, status in seen)
    calls = Counter(row["request_id"] for row in rows(gateway, "SELECT request_id FROM attempts"))
    assert calls == {id: 1 for _, id, status in seen if status == 200}
    assert sum(row["cost_nano_usd"] for row in kept if row["team"] == "poor") == COVERED * TOKENS * CENT
    (used,) = rows(gateway, "SELECT spent_nano_usd, reserved_nano_usd FROM budget_use")
    assert (used["spent_nano_usd"], used["reserved_nano_usd"]) == (COVERED * TOKENS * CENT, 0)
    (summed,) = rows(gateway, "SELECT sum(requests) AS n, count(DISTINCT writer) AS writers FROM daily")
    assert (summed["n"], summed["writers"]) == (len(seen), 2)  # each process has had some
    chains = {row["writer"] for row in rows(gateway, "SELECT DISTINCT writer FROM audit WHERE request_id != ''")}
    assert len(chains) == 2
    audited = Counter(row["request_id"] for row in rows(gateway, "SELECT request_id FROM audit WHERE request_id != ''"))
    assert set(audited.values()) == {1}


def test_whoever_signs_in_with_one_process_is_known_to_the_other(gateway: Running) -> None:
    fresh = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=f"{gateway.url}/console", limits=fresh, timeout=60) as browser:
        token = re.search(r'name="csrf" value="([^"]+)"', browser.get("/sign-in").text)
        assert token
        browser.post("/sign-in", data={"csrf": token[1], "key": key(gateway, "admin")})
        assert {browser.get("/decisions").status_code for _ in range(12)} == {200}
