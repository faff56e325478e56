"""How long reports take over a full ledger: `python -m tests.ledger.report_bench --entries 1000000 [--url postgresql://...]`.

Fills a new ledger with so many entries of one month (200 keys in 20 teams, 5 models, 4 routes, 8 domains; a shadow in a
hundred), makes its daily sums, and prints the median of three runs of each report.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from gateway.ledger.daily import rebuild
from gateway.ledger.report import Period, month_period, report
from gateway.ledger.store import open_engine
from gateway.ledger.tables import attempts, entries

MADRID = ZoneInfo("Europe/Madrid")
MONTH = "2026-11"
_CHUNK = 250_000
_REPORTS = (
    (("team",), MONTH),
    (("team", "model"), MONTH),
    (("key", "domain", "route"), MONTH),
    (("day",), MONTH),
    (("team",), None),
    (("task",), MONTH),  # which the daily sums do not have
)


def _mixed(lite: bool, factor: int, modulus: int) -> str:
    """A number from 0 below `modulus` that looks like chance."""
    return f"(n * {factor} % 1000003 % {modulus})"


def fill(engine: Engine, count: int) -> None:
    """So many entries of one month."""
    lite = engine.dialect.name == "sqlite"
    period = month_period(MONTH, MADRID)
    assert period.start_us is not None
    assert period.end_us is not None
    step = (period.end_us - period.start_us) // count
    key = f"({_mixed(lite, 7919, 20)} * {_mixed(lite, 104_729, 10)} + {_mixed(lite, 7919, 20)})"
    given = {
        "request_id": "'req_' || n",
        "time_us": f"{period.start_us} + n * {step}",
        "caller": f"'key_' || {key}",
        "team": f"'team ' || ({key} % 20)",
        "app": f"'app ' || ({key} % 3)",
        "org": "'org'",
        "tags": "'[]'",
        "endpoint": "'chat'",
        "policy": "'default'",
        "policy_revision": "'abc123'",
        "rule": f"'rule ' || {_mixed(lite, 611_953, 4)}",
        "route": f"'route ' || {_mixed(lite, 611_953, 4)}",
        "model": f"'model ' || ({_mixed(lite, 15_485_863, 5)} * {_mixed(lite, 611_953, 4)} % 5)",
        "zone": "'premises'",
        "data_class": f"CASE WHEN {_mixed(lite, 32_452_843, 10)} = 0 THEN 'personal' ELSE 'public' END",
        "domain": f"'domain ' || ({_mixed(lite, 49_979_687, 8)} * {_mixed(lite, 7919, 2)})",
        "task": f"'task ' || {_mixed(lite, 67_867_967, 9)}",
        "data_kinds": "'[]'",
        "language": "'es'",
        "outcome": f"CASE WHEN {_mixed(lite, 86_028_121, 50)} = 0 THEN 'failed' ELSE 'ok' END",
        "status": "200",
        "code": "''",
        "cache": "'miss'",
        "cost_nano_usd": f"CASE WHEN {_mixed(lite, 86_028_121, 50)} = 0 THEN NULL ELSE 1000 + n % 100000 END",
        "baseline_model": "'large'",
        "signals": "'{}'",
    }
    counts = {name: f"{100 + i} + n % {97 + i}" for i, name in enumerate(c.name for c in entries.columns)}
    columns = [column.name for column in entries.columns]
    values = [given.get(name, counts[name]) for name in columns]
    series = (
        "WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n + 1 < :last) SELECT {} FROM s"
        if lite
        else "SELECT {} FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint) - 1) AS s(n)"
    )
    shadow = {
        "request_id": "'req_' || n", "number": "1", "kind": "'shadow'", "outcome": "'ok'", "estimated": "0",
        "model": "'model 4'", "upstream_model": "'m'", "provider": "'openai'", "zone": "'world'", "rejected_by": "''",
        "price_source": "'seed'", "price_from": "''", "price_tier": "''", "started_us": "0", "duration_us": "0",
        "cost_nano_usd": "1000 + n % 777",
    }  # fmt: skip
    names = [column.name for column in attempts.columns]
    made = [shadow.get(name, "1") for name in names]
    done = 0
    while done < count:
        last = min(done + _CHUNK, count)
        bounds = {"first": done, "last": last}
        with engine.begin() as connection:
            _insert(connection, "entries", columns, series.format(", ".join(values)), bounds)
            _insert(connection, "attempts", names, f"{series.format(', '.join(made))} WHERE n % 100 = 0", bounds)
        done = last
        print(f"\r{done:,} entries", end="", flush=True)
    print()
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def _insert(connection: Connection, table: str, columns: list[str], source: str, bounds: dict[str, int]) -> None:
    connection.execute(text(f"INSERT INTO {table} ({', '.join(columns)}) {source}"), bounds)


def main() -> None:
    """Fill, sum, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--url", help="an empty Postgres database; none: SQLite in a folder of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(given.url or f"sqlite:///{Path(folder)}/ledger.db")
        fill(engine, given.entries)
        started = time.perf_counter()
        for _ in rebuild(engine, MADRID):
            pass
        print(f"daily sums of {given.entries:,} entries made in {time.perf_counter() - started:.1f} s")
        for by, month in _REPORTS:
            period = month_period(month, MADRID) if month else Period()
            taken = []
            for _ in range(3):
                started = time.perf_counter()
                rows = report(engine, by=by, period=period, zone=MADRID)
                taken.append(time.perf_counter() - started)
            print(
                f"{engine.dialect.name}: by {','.join(by):17} {month or 'all time':8} {len(rows):6} rows "
                f"{statistics.median(taken):6.2f} s"
            )


if __name__ == "__main__":
    main()
