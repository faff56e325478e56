"""The ledger against upstreams that keep their own count: `python -m tests.ledger.proof --requests 20000`.

A running gateway, two loopback servers as its models, and mixed requests: whole and streamed, aborted by the client
and broken off by the upstream, refused and tried again, escalated, answered from the cache, and failed for good. Each
server counts the tokens of what it has sent and what they cost, in fractions, by its own arithmetic. A stream says its
usage so far with every piece, so that both sides know what an abort left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.running import Running, running
from tests.upstreams.loopback import DONE, Request, Wire, event, serving

# USD a million tokens: prompt, cached, written to a cache, completion.
PRICES = {"small": ("0.11", "0.017", "0.13", "0.37"), "large": ("2.03", "0.51", "2.57", "8.09")}
KINDS = ("whole", "streamed", "aborted", "cut", "retried", "escalated", "cached", "failed", "silent")
_WEIGHTS = (30, 30, 8, 3, 4, 8, 12, 2, 3)
CONFIG = """
discover: false
prices: prices.yaml
models:
  small: {{provider: openai-compatible, model: small-1, base_url: "{small}/v1", zone: premises, kind: slm}}
  large: {{provider: openai-compatible, model: large-1, base_url: "{large}/v1", zone: premises, kind: llm}}
"""
POLICY = """
version: 1
routes:
  ladder: {try: [slm, llm], verify: [finish]}
rules: []
default: ladder
"""


@dataclass
class Count:
    """What an upstream has sent and what it charges for it."""

    model: str
    calls: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    nano_usd: int = 0
    unsaid: int = 0  # calls whose usage it did not say

    def charge(self, usage: dict[str, Any]) -> None:
        """Count one call and its cost, rounded half to even at the nano-dollar."""
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        written = usage["prompt_tokens_details"]["cache_creation_tokens"]
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        rates = [Fraction(rate) * 1000 for rate in PRICES[self.model]]  # nano-USD a token
        parts = zip((prompt - cached - written, cached, written, completion), rates, strict=True)
        self.calls += 1
        self.tokens.update(prompt=prompt, cached=cached, cache_write=written, completion=completion)
        self.nano_usd += round(sum(count * rate for count, rate in parts))


def _usage(number: int, completion: int) -> dict[str, Any]:
    prompt = 20 + number * 7919 % 3001
    cached, written = number * 31 % (prompt // 3), number * 17 % (prompt // 3)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_creation_tokens": written},
    }


class Upstream:
    """One model's server. What it does is written in the question: `kind aborted number 17`."""

    def __init__(self, model: str) -> None:
        self.count = Count(model)
        self._refused: set[int] = set()

    async def answer(self, request: Request, wire: Wire) -> None:
        """Answer as the question says."""
        if request.method == "GET":
            await wire.whole({"object": "list", "data": []})
            return
        words = request.body["messages"][-1]["content"].split()
        kind, number = words[words.index("kind") + 1], int(words[words.index("number") + 1])
        first = self.count.model == "small"
        if kind == "failed" or (kind == "retried" and first and number not in self._refused):
            self._refused.add(number)
            await wire.whole({"error": {"message": "busy", "type": "server_error"}}, status=503)
            return
        finish = "content_filter" if kind == "escalated" and first else "stop"
        if request.body.get("stream"):
            await self._stream(kind, number, finish, wire)
            return
        usage = _usage(number, 5 + number % 400)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Good. " * 8}, "finish_reason": finish}
        body: dict[str, Any] = {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}
        if kind == "silent":
            self.count.calls += 1
            self.count.unsaid += 1
        else:
            self.count.charge(usage)
            body["usage"] = usage
        await wire.whole(body)

    async def _stream(self, kind: str, number: int, finish: str, wire: Wire) -> None:
        pieces, usage = 4 + number % 5, _usage(number, 0)
        if kind == "silent":
            self.count.calls += 1
            self.count.unsaid += 1
        await wire.begin_stream()
        sent = 0
        try:
            for sent in range(1, pieces + 1):
                usage = _usage(number, 3 * sent)
                await wire.chunk(_piece("So it goes on, " * 4, None, None if kind == "silent" else usage))
            if kind == "aborted":
                await wire.hang()
                return
            if kind == "cut":
                wire.writer.close()
                return
            await wire.chunk(_piece("", finish, None if kind == "silent" else usage) + DONE)
            await wire.end_stream()
        finally:
            if kind != "silent" and sent:
                self.count.charge(usage)


def _piece(text: str, finish: str | None, usage: dict[str, Any] | None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    chunk: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return event({**chunk, "usage": usage} if usage else chunk)


@dataclass
class Proof:
    """What both sides say."""

    requests: int
    kinds: Counter[str]
    upstreams: tuple[Count, ...]
    ledger: dict[str, dict[str, int]]  # by model
    entries: int
    entry_nano_usd: int
    estimated: int
    seconds: float

    def differences(self) -> list[str]:
        """Where the ledger and the upstreams do not say the same."""
        found = []
        for count in self.upstreams:
            booked = self.ledger[count.model]
            said = {**count.tokens, "calls": count.calls - count.unsaid, "nano_usd": count.nano_usd}
            found += [
                f"{count.model}: {name}: upstream {value}, ledger {booked[name]}"
                for name, value in said.items()
                if booked[name] != value
            ]
        unsaid = sum(count.unsaid for count in self.upstreams)
        if self.estimated != unsaid:
            found.append(f"usage not said: upstreams {unsaid}, marked in the ledger {self.estimated}")
        if self.entries != self.requests:
            found.append(f"requests {self.requests}, entries {self.entries}")
        if self.entry_nano_usd != sum(booked["all_nano_usd"] for booked in self.ledger.values()):
            found.append("the entries do not sum to their calls")
        return found


async def _ask(client: httpx.AsyncClient, kind: str, number: int) -> None:
    stream = kind in {"streamed", "aborted", "cut"} or (kind in {"escalated", "retried", "silent"} and number % 2 == 0)
    body = {"model": "auto", "messages": [{"role": "user", "content": f"kind {kind} number {number}"}]}
    if not stream:
        await client.post("/chat/completions", json=body)
        return
    with contextlib.suppress(httpx.HTTPError):
        async with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as reply:
            wanted = 4 + number % 5 if kind == "aborted" else -1
            seen = 0
            async for line in reply.aiter_lines():
                seen += line.startswith("data:") and b'"content":"' in line.encode()
                if seen == wanted:
                    return


async def _load(base_url: str, count: int, at_once: int, kinds: Counter[str]) -> None:
    chance = random.Random(7)
    numbers = iter(range(count))

    async def one_client() -> None:
        async with httpx.AsyncClient(base_url=base_url, timeout=60) as client:
            for number in numbers:
                kind = chance.choices(KINDS, _WEIGHTS)[0]
                kinds[kind] += 1
                await _ask(client, kind, number % 40 if kind == "cached" else number)
                if number and number % 1000 == 0:
                    print(f"\r{number:,} of {count:,} requests", end="", flush=True)

    await asyncio.gather(*(one_client() for _ in range(at_once)))


@contextlib.asynccontextmanager
async def _upstreams() -> AsyncIterator[tuple[tuple[Upstream, str], ...]]:
    small, large = Upstream("small"), Upstream("large")
    async with serving(small.answer) as one, serving(large.answer) as two:
        yield (small, one.url), (large, two.url)


def _write_prices(folder: Path) -> None:
    kinds = ("prompt", "cached", "cache_write", "completion")
    lines = []
    for name, rates in PRICES.items():
        given = ", ".join(f"{kind}: {rate}" for kind, rate in zip(kinds, rates, strict=True))
        lines.append(f"{name}: {{{given}, from: 2020-01-01}}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prices.yaml").write_text("\n".join(lines))


async def prove(folder: Path, count: int, *, at_once: int = 16) -> Proof:
    """Send so many requests through a gateway in this folder, and ask both sides."""
    kinds: Counter[str] = Counter()
    _write_prices(folder)
    async with _upstreams() as models:
        config = CONFIG.format(**{upstream.count.model: url for upstream, url in models})
        started = time.perf_counter()
        gateway = await asyncio.to_thread(_start, folder, config)
        try:
            await _load(gateway[1].base_url, count, at_once, kinds)
            seconds = time.perf_counter() - started
            await asyncio.to_thread(_until_written, folder, count)
        finally:
            await asyncio.to_thread(gateway[0].close)
        return _proof(folder, kinds, tuple(upstream.count for upstream, _ in models), seconds)


def _start(folder: Path, config: str) -> tuple[contextlib.ExitStack, Running]:
    stack = contextlib.ExitStack()
    return stack, stack.enter_context(running(folder, config, policy=POLICY))


def _until_written(folder: Path, count: int) -> None:
    end = time.monotonic() + 30
    while _query(folder, "SELECT count(*) FROM entries")[0][0] < count and time.monotonic() < end:
        time.sleep(0.05)


def _query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'cauce.db'}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


_BOOKED = """
SELECT model, sum(NOT estimated AND prompt_tokens IS NOT NULL) AS calls,
  sum(CASE WHEN estimated THEN 0 ELSE prompt_tokens END), sum(CASE WHEN estimated THEN 0 ELSE cached_tokens END),
  sum(CASE WHEN estimated THEN 0 ELSE cache_write_tokens END),
  sum(CASE WHEN estimated THEN 0 ELSE completion_tokens END),
  sum(CASE WHEN estimated THEN 0 ELSE cost_nano_usd END), sum(cost_nano_usd)
FROM attempts GROUP BY model
"""
_NAMES = ("calls", "prompt", "cached", "cache_write", "completion", "nano_usd", "all_nano_usd")


def _proof(folder: Path, kinds: Counter[str], counts: tuple[Count, ...], seconds: float) -> Proof:
    ledger = {row[0]: {name: value or 0 for name, value in zip(_NAMES, row[1:], strict=True)}
              for row in _query(folder, _BOOKED)}  # fmt: skip
    (entries, nano_usd, unknown) = _query(
        folder, "SELECT count(*), sum(cost_nano_usd), sum(cost_nano_usd IS NULL) FROM entries"
    )[0]
    estimated = _query(folder, "SELECT coalesce(sum(estimated), 0) FROM attempts")[0][0]
    assert not unknown, f"{unknown} requests of unknown cost"
    return Proof(sum(kinds.values()), kinds, counts, ledger, entries, nano_usd, estimated, seconds)


def main() -> None:
    """Prove, and say both sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        proof = asyncio.run(prove(Path(folder), given.requests))
    print(f"\r{proof.requests:,} requests in {proof.seconds:.0f} s: {orjson.dumps(proof.kinds).decode()}")
    for count in proof.upstreams:
        booked = proof.ledger[count.model]
        print(f"{count.model}: upstream {dict(count.tokens)} {count.nano_usd} nano-USD; ledger {booked}")
    if apart := proof.differences():
        raise SystemExit("\n".join(apart))
    print("the ledger says what the upstreams say, to the token and the nano-dollar")


if __name__ == "__main__":
    main()
