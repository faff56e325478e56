"""What the tests share: programs that some of them need, and the running gateway."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from gateway.ledger.store import open_engine
from tests.services import Server, postgres_programs, postgres_server

_SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
# With this set, as CI does, a test whose program is missing fails instead of being skipped.
_REQUIRE_ALL = os.environ.get("CAUCE_REQUIRE_ALL") == "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        missing = [program for program in marker.args if shutil.which(program, path=_SBIN) is None]
        if missing and _REQUIRE_ALL:
            pytest.fail(f"{', '.join(missing)} must be installed: CAUCE_REQUIRE_ALL is set")
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One Postgres for the whole run."""
    if postgres_programs() is None:
        if _REQUIRE_ALL:
            pytest.fail("postgresql must be installed: CAUCE_REQUIRE_ALL is set")
        pytest.skip("postgresql is not installed")
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Empty databases, as URLs: what uses this runs once with each kind."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{uuid4().hex}.db"
    server: Server = request.getfixturevalue("postgres")

    def made() -> str:
        name = f"ledger_{uuid4().hex}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return server.url.replace("/postgres", f"/{name}")

    return made


@pytest.fixture
def ledger_url(new_ledger: Callable[[], str]) -> str:
    """An empty database of each kind."""
    return new_ledger()


@pytest.fixture
def ledger_engine(ledger_url: str) -> Iterator[Engine]:
    """The same, opened."""
    engine = open_engine(ledger_url)
    yield engine
    engine.dispose()
