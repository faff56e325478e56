"""The audit: its records, the heads of its chains, whose the tokens are; and erasures."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _count(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """Make the tables. Column order is the order of `Link` in `audit_record.py`."""
    op.create_table(
        "audit",
        *_text("writer"),
        *_count("seq", "time_us"),
        *_text("event", "request_id", "caller", "data_class", "kinds", "labels", "unread", "rule", "policy"),
        *_text("policy_revision", "destinations", "transform", "outcome", "code", "detail", "previous", "hash"),
        sa.PrimaryKeyConstraint("writer", "seq"),
    )
    op.create_index("audit_by_time", "audit", ["time_us"])
    op.create_index("audit_by_request", "audit", ["request_id"])
    op.create_table(
        "audit_heads",
        sa.Column("writer", sa.Text, primary_key=True),
        *_count("seq"),
        *_text("hash"),
    )
    op.create_table(
        "audit_callers",
        sa.Column("token", sa.Text, primary_key=True),
        *_text("salt", "caller", "team", "app"),
    )
    op.create_index("audit_callers_by_caller", "audit_callers", ["caller"])
    op.create_table(
        "erasures",
        *_text("subject"),
        *_count("time_us"),
        sa.PrimaryKeyConstraint("subject", "time_us"),
    )
