"""The history of policies."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "policies",
        sa.Column("since_us", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "revision", "who", "file", "text")),
        sa.PrimaryKeyConstraint("since_us", "revision"),
    )
