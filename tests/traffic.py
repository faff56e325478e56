"""A gateway with good, bad and absent models on loopback, and requests of every kind for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from gateway.ledger.keys import create_key
from gateway.ledger.limits import set_limits
from gateway.ledger.store import open_engine
from gateway.types import Budget, Caller, Rate
from tests.running import Running, running
from tests.witness import witnesses

# A model's name, zone, kind, and how its server behaves.
MODELS = {
    "near": ("premises", "slm", "good"),
    "poor": ("premises", "slm", "poor"),
    "cutting": ("premises", "slm", "cut"),
    "far": ("world", "llm", "good"),
    "unpriced": ("world", "llm", "good"),
    "failing": ("world", "llm", "fail"),
    "absent": ("world", "llm", "refuse"),
}
POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes:
  plain: {try: [near]}
  climbing: {try: [poor, far], verify: [finish], cache: false}
  falling: {try: [failing, near], cache: false}
  cutting: {try: [cutting], mode: streamed, cache: false}
  away: {try: [absent], cache: false}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: plain}
  - {name: tools-far, when: {tools: true}, use: away}
default: plain
"""
PRICES = """
far: {prompt: 2.0, cached: 0.5, completion: 8.0, from: 2020-01-01, source: contract}
"""


_TOOL = {"type": "function", "function": {"name": "hours", "parameters": {"type": "object", "properties": {}}}}


@contextlib.contextmanager
def a_gateway(folder: Path) -> Iterator[Running]:
    """One that listens, with its servers behind it."""
    with witnesses({name: how for name, (_, _, how) in MODELS.items()}) as servers:
        lines = ["discover: false", "prices: prices.yaml", "baseline: far", "models:"]
        for name, (zone, kind, _) in MODELS.items():
            where = f"base_url: 'http://127.0.0.1:{servers[name].port}/v1'"
            lines.append(
                f"  {name}: {{provider: openai-compatible, {where}, model: m-{name}, zone: {zone}, kind: {kind}}}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prices.yaml").write_text(PRICES, encoding="utf-8")
        engine = open_engine(f"sqlite:///{folder}/cauce.db")
        with engine.begin() as connection:
            # Soft: a hard budget calls no model whose price is not known.
            budget = Budget("team:billing", "month", 10**12, hard=False)
            set_limits(connection, [budget, Rate("team:billing", "requests", 10**6)])
        (folder / "key").write_text(create_key(engine, Caller(team="billing", app="bot")).key)
        engine.dispose()
        with running(folder, "\n".join(lines), policy=POLICY) as gateway:
            yield gateway


def authorised(gateway: Running) -> dict[str, str]:
    """The header of the one key, whose team has a budget and a limit."""
    return {"authorization": f"Bearer {(gateway.folder / 'key').read_text()}"}


def mixed(gateway: Running) -> list[int]:
    """Requests of every kind; their statuses."""
    kinds: list[tuple[dict[str, Any], Mapping[str, str]]] = [
        ({}, {}),
        ({}, {}),  # the cache answers
        ({}, {"cache-control": "no-cache"}),
        ({"stream": True}, {"cache-control": "no-cache"}),
        ({"model": "far"}, {"cache-control": "no-cache"}),
        ({"model": "unpriced"}, {"cache-control": "no-cache"}),
        ({"model": "climbing"}, {}),
        ({"model": "climbing", "stream": True}, {}),
        ({"model": "falling"}, {}),
        ({"model": "cutting", "stream": True}, {}),
        ({"model": "failing"}, {}),
        ({"model": "absent"}, {}),
        ({"tools": [_TOOL]}, {}),  # the only model of its route cannot be reached: one on the premises answers
        ({"model": "no-such-model"}, {}),
        ({"model": "far"}, {"x-cauce-data-class": "personal"}),
        ({"messages": [{"role": "user", "content": "Mi DNI es 12345678Z"}]}, {}),
        ({"messages": "nothing"}, {}),
    ]
    asked = {"messages": [{"role": "user", "content": "¿A qué hora abren?"}]}
    with httpx.Client(base_url=gateway.base_url, timeout=30, headers=authorised(gateway)) as client:
        return [
            client.post("/chat/completions", json={**asked, **body}, headers=said).status_code for body, said in kinds
        ]
