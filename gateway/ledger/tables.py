"""The ledger's tables. A change here comes with a migration in `migrations/` and a new `HEAD`."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, get_type_hints

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from gateway.ledger.audit_record import Link
from gateway.ledger.entry import SHADOW, AttemptEntry, Entry

HEAD = "0009"  # the newest migration
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
attempts = Table(
    "attempts",
    metadata,
    *_columns(AttemptEntry),
    PrimaryKeyConstraint("request_id", "number"),
)
# The calls that came after their entries: reports add them, and there are few.
Index(
    "attempts_shadows",
    attempts.c.request_id,
    sqlite_where=attempts.c.kind == SHADOW,
    postgresql_where=attempts.c.kind == SHADOW,
)
DAILY_GROUPS: Final = (
    "org",
    "team",
    "app",
    "caller",
    "model",
    "route",
    "rule",
    "domain",
    "data_class",
    "zone",
    "outcome",
    "policy",
)
DAILY_KNOWN: Final = (  # how many requests lack a figure, and which one
    ("unknown_cost_requests", "cost_nano_usd"),
    ("unknown_energy_requests", "energy_low_uwh"),
)
DAILY_SUMS: Final = (  # of what is known; nothing where nothing is
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "image_tokens",
    "cost_nano_usd",
    "router_nano_usd",
    "baseline_nano_usd",
    "energy_low_uwh",
    "energy_high_uwh",
    "co2e_low_ug",
    "co2e_high_ug",
    "saved_nano_usd",
    "saved_low_nano_usd",
    "saved_high_nano_usd",
)
daily = Table(
    "daily",
    metadata,
    Column("writer", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("day_us", BigInteger, nullable=False),  # when the day began
    *(Column(name, Text, nullable=False) for name in DAILY_GROUPS),
    Column("requests", BigInteger, nullable=False),
    Column("estimated_requests", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name, _ in DAILY_KNOWN),
    *(Column(name, BigInteger) for name in DAILY_SUMS),
    PrimaryKeyConstraint("writer", "number"),
    Index("daily_by_day", "time_zone", "day_us"),
)
adjustments = Table(
    "adjustments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index("adjustments_by_request", "request_id"),
)
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
    Column("role", Text, nullable=False, server_default="caller"),  # in the console: caller (none), viewer, admin
    Column("org", Text, nullable=False),
)
limits = Table(
    "limits",
    metadata,
    Column("scope", Text, nullable=False),  # org:NAME, team:NAME, app:TEAM/NAME, key:ID
    Column("kind", Text, nullable=False),  # day, month, total (nano-USD); requests, tokens (a minute)
    Column("amount", BigInteger, nullable=False),
    Column("hard", BigInteger, nullable=False),
    Column("carry_over", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("scope", "kind"),
)
budget_use = Table(
    "budget_use",
    metadata,
    Column("name", Text, primary_key=True),  # a budget and its period: team:billing/month/2026-11
    Column("carried_nano_usd", BigInteger, nullable=False),
    Column("spent_nano_usd", BigInteger, nullable=False),
    Column("reserved_nano_usd", BigInteger, nullable=False),
)
reservations = Table(
    "reservations",
    metadata,
    Column("request_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),  # 0: it was released, and its request may still come to an end
    Column("expires_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("request_id", "name"),
    Index("reservations_by_expiry", "expires_us"),
)
budget_alerts = Table(
    "budget_alerts",
    metadata,
    Column("name", Text, nullable=False),
    Column("threshold", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", "threshold"),
)
rate_windows = Table(
    "rate_windows",
    metadata,
    Column("name", Text, primary_key=True),  # what is limited, and which minute
    Column("used", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)
policies = Table(
    "policies",
    metadata,
    Column("since_us", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("name", "revision", "who", "file", "text")),
    PrimaryKeyConstraint("since_us", "revision"),
)
audit = Table(
    "audit",
    metadata,
    *_columns(Link),
    PrimaryKeyConstraint("writer", "seq"),
    Index("audit_by_time", "time_us"),
    Index("audit_by_request", "request_id"),
)
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)
audit_callers = Table(
    "audit_callers",
    metadata,
    Column("token", Text, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("salt", "caller", "team", "app")),
    Index("audit_callers_by_caller", "caller"),
)
feedback = Table(
    "feedback",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("caller", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("score", Float, nullable=False),  # 0 to 1
    Index("feedback_by_caller", "caller"),
)
erasures = Table(
    "erasures",
    metadata,
    Column("subject", Text, nullable=False),  # a digest of the caller's id
    Column("time_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("subject", "time_us"),
)
alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)  # alembic's own


def insert_many(engine: Engine, table: Table) -> str:
    """One statement that inserts a JSON list of rows: one call, whatever the number of rows. Known rows stay."""
    names = ", ".join(column.name for column in table.columns)
    if engine.dialect.name == "sqlite":
        values = ", ".join(f"value ->> {i}" for i in range(len(table.columns)))
        return f"INSERT OR IGNORE INTO {table.name} ({names}) SELECT {values} FROM json_each(?)"  # noqa: S608 - our own names
    casts = ", ".join(
        f"(value ->> {i})::{'bigint' if column.type.python_type is int else 'text'}"
        for i, column in enumerate(table.columns)
    )
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {casts} FROM jsonb_array_elements(%s::jsonb) AS t(value) "  # noqa: S608
        "ON CONFLICT DO NOTHING"
    )
