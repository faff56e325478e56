"""Upstreams that fail by chance, links that come and go: no answer is half, and none is lost that a model could give.

`CAUCE_FAULTS` says how many requests (`make soak` sends 10,000); `CAUCE_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import httpx
import pytest

from gateway.console.words import WORDS
from tests.entries import eventually, metric, rows
from tests.faults.chance import EITHER, POLICY, Chancy, Seen, ask, chancy, config, storm
from tests.running import Running, running

REQUESTS = int(os.environ.get("CAUCE_FAULTS", "400"))
SEED = int(os.environ.get("CAUCE_SEED", "0")) or time.time_ns() % 1_000_000
TOTAL_S = 1.0
CLIENTS = 16


# asyncio 3.11 drops a connection unclosed when its listener closes in the moment that it is taken.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_answer_is_complete_or_a_clear_error_when_two_of_three_upstreams_fail_by_chance(tmp_path: Path) -> None:
    async def main() -> tuple[dict[str, Seen], int]:
        async with chancy(0.3, 0.3, 0.0, seed=SEED) as servers:
            with running(tmp_path, config(servers, total_s=TOTAL_S), policy=POLICY) as gateway:
                begun = sockets(gateway), rss_mb(gateway)
                seen = await storm(gateway.base_url, REQUESTS, clients=CLIENTS, routes=EITHER, seed=SEED)
                for _ in range(100):
                    if metric(gateway, "cauce_requests_in_flight") == 0 and not any(each.busy for each in servers):
                        break
                    await asyncio.sleep(0.05)
                report(seen, servers, gateway, begun)
                assert metric(gateway, "cauce_requests_in_flight") == 0
                assert metric(gateway, "cauce_crashes_total") == 0
                assert sockets(gateway) <= begun[0] + 4 * CLIENTS  # kept connections, and no more of them
                assert not any(each.busy for each in servers)
                (written,) = rows(gateway, "SELECT count(*) AS n FROM entries")
                return seen, written["n"]

    seen, written = asyncio.run(main())
    unclear = [each for one in seen.values() for each in one.unclear]
    assert unclear == [], (SEED, unclear[:3])
    assert written == REQUESTS
    for route in ("whole", "held"):  # nothing was sent before all was there: each fault can be made good
        asked = len(seen[route].seconds)
        assert seen[route].complete >= 0.999 * asked, (SEED, seen[route].errors, seen[route].cut)
    straight = seen["straight"]
    assert straight.complete + straight.cut == len(straight.seconds), (SEED, straight.errors)


def report(seen: dict[str, Seen], servers: list[Chancy], gateway: Running, begun: tuple[int, float]) -> None:
    """The figures, for whoever runs it with `-s`."""
    for route, one in seen.items():
        ordered = sorted(one.seconds)
        p50, p99 = (ordered[int((len(ordered) - 1) * q)] for q in (0.5, 0.99))
        print(
            f"{route}: {len(ordered)} requests, {one.complete} complete, {one.cut} ended in an error event after their "
            f"first byte, errors {dict(one.errors)}, p50 {p50:.3f} s, p99 {p99:.3f} s (a call's limit: {TOTAL_S:g} s)"
        )
    print("faults:", dict(sum((each.failed for each in servers), start=servers[0].failed.__class__())))
    print(
        f"sockets {begun[0]} to {sockets(gateway)}, RSS {begun[1]:.0f} to {rss_mb(gateway):.0f} MB, "
        f"retries {total(gateway, 'cauce_upstream_retries_total'):.0f}, "
        f"fallbacks {total(gateway, 'cauce_fallbacks_total'):.0f}"
    )


def sockets(gateway: Running) -> int:
    """Open sockets of the gateway's process."""
    folder = Path(f"/proc/{gateway.process.pid}/fd")
    return sum(fd.readlink().name.startswith("socket:") for fd in folder.iterdir() if fd.is_symlink())


def rss_mb(gateway: Running) -> float:
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def total(gateway: Running, name: str) -> float:
    lines = httpx.get(f"{gateway.url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def test_a_link_that_comes_and_goes_loses_no_request_that_a_local_model_may_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with chancy(0.0, 0.0, 0.0, seed=SEED) as servers:
            quick = config(servers, total_s=TOTAL_S).replace("total_s: 1.0}", "total_s: 1.0}, breaker: {rest_s: 0.3}")
            with running(tmp_path, quick, policy=POLICY) as gateway:
                cloud, answered_by = servers[:2], set[str]()
                seen = Seen()
                offline = 0
                for number in range(4):
                    for server in cloud:
                        if number % 2:
                            server.close()
                        elif number:
                            await server.open()
                    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                        for turn in range(20):
                            await ask(client, gateway.base_url, "auto", seen, stream=turn % 2 == 0)
                            await asyncio.sleep(0.02)
                        reply = await client.post(f"{gateway.base_url}/chat/completions", json=HELLO)
                        answered_by.add(reply.headers["x-cauce-model"])
                        offline += reply.headers.get("x-cauce-offline") == "true"
                        if number % 2:
                            assert (await client.get(f"{gateway.url}/readyz")).json()["cloud"] != "up"
                assert (seen.complete, seen.cut, seen.errors, seen.unclear) == (80, 0, {}, [])
                assert (answered_by, offline) == ({"first", "sound"}, 2)

    asyncio.run(main())


HELLO = {"model": "auto", "messages": [{"role": "user", "content": "Hola"}]}


def said_in_the_console(gateway: Running) -> list[str]:
    """Which of what the pages say of a cloud that is away stands there, in both languages."""
    pages = {"cloud_down": "", "circuit_open": "/models"}
    return [
        word
        for word, page in pages.items()
        if all(
            said in httpx.get(f"{gateway.url}/console{page}", headers={"accept-language": language}, timeout=30).text
            for language, said in zip(("en", "es"), WORDS[word], strict=True)
        )
    ]


def test_the_gateway_finds_a_cloud_that_is_back_without_a_restart(tmp_path: Path) -> None:
    policy = POLICY.replace("default: whole", "default: cloud")  # nothing local in it: the policy's local route serves

    async def main() -> None:
        async with chancy(0.0, 0.0, 0.0, seed=SEED) as servers:
            quick = config(servers, total_s=TOTAL_S).replace("total_s: 1.0}", "total_s: 1.0}, breaker: {rest_s: 2}")
            with running(tmp_path, quick, policy=policy) as gateway:

                def who() -> tuple[str, str | None]:
                    headers = httpx.post(f"{gateway.base_url}/chat/completions", json=HELLO, timeout=30).headers
                    return headers["x-cauce-model"], headers.get("x-cauce-offline")

                def soon(wanted: tuple[str, str | None]) -> None:
                    eventually(lambda: who() == wanted)

                await asyncio.to_thread(soon, ("first", None))
                for server in servers[:2]:
                    server.close()
                for _ in range(6):
                    assert await asyncio.to_thread(who) == ("sound", "true")
                state = await asyncio.to_thread(lambda: httpx.get(f"{gateway.url}/readyz").json())
                assert state["cloud"] == "down"
                assert state["circuits"] | {"cauce-static-128": "closed"} == {
                    "first": "open", "second": "open", "sound": "closed", "cauce-static-128": "closed",
                }  # fmt: skip
                assert await asyncio.to_thread(said_in_the_console, gateway) == ["cloud_down", "circuit_open"]
                for server in servers[:2]:
                    await server.open()
                await asyncio.to_thread(soon, ("first", None))

    asyncio.run(main())
