"""Erasure: whose it was is gone, the money adds up as before, and the chains hold and say that it was done."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from sqlalchemy import Engine, insert, select

from gateway.ledger.audit_record import REQUEST, Record, Who, subject_of
from gateway.ledger.batch import Batch
from gateway.ledger.chain_check import check
from gateway.ledger.erasure import Erasures, erase, is_known
from gateway.ledger.keys import create_key, list_keys, revoke_key
from gateway.ledger.report import Period, report
from gateway.ledger.spool import Spool
from gateway.ledger.tables import (
    audit,
    audit_callers,
    budget_alerts,
    budget_use,
    entries,
    limits,
    metadata,
    rate_windows,
    reservations,
)
from gateway.ledger.writer import Ledger
from gateway.telemetry.audit import read
from gateway.telemetry.audit_report import month_report
from gateway.types import Budget, Caller, DataClass
from tests.audited import a_story, far, write
from tests.builders import a_caller, an_entry

OTHER = a_caller(id="key_2", team="sales")


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


@pytest.fixture
def caller(engine: Engine) -> Caller:
    """Who asks to be forgotten: their key is revoked already."""
    named = Caller(team="oncologia-planta-4", app="turnos-de-marta", tags=("cost-center-marta",))
    made = create_key(engine, named)
    revoke_key(engine, made.id)
    caller = Caller(made.id, named.team, named.app, named.tags)
    write(engine, a_story(caller=caller), a_story(DataClass.PUBLIC, far(), caller=caller), a_story(caller=OTHER))
    return caller


def sums(engine: Engine) -> list[dict[str, Any]]:
    by = ("model", "data_class", "rule")
    return report(engine, by=by, period=Period(), zone=ZoneInfo("UTC"))


def test_the_money_adds_up_and_only_whose_it_was_is_gone(engine: Engine, caller: Caller) -> None:
    before = sums(engine)
    done = erase(engine, caller.id, by="dpo")
    assert (done.entries, done.names, done.keys) == (2, 1, 1)
    assert sums(engine) == before
    by_team = {
        row["team"]: row["requests"] for row in report(engine, by=("team",), period=Period(), zone=ZoneInfo("UTC"))
    }
    assert by_team == {"erased": 2, "sales": 1}
    with engine.connect() as connection:
        rows = connection.execute(select(entries).where(entries.c.caller == "erased")).all()
    assert [(row.team, row.app, row.tags, orjson.loads(row.signals)["tags"]) for row in rows] == [
        ("erased", "erased", '["erased"]', ["erased"])
    ] * 2
    assert {orjson.loads(row.signals)["slm_success"] for row in rows} == {0.9}


def test_nothing_of_them_is_left_in_the_ledgers_files(engine: Engine, caller: Caller, tmp_path: Path) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("Postgres overwrites what was there when it vacuums")
    words = [caller.team.encode(), caller.app.encode(), caller.tags[0].encode()]

    def left() -> list[bytes]:
        stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return [word for word in words if word in stored]

    assert left() == words
    erase(engine, caller.id, by="dpo")
    assert left() == []


def test_the_chains_hold_and_a_record_says_when_by_whom_and_how_many(engine: Engine, caller: Caller) -> None:
    done = erase(engine, caller.id, by="dpo@hospital")
    assert check(engine).whole
    (row,) = [row for row in read(engine, Period()) if row["event"] == "erasure"]
    assert row["detail"] == {
        "subject": subject_of(caller.id), "by": "dpo@hospital", "entries": 2, "names": 1, "keys": 1
    }  # fmt: skip
    assert row["hash"] == done.hash
    with engine.connect() as connection:
        assert caller.id not in "".join(map(str, connection.execute(select(audit)).all()))
    made = month_report(engine, Period(0, 10**16), month="", time_zone="UTC")
    assert made["ledger"]["agrees"]
    assert [(one["by"], one["entries"]) for one in made["erasures"]] == [("dpo@hospital", 2)]


def test_the_proof_itself_cannot_be_changed_unseen(engine: Engine, caller: Caller) -> None:
    erase(engine, caller.id, by="dpo")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET detail = replace(detail, 'dpo', 'boss')")
    assert [problem.kind for problem in check(engine).problems] == ["changed"]


def test_a_key_that_still_opens_the_gateway_keeps_what_it_needs(engine: Engine) -> None:
    made = create_key(engine, Caller(team="billing", app="bot"))
    write(engine, a_story(caller=Caller(made.id, "billing", "bot")))
    assert erase(engine, made.id, by="dpo").keys == 0
    assert [key.caller.team for key in list_keys(engine)] == ["billing"]


LIMITED = ("limits", "budget_use", "budget_alerts", "reservations", "rate_windows")


def limited(engine: Engine, *, revoked: bool) -> tuple[str, str]:
    """The ids of a key with a budget that was used and of its neighbour, whose id goes on where this one ends."""
    budget = Budget(scope="", period="month", nano_usd=50, hard=True, carry_over=False)
    made = create_key(engine, Caller(team="billing", budgets=(budget,)))
    other = f"{made.id}x"
    with engine.begin() as connection:
        connection.execute(
            insert(limits), [{**connection.execute(select(limits)).mappings().one(), "scope": f"key:{other}"}]
        )
        for name in (f"key:{made.id}", f"key:{other}"):
            connection.execute(insert(budget_use).values((f"{name}/month/2026-11", 0, 7, 1)))
            connection.execute(insert(budget_alerts).values((f"{name}/month/2026-11", 50, 1)))
            connection.execute(insert(reservations).values((f"req {name}", f"{name}/month/2026-11", 1, 1)))
            connection.execute(insert(rate_windows).values((f"requests/{name}/1/29", 1, 1)))
    if revoked:
        revoke_key(engine, made.id)
    return made.id, other


def named_in(engine: Engine, key: str) -> dict[str, int]:
    with engine.connect() as connection:
        stored = {name: [str(row) for row in connection.execute(select(metadata.tables[name]))] for name in LIMITED}
    return {name: sum(f"key:{key}/" in row or f"key:{key}'" in row for row in rows) for name, rows in stored.items()}


def test_what_a_closed_key_might_spend_and_did_goes_and_its_neighbours_stays(engine: Engine) -> None:
    mine, other = limited(engine, revoked=True)
    assert set(named_in(engine, mine).values()) == {1}
    erase(engine, mine, by="dpo")
    assert set(named_in(engine, mine).values()) == {0}
    assert set(named_in(engine, other).values()) == {1}


def test_a_valid_key_is_held_to_its_budget_after_an_erasure(engine: Engine) -> None:
    mine, _ = limited(engine, revoked=False)
    erase(engine, mine, by="dpo")
    assert set(named_in(engine, mine).values()) == {1}


def test_what_waited_on_disk_while_a_caller_was_erased_names_nobody(
    engine: Engine, caller: Caller, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1_000_000)
    who = Who(caller.id, caller.team, caller.app)
    waiting = an_entry("req_waiting", caller=caller.id, team=caller.team, app=caller.app, data_class="personal")
    kept = Batch([waiting], [], [Record(REQUEST, 1, "req_waiting", who)], rows=1)
    theirs = dataclasses.replace(waiting, request_id="req_other", caller=OTHER.id, team=OTHER.team)
    spool.append(Batch([theirs], [], [Record(REQUEST, 1, "req_other", Who(OTHER.id, "sales", ""))], rows=1))
    spool.append(kept)
    spool.close()  # as the death of a process does
    erase(engine, caller.id, by="dpo")

    async def start() -> None:
        ledger = Ledger(engine, on_failure=lambda _: None, spool=Spool(tmp_path / "spool", max_bytes=1_000_000))
        await ledger.append(an_entry("req_new"), [])
        await asyncio.to_thread(ledger.close)

    asyncio.run(start())
    with engine.connect() as connection:
        rows = connection.execute(select(entries.c.request_id, entries.c.caller)).all()
        found = {row.request_id: row.caller for row in rows if row.request_id in {"req_waiting", "req_other"}}
        assert caller.team not in "".join(map(str, connection.execute(select(entries)).all()))
        assert caller.id not in "".join(map(str, connection.execute(select(audit_callers)).all()))
    assert found == {"req_waiting": "erased", "req_other": OTHER.id}
    assert check(engine).whole


def test_what_is_asked_after_an_erasure_is_a_new_caller_that_can_be_erased_again(
    engine: Engine, caller: Caller
) -> None:
    erase(engine, caller.id, by="dpo")
    write(engine, a_story(caller=caller))
    again = erase(engine, caller.id, by="dpo")
    assert (again.entries, again.names) == (1, 1)
    assert check(engine).whole


def test_a_running_gateway_sees_each_erasure_once(engine: Engine, caller: Caller) -> None:
    erase(engine, OTHER.id, by="dpo")
    erasures = Erasures(engine)
    assert erasures.look() == frozenset()  # done before it started
    erase(engine, caller.id, by="dpo")
    assert erasures.look() == {subject_of(caller.id)}
    assert erasures.look() == frozenset()


def test_who_is_known_is_who_has_a_key_an_entry_or_a_name(engine: Engine, caller: Caller) -> None:
    assert is_known(engine, caller.id)
    assert is_known(engine, OTHER.id)
    assert not is_known(engine, "key_nobody")
    erase(engine, OTHER.id, by="dpo")
    assert not is_known(engine, OTHER.id)
    assert not is_known(engine, "erased")
