"""`cauce audit` over what a running gateway has written."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway.cli.audit import command
from gateway.ledger.keys import NewKey, create_key
from gateway.ledger.store import open_engine
from gateway.types import Caller
from tests.entries import eventually, rows
from tests.running import Running, running

CONFIG = """
discover: false
language: es
models:
  near: {provider: fake, model: n, zone: premises, kind: slm}
  far: {provider: fake, model: f, zone: world, kind: llm}
"""
POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes: {near-first: {try: [near, far]}, stay: {try: [near]}, away: {try: [far]}}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: stay}
  - {name: internal-away, when: {data: internal}, use: away}
default: near-first
"""
PERSONAL = "Me llamo Rosalinda Quintanilla y mi DNI es 12345678Z, ¿dónde está mi pedido?"
PUBLIC = "¿A qué hora abren los museos?"


@dataclass
class Asked:
    gateway: Running
    keys: tuple[NewKey, NewKey]

    def ask(self, text: str, key: int = 0, **headers: str) -> httpx.Response:
        said = {"authorization": f"Bearer {self.keys[key].key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        body = {"messages": [{"role": "user", "content": text}]}
        return httpx.post(f"{self.gateway.base_url}/chat/completions", json=body, headers=said, timeout=30)

    def ask_away(self, text: str) -> httpx.Response:
        body = {"model": "far", "messages": [{"role": "user", "content": text}]}
        said = {"authorization": f"Bearer {self.keys[0].key}"}
        return httpx.post(f"{self.gateway.base_url}/chat/completions", json=body, headers=said, timeout=30)

    def record(self, reply: httpx.Response) -> list[dict[str, Any]]:
        return rows(self.gateway, "SELECT * FROM audit WHERE request_id = ?", reply.headers["x-cauce-request-id"])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("audit")
    engine = open_engine(f"sqlite:///{folder}/cauce.db")
    keys = tuple(create_key(engine, Caller(team=team, app="bot", tags=("t1",))) for team in ("ventas", "soporte"))
    engine.dispose()
    with running(folder, CONFIG, policy=POLICY) as gateway:
        yield Asked(gateway, (keys[0], keys[1]))


@pytest.fixture(autouse=True)
def folder(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(asked.gateway.folder)
    return asked.gateway.folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_each_reply_has_its_record_when_it_is_complete_and_a_public_one_has_none(asked: Asked) -> None:
    personal, internal, public = (
        asked.ask(PERSONAL),
        asked.ask(PUBLIC, x_cauce_data_class="internal"),
        asked.ask(PUBLIC),
    )
    (one,), (other,) = asked.record(personal), asked.record(internal)
    assert (one["data_class"], one["rule"], json.loads(one["destinations"])[0]["zone"]) == (
        "personal",
        "personal-stays",
        "premises",
    )
    assert json.loads(one["labels"])["ID_DNI"] == 1
    assert (other["data_class"], other["rule"]) == ("internal", "internal-away")
    assert json.loads(other["destinations"]) == [
        {"model": "far", "zone": "world", "processor": "fake", "outcome": "ok"}
    ]
    assert asked.record(public) == []


def test_a_refusal_has_its_record(asked: Asked) -> None:
    refused = asked.ask_away(PERSONAL)
    assert refused.status_code == 503
    (one,) = asked.record(refused)
    assert (one["code"], one["destinations"], json.loads(one["detail"])) == (
        "no_allowed_model",
        "[]",
        {"left_out": ["far"]},
    )


def test_no_text_of_a_request_is_in_the_audit(asked: Asked, folder: Path) -> None:
    asked.ask(PERSONAL)
    with sqlite3.connect(folder / "cauce.db") as database:
        lines = [line for line in database.iterdump() if line.startswith('INSERT INTO "audit')]
    database.close()
    assert len(lines) > 3
    assert not [word for word in ("Rosalinda", "Quintanilla", "12345678", "pedido") if word in "\n".join(lines)]


def test_the_policy_in_force_and_each_that_follows_are_on_record(asked: Asked, folder: Path) -> None:
    def revisions() -> list[str]:
        found = rows(asked.gateway, "SELECT policy_revision FROM audit WHERE event = 'policy' ORDER BY writer, seq")
        return [row["policy_revision"] for row in found]

    before = len(revisions())
    assert before
    (folder / "policy.yaml").write_text(POLICY.replace("internal-away", "internal-goes"), encoding="utf-8")
    eventually(lambda: len(revisions()) > before)
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    eventually(lambda: len(revisions()) > before + 1)
    assert revisions()[-1] == revisions()[-3] != revisions()[-2]


# --- verify, anchor ---------------------------------------------------------------------------------------------------


def test_verify_says_that_all_is_whole(asked: Asked) -> None:
    asked.ask(PERSONAL)
    found = run("verify")
    assert (found.exit_code, found.output.strip().endswith("whole")) == (0, True)
    told = json.loads(run("verify", "--json").output)
    assert (told["whole"], told["problems"]) == (True, [])


def test_verify_says_where_a_record_was_changed_and_exits_1(asked: Asked, tmp_path: Path) -> None:
    (one,) = asked.record(asked.ask(PERSONAL))
    copy = tmp_path / "copy.db"
    with sqlite3.connect("cauce.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("UPDATE audit SET data_class = 'public' WHERE request_id = ?", (one["request_id"],))
    source.close()
    target.close()
    (tmp_path / "copy.yaml").write_text(f"{CONFIG}ledger: sqlite:///{copy}\n", encoding="utf-8")
    found = run("verify", "--config", str(tmp_path / "copy.yaml"))
    assert found.exit_code == 1
    assert f"changed: {one['writer']}:{one['seq']}: " in found.output
    assert one["request_id"] in found.output
    told = json.loads(run("verify", "--json", "--config", str(tmp_path / "copy.yaml")).output)
    assert [(one["kind"], told["whole"]) for one in told["problems"]] == [("changed", False)]
    report = run("export", "--month", "2026-11", "--lang", "en", "--config", str(tmp_path / "copy.yaml"))
    assert "The chains are not whole: 1 problems" in report.output


def test_a_hash_that_was_kept_is_found_again_and_another_is_not(asked: Asked) -> None:
    kept = run("anchor").output.strip()
    again = json.loads(run("anchor", "--json").output)["anchor"]
    asked.ask(PERSONAL)
    assert run("verify", "--anchor", kept, "--anchor", again).exit_code == 0
    lost = run("verify", "--anchor", "0" * 64)
    assert lost.exit_code == 1
    assert f"anchor: {'0' * 64}" in lost.output
    assert run("verify", "--anchor", "abc").exit_code == 2


def test_a_ledger_that_is_not_there_is_said_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["verify"], ["anchor"], ["export", "--month", "2026-11"], ["erase", "--caller", "x"]):
        found = run(*arguments)
        assert found.exit_code != 0
        assert "there is no cauce.db yet" in str(found.exception)
    assert list(tmp_path.iterdir()) == []


# --- export -----------------------------------------------------------------------------------------------------------


def this_month(asked: Asked) -> str:
    (row,) = rows(
        asked.gateway, "SELECT strftime('%Y-%m', max(time_us) / 1e6, 'unixepoch', '+1 hour') AS month FROM audit"
    )
    month: str = row["month"]
    return month


def test_the_report_of_the_month_agrees_with_the_ledger_in_every_form(asked: Asked) -> None:
    asked.ask(PERSONAL)
    month = this_month(asked)
    told = json.loads(run("export", "--month", month, "--format", "json").output)
    (booked,) = rows(asked.gateway, "SELECT count(*) AS n FROM entries WHERE data_class IN ('internal', 'personal')")
    assert told["ledger"]["agrees"]
    assert told["ledger"]["requests"] == booked["n"] == sum(row["requests"] for row in told["requests"])
    table = list(csv.DictReader(io.StringIO(run("export", "--month", month, "--format", "csv").output)))
    for section in ("requests", "flows", "refusals"):
        assert [int(row["requests"]) for row in table if row["section"] == section] == [
            row["requests"] for row in told[section]
        ]
    spanish, english = (run("export", "--month", month, *more).output for more in ((), ("--lang", "en")))
    assert spanish.startswith(f"# Registro de protección de datos, {month}")
    assert "RGPD art. 4.1, 87" in spanish
    assert "GDPR art. 4(1), 87" in english
    assert "personal y superiores no salen de premises" in spanish


def test_a_month_that_is_none_is_wrong_use() -> None:
    assert run("export", "--month", "2026-13").exit_code == 2


# --- erase ------------------------------------------------------------------------------------------------------------


def test_an_erased_callers_answers_are_not_in_the_cache_any_more(asked: Asked) -> None:
    question = "¿Cuántos habitantes tiene Lugo?"
    assert [asked.ask(question, key=1).headers["x-cauce-cache"] for _ in range(2)] == ["miss", "hit"]
    subject = asked.keys[1].id
    done = run("erase", "--caller", subject, "--by", "dpo", "--yes")
    assert done.exit_code == 0, done.output
    assert "still valid" in done.stderr
    eventually(lambda: asked.ask(question, key=1).headers["x-cauce-cache"] == "miss")
    assert '"message":"callers were erased, the answer cache is empty"' in asked.gateway.output


def test_an_erasure_leaves_no_name_and_its_proof_and_a_new_name_comes_with_the_next_request(asked: Asked) -> None:
    asked.ask(PERSONAL, key=1)
    done = json.loads(run("erase", "--subject-key", asked.keys[1].key, "--by", "dpo", "--yes", "--json").stdout)
    assert (done["entries"] > 0, done["names"]) == (True, 1)
    named = "SELECT caller FROM audit_callers WHERE caller = ?"
    assert rows(asked.gateway, named, asked.keys[1].id) == []
    (proof,) = rows(asked.gateway, "SELECT * FROM audit WHERE hash = ?", done["proof"])
    assert json.loads(proof["detail"])["by"] == "dpo"
    assert run("verify").exit_code == 0

    def asked_anew() -> bool:
        asked.ask(PERSONAL, key=1)
        return bool(rows(asked.gateway, named, asked.keys[1].id))

    eventually(asked_anew)
    assert run("verify").exit_code == 0


def test_an_erasure_asks_first_and_does_nothing_for_a_stranger(asked: Asked) -> None:
    refused = CliRunner().invoke(command, ["erase", "--caller", asked.keys[0].id], input="n\n")
    assert refused.exit_code == 1
    assert rows(asked.gateway, "SELECT 1 FROM entries WHERE caller = ?", asked.keys[0].id)
    assert run("erase", "--caller", "key_nobody", "--yes").exit_code == 1
    assert run("erase", "--yes").exit_code == 2
    assert run("erase", "--caller", "a", "--subject-key", "b", "--yes").exit_code == 2
