"""What a key may do in the console."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; the keys of before open the API alone."""
    op.add_column("keys", sa.Column("role", sa.Text, nullable=False, server_default="caller"))
