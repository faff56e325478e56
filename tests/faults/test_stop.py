"""The end of a gateway, and its replacement: what is being answered is answered, and all of it is in the ledger."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.entries import eventually, metric, rows
from tests.running import Running, running
from tests.upstreams.loopback import DONE, Request, Server, Wire, delta, openai
from tests.upstreams.threaded import served

PIECES = 8


async def slow(request: Request, wire: Wire) -> None:
    """A stream of a second; on the path `/endless`, one that does not end."""
    if request.method == "GET" or not request.body.get("stream"):
        return await openai(request, wire)
    await wire.begin_stream()
    number = 0
    while number < PIECES or request.path.startswith("/endless"):
        await wire.chunk(delta("Hola "))
        await asyncio.sleep(0.12)
        number += 1
    await wire.chunk(delta(finish="stop") + DONE)
    return await wire.end_stream()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with served(slow) as server:
        yield server


def config(upstream: Server, more: str = "") -> str:
    def model(name: str) -> str:
        return (
            f"  {name}: {{provider: openai-compatible, base_url: '{upstream.url}/{name}/v1', model: m, "
            "zone: premises, kind: slm}\n"
        )

    return f"discover: false\ncache: {{enabled: false}}\nmodels:\n{model('slow')}{model('endless')}{more}"


def ask(gateway: Running, model: str, client: httpx.Client | None = None, *, stream: bool = True) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hola"}], "stream": stream}
    post = client.post if client else httpx.post
    return post(f"{gateway.base_url}/chat/completions", json=body, timeout=30)


def test_a_stop_waits_for_streams_and_ends_with_0_and_an_entry_for_each(upstream: Server, tmp_path: Path) -> None:
    with running(tmp_path, config(upstream)) as gateway, ThreadPoolExecutor(4) as clients:
        begun = [clients.submit(ask, gateway, "slow") for _ in range(4)]
        eventually(lambda: upstream.busy == 4)
        assert gateway.stop() == 0
        replies = [reply.result() for reply in begun]
        assert all(reply.content.endswith(DONE) for reply in replies)
        assert all(reply.content.count(b"Hola ") == PIECES for reply in replies)
        assert [row["outcome"] for row in rows(gateway, "SELECT outcome FROM entries")] == ["ok"] * 4


def test_a_stop_breaks_off_what_does_not_end_in_its_time_and_books_it(upstream: Server, tmp_path: Path) -> None:
    with running(tmp_path, config(upstream, "limits: {shutdown_s: 1}\n")) as gateway, ThreadPoolExecutor(1) as clients:
        begun = clients.submit(ask, gateway, "endless")
        eventually(lambda: upstream.busy == 1)
        eventually(lambda: metric(gateway, "cauce_requests_in_flight") == 1)
        assert gateway.stop() == 0
        with pytest.raises(httpx.TransportError):
            begun.result()
        (row,) = rows(gateway, "SELECT outcome, completion_tokens FROM entries")
        assert row["outcome"] == "aborted"
        assert row["completion_tokens"] >= 1
        eventually(lambda: upstream.busy == 0)


def test_a_kept_connection_is_answered_once_more_while_the_gateway_stops(upstream: Server, tmp_path: Path) -> None:
    with (
        running(tmp_path, config(upstream)) as gateway,
        ThreadPoolExecutor(1) as clients,
        httpx.Client() as client,
    ):
        assert ask(gateway, "slow", client, stream=False).headers.get("connection") != "close"
        begun = clients.submit(ask, gateway, "slow")
        eventually(lambda: upstream.busy == 1)
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        last = ask(gateway, "slow", client, stream=False)
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        assert begun.result().content.endswith(DONE)
        assert gateway.stop() == 0


def test_a_rolling_restart_under_load_loses_nothing(upstream: Server, tmp_path: Path) -> None:
    with running(tmp_path, config(upstream, "workers: 2\n")) as gateway, ThreadPoolExecutor(4) as clients:
        done = threading.Event()

        def load() -> int:
            answered = 0
            with httpx.Client() as client:
                while not done.is_set():
                    reply = ask(gateway, "slow", client, stream=False)
                    assert reply.status_code == 200, reply.text
                    answered += 1
            return answered

        loads = [clients.submit(load) for _ in range(3)]
        streams = [clients.submit(ask, gateway, "slow")]
        before = workers(gateway)
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(workers(gateway)) == 2 and not workers(gateway) & before, seconds=90)
        done.set()
        answered = sum(each.result() for each in loads)
        assert all(stream.result().content.endswith(DONE) for stream in streams)
        assert metric_of_all(gateway) == answered + len(streams)
        assert gateway.stop() == 0
        (written,) = rows(gateway, "SELECT count(*) AS n FROM entries WHERE outcome = 'ok'")
        assert written["n"] == answered + len(streams)


def workers(gateway: Running) -> set[str]:
    """The processes that serve; the supervisor's other child keeps track of semaphores."""
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
    return {child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def metric_of_all(gateway: Running) -> int:
    """Requests that were answered, by the metrics of whichever process is asked: those of all of them."""
    lines = httpx.get(f"{gateway.url}/metrics", timeout=10).text.splitlines()
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("cauce_requests_total{")))
