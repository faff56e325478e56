"""What the audit remembers of a request, and that its report says what the ledger says."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from gateway.gate import Destination
from gateway.ledger.report import Period, report
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.telemetry.audit import policy_record, read, refusal_record
from gateway.telemetry.audit_report import month_report
from gateway.telemetry.audit_text import as_csv, as_markdown
from gateway.types import Attempt, DataClass, Finding, Outcome, Skipped, Zone
from tests.audited import TEXT, a_story, far, write
from tests.builders import NOON_NS, a_decision, an_attempt, an_entry, some_signals
from tests.policy.builders import a_policy

NOVEMBER = Period(1_793_487_600_000_000, 1_796_079_600_000_000)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    yield opened
    opened.dispose()


def records(engine: Engine) -> list[dict[str, Any]]:
    return [row for row in read(engine, Period()) if row["event"] == "request"]


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_record_says_what_left_to_whom_under_which_rule(engine: Engine) -> None:
    write(
        engine, a_story(DataClass.SPECIAL, an_attempt(outcome="upstream_timeout"), far(), kinds=["health", "identity"])
    )
    (row,) = records(engine)
    assert row["data_class"] == "special"
    assert row["kinds"] == ["health", "identity"]
    assert row["labels"] == {"ID_DNI": 2}
    assert row["destinations"] == [
        {"model": "small", "zone": "premises", "processor": "fake", "outcome": "upstream_timeout"},
        {"model": "large", "zone": "world", "processor": "openai", "outcome": "ok"},
    ]
    assert (row["caller"], row["team"], row["app"]) == ("key_1", "billing", "bot")
    assert (row["rule"], row["policy"], row["policy_revision"]) == ("personal-stays", "default", "abc123")
    assert (row["transform"], row["outcome"], row["time"]) == ("none", "ok", "2026-11-24T12:00:00.000Z")


def test_every_class_above_public_is_remembered_and_public_is_not(engine: Engine) -> None:
    write(engine, *(a_story(data) for data in DataClass))
    assert [row["data_class"] for row in records(engine)] == ["internal", "personal", "special", "secret"]


@pytest.mark.parametrize("code", ["no_allowed_model", "gate_refused"])
def test_a_refusal_of_the_gate_is_remembered_whatever_the_class(engine: Engine, code: str) -> None:
    decision = a_decision(skipped=(Skipped("large", "it is in the world"),))
    story = a_story(DataClass.PUBLIC, code=code, outcome=Outcome.REFUSED, decision=decision)
    story.attempts.clear()
    write(engine, story)
    (row,) = records(engine)
    assert (row["code"], row["outcome"], row["destinations"]) == (code, "refused", [])
    assert row["detail"] == {"left_out": ["large"]}


def test_what_the_gate_itself_stops_is_remembered_and_reported(engine: Engine) -> None:
    note = refusal_record(Destination("large", Zone.WORLD), DataClass.SECRET)
    write(engine, notes=[note])
    made = month_report(engine, Period(0, note.time_us + 1), month="2026-11", time_zone="UTC")
    assert made["refusals"] == [
        {"data_class": "secret", "code": "gate_refused", "rule": "", "destination": "large", "requests": 1}
    ]


@pytest.mark.parametrize("reason", ["scan_failed", "oversize", "image", "language_zh"])
def test_what_the_detector_could_not_read_is_remembered_with_the_reason_whatever_the_class(
    engine: Engine, reason: str
) -> None:
    unread = Finding("unreadable", reason, DataClass.PUBLIC)
    write(engine, a_story(DataClass.PUBLIC, signals=some_signals(findings=(unread,))))
    (row,) = records(engine)
    assert (row["unread"], row["kinds"], row["labels"]) == (reason, [], {})


def test_a_policy_that_comes_into_force_is_remembered_with_its_guarantees(engine: Engine) -> None:
    policy = a_policy()
    write(engine, notes=[policy_record(policy, before="0a1b2c")])
    (row,) = [row for row in read(engine, Period()) if row["event"] == "policy"]
    assert (row["policy"], row["policy_revision"], row["outcome"]) == (policy.name, policy.revision, "in_force")
    assert row["detail"] == {"before": "0a1b2c", "guarantees": {g.data.label: g.stays.label for g in policy.guarantees}}


def test_no_text_of_a_request_is_in_any_table(engine: Engine, tmp_path: Path) -> None:
    write(engine, *(a_story(data) for data in DataClass), a_story(code="gate_refused", outcome=Outcome.REFUSED))
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"personal-stays" in stored
    assert not [word for word in TEXT.split() if len(word) > 3 and word.encode() in stored]


def test_the_newest_records_come_first_where_a_page_asks_for_some(engine: Engine) -> None:
    write(engine, *(a_story(received_ns=NOON_NS + second * 10**9) for second in range(9)))
    rows = list(read(engine, Period(end_us=NOON_NS // 1000 + 8_000_000), most=3, newest_first=True))
    assert [row["time"][17:19] for row in rows] == ["07", "06", "05"]


# --- the report -------------------------------------------------------------------------------------------------------

classes = st.sampled_from(DataClass)
attempted = st.lists(st.sampled_from([an_attempt(), far(), far(outcome="upstream_timeout")]), max_size=3)
stories = st.lists(st.tuples(classes, attempted, st.sampled_from(["", "no_allowed_model"])), max_size=12)


@settings(max_examples=25, deadline=None)
@given(stories)
def test_the_report_and_the_ledger_have_the_same_sums(told: list[tuple[DataClass, list[Attempt], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{folder}/ledger.db")
        write(engine, *(a_story(data, code=code, attempts=list(calls)) for data, calls, code in told))
        made = month_report(engine, NOVEMBER, month="2026-11", time_zone="Europe/Madrid")
        spent = report(engine, by=("data_class",), period=NOVEMBER, zone=ZoneInfo("UTC"))
        engine.dispose()
    booked = {row["data_class"]: row["requests"] for row in spent if row["data_class"] != "public"}
    assert {row["data_class"]: row["requests"] for row in made["requests"] if row["data_class"] != "public"} == booked
    called = Counter(call.model.zone.label for data, calls, code in told for call in calls if data or code)
    shown: Counter[str] = Counter()
    for row in made["flows"]:
        shown[row["zone"]] += row["calls"]
    assert shown == called
    assert sum(row["requests"] for row in made["stayed"]) == sum(
        not calls for data, calls, code in told if data or code
    )
    assert made["ledger"]["agrees"]
    assert made["chain"]["whole"]


def test_a_copy_of_a_request_is_one_more_call_and_the_ledger_has_it_too(engine: Engine) -> None:
    write(engine, a_story(DataClass.INTERNAL), a_story(), copies=[far(shadow=True)])
    made = month_report(engine, NOVEMBER, month="2026-11", time_zone="UTC")
    assert [(row["data_class"], row["zone"], row["calls"]) for row in made["flows"]] == [
        ("personal", "premises", 1),
        ("internal", "premises", 1),
        ("internal", "world", 1),
    ]
    assert {row["data_class"]: row["requests"] for row in made["requests"]} == {"internal": 1, "personal": 1}
    assert (made["ledger"]["requests"], made["ledger"]["calls"], made["ledger"]["agrees"]) == (2, 3, True)
    assert made["chain"]["whole"]


def test_entries_that_are_older_than_the_audit_are_told_apart(engine: Engine) -> None:
    old = an_entry("req_old", data_class="personal", time_us=NOON_NS // 1000 - 1)

    async def as_it_was_written_then() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)))
        await ledger.append(old, [])
        ledger.close()

    asyncio.run(as_it_was_written_then())
    write(engine, a_story())
    ledger = month_report(engine, NOVEMBER, month="2026-11", time_zone="UTC")["ledger"]
    assert (ledger["agrees"], ledger["requests"], ledger["before_the_audit"]) == (True, 1, 1)


def test_the_report_names_flows_refusals_failures_grounds_and_policies(engine: Engine) -> None:
    refused = a_story(DataClass.SPECIAL, code="no_allowed_model", outcome=Outcome.REFUSED, kinds=["health"])
    refused.attempts.clear()
    failed = some_signals(data=DataClass.SPECIAL, findings=(Finding("unreadable", "scan_failed", DataClass.SPECIAL),))
    note = policy_record(a_policy())
    write(
        engine,
        a_story(),
        a_story(DataClass.INTERNAL, far(), kinds=["business"]),
        refused,
        a_story(signals=failed),
        notes=[note],
    )
    made = month_report(engine, Period(NOVEMBER.start_us, note.time_us + 1), month="2026-11", time_zone="Europe/Madrid")
    assert {(row["data_class"], row["zone"], row["processor"], row["calls"]) for row in made["flows"]} == {
        ("special", "premises", "fake", 1), ("personal", "premises", "fake", 1), ("internal", "world", "openai", 1),
    }  # fmt: skip
    assert made["refusals"] == [
        {
            "data_class": "special",
            "code": "no_allowed_model",
            "rule": "personal-stays",
            "destination": "",
            "requests": 1,
        }
    ]
    assert made["detector"] == [{"data_class": "special", "reason": "scan_failed", "requests": 1}]
    assert {row["kind"]: row["articulo"] for row in made["kinds"]}["health"].startswith(
        "RGPD art. 4.15, 9.1; LOPDGDD art. 9"
    )
    assert [row["revision"] for row in made["policies"]] == [a_policy().revision]
    spanish, english = as_markdown(made, "es"), as_markdown(made, "en")
    assert "No se guarda ningún texto" in spanish
    assert "| internal | world | openai | personal-stays | none | 1 | 1 |" in spanish
    assert "No text is kept" in english
    assert "GDPR art. 4(15), 9(1)" in english
    assert len(english.splitlines()) == len(spanish.splitlines())
    assert as_csv(made, "en").splitlines()[0].startswith("section,data_class,zone,processor")
