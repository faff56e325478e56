"""The ledger's database is away: requests are answered, the failure is counted and said, entries come later."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.entries import entry, eventually, metric, rows
from tests.running import Running, running

CONFIG = """
discover: false
cache: {enabled: false}
models:
  small: {provider: fake, model: fake-1, zone: premises, kind: slm}
"""
ASKED = {"messages": [{"role": "user", "content": "¿A qué hora abren?"}]}


class Fault(Protocol):
    def __call__(self, gateway: Running) -> AbstractContextManager[None]: ...


@contextlib.contextmanager
def locked(gateway: Running) -> Iterator[None]:
    """Another process writes and does not come to an end."""
    with contextlib.closing(sqlite3.connect(gateway.folder / "cauce.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def full_disk(gateway: Running) -> Iterator[None]:
    """No file may grow any more, the log's neither."""
    if sys.platform != "linux":
        pytest.skip("limits of another process are Linux's")
    soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("ledger"), CONFIG) as started:
        yield started


def ask(gateway: Running, **changes: object) -> httpx.Response:
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json={**ASKED, **changes}, timeout=30)
    assert reply.status_code == 200
    return reply


def readiness(gateway: Running) -> dict[str, Any]:
    reply = httpx.get(f"{gateway.url}/readyz", timeout=10)
    assert reply.status_code == 200  # requests are answered, so it is ready
    said: dict[str, Any] = reply.json()
    return said


@pytest.mark.parametrize(("fault", "kept_where"), [(locked, "spooling"), (full_disk, "behind")])
def test_without_its_database_a_gateway_answers_says_so_and_writes_later(
    gateway: Running, fault: Fault, kept_where: str
) -> None:
    ask(gateway)
    assert readiness(gateway)["ledger"] == "ok"
    failures = metric(gateway, "cauce_ledger_failures_total")

    with fault(gateway), ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask, gateway, stream=number == 0, user=f"u{number}") for number in range(4)]
        replies = [call.result() for call in asked]
        assert replies[0].text.endswith("data: [DONE]\n\n")
        assert all(reply.json()["choices"][0]["message"]["content"] for reply in replies[1:])
        said = readiness(gateway)
        assert (said["status"], said["ledger"], said["ledger_waiting"]) == ("ready", kept_where, 4)
        assert metric(gateway, "cauce_ledger_waiting") == 4
        assert metric(gateway, "cauce_ledger_away") == 1
        assert metric(gateway, "cauce_ledger_spooled") == (4 if kept_where == "spooling" else 0)
        assert metric(gateway, "cauce_ledger_failures_total") > failures

    eventually(lambda: readiness(gateway)["ledger_waiting"] == 0)
    assert readiness(gateway)["ledger"] == "ok"
    for reply in replies:
        assert entry(gateway, reply.headers["x-cauce-request-id"])["outcome"] == "ok"
    ids = [row["request_id"] for row in rows(gateway, "SELECT request_id FROM attempts")]
    assert len(ids) == len(set(ids))


def test_a_stream_waits_for_its_entry_with_nothing_but_its_last_event(gateway: Running) -> None:
    with (
        locked(gateway),
        httpx.stream(
            "POST", f"{gateway.base_url}/chat/completions", json={**ASKED, "stream": True}, timeout=30
        ) as reply,
    ):
        lines = reply.iter_lines()
        first = [next(lines) for _ in range(3)]
        assert all("[DONE]" not in line for line in first)
        assert '"content"' in first[0]
        assert readiness(gateway)["ledger_waiting"] <= 1
        assert "data: [DONE]" in list(lines)
    eventually(lambda: readiness(gateway)["ledger_waiting"] == 0)


def test_a_gateway_whose_ledger_cannot_be_opened_does_not_start_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text(CONFIG + "ledger: sqlite:////proc/nothing/cauce.db\n", encoding="utf-8")
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", "cauce.yaml", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "ledger: sqlite:////proc/nothing/cauce.db" in done.stderr
    assert "Traceback" not in done.stderr
