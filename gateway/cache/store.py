"""Where answers are kept: in memory, bounded in bytes, each for a while.

Only the gate can hand it an answer (`Released`), and the gate never releases personal data to a place that stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TTLCache

from gateway.gate import Destination, Released
from gateway.types import Model, Usage, Zone

CACHE = Destination("the answer cache", Zone.PREMISES, stores=True)
_ENTRY_OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was sent: its bytes, which model gave it, what it had used."""

    body: bytes
    model: Model
    usage: Usage | None


def _size(kept: Kept) -> int:
    return len(kept.body) + _ENTRY_OVERHEAD_BYTES


class MemoryStore:
    """Answers by key, at most `max_bytes` of them, each for `ttl_s` seconds; the least used goes first."""

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: TTLCache[bytes, Kept] = TTLCache(maxsize=max_bytes, ttl=ttl_s, timer=clock, getsizeof=_size)
        self._largest = max_bytes // 10

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Bytes held, bookkeeping included."""
        return int(self._kept.currsize)

    def clear(self) -> None:
        """Forget every answer."""
        self._kept.clear()

    def get(self, key: bytes) -> Kept | None:
        """The answer kept under this key, unless its time is over."""
        return self._kept.get(key)

    def put(self, key: bytes, answer: Released[Kept]) -> None:
        """Keep an answer; one larger than a tenth of the whole is not kept."""
        if _size(answer.value) <= self._largest:
            self._kept[key] = answer.value
