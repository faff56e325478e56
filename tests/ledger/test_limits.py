from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from gateway.cli.main import main
from gateway.ledger.keys import KeyRing, create_key
from gateway.ledger.limits import read_budget, read_scope, scopes_of, set_limits
from gateway.types import Budget, Caller, Rate


@pytest.mark.parametrize(
    ("caller", "scopes"),
    [
        (Caller("key_1"), ("key:key_1",)),
        (Caller("key_1", "billing", "bot"), ("team:billing", "app:billing/bot", "key:key_1")),
        (
            Caller("key_1", "billing", "bot", org="acme"),
            ("org:acme", "team:acme/billing", "app:acme/billing/bot", "key:key_1"),
        ),
        (Caller("key_1", app="bot"), ("app:bot", "key:key_1")),
    ],
)
def test_a_caller_stands_under_its_organisation_team_app_and_key(caller: Caller, scopes: tuple[str, ...]) -> None:
    assert scopes_of(caller) == scopes
    assert [read_scope(scope) for scope in scopes] == list(scopes)


@pytest.mark.parametrize(
    ("text", "period", "nano_usd"),
    [("50/month", "month", 50_000_000_000), ("2.5/day", "day", 2_500_000_000), ("100", "total", 100_000_000_000),
     ("0.000000001/day", "day", 1), ("0", "total", 0)],
)  # fmt: skip
def test_a_budget_is_usd_a_day_a_month_or_in_total(text: str, period: str, nano_usd: int) -> None:
    budget = read_budget(text, "team:billing")
    assert (budget.period, budget.nano_usd, budget.hard) == (period, nano_usd, True)


@pytest.mark.parametrize("text", ["", "x", "5/week", "-1/day", "nan", "inf/day", "1e30", "5/month/day"])
def test_what_is_no_budget_is_said_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="50/month"):
        read_budget(text, "team:billing")


def test_a_key_carries_every_limit_over_it_and_follows_their_changes(ledger_engine: Engine) -> None:
    own = Caller(team="billing", app="bot", budgets=(Budget("", "day", 5),), rates=(Rate("", "requests", 60),))
    new = create_key(ledger_engine, own)
    other = create_key(ledger_engine, Caller(team="sales"))
    with ledger_engine.begin() as connection:
        set_limits(connection, [Budget("team:billing", "month", 9), Rate("app:billing/bot", "tokens", 1_000)])
    ring = KeyRing(ledger_engine, always=False)
    found, free = ring.find(new.key), ring.find(other.key)
    assert found is not None
    assert [(budget.name, budget.nano_usd) for budget in found.budgets] == [
        ("team:billing/month", 9),
        (f"key:{new.id}/day", 5),
    ]
    assert {(rate.scope, rate.kind) for rate in found.rates} == {
        ("app:billing/bot", "tokens"),
        (f"key:{new.id}", "requests"),
    }
    assert free is not None
    assert (free.budgets, free.rates) == ((), ())  # who has no limit pays nothing for others'


@pytest.fixture
def cauce(tmp_path: Path) -> Any:
    config = tmp_path / "cauce.yaml"
    config.write_text(f"discover: false\nledger: sqlite:///{tmp_path}/cauce.db\n", encoding="utf-8")

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["keys", *words, "--config", str(config)])
        assert done.exit_code == code, done.output
        return done.output

    return run


def asked(cauce: Any, words: Sequence[str]) -> Any:
    return json.loads(cauce(*words, "--json"))


def test_a_key_is_created_with_its_limits_and_shown_once(cauce: Any) -> None:
    words = ["create", "--org", "acme", "--team", "billing", "--app", "bot", "--budget", "50/month", "--soft"]
    made = asked(cauce, [*words, "--carry-over", "--requests-per-minute", "60", "--tokens-per-minute", "90000"])
    budget = {"period": "month", "nano_usd": 50_000_000_000, "hard": False, "carry_over": True}
    assert made["key"].startswith("ck-")
    assert (made["budgets"], made["requests_per_minute"], made["tokens_per_minute"]) == ([budget], 60, 90_000)
    (listed,) = asked(cauce, ["list"])
    assert (listed["id"], listed["org"], listed["budgets"]) == (made["id"], "acme", [budget])
    assert made["key"] not in cauce("list")


def test_a_team_is_limited_shown_and_freed(cauce: Any) -> None:
    cauce("create", "--team", "billing")
    limited = asked(cauce, ["limit", "team:billing", "--budget", "5/day", "--requests-per-minute", "9"])
    assert limited["budgets"][0]["nano_usd"] == 5_000_000_000
    assert "no key stands under team:nobodys" in cauce("limit", "team:nobodys", "--budget", "1/day")
    rows = {(row["scope"], row["kind"]): row for row in asked(cauce, ["limits"])}
    assert rows["team:billing", "budget/day"]["left"] == 5_000_000_000
    assert rows["team:billing", "requests/minute"]["limit"] == 9
    assert "5.0000" in cauce("limits")
    assert asked(cauce, ["limit", "team:billing", "--clear"])["budgets"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--budget", "5/week"],
        ["create", "--budget", "5/day", "--budget", "6/day"],
        ["create", "--budget", "5", "--carry-over"],
        ["create", "--team", "a/b"],
        ["limit", "billing", "--budget", "5"],
        ["limit", "team:", "--budget", "5"],
        ["limit", "team:billing", "--requests-per-minute", "0"],
    ],
)
def test_wrong_use_is_refused_with_exit_2(cauce: Any, words: list[str]) -> None:
    assert "Traceback" not in cauce(*words, code=2)
