"""Two gateways on one database, killed at any moment: the chains are whole, and each complete reply has its record."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from gateway.ledger.chain_check import check
from gateway.ledger.store import open_engine
from tests.entries import rows
from tests.running import Running, running

ROUNDS = max(2, int(os.environ.get("CAUCE_KILLS", "0")) // 10)
SEED = int(os.environ.get("CAUCE_SEED", "0")) or time.time_ns() % 1_000_000
CALLERS = 4
CONFIG = """
discover: false
cache: {{enabled: false}}
ledger: sqlite:///{folder}/cauce.db
models:
  near: {{provider: fake, model: n, zone: premises, kind: slm}}
"""
BODY = {"messages": [{"role": "user", "content": "Mi DNI es 12345678Z. ¿A qué hora abren?"}]}


def keep_asking(gateway: Running, begun: threading.Event) -> list[str]:
    """The ids of complete replies, until the gateway is gone."""
    complete: list[str] = []
    with httpx.Client(base_url=gateway.base_url, timeout=30) as client:
        try:
            while True:
                reply = client.post("/chat/completions", json=BODY)
                assert reply.headers["x-cauce-data-class"] == "personal"
                complete.append(reply.headers["x-cauce-request-id"])
                begun.set()
        except httpx.TransportError:
            return complete


def test_after_kills_of_two_gateways_the_chains_are_whole_and_miss_no_complete_reply(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"CAUCE_SEED={SEED}")
    config = CONFIG.format(folder=tmp_path)
    complete: list[str] = []
    for _ in range(ROUNDS):
        with (
            running(tmp_path, config) as one,
            running(tmp_path / "other", config) as other,
            ThreadPoolExecutor(2 * CALLERS) as hands,
        ):
            begun = {gateway.port: threading.Event() for gateway in (one, other)}
            asking = [
                hands.submit(keep_asking, gateway, begun[gateway.port])
                for gateway in (one, other)
                for _ in range(CALLERS)
            ]
            for gateway in (one, other):
                begun[gateway.port].wait(30)
                time.sleep(chance.uniform(0, 0.4))
                gateway.process.kill()
            complete += [request_id for each in asking for request_id in each.result()]
    engine = open_engine(f"sqlite:///{tmp_path}/cauce.db")
    checked = check(engine)
    engine.dispose()
    assert [str(problem) for problem in checked.problems] == []
    assert checked.chains >= 2 * ROUNDS
    recorded = [row["request_id"] for row in rows(one, "SELECT request_id FROM audit WHERE event = 'request'")]
    assert len(recorded) == len(set(recorded))
    assert len(complete) > 10 * ROUNDS
    assert not set(complete) - set(recorded)
