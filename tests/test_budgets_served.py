"""Budgets, limits and alerts as an application meets them: the `openai` client, two gateways, ledger or Redis."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI, RateLimitError
from openai.types.chat import ChatCompletion

from gateway.ledger.keys import create_key
from gateway.ledger.limits import set_limits
from gateway.ledger.store import open_engine
from gateway.types import Budget, Caller, Rate
from tests.entries import eventually, rows
from tests.running import Running, running
from tests.services import redis_server

TOKENS = 12  # of every answer of the fake provider
CALL = 12_000  # nano-USD that one costs, and holds when it says max_tokens
CONFIG = """
discover: false
prices: prices.yaml
cache: {{enabled: false}}
models:
  small: {{provider: fake, model: small-1, zone: premises, kind: slm}}
  large: {{provider: fake, model: large-1, zone: world, kind: llm}}
budgets: {{webhook: '${{ALERTS}}'}}
shared: {shared}
"""
PRICES = "large: {prompt: 0.0, completion: 1.0, from: 2020-01-01, source: contract}\n"
POLICY = """
version: 1
routes:
  local: {try: [small]}
  cloud: {try: [large]}
  falling: {try: [large, small]}
rules:
  - {name: spent, when: {caller: {team: ruled}, budget_left: "<= 0"}, use: local}
  - {name: falls, when: {caller: {team: falling}}, use: falling}
default: cloud
"""
LIMITS: dict[str, Budget | Rate] = {
    "refused": Budget("team:refused", "month", 2 * CALL),
    "total": Budget("team:total", "total", CALL),
    "ruled": Budget("team:ruled", "day", CALL),
    "falling": Budget("team:falling", "day", CALL),
    "soft": Budget("team:soft", "month", 10 * CALL, hard=False),
    "many": Budget("team:many", "month", 24 * CALL),
    "requests": Rate("team:requests", "requests", 5),
    "tokens": Rate("team:tokens", "tokens", 100),
}


@dataclass
class Served:
    """Two gateways that share their budgets, a key for each team, and what the webhook was sent."""

    gateways: tuple[Running, Running]
    keys: dict[str, str]
    told: list[dict[str, Any]]

    def client(self, team: str, **options: Any) -> OpenAI:
        return OpenAI(base_url=self.gateways[0].base_url, api_key=self.keys[team], timeout=30, **options)


@contextlib.contextmanager
def webhook(told: list[dict[str, Any]]) -> Iterator[int]:
    """A server on loopback that keeps what it is sent."""

    class Told(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def a_key_for_each_team(folder: Path) -> dict[str, str]:
    engine = open_engine(f"sqlite:///{folder}/cauce.db")
    with engine.begin() as connection:
        set_limits(connection, list(LIMITS.values()))
    keys = {team: create_key(engine, Caller(team=team, app="bot")).key for team in LIMITS}
    engine.dispose()
    return keys


@pytest.fixture(scope="module", params=["ledger", pytest.param("redis", marks=pytest.mark.needs("redis-server"))])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("budgets")
    told: list[dict[str, Any]] = []
    with contextlib.ExitStack() as held:
        redis = held.enter_context(redis_server(folder)).url if request.param == "redis" else "null"
        config, alerts = CONFIG.format(shared=redis), f"http://127.0.0.1:{held.enter_context(webhook(told))}/alerts"
        (folder / "prices.yaml").write_text(PRICES, encoding="utf-8")
        keys = a_key_for_each_team(folder)
        first, second = (
            held.enter_context(running(folder, config, policy=POLICY, environ={"ALERTS": alerts})) for _ in range(2)
        )
        yield Served((first, second), keys, told)


def ask(client: OpenAI) -> ChatCompletion:
    return client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": "¿A qué hora abren?"}], max_tokens=TOKENS
    )


def entries_of(served: Served, team: str) -> list[dict[str, Any]]:
    return rows(served.gateways[0], "SELECT * FROM entries WHERE team = ? ORDER BY time_us", team)


def test_a_spent_budget_refuses_once_and_says_when_it_begins_again(served: Served) -> None:
    client = served.client("refused")  # it would ask again, were it not told that this does not help
    assert [ask(client).model for _ in range(2)] == ["large-1"] * 2
    with pytest.raises(RateLimitError) as refused:
        ask(client)
    error = refused.value
    assert (error.code, error.type) == ("budget_exceeded", "insufficient_quota")
    said = error.message.partition("it begins again on ")[2][: len("2026-12-01T00:00+01:00")]
    again = dt.datetime.fromisoformat(said)
    assert (again.day, again.hour, again.minute) == (1, 0, 0)  # the business's month
    waiting = (again - dt.datetime.now(dt.UTC)).total_seconds()
    assert abs(int(error.response.headers["retry-after"]) - waiting) < 60
    assert error.response.headers["x-should-retry"] == "false"
    written = entries_of(served, "refused")
    assert [(row["status"], row["code"], row["cost_nano_usd"]) for row in written] == [
        (200, "", CALL),
        (200, "", CALL),
        (429, "budget_exceeded", 0),
    ]


def test_a_budget_without_a_period_says_whom_to_ask(served: Served) -> None:
    client = served.client("total")
    ask(client)
    with pytest.raises(RateLimitError, match="ask whoever gave out the key") as refused:
        ask(client)
    assert "retry-after" not in refused.value.response.headers


def test_a_rule_says_what_happens_when_nothing_is_left(served: Served) -> None:
    client = served.client("ruled")
    rules = [served_by(client) for _ in range(3)]
    assert rules == [("large-1", "default"), ("small-1", "spent"), ("small-1", "spent")]


def test_without_a_rule_the_free_model_of_the_ladder_answers(served: Served) -> None:
    client = served.client("falling")
    rules = [served_by(client) for _ in range(3)]
    assert rules == [("large-1", "falls"), ("small-1", "falls"), ("small-1", "falls")]


def served_by(client: OpenAI) -> tuple[str, str]:
    """The model that answered, and the rule that chose it."""
    reply = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "¿A qué hora abren?"}], max_tokens=TOKENS
    )
    return reply.parse().model, reply.headers["x-cauce-rule"]


def test_a_soft_budget_refuses_nothing_and_tells_the_webhook_at_50_80_and_100(served: Served) -> None:
    clients = [
        OpenAI(base_url=gateway.base_url, api_key=served.keys["soft"], timeout=30) for gateway in served.gateways
    ]
    for number in range(12):
        assert ask(clients[number % 2]).model == "large-1"

    def alerts() -> list[dict[str, Any]]:
        return [one for one in served.told if one["scope"] == "team:soft"]

    eventually(lambda: len(alerts()) >= 3)
    by_percent = {one["threshold_percent"]: one for one in alerts()}
    assert Counter(one["threshold_percent"] for one in alerts()) == {50: 1, 80: 1, 100: 1}
    assert all(one["spent_nano_usd"] * 100 >= percent * 10 * CALL for percent, one in by_percent.items())
    assert by_percent[100]["hard"] is False
    assert "team:soft" in by_percent[50]["text"]


def test_120_at_once_against_a_budget_for_24_serve_24_over_two_gateways(served: Served) -> None:
    async def one(client: AsyncOpenAI) -> str:
        try:
            await client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "¿A qué hora abren?"}], max_tokens=TOKENS
            )
        except RateLimitError as error:
            return str(error.code)
        return "served"

    async def all_of_them() -> Counter[str]:
        async with contextlib.AsyncExitStack() as held:
            clients = [
                await held.enter_async_context(
                    AsyncOpenAI(base_url=gateway.base_url, api_key=served.keys["many"], timeout=60)
                )
                for gateway in served.gateways
            ]
            return Counter(await asyncio.gather(*(one(clients[number % 2]) for number in range(120))))

    assert asyncio.run(all_of_them()) == {"served": 24, "budget_exceeded": 96}
    assert sum(row["cost_nano_usd"] for row in entries_of(served, "many")) == 24 * CALL


@pytest.mark.parametrize(("kind", "most", "first_left"), [("requests", 5, 4), ("tokens", 100, None)])
def test_a_limit_a_minute_is_said_in_every_reply_and_then_refuses(
    served: Served, kind: str, most: int, first_left: int | None
) -> None:
    client = served.client(kind, max_retries=0)
    left: list[int] = []
    with pytest.raises(RateLimitError) as refused:
        for _ in range(3 * most):
            reply = client.chat.completions.with_raw_response.create(
                model="auto", messages=[{"role": "user", "content": "¿A qué hora abren?"}], max_tokens=TOKENS
            )
            assert reply.headers[f"x-ratelimit-limit-{kind}"] == str(most)
            assert reply.headers[f"x-ratelimit-reset-{kind}"].endswith("s")
            left.append(int(reply.headers[f"x-ratelimit-remaining-{kind}"]))
    assert first_left in {left[0], None}
    assert 0 <= min(left) < left[0] < most
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 120
    with pytest.raises(RateLimitError):  # the other gateway knows
        for _ in range(3):
            ask(OpenAI(base_url=served.gateways[1].base_url, api_key=served.keys[kind], max_retries=0))
