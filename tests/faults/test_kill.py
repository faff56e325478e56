"""`kill -9` at any moment: a request whose reply was complete at its client is in the ledger, once.

`CAUCE_KILLS` says how many kills (`make soak` sets more); `CAUCE_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import Engine

from gateway.ledger.store import open_engine
from tests.entries import count, rows
from tests.running import Running, running
from tests.witness import witnesses

KILLS = int(os.environ.get("CAUCE_KILLS", "12"))
SEED = int(os.environ.get("CAUCE_SEED", "0")) or time.time_ns() % 1_000_000
CALLERS = 8
CONFIG = """
discover: false
cache: {{enabled: false}}
models:
  near: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{port}/v1', model: m, zone: premises, kind: slm}}
"""


@dataclass
class Load:
    """What the clients of one gateway have seen. It is killed with the reply of this number, or else after a time."""

    gateway: Running
    deadly: int
    complete: Counter[str] = field(default_factory=Counter)
    cut: int = 0

    def is_complete(self, reply: httpx.Response) -> None:
        self.complete[reply.headers["x-cauce-request-id"]] += 1
        if self.complete.total() == self.deadly:
            self.gateway.process.kill()


async def call(client: httpx.AsyncClient, load: Load, *, stream: bool) -> None:
    body = {"messages": [{"role": "user", "content": "¿A qué hora abren?"}], "stream": stream}
    if not stream:
        load.is_complete((await client.post("/chat/completions", json=body)).raise_for_status())
        return
    async with client.stream("POST", "/chat/completions", json=body) as reply:
        async for line in reply.aiter_lines():
            if line == "data: [DONE]":
                load.is_complete(reply)


async def keep_calling(client: httpx.AsyncClient, load: Load, number: int) -> None:
    """Until the gateway is gone."""
    try:
        while True:
            number += 1
            await call(client, load, stream=number % 2 == 0)
    except httpx.TransportError:
        load.cut += 1


async def kill_under_load(load: Load, *, after_s: float) -> None:
    async with httpx.AsyncClient(base_url=load.gateway.base_url, timeout=30) as client:
        callers = [asyncio.create_task(keep_calling(client, load, number)) for number in range(CALLERS)]
        await asyncio.wait(callers, timeout=after_s)
        load.gateway.process.kill()
        await asyncio.gather(*callers)


def test_after_kills_each_complete_reply_has_one_entry_and_one_only(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"CAUCE_SEED={SEED}")
    complete: Counter[str] = Counter()
    cut = 0
    with witnesses({"near": "good"}) as servers:
        config = CONFIG.format(port=servers["near"].port)
        for number in range(KILLS):
            with running(tmp_path, config) as gateway:
                load = Load(gateway, deadly=chance.randint(1, 60) if number % 3 else 0)
                asyncio.run(kill_under_load(load, after_s=5.0 if load.deadly else chance.uniform(0.05, 0.6)))
            complete += load.complete
            cut += load.cut
        with running(tmp_path, config) as gateway:
            kept = {row["request_id"]: row for row in rows(gateway, "SELECT * FROM entries")}
            called = Counter(row["request_id"] for row in rows(gateway, "SELECT request_id FROM attempts"))
            assert len(kept) == count(gateway)
    assert not set(complete) - set(kept)
    assert {kept[request_id]["outcome"] for request_id in complete} == {"ok"}
    assert {called[request_id] for request_id in complete} == {1}
    assert set(complete.values()) == {1}
    assert len(complete) > 5 * KILLS
    assert cut > KILLS  # the kills came while requests were under way


DIE_AT_EACH_STEP = """
import os, signal, sys
from sqlalchemy import Engine, event
from gateway.ledger.store import open_engine

left = 0

@event.listens_for(Engine, "before_cursor_execute")
def one_more(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

open_engine(f"sqlite:///{sys.argv[1]}/0.db")
for step in range(1, 100):
    url = f"sqlite:///{sys.argv[1]}/{step}.db"
    child = os.fork()
    if child == 0:
        left = step
        open_engine(url)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    left = 0
    open_engine(url)
    if ended == 0:
        break
print(step)
"""


def test_a_gateway_killed_at_any_step_of_its_first_start_starts_the_next_time(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE_AT_EACH_STEP, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 5 < int(done.stdout) < 99  # it was killed at each of them, then once at none


def test_gateways_that_start_for_the_first_time_together_all_start(tmp_path: Path) -> None:
    def start(number: int) -> Engine:
        return open_engine(f"sqlite:///{tmp_path}/{number % 4}.db")

    with ThreadPoolExecutor(8) as hands:
        for engine in hands.map(start, sorted(range(32), key=lambda number: number % 4)):
            engine.dispose()
