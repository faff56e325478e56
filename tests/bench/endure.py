"""Long runs against a gateway with everything switched on: `python -m tests.bench.endure [overload] [soak]`.

`overload`: four times as many requests as the upstream can take, as they come, whoever waits. What was served must be
what the upstream can, the rest refused fast with Retry-After, memory flat. `soak`: `--requests` (200,000), half of them
streamed; memory after the first tenth and at the end. Exit 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp

from tests.bench.run import rss_mb
from tests.running import Running, free_port, running
from tests.upstreams.loopback import Request, Wire, openai
from tests.upstreams.threaded import served

CAPACITY, SERVICE_S = 4, 0.1  # of the upstream in the overload: 40 requests a second
_BATCH = 10_000


def config(port: int, more: str = "") -> str:
    """One model; no cache, so that each request is a call."""
    return (
        "discover: false\nlog_level: warning\ncache: {enabled: false}\nmodels:\n"
        f"  fake: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{port}/v1', model: fake, zone: premises, "
        f"kind: slm{more}}}\n"
    )


# --- overload --------------------------------------------------------------------------------------------------------


async def slow(request: Request, wire: Wire) -> None:
    """An upstream that takes its time."""
    if request.method != "GET":
        await asyncio.sleep(SERVICE_S)
    await openai(request, wire)


async def flood(gateway: Running, *, a_second: float, seconds: float) -> tuple[Counter[int], list[float], int]:
    """Requests at a steady pace: statuses, the seconds that a refusal took, and refusals without Retry-After."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    unsaid = 0

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal unsaid
        began = time.monotonic()
        body = {"model": "fake", "messages": [{"role": "user", "content": "Hola"}]}
        async with session.post(f"{gateway.base_url}/chat/completions", json=body) as reply:
            await reply.read()
            statuses[reply.status] += 1
            if reply.status in {429, 503}:
                refused.append(time.monotonic() - began)
                unsaid += "retry-after" not in reply.headers

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        start = time.monotonic()
        for number in range(round(a_second * seconds)):
            await asyncio.sleep(max(0.0, start + number / a_second - time.monotonic()))
            group.create_task(one(session))
    return statuses, refused, unsaid


def overload(seconds: float) -> bool:
    """Four times the capacity for so long."""
    can = CAPACITY / SERVICE_S
    with tempfile.TemporaryDirectory() as folder, served(slow) as upstream:
        limited = config(upstream.port, f", max_in_flight: {CAPACITY}")
        with running(Path(folder), limited) as gateway:
            asyncio.run(flood(gateway, a_second=can, seconds=5))  # warm
            before, began = rss_mb(gateway.process.pid), time.monotonic()
            statuses, refused, unsaid = asyncio.run(flood(gateway, a_second=4 * can, seconds=seconds))
            took, after = time.monotonic() - began, rss_mb(gateway.process.pid)
    p99 = sorted(refused)[int(0.99 * (len(refused) - 1))] if refused else float("nan")
    served_share = statuses[200] / (can * took)
    print(
        f"overload: {4 * can:.0f} requests a second for {seconds:g} s on an upstream that takes {can:.0f}: "
        f"{dict(statuses)}, {served_share:.0%} of what it can; a refusal took {p99 * 1000:.0f} ms at p99, "
        f"{unsaid} without Retry-After; RSS {before:.0f} to {after:.0f} MB"
    )
    sound = set(statuses) <= {200, 429, 503} and not unsaid
    return sound and served_share > 0.9 and p99 < 0.25 and after < 1.05 * before


# --- soak ------------------------------------------------------------------------------------------------------------


def soak(requests: int) -> bool:
    """So many requests in batches, each second one streamed."""
    port = free_port()
    upstream = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream", str(port)])
    try:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder), config(port)) as gateway:
            batch = min(_BATCH, max(requests // 20, 1))
            settled, sent, errors, began = 0.0, 0, 0, time.monotonic()
            while sent < requests:
                errors += load(gateway, batch, start=sent, stream=(sent // batch) % 2 == 1)
                sent += batch
                now = rss_mb(gateway.process.pid)
                if not settled and sent >= requests / 10:
                    settled = now
                print(f"soak: {sent} requests, {errors} errors, RSS {now:.0f} MB, {time.monotonic() - began:.0f} s")
    finally:
        upstream.terminate()
        upstream.wait()
    growth = now / settled - 1
    print(f"soak: RSS grew by {growth:.1%} after the first tenth, {errors} errors in {sent} requests")
    return growth < 0.05 and not errors


def load(gateway: Running, number: int, *, start: int, stream: bool) -> int:
    """Send a batch; how many answers were not what they should be."""
    command = [sys.executable, "-m", "tests.bench.load", "--port", str(gateway.port), "-n", str(number), "-c", "32"]
    command += ["--start", str(start), "--limit", "900", *(["--stream"] if stream else [])]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return int(said["errors"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", choices=["overload", "soak"], default=["overload", "soak"])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    good = [overload(options.seconds) if run == "overload" else soak(options.requests) for run in options.runs]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
