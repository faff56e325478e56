"""The audit's chains: whoever changes, takes out, puts in or moves a record is found out, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from gateway.ledger import chain
from gateway.ledger.audit_record import Link, Record, Who, digest
from gateway.ledger.chain_check import Checked, check
from gateway.ledger.store import open_engine
from gateway.ledger.tables import audit
from tests.audited import a_story, write
from tests.builders import NOON_NS, a_caller


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


def writers(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(audit.c.writer).distinct()).scalars())


# --- a change is found ------------------------------------------------------------------------------------------------


def rows_of(connection: Connection, writer: str) -> list[Link]:
    return [
        Link(*row) for row in connection.execute(select(audit).where(audit.c.writer == writer).order_by(audit.c.seq))
    ]


def put(connection: Connection, link: Link) -> None:
    connection.execute(audit.insert().values(tuple(getattr(link, name) for name in Link.__slots__)))


def sealed_again(link: Link, **changes: Any) -> Link:
    """A record with other values and a hash that fits them."""
    values = {name: getattr(link, name) for name in Link.__slots__} | changes
    values["hash"] = digest([values[name] for name in Link.__slots__[:-1]])
    return Link(**values)


def exchange_two(connection: Connection, writer: str) -> None:
    """Records 3 and 4 in each other's place, each with a hash that fits it there."""
    third, fourth = rows_of(connection, writer)[3:5]
    connection.execute(text("DELETE FROM audit WHERE writer = :w AND seq IN (3, 4)"), {"w": writer})
    put(connection, first := sealed_again(fourth, seq=3, previous=third.previous))
    put(connection, sealed_again(third, seq=4, previous=first.hash))


def insert_one(connection: Connection, writer: str) -> None:
    """One more between 2 and 3; those after it move up."""
    rows = rows_of(connection, writer)
    connection.execute(text("DELETE FROM audit WHERE writer = :w AND seq > 2"), {"w": writer})
    forged = sealed_again(rows[2], seq=3, previous=rows[2].hash, request_id="req_forged")
    put(connection, forged)
    for link in rows[3:]:
        put(connection, sealed_again(link, seq=link.seq + 1, previous=forged.hash if link.seq == 3 else link.previous))


def rewrite_all(connection: Connection, writer: str) -> None:
    """The whole chain without its third record, every hash and the head made to fit."""
    kept = [link for link in rows_of(connection, writer) if link.seq != 3]
    connection.execute(text("DELETE FROM audit WHERE writer = :w"), {"w": writer})
    previous = ""
    for seq, link in enumerate(kept):
        put(connection, made := sealed_again(link, seq=seq, previous=previous))
        previous = made.hash
    connection.execute(
        text("UPDATE audit_heads SET seq = :s, hash = :h WHERE writer = :w"),
        {"s": len(kept) - 1, "h": previous, "w": writer},
    )
    connection.execute(text("DELETE FROM entries WHERE request_id NOT IN (SELECT request_id FROM audit)"))


def cut_the_end(connection: Connection, writer: str) -> None:
    """The last two records, their entries and the head that knew of them."""
    last = rows_of(connection, writer)[-3]
    connection.execute(text("DELETE FROM audit WHERE writer = :w AND seq > :s"), {"w": writer, "s": last.seq})
    connection.execute(
        text("UPDATE audit_heads SET seq = :s, hash = :h WHERE writer = :w"),
        {"s": last.seq, "h": last.hash, "w": writer},
    )
    connection.execute(text("DELETE FROM entries WHERE request_id NOT IN (SELECT request_id FROM audit)"))


def sql(*statements: str) -> Callable[[Connection, str], None]:
    def run(connection: Connection, writer: str) -> None:
        for statement in statements:
            connection.execute(text(statement), {"w": writer} if ":w" in statement else {})

    return run


TAMPERED = {
    "a record taken out": (sql("DELETE FROM audit WHERE writer = :w AND seq = 3"), "removed", "{w}:3"),
    "two taken out": (sql("DELETE FROM audit WHERE writer = :w AND seq IN (3, 4)"), "removed", "{w}:3 to 4"),
    "the first taken out": (sql("DELETE FROM audit WHERE writer = :w AND seq = 0"), "removed", "{w}:0"),
    "the last taken out": (sql("DELETE FROM audit WHERE writer = :w AND seq = 6"), "removed", "{w}:6 to 6"),
    "a whole chain": (sql("DELETE FROM audit WHERE writer = :w"), "removed", "{w}:0 to 6"),
    "a whole chain with its head": (
        sql("DELETE FROM audit WHERE writer = :w", "DELETE FROM audit_heads WHERE writer = :w"), "quote", "{w}:6"),
    "the head": (sql("DELETE FROM audit_heads WHERE writer = :w"), "head", "{w}"),
    "the head set back": (sql("UPDATE audit_heads SET seq = 4 WHERE writer = :w"), "head", "{w}:4"),
    "two exchanged": (exchange_two, "order", "{w}:5"),
    "one put in": (insert_one, "order", "{w}:5"),
    "one put at the end": (
        sql("INSERT INTO audit SELECT writer, 7, time_us, event, request_id, caller, data_class, kinds, labels, "
            "unread, rule, policy, policy_revision, destinations, transform, outcome, code, detail, hash, hash "
            "FROM audit WHERE writer = :w AND seq = 6"), "changed", "{w}:7"),
    "all written again": (rewrite_all, "quote", "{w}:6"),
    "the end with its head": (cut_the_end, "quote", "{w}:6"),
    "a caller's name changed": (sql("UPDATE audit_callers SET team = 'sales'"), "name", None),
    "a caller's name taken away": (sql("DELETE FROM audit_callers"), "name", None),
    "a caller erased by hand": (
        sql("UPDATE audit_callers SET salt = '', caller = 'erased', team = 'erased', app = 'erased'"),
        "name", "erased"),
    "everything": (sql("DELETE FROM audit", "DELETE FROM audit_heads", "DELETE FROM audit_callers"), "entry", "audit"),
    "the record of one request, as if it never was": (
        sql("UPDATE audit SET request_id = 'req_other' WHERE writer = :w AND seq = 3"), "entry", None),
    "something that no record can hold": (
        sql("UPDATE audit SET kinds = x'00ff' WHERE writer = :w AND seq = 3"), "changed", "{w}:3"),
}  # fmt: skip


def two_chains(engine: Engine) -> str:
    """A gateway's chain of a start and six requests, which a second one quotes; the writer of the first."""
    write(engine, *(a_story() for _ in range(6)))
    (first,) = writers(engine)
    write(engine, a_story())
    return first


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[Engine, str]]:
    """The same in SQLite: what is changed where is the same in any database."""
    engine = open_engine(f"sqlite:///{tmp_path}/ledger.db")
    yield engine, two_chains(engine)
    engine.dispose()


def found(checked: Checked) -> set[tuple[str, str]]:
    return {(problem.kind, problem.where) for problem in checked.problems}


def test_what_nobody_touched_is_whole_until_somebody_does(engine: Engine) -> None:
    writer = two_chains(engine)
    checked = check(engine)
    assert checked.whole
    assert (checked.chains, checked.records) == (2, 9)
    with engine.begin() as connection:
        exchange_two(connection, writer)
    assert ("order", f"{writer}:5") in found(check(engine))


@pytest.mark.parametrize("name", TAMPERED)
def test_a_change_is_found_and_its_place_named(written: tuple[Engine, str], name: str) -> None:
    engine, writer = written
    tamper, kind, where = TAMPERED[name]
    with engine.begin() as connection:
        tamper(connection, writer)
    checked = check(engine)
    assert not checked.whole
    if where is None:
        assert kind in {one for one, _ in found(checked)}
    else:
        assert (kind, where.format(w=writer)) in found(checked)


@pytest.mark.parametrize("column", [name for name in Link.__slots__ if name not in {"writer", "seq"}])
def test_no_field_of_a_record_can_be_changed_unseen(written: tuple[Engine, str], column: str) -> None:
    engine, writer = written
    new = 1 if column == "time_us" else "x"
    with engine.begin() as connection:
        connection.execute(audit.update().where(audit.c.writer == writer, audit.c.seq == 2).values({column: new}))
    assert ("changed", f"{writer}:2") in found(check(engine))


def test_what_is_cut_or_written_again_after_the_last_quote_shows_only_against_an_anchor(engine: Engine) -> None:
    write(engine, *(a_story() for _ in range(6)))
    (writer,) = writers(engine)
    kept = chain.anchor(engine).hash
    assert check(engine, anchors=[kept]).whole
    with engine.begin() as connection:
        rewrite_all(connection, writer)
        connection.execute(text("DELETE FROM audit WHERE writer <> :w"), {"w": writer})
        connection.execute(text("DELETE FROM audit_heads WHERE writer <> :w"), {"w": writer})
    assert check(engine).whole  # whoever can write everything can make everything fit
    assert found(check(engine, anchors=[kept])) == {("anchor", kept)}


def test_an_anchor_stays_good_while_records_are_added(written: tuple[Engine, str]) -> None:
    engine, _ = written
    anchors = []
    for _ in range(3):
        anchors.append(chain.anchor(engine).hash)
        write(engine, a_story())
    assert check(engine, anchors=anchors).whole


# --- several writers --------------------------------------------------------------------------------------------------


def test_writers_at_the_same_time_keep_a_chain_each_and_none_forks(ledger_url: str) -> None:
    open_engine(ledger_url).dispose()

    def gateway(_number: int) -> None:
        engine = open_engine(ledger_url)
        write(engine, *(a_story() for _ in range(300)))
        engine.dispose()

    with ThreadPoolExecutor(4) as hands:
        list(hands.map(gateway, range(4)))
    engine = open_engine(ledger_url)
    checked = check(engine)
    assert found(checked) == set()
    assert (checked.chains, checked.records) == (4, 4 + 1200)
    engine.dispose()


def test_a_batch_whose_commit_only_seemed_to_fail_is_written_once(engine: Engine) -> None:
    """As when the connection is lost between the database's commit and its answer."""
    writer = chain.Chain(engine, purpose="test")
    batch = [Record("request", NOON_NS // 1000, f"req_{n}", Who("key_1", "", "")) for n in range(3)]
    for _ in range(2):
        with engine.begin() as connection:
            writer.write(connection, batch)
    writer.committed()
    with engine.begin() as connection:
        writer.write(connection, batch[:1])
    checked = check(engine)
    assert (found(checked), checked.records) == (set(), 5)


def test_two_callers_of_one_name_are_two_and_one_caller_keeps_one_token(engine: Engine) -> None:
    other = a_caller(id="key_2")
    write(engine, a_story(), a_story(), a_story(caller=other))
    write(engine, a_story())
    with engine.connect() as connection:
        tokens = Counter(connection.execute(select(audit.c.caller).where(audit.c.caller != "")).scalars())
    assert sorted(tokens.values()) == [1, 3]
