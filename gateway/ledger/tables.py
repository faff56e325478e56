"""The ledger's tables. A change here comes with a migration in `migrations/` and a new `HEAD`."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, PrimaryKeyConstraint, String, Table, Text

from gateway.ledger.entry import AttemptEntry, Entry

HEAD = "0002"  # the newest migration
metadata = MetaData()


def _columns(entry: type[Any]) -> list[Column[Any]]:
    """A column for each field, in order: integers are 64 bits wide, since money is counted in nano-dollars."""
    hints = get_type_hints(entry)
    columns: list[Column[Any]] = []
    for field in dataclasses.fields(entry):
        hint = hints[field.name]
        kind = Text() if hint is str else BigInteger()
        columns.append(Column(field.name, kind, nullable=hint not in {str, int}))
    return columns


entries = Table(
    "entries",
    metadata,
    *_columns(Entry),
    PrimaryKeyConstraint("request_id"),
    Index("entries_by_time", "time_us"),
)
attempts = Table("attempts", metadata, *_columns(AttemptEntry), PrimaryKeyConstraint("request_id", "number"))
keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("team", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("models", Text),  # a JSON list; nothing: any
    Column("data_class", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
)
policies = Table(
    "policies",
    metadata,
    Column("since_us", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("name", "revision", "who", "file", "text")),
    PrimaryKeyConstraint("since_us", "revision"),
)
alembic_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))  # alembic's own
