"""The first tables: entries, attempts, keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _count(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _maybe(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger) for name in names]


def upgrade() -> None:
    """Make the tables. Column order is the order of the classes in `entry.py`."""
    op.create_table(
        "entries",
        sa.Column("request_id", sa.Text, primary_key=True),
        *_count("time_us"),
        *_text("caller", "team", "app", "tags", "endpoint"),
        *_count("stream"),
        *_text("policy", "policy_revision", "rule", "route", "model", "zone", "data_class", "data_kinds"),
        *_text("task", "domain", "language", "outcome"),
        *_count("status"),
        *_text("code", "cache"),
        *_count("escalated", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "estimated"),
        *_maybe("cost_nano_usd", "baseline_nano_usd"),
        *_text("baseline_model"),
        *_count("duration_us", "classify_us"),
        *_maybe("first_byte_us"),
        *_text("signals"),
    )
    op.create_index("entries_by_time", "entries", ["time_us"])
    op.create_table(
        "attempts",
        *_text("request_id"),
        *_count("number"),
        *_text("model", "upstream_model", "provider", "zone", "kind", "outcome", "rejected_by"),
        *_count("started_us", "duration_us"),
        *_maybe("first_token_us", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"),
        *_count("estimated"),
        *_maybe("cost_nano_usd"),
        *_text("price_source", "price_from"),
        sa.PrimaryKeyConstraint("request_id", "number"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        *_text("team", "app", "tags"),
        sa.Column("models", sa.Text),
        sa.Column("data_class", sa.Integer, nullable=False),
        *_count("created_us"),
        *_maybe("expires_us", "revoked_us"),
    )
