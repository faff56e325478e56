"""Tokens by kind, the range of the baseline, energy and CO2e; a count that nobody reported is unknown."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger) for name in names]


_IMPACT = ("energy_low_uwh", "energy_high_uwh", "co2e_low_ug", "co2e_high_ug")


def upgrade() -> None:
    """Add the columns, in the order of the classes in `entry.py`. What was written before has none of them: unknown."""
    with op.batch_alter_table("entries") as table:
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"):
            table.alter_column(name, existing_type=sa.BigInteger(), existing_nullable=False, nullable=True)
    kinds = _counts("cache_write_tokens", "audio_tokens", "image_tokens", "router_nano_usd")
    for column in (*kinds, *_counts("baseline_low_nano_usd", "baseline_high_nano_usd", *_IMPACT)):
        op.add_column("entries", column)
    kinds = _counts("cache_write_tokens", "cache_write_1h_tokens", "prompt_audio_tokens", "completion_audio_tokens")
    for column in (*kinds, *_counts("prompt_image_tokens", "completion_image_tokens")):
        op.add_column("attempts", column)
    op.add_column("attempts", sa.Column("price_tier", sa.Text, nullable=False, server_default=""))
    for column in _counts(*_IMPACT):
        op.add_column("attempts", column)
