from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from tests.entries import attempts, entry, eventually, metric
from tests.running import Running, running
from tests.upstreams.loopback import Request, Server, Wire, openai
from tests.upstreams.threaded import served

POLICY = """
version: 1
routes:
  plain: {try: [roomy]}
  narrow-then-roomy: {try: [narrow, roomy]}
rules: []
default: plain
"""
IN_LINE = 4  # a place's queue


class Held:
    """A sound provider that keeps what it is asked until it may answer; `most` is how much of it it had at once."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.most: dict[str, int] = {}
        self._now: dict[str, int] = {}

    async def __call__(self, request: Request, wire: Wire) -> None:
        name = request.path.split("/")[1]
        if request.method == "GET" or name == "open":
            return await openai(request, wire)
        self._now[name] = self._now.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self._now[name])
        try:
            while not self.may_answer.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(0.01)
            return await openai(request, wire)
        finally:
            self._now[name] -= 1


def config(port: int) -> str:
    def model(name: str, path: str, more: str) -> str:
        return (
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{port}/{path}/v1', model: served, "
            f"zone: premises, kind: slm, {more}}}\n"
        )

    return (
        "models:\n"
        + model("narrow", "narrow", "max_in_flight: 1, timeouts: {first_token_s: 60}")
        + model("hasty", "hasty", "max_in_flight: 1, timeouts: {first_token_s: 0.3, total_s: 60}")
        + model("wide", "wide", "max_in_flight: 100, timeouts: {first_token_s: 60}")
        + model("roomy", "open", "max_in_flight: 100")
        + "cache: {enabled: false}\nlimits: {max_in_flight: 8}\n"
    )


@pytest.fixture(scope="module")
def held() -> Held:
    return Held()


@pytest.fixture(scope="module")
def upstream(held: Held) -> Iterator[Server]:
    with served(held) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("limits"), config(upstream.port), policy=POLICY) as gateway:
        yield gateway


@pytest.fixture
def clients(gateway: Running, held: Held) -> Iterator[ThreadPoolExecutor]:
    held.may_answer.clear()
    with ThreadPoolExecutor(20) as pool:
        yield pool
        held.may_answer.set()
    assert metric(gateway, "cauce_requests_in_flight") == 0
    assert metric(gateway, "cauce_crashes_total") == 0


def ask(gateway: Running, model: str, stream: bool = False) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hola"}], "stream": stream}
    return httpx.post(f"{gateway.base_url}/chat/completions", json=body, timeout=60, trust_env=False)


@contextlib.contextmanager
def held_up(
    gateway: Running, clients: ThreadPoolExecutor, held: Held, model: str, number: int, *, stream: bool = False
) -> Iterator[list[Future[httpx.Response]]]:
    """So many requests that are all in the gateway while the block runs, and answered after it."""
    waiting = [clients.submit(ask, gateway, model, stream) for _ in range(number)]
    eventually(lambda: metric(gateway, "cauce_requests_in_flight") == number)
    yield waiting
    held.may_answer.set()
    assert [request.result().status_code for request in waiting] == [200] * number


def the_refusal(gateway: Running, reply: httpx.Response, code: str) -> str:
    """It is a 503 with this code, says when to come back, and is in the ledger; its request's id."""
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    error = reply.json()["error"]
    assert error["code"] == code
    assert "max_in_flight" in error["message"]
    request_id: str = error["request_id"]
    row = entry(gateway, request_id)
    assert (row["status"], row["code"]) == (503, code)
    return request_id


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_more_calls_than_an_upstream_takes_wait_in_a_short_queue_and_the_rest_is_refused(
    gateway: Running, clients: ThreadPoolExecutor, held: Held, upstream: Server, stream: bool
) -> None:
    asked = len(upstream.requests)
    with held_up(gateway, clients, held, "narrow", 1 + IN_LINE, stream=stream):
        refused = ask(gateway, "narrow", stream)
        assert len(upstream.requests) == asked + 1
    request_id = the_refusal(gateway, refused, "upstream_overloaded")
    assert [call["outcome"] for call in attempts(gateway, request_id)] == ["upstream_overloaded"]
    assert held.most["narrow"] == 1
    assert len(upstream.requests) == asked + 1 + IN_LINE


def test_a_queue_that_does_not_move_is_not_waited_in_without_end(
    gateway: Running, clients: ThreadPoolExecutor, held: Held
) -> None:
    with held_up(gateway, clients, held, "hasty", 1):
        the_refusal(gateway, ask(gateway, "hasty"), "upstream_overloaded")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_is_full_is_made_good_by_the_next_rung(
    gateway: Running, clients: ThreadPoolExecutor, held: Held, stream: bool
) -> None:
    with held_up(gateway, clients, held, "narrow", 1 + IN_LINE):
        reply = ask(gateway, "narrow-then-roomy", stream)
    assert reply.status_code == 200
    assert reply.headers["x-cauce-escalated"] == "true"
    calls = attempts(gateway, reply.headers["x-request-id"])
    assert [(call["model"], call["outcome"]) for call in calls] == [("narrow", "upstream_overloaded"), ("roomy", "ok")]


def test_more_requests_than_the_gateway_takes_are_refused_at_once(
    gateway: Running, clients: ThreadPoolExecutor, held: Held, upstream: Server
) -> None:
    asked = len(upstream.requests)
    with held_up(gateway, clients, held, "wide", 8):
        eventually(lambda: len(upstream.requests) == asked + 8)
        refused = ask(gateway, "roomy")
        assert httpx.get(f"{gateway.url}/healthz", trust_env=False).status_code == 200
        assert httpx.get(f"{gateway.base_url}/models", trust_env=False).status_code == 200
    request_id = the_refusal(gateway, refused, "gateway_overloaded")
    assert entry(gateway, request_id)["outcome"] == "refused"
    assert attempts(gateway, request_id) == []
    assert len(upstream.requests) == asked + 8
    assert ask(gateway, "roomy").status_code == 200
