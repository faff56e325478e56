"""The ledger's database goes away under load and the gateway is killed: what was replied is in the ledger, once.

With real processes: SQLite that another process locks, a Postgres that ends and comes back, and one that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import select

from gateway.ledger.store import open_engine
from gateway.ledger.tables import attempts, entries
from tests.entries import eventually
from tests.faults.test_kill import Load, kill_under_load
from tests.running import Running, running
from tests.services import Server, postgres_programs, postgres_server

CONFIG = """
discover: false
cache: {{enabled: false}}
ledger: {url}
models:
  near: {{provider: fake, model: fake-1, zone: premises, kind: slm}}
"""
Away = Callable[[], AbstractContextManager[None]]


@dataclass
class Database:
    """A ledger's address, and what takes it away for a while."""

    url: str
    away: Away


@contextlib.contextmanager
def locked_sqlite(folder: Path, _: pytest.FixtureRequest) -> Iterator[Database]:
    @contextlib.contextmanager
    def away() -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(folder / "cauce.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    yield Database(f"sqlite:///{folder}/cauce.db", away)


@contextlib.contextmanager
def ended_postgres(_: Path, __: pytest.FixtureRequest) -> Iterator[Database]:
    with postgres_server() as server:

        @contextlib.contextmanager
        def away() -> Iterator[None]:
            server.crash()
            try:
                yield
            finally:
                server.restart()

        yield Database(server.url, away)


def tell(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # its connection was closed meanwhile
        os.kill(pid, what)


@contextlib.contextmanager
def hanging_postgres(_: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    server: Server = request.getfixturevalue("postgres")
    name = f"hanging_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")

        @contextlib.contextmanager
        def away() -> Iterator[None]:
            """The processes behind the gateway's connections do nothing any more, and say nothing."""
            asked = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
            hanging = [pid for (pid,) in connection.execute(asked, (name,))]
            for pid in hanging:
                tell(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                for pid in hanging:
                    tell(pid, signal.SIGCONT)

        yield Database(server.url.replace("/postgres", f"/{name}"), away)


@pytest.fixture(params=[locked_sqlite, ended_postgres, hanging_postgres], ids=lambda made: made.__name__)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param is not locked_sqlite:
        if postgres_programs() is None:
            request.getfixturevalue("postgres")  # skips, or fails where everything must be there
        if os.getuid():
            pytest.skip("only root may stop the processes of Postgres' user")
    with request.param(tmp_path, request) as made:
        yield made


def ready(gateway: Running) -> dict[str, Any]:
    with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=10) as reply:  # noqa: S310 - our own address
        said: dict[str, Any] = json.load(reply)
    return said


def ask(gateway: Running) -> str:
    asked = {"messages": [{"role": "user", "content": "¿A qué hora abren?"}]}
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json=asked, timeout=30).raise_for_status()
    return reply.headers["x-cauce-request-id"]


def booked(url: str) -> tuple[Counter[str], Counter[str]]:
    """How many entries, and how many calls, each request has."""
    engine = open_engine(url)
    with engine.connect() as connection:
        found = tuple(
            Counter(connection.execute(select(table.c.request_id)).scalars()) for table in (entries, attempts)
        )
    engine.dispose()
    return found[0], found[1]


def is_well(gateway: Running) -> bool:
    said = ready(gateway)
    return (said["ledger"], said["ledger_waiting"]) == ("ok", 0)


def test_what_was_replied_while_the_database_was_away_is_written_once_by_this_process_or_the_next(
    database: Database, tmp_path: Path
) -> None:
    config = CONFIG.format(url=database.url)
    with running(tmp_path, config) as gateway:
        replied = {ask(gateway)}
        with database.away():
            replied |= {ask(gateway) for _ in range(5)}
            said = ready(gateway)
            assert (said["status"], said["ledger"], said["ledger_waiting"]) == ("ready", "spooling", 5)
        eventually(lambda: is_well(gateway), seconds=20)
        replied.add(ask(gateway))
        assert booked(database.url)[0] == Counter(replied)
        with database.away():
            replied.add(ask(gateway))  # until it is noticed, a reply waits
            assert ready(gateway)["ledger"] == "spooling"
            load = Load(gateway, deadly=60)
            asyncio.run(kill_under_load(load, after_s=20))
    assert load.complete.total() >= 60
    with running(tmp_path, config) as gateway:
        eventually(lambda: is_well(gateway) and not list(tmp_path.glob("*.spool/*.jsonl")), seconds=30)
    kept, called = booked(database.url)
    replied |= load.complete.keys()
    assert replied <= kept.keys()
    assert set(kept.values()) == {1}
    assert {called[request_id] for request_id in replied} == {1}
