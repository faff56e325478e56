"""classify: the conversation's lot, by which a policy takes some conversations for a canary or a shadow."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from gateway.types import Part

_LOTS: Final = 10_000  # 0.01 %: as finely as a policy can say a share


def draw(caller: str, parts: Sequence[Part]) -> float:
    """The same for every turn: a hash of who asks and of the first thing that the user said, from 0 to 0.9999.

    Kept in the ledger, it could at most tell a text from 9,999 in 10,000 others.
    """
    first = next((part.text for part in parts if part.role == "user"), "")
    text, key = first.encode("utf-8", "surrogatepass"), caller.encode("utf-8", "surrogatepass")[:64]
    digest = hashlib.blake2b(text, digest_size=8, key=key, person=b"cauce lot")
    return int.from_bytes(digest.digest(), "big") % _LOTS / _LOTS
