"""What a running gateway has written down: ledger entries, attempts and metrics, read from outside."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.running import Running

Row = dict[str, Any]


def rows(gateway: Running, query: str, *values: object) -> list[Row]:
    """The ledger's rows for a query."""
    with contextlib.closing(sqlite3.connect(f"file:{gateway.folder / 'cauce.db'}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query, values)]


def entry(gateway: Running, request_id: str) -> Row:
    """The one entry of a request."""
    (found,) = rows(gateway, "SELECT * FROM entries WHERE request_id = ?", request_id)
    return found


def attempts(gateway: Running, request_id: str) -> list[Row]:
    """The upstream calls of a request, in order."""
    return rows(gateway, "SELECT * FROM attempts WHERE request_id = ? ORDER BY number", request_id)


def count(gateway: Running) -> int:
    """How many entries there are."""
    (found,) = rows(gateway, "SELECT count(*) AS n FROM entries")
    number: int = found["n"]
    return number


def only_entry_after(gateway: Running, before: int) -> Row:
    """The one entry that comes after so many: of a request whose id nobody was told."""
    eventually(lambda: count(gateway) > before)
    (found,) = rows(gateway, "SELECT * FROM entries ORDER BY rowid LIMIT -1 OFFSET ?", before)
    return found


def metric(gateway: Running, name: str) -> float:
    """The value of a metric without labels."""
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=10) as reply:  # noqa: S310 - our own address
        lines: list[str] = reply.read().decode().splitlines()
    return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} "))


def eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait until a condition holds; it must, within this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
