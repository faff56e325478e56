"""The past, to be decided again: entries with their signals and calls, read in batches in order of time.

Read only: nothing is made, locked or brought up to date. One pass over two indexes, a plain tuple a row: a million
entries are read in seconds (`tests/policy/replay_bench.py` measures it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Column, ColumnElement, Engine, Row, Table, and_, create_engine, func, inspect, select, true
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gateway.errors import ConfigError
from gateway.ledger.entry import SECOND_CALLS
from gateway.ledger.report import Period
from gateway.ledger.store import driver_url
from gateway.ledger.tables import attempts, entries
from gateway.types import Model, Zone

BATCH: Final = 5_000
_NOTHING: Final[Mapping[str, Any]] = {}


class Call(NamedTuple):
    """One upstream call of the past. Nothing: not known."""

    model: str
    zone: str
    kind: str
    outcome: str
    rejected_by: str
    duration_us: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    cost_nano_usd: int | None


class Past(NamedTuple):
    """One request of the past: what the policy looked at, where it went, what came of it. `signals` may be empty."""

    request_id: str
    time_us: int
    caller: str
    team: str
    app: str
    policy: str
    policy_revision: str
    rule: str
    route: str
    model: str
    zone: str
    data_class: str
    outcome: str
    code: str
    cost_nano_usd: int | None
    signals: Mapping[str, Any]
    calls: tuple[Call, ...]


_ENTRY: Final = tuple(entries.c[name] for name in Past._fields[:-1])
_FIELDS: Final = len(_ENTRY)
_CALL: Final = tuple(attempts.c[name] for name in Call._fields)
_MODEL: Final = tuple(attempts.c[name] for name in ("model", "provider", "upstream_model", "zone", "kind"))


def open_history(url: str) -> Engine:
    """The ledger, for reading. Raises `ConfigError` when there is none, or it lacks what a replay needs."""
    try:
        engine = create_engine(driver_url(url))
        _refuse_missing(engine)
        found = inspect(engine)
        for table, needed in ((entries, _ENTRY), (attempts, (*_CALL, *_MODEL, attempts.c.number))):
            _refuse_older(engine, table, needed, _columns(found, table))
    except (ArgumentError, ModuleNotFoundError, SQLAlchemyError, OSError) as error:
        raise ConfigError(f"ledger: {url.rsplit('@', maxsplit=1)[-1]!r} cannot be read: {error}") from error
    return engine


def _refuse_missing(engine: Engine) -> None:
    file = engine.url.database
    if engine.dialect.name == "sqlite" and not (file and Path(file).exists()):
        raise ConfigError(
            f"ledger: there is no {file or 'file'} yet: name the gateway's cauce.yaml with --config, or replay a file "
            "of requests with --against"
        )


def _columns(found: Any, table: Table) -> set[str]:
    return {column["name"] for column in found.get_columns(table.name)} if found.has_table(table.name) else set()


def _refuse_older(engine: Engine, table: Table, needed: Sequence[Column[Any]], there: set[str]) -> None:
    missing = [column.name for column in needed if column.name not in there]
    if missing:
        lacks = f"columns {', '.join(missing)} in table {table.name}" if there else f"table {table.name}"
        raise ConfigError(
            f"ledger: {engine.url.render_as_string()} was written by an older Cauce and has no {lacks}: what was asked "
            "then is not known. Start this version's `cauce serve` on it once, and simulate what comes after"
        )


def count(engine: Engine, period: Period) -> int:
    """How many entries there are to replay."""
    wanted = select(func.count()).select_from(entries).where(_decided(period))
    with engine.connect() as connection:
        return int(connection.execute(wanted).scalar_one())


def read_past(engine: Engine, period: Period, *, batch: int = BATCH) -> Iterator[list[Past]]:
    """The entries of a period with their calls, in order of time, so many at once."""
    wanted = (
        select(*_ENTRY, *_CALL)
        .join_from(entries, attempts, entries.c.request_id == attempts.c.request_id, isouter=True)
        .where(_decided(period))
        .order_by(entries.c.time_us, entries.c.request_id, attempts.c.number)
    )
    whole: list[Past] = []
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=batch).execute(wanted)
        for _, calls in groupby(rows, key=itemgetter(0)):
            whole.append(_past(calls))
            if len(whole) == batch:
                yield whole
                whole = []
    yield whole


def _past(rows: Iterator[Row[Any]]) -> Past:
    """One entry out of its rows, one a call; a row without a call where there was none."""
    first = next(rows)
    calls: tuple[Call, ...] = ()
    if first[_FIELDS] is not None:
        calls = (Call._make(first[_FIELDS:]), *[Call._make(row[_FIELDS:]) for row in rows])
    return Past._make(first[: _FIELDS - 1] + (_signals(first[_FIELDS - 1]), calls))  # noqa: RUF005 - faster so


def _signals(text: str) -> Mapping[str, Any]:
    """The stored signals; nothing where there are none, or none that can be read."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _NOTHING
    return values if isinstance(values, dict) else _NOTHING


def read_calls(engine: Engine, period: Period, *, batch: int = BATCH) -> Iterator[Sequence[Call]]:
    """The calls that answered in a period."""
    started = attempts.c.started_us
    wanted = select(*_CALL).where(_within(period, started), attempts.c.outcome == "ok")
    with engine.connect() as connection:
        for rows in connection.execution_options(yield_per=batch).execute(wanted).partitions():
            yield [Call._make(row) for row in rows]


def _decided(period: Period) -> ColumnElement[bool]:
    """Requests of the period that a policy chose a model for: embeddings have no ladder to choose from."""
    return and_(_within(period, entries.c.time_us), entries.c.endpoint != "embeddings")


def _within(period: Period, column: Column[int]) -> ColumnElement[bool]:
    start = true() if period.start_us is None else column >= period.start_us
    return and_(start, true() if period.end_us is None else column < period.end_us)


def models_of(engine: Engine, period: Period) -> dict[str, Model]:
    """The models that were called in a period, the nearest first: for a gateway whose cauce.yaml names none."""
    wanted = (
        select(*_MODEL).where(_within(period, attempts.c.started_us), attempts.c.kind.not_in(SECOND_CALLS)).distinct()
    )
    with engine.connect() as connection:
        rows = connection.execute(wanted).all()
    models = [
        Model(row.model, row.provider, row.upstream_model, Zone[row.zone.upper()], row.kind)
        for row in rows
        if row.zone.upper() in Zone.__members__
    ]
    return {model.id: model for model in sorted(models, key=lambda model: (model.zone, model.kind != "slm", model.id))}
