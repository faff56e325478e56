from __future__ import annotations

import asyncio
from pathlib import Path

from tests.ledger.proof import KINDS, prove


def test_the_ledger_says_what_the_upstreams_count_to_the_token_and_the_nano_dollar(tmp_path: Path) -> None:
    proof = asyncio.run(prove(tmp_path / "gateway", 300))
    assert set(proof.kinds) == set(KINDS)
    assert proof.differences() == []
