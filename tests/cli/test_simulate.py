from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.ledger.entry import attempt_entries, entry_of
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.policy.decide import decide
from gateway.types import Attempt, Caller, Exchange, Outcome, Signals, Usage
from tests.builders import LARGE, NOON_NS, SMALL, an_inbound
from tests.policy.builders import DEFAULT_TEXT, a_policy, catalogue
from tests.policy.past import prices

OLD = DEFAULT_TEXT.replace(", big: large", "")
NEW = OLD.replace('">= 0.35"', '">= 0.2"')
REFUSED = OLD.replace('data: ">= personal"', 'data: ">= special"')
CONFIG = """
ledger: sqlite:///cauce.db
policy: old.yaml
prices: prices.yaml
machine: {usd_per_hour: 0.036, watts: 0, usd_per_kwh: 0}
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  large: {provider: openai, model: gpt-4.1, zone: world, kind: llm}
"""
PRICES = "large: {prompt: 2, completion: 8, from: 2026-01-01, source: contract}\n"
DAY_NS = 86_400_000_000_000


def exchanged(number: int, signals: Signals) -> Exchange:
    """A request of the old policy, a day after the one before it, that its first model answered."""
    models, at_ns = catalogue(SMALL, LARGE), NOON_NS + number * DAY_NS
    decision = decide(signals, policy=a_policy(OLD), models=models)
    exchange = Exchange(f"req_{number}", "chat", at_ns, signals.caller, an_inbound(), signals, decision)
    exchange.attempts = [Attempt(models[decision.ladder[0]], at_ns, 0.5, usage=Usage(100, 10))]
    exchange.outcome, exchange.status = Outcome.OK, 200
    return exchange


REQUESTS = [
    Signals(slm_success=0.6, gain=0.25, caller=Caller("k1", "sales")),
    Signals(slm_success=0.4, gain=0.5, caller=Caller("k1", "sales")),
    Signals(slm_success=0.9, gain=0.05, task="faq", caller=Caller("k2", "support")),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a gateway has run: its ledger holds what the ledger's own writer wrote."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"cauce.yaml": CONFIG, "prices.yaml": PRICES, "old.yaml": OLD, "new.yaml": NEW}.items():
        (tmp_path / name).write_text(text)

    async def write() -> None:
        ledger = Ledger(open_engine("sqlite:///cauce.db"), on_failure=lambda error: pytest.fail(str(error)))
        book = prices(large=(2, 8))
        for exchange in (exchanged(n, signals) for n, signals in enumerate(REQUESTS)):
            calls = attempt_entries(exchange, book)
            await ledger.append(entry_of(exchange, calls, book), calls)
        ledger.close()

    asyncio.run(write())
    return tmp_path


def simulate(*words: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *words])


def values(*words: str) -> dict[str, Any]:
    result = simulate(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


def test_the_ledgers_requests_are_replayed_under_another_policy(folder: Path) -> None:
    found = values("new.yaml")
    assert (found["requests"], found["moved"], found["left_out"]) == (3, 1, {})
    (move,) = found["moves"]
    assert (move["origin"]["model"], move["to"]["rule"], move["to"]["model"]) == ("small", "hard", "large")
    assert move["cost"]["change_nano_usd"] == 100 * 2_000 + 10 * 8_000 - 5_000
    assert [(team["team"], team["moved"]) for team in found["teams"]] == [("sales", 1), ("support", 0)]
    assert found["privacy"]["newly_leaving"] == {"public": 1}
    assert found["latency"]["after"] == {"p50_us": 500_000, "p95_us": 500_000, "unknown": 0}


def test_the_policy_in_force_moves_nothing(folder: Path) -> None:
    found = values("old.yaml")
    assert (found["requests"], found["moved"], found["cost"]["change_nano_usd"]) == (3, 0, 0)
    assert "No request moves." in simulate("old.yaml").stdout


def test_only_the_asked_for_time_is_replayed(folder: Path) -> None:
    assert values("new.yaml", "--month", "2026-11")["requests"] == 3
    assert values("new.yaml", "--month", "2026-10")["requests"] == 0
    assert values("new.yaml", "--since", "36500d")["requests"] == 3
    assert "There is nothing to replay." in simulate("new.yaml", "--month", "2026-10").stdout


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            ["under it", "Would newly leave the premises: public 1", "escalation is not simulated", "+0.000275000 USD"],
        ),
        ("es", ["con ella", "Saldrían de casa y antes no: public 1", "No se simula más escalado", "+0,000275000 USD"]),
    ],
)
def test_people_read_it_in_their_language(folder: Path, language: str, words: list[str]) -> None:
    result = simulate("new.yaml", "--lang", language)
    assert result.exit_code == 0
    assert [word for word in words if word not in result.stdout] == []
    assert result.stderr == ""


def test_a_gateway_without_configured_models_has_those_that_its_ledger_names(folder: Path) -> None:
    (folder / "cauce.yaml").write_text("ledger: sqlite:///cauce.db\nprices: prices.yaml\n")
    found = values("new.yaml")
    assert (found["moved"], found["nominal"]) == (1, False)
    assert found["moves"][0]["to"] == {"rule": "hard", "route": "cloud", "model": "large", "zone": "world"}


# --- a file of requests -----------------------------------------------------------------------------------------------

LINES = """
{"id": 1, "signals": {"gain": 0.25}, "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
{"id": 2, "signals": {"gain": 0.5}, "decision": {"rule": "any"}}

{"id": 3, "signals": {}, "model": "nobody"}
"""


def test_a_file_of_signals_is_replayed_from_where_the_policy_in_force_sends_it(folder: Path) -> None:
    (folder / "requests.jsonl").write_text(LINES)
    found = values("new.yaml", "--against", "requests.jsonl")
    assert (found["requests"], found["left_out"]) == (2, {"not_decided": 1})
    (move,) = found["moves"]
    assert (move["origin"]["rule"], move["to"]["rule"], move["example"]) == ("default", "hard", "1")
    assert move["cost"]["change_nano_usd"] == 100 * 2_000 + 10 * 8_000 - 5_000
    assert found["cost"]["after_unknown"] == 1


def test_what_explain_gives_is_replayed_as_it_stands(folder: Path) -> None:
    lines = b'{"id": "a", "text": "Mi DNI es 12345678Z"}\n{"id": "b", "signals": {"gain": 0.25}}\n'
    explained = CliRunner().invoke(main, ["explain", "--jsonl"], input=lines)
    assert explained.exit_code == 0
    (folder / "asked.jsonl").write_bytes(lines)
    (folder / "told.jsonl").write_bytes(explained.stdout_bytes)
    asked, told = (values("new.yaml", "--against", name) for name in ("asked.jsonl", "told.jsonl"))
    assert asked["requests"] == 2
    assert asked["quality"] == told["quality"]
    assert [move["example"] for move in asked["moves"]] == [move["example"] for move in told["moves"]] == ["b"]


def test_a_file_needs_no_ledger(folder: Path) -> None:
    (folder / "cauce.db").unlink()
    (folder / "requests.jsonl").write_text('{"id": 1, "signals": {"gain": 0.25}}\n')
    found = values("new.yaml", "--against", "requests.jsonl")
    assert (found["moved"], found["latency"]["after"]) == (1, {"p50_us": None, "p95_us": None, "unknown": 1})
    assert not (folder / "cauce.db").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "requests.jsonl:2: the line is not valid JSON"),
        ('{"id": 1}', "requests.jsonl:2: a line needs either `text` or `messages`, or `signals`"),
        ('{"signals": {"gian": 1}}', "requests.jsonl:2: there is no signal 'gian'. Did you mean 'gain'?"),
        ('{"signals": {"gain": 3}}', "requests.jsonl:2: gain: 3 is none of its values"),
        ('{"signals": {}, "usage": {"prompt_tokens": "many"}}', "requests.jsonl:2: `usage` must hold"),
    ],
)
def test_a_line_that_is_no_request_is_wrong_use_and_is_shown(folder: Path, line: str, said: str) -> None:
    (folder / "requests.jsonl").write_text('{"id": 1, "signals": {}}\n' + line)
    result = simulate("new.yaml", "--against", "requests.jsonl")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


# --- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["none.yaml"],
        ["new.yaml", "--since", "30d", "--month", "2026-11"],
        ["new.yaml", "--since", "30d", "--against", "new.yaml"],
        ["new.yaml", "--since", "soon"],
        ["new.yaml", "--month", "2026-13"],
        ["new.yaml", "--against", "none.jsonl"],
        ["new.yaml", "--config", "none.yaml"],
        ["new.yaml", "--lang", "fr"],
    ],
)
def test_wrong_use_ends_with_2_and_prints_nothing_to_read(folder: Path, words: list[str]) -> None:
    result = simulate(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_a_policy_that_check_refuses_is_not_simulated(folder: Path) -> None:
    (folder / "refused.yaml").write_text(REFUSED)
    result = simulate("refused.yaml", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "breaks the guarantee that personal data stays inside premises" in result.stderr
    assert "refused.yaml: refused: nothing was replayed" in result.stderr


def test_without_a_ledger_it_says_so_and_makes_none(folder: Path) -> None:
    (folder / "cauce.db").unlink()
    result = simulate("new.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no cauce.db yet" in result.stderr
    assert not (folder / "cauce.db").exists()


def test_a_ledger_of_an_older_schema_says_what_it_lacks(folder: Path) -> None:
    database = sqlite3.connect(folder / "cauce.db")
    database.execute("ALTER TABLE entries DROP COLUMN signals")
    database.close()
    result = simulate("new.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was written by an older Cauce and has no columns signals in table entries" in result.stderr


def test_entries_without_all_that_a_policy_asks_for_are_counted_and_said(folder: Path) -> None:
    database = sqlite3.connect(folder / "cauce.db")
    with database:
        database.execute("UPDATE entries SET signals = '{\"gain\": 0.5}' WHERE request_id = 'req_0'")
    database.close()
    assert values("new.yaml")["left_out"] == {"incomplete_signals": 1}
    assert "Not replayed: 1: written by an older version" in simulate("new.yaml").stdout
