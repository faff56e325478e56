"""Corrections of costs; whose organisation an entry and a key are, and what was reserved for a request."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table, add the columns."""
    op.create_table(
        "adjustments",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("nano_usd", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("adjustments_by_request", "adjustments", ["request_id"])
    op.add_column("entries", sa.Column("org", sa.Text, nullable=False, server_default=""))
    op.add_column("entries", sa.Column("reserved_nano_usd", sa.BigInteger))
    op.add_column("keys", sa.Column("org", sa.Text, nullable=False, server_default=""))
