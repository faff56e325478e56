"""Sums of entries by day, empty until `cauce report --rebuild`: the business's time zone is not known here."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_GROUPS = (
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
_COUNTS = ("requests", "estimated_requests", "unknown_cost_requests", "unknown_energy_requests")
_TOKENS = ("prompt", "cached", "completion", "reasoning", "cache_write", "audio", "image")
_MONEY = ("cost", "router", "baseline")
_ENERGY = ("energy_low_uwh", "energy_high_uwh", "co2e_low_ug", "co2e_high_ug")
_SAVED = ("saved", "saved_low", "saved_high")


def upgrade() -> None:
    """Make the table, and the index of the calls that came after their entries."""
    op.create_table(
        "daily",
        sa.Column("writer", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("day_us", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in _GROUPS),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS),
        *(sa.Column(f"{name}_tokens", sa.BigInteger) for name in _TOKENS),
        *(sa.Column(f"{name}_nano_usd", sa.BigInteger) for name in _MONEY),
        *(sa.Column(name, sa.BigInteger) for name in _ENERGY),
        *(sa.Column(f"{name}_nano_usd", sa.BigInteger) for name in _SAVED),
        sa.PrimaryKeyConstraint("writer", "number"),
    )
    op.create_index("daily_by_day", "daily", ["time_zone", "day_us"])
    shadows = sa.text("kind = 'shadow'")
    op.create_index("attempts_shadows", "attempts", ["request_id"], sqlite_where=shadows, postgresql_where=shadows)
