"""Budgets and rates: what is allowed, what is used, what is held for requests under way, which alerts were sent."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _count(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "limits",
        *_text("scope", "kind"),
        *_count("amount", "hard", "carry_over", "since_us"),
        sa.PrimaryKeyConstraint("scope", "kind"),
    )
    op.create_table(
        "budget_use",
        sa.Column("name", sa.Text, primary_key=True),
        *_count("carried_nano_usd", "spent_nano_usd", "reserved_nano_usd"),
    )
    op.create_table(
        "reservations",
        *_text("request_id", "name"),
        *_count("nano_usd", "expires_us"),
        sa.PrimaryKeyConstraint("request_id", "name"),
    )
    op.create_index("reservations_by_expiry", "reservations", ["expires_us"])
    op.create_table(
        "budget_alerts",
        *_text("name"),
        *_count("threshold", "time_us"),
        sa.PrimaryKeyConstraint("name", "threshold"),
    )
    op.create_table("rate_windows", sa.Column("name", sa.Text, primary_key=True), *_count("used", "expires_us"))
