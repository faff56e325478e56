"""Two gateways over one Redis: a circuit that one has opened is open for the other, and each is alone without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from redis import Redis

from tests.entries import eventually
from tests.running import Running, running
from tests.services import Server, redis_server
from tests.upstreams.loopback import Request, Wire, openai
from tests.upstreams.threaded import served

pytestmark = pytest.mark.needs("redis-server")
POLICY = """
version: 1
description: models that fail, each before one that does not
routes:
  one: {try: [a, sound]}
  two: {try: [b, sound]}
  three: {try: [c, sound]}
rules: []
default: one
"""


class Ill:
    """A provider that fails; how often each of its models was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def __call__(self, request: Request, wire: Wire) -> None:
        if request.method == "GET":
            return await openai(request, wire)
        self.asked[str(request.body["model"])] += 1
        return await wire.whole({"error": {"message": "it burns"}}, status=500)


def config(ill: int, sound: int, redis: Server) -> str:
    def model(name: str, port: int) -> str:
        return (
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{port}/v1', model: {name}, "
            "zone: premises, kind: slm, breaker: {failures: 2, rest_s: 60}, retries: {most: 0}}\n"
        )

    models = "".join(model(name, sound if name == "sound" else ill) for name in ("a", "b", "c", "sound"))
    return f"discover: false\ncache: {{enabled: false}}\nlog_level: warning\nshared: {redis.url}\nmodels:\n{models}"


@dataclass
class Pair:
    """Two gateways, what they share, and the provider that fails both."""

    one: Running
    other: Running
    redis: Server
    ill: Ill


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, ill = tmp_path_factory.mktemp("pair"), Ill()
    with redis_server(folder) as redis, served(ill) as failing, served(openai) as sound:
        written = config(failing.port, sound.port, redis)
        with (
            running(folder / "one", written, policy=POLICY) as one,
            running(folder / "other", written, policy=POLICY) as other,
        ):
            eventually(lambda: listeners(redis) == 2)
            yield Pair(one, other, redis, ill)


def listeners(redis: Server) -> int:
    with Redis.from_url(redis.url) as client:
        ((_, number),) = client.pubsub_numsub("cauce:circuits")
        return int(number)


def ask(gateway: Running, route: str) -> str:
    body = {"model": route, "messages": [{"role": "user", "content": "Hola"}]}
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json=body, timeout=30)
    return str(reply.raise_for_status().headers["x-cauce-model"])


def circuit(gateway: Running, model: str) -> str:
    return str(httpx.get(f"{gateway.url}/readyz", timeout=10).json()["circuits"][model])


def test_a_circuit_that_one_gateway_opens_is_open_for_the_other(pair: Pair) -> None:
    assert [ask(pair.one, "one") for _ in range(2)] == ["sound", "sound"]
    assert circuit(pair.one, "a") == "open"
    eventually(lambda: circuit(pair.other, "a") == "open")
    assert ask(pair.other, "one") == "sound"
    assert pair.ill.asked["a"] == 2
    assert circuit(pair.other, "b") == "closed"


def test_while_redis_is_away_each_gateway_has_its_own_circuits_and_shares_them_again_afterwards(pair: Pair) -> None:
    pair.redis.kill()
    assert [ask(pair.one, "two") for _ in range(2)] == ["sound", "sound"]
    assert (circuit(pair.one, "b"), circuit(pair.other, "b")) == ("open", "closed")
    assert ask(pair.other, "two") == "sound"
    assert pair.ill.asked["b"] == 3
    pair.redis.restart()
    eventually(lambda: listeners(pair.redis) == 2)
    assert [ask(pair.other, "three") for _ in range(2)] == ["sound", "sound"]
    eventually(lambda: circuit(pair.one, "c") == "open")
    assert pair.ill.asked["c"] == 2
