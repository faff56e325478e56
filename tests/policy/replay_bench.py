"""How long a replay takes: a ledger of so many made-up entries, then `cauce simulate` over it.

    python -m tests.policy.replay_bench 1000000 /tmp/ledger      # writes cauce.db, cauce.yaml and two policies there
    cd /tmp/ledger && time taskset -c 0 cauce simulate new.yaml --config cauce.yaml

Entries are written as the gateway writes them: decided under `old.yaml`, one in ten turned down by a check and sent up.
Holds nothing against a clock.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

from sqlalchemy import Engine, Table

from gateway.ledger.entry import AttemptEntry, Entry, attempt_entries, entry_of
from gateway.ledger.prices import Machine, PriceBook
from gateway.ledger.store import open_engine
from gateway.ledger.tables import attempts, entries
from gateway.policy.decide import decide
from gateway.policy.rules import Policy
from gateway.policy.vocabulary import DOMAINS, LANGUAGES, TASKS
from gateway.types import Attempt, Caller, DataClass, Exchange, Model, Outcome, Signals, Usage, Verdict
from tests.builders import LARGE, NOON_NS, SMALL, an_inbound
from tests.policy.builders import DEFAULT_TEXT, a_policy, catalogue

CONFIG = """
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  large: {provider: openai, model: gpt-4.1, zone: world, kind: llm}
ledger: sqlite:///cauce.db
policy: old.yaml
"""
OLD_TEXT = DEFAULT_TEXT.replace(", big: large", "")  # a caller who pins is no path of the policy; an alias is
NEW_TEXT = OLD_TEXT.replace('">= 0.35"', '">= 0.25"').replace('">= 0.8"', '">= 0.7"')
_CHUNK = 10_000
_DAYS = 30


def a_past_exchange(number: int, chance: random.Random, policy: Policy, models: dict[str, Model]) -> Exchange:
    """A request as it may have gone: decided under the policy, some answers turned down."""
    callers = [Caller(f"key_{n}", f"team-{n % 8}", f"app-{n}") for n in range(20)]
    success = chance.betavariate(4, 2)
    signals = Signals(
        slm_success=success,
        gain=chance.uniform(-0.05, 1 - success),
        stay_score=chance.random(),
        task=chance.choice(TASKS),
        domain=chance.choice(DOMAINS),
        data=DataClass(chance.choice((0, 0, 0, 0, 1, 1, 2, 2, 3, 4))),
        language=chance.choice(LANGUAGES),
        prompt_tokens=int(chance.lognormvariate(5, 1)),
        caller=chance.choice(callers),
        hour=chance.randrange(24),
        draw=chance.randrange(10_000) / 10_000,
    )
    decision = decide(signals, policy=policy, models=models)
    at_ns = NOON_NS - _DAYS * 86_400 * 1_000_000_000 + number * 2_000_000_000
    exchange = Exchange(f"req_{number:08d}", "chat", at_ns, signals.caller, an_inbound(), signals, decision)
    for name in decision.ladder:
        usage = Usage(signals.prompt_tokens, chance.randrange(5, 600))
        attempt = Attempt(models[name], at_ns, chance.lognormvariate(0, 0.6), outcome="ok", usage=usage)
        exchange.attempts.append(attempt)
        if not (decision.route.checks and chance.random() < 0.1):
            break
        attempt.verdict = Verdict(False, "confidence", "low")
    exchange.outcome, exchange.status = Outcome.OK, 200
    return exchange


def rows_of(count: int, prices: PriceBook) -> Iterator[tuple[Entry, list[AttemptEntry]]]:
    """So many entries with their attempts, the same for the same count."""
    chance, policy, models = random.Random(count), a_policy(OLD_TEXT), dict(catalogue(SMALL, LARGE))
    for number in range(count):
        exchange = a_past_exchange(number, chance, policy, models)
        calls = attempt_entries(exchange, prices)
        yield entry_of(exchange, calls, prices), calls


def write(engine: Engine, count: int) -> None:
    """Fill an SQLite ledger."""
    machine = Machine(Decimal("0.05"), Decimal(65), Decimal("0.20"))
    kept: list[Entry] = []
    calls: list[AttemptEntry] = []
    for entry, attempted in rows_of(count, PriceBook(machine=machine, baseline=LARGE)):
        kept.append(entry)
        calls += attempted
        if len(kept) == _CHUNK:
            _insert(engine, entries, kept)
            _insert(engine, attempts, calls)
            kept, calls = [], []
    _insert(engine, entries, kept)
    _insert(engine, attempts, calls)


def _insert(engine: Engine, table: Table, rows: list[Entry] | list[AttemptEntry]) -> None:
    if rows:
        values = attrgetter(*(field.name for field in dataclasses.fields(rows[0])))
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.name} VALUES ({marks})"  # noqa: S608 - our own names
        with engine.begin() as connection:
            connection.exec_driver_sql(statement, [values(row) for row in rows])


def main() -> None:
    """Write a folder to simulate in."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cauce.yaml").write_text(CONFIG)
    (folder / "old.yaml").write_text(OLD_TEXT)
    (folder / "new.yaml").write_text(NEW_TEXT)
    start = time.perf_counter()
    write(open_engine(f"sqlite:///{folder}/cauce.db"), count)
    print(f"{count} entries in {time.perf_counter() - start:.0f} s: {folder}")


if __name__ == "__main__":
    main()
