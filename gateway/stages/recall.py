"""recall: `Decision` to a kept answer or nothing."""

from __future__ import annotations

import contextlib

from gateway.cache.exact import exact_key
from gateway.cache.store import CACHE, Kept, MemoryStore
from gateway.gate import Gate
from gateway.types import CacheState, Decision, Inbound, Signals


class Recall:
    """The exact cache as the pipeline sees it; `store` is nothing when the cache is switched off."""

    __slots__ = ("_gate", "_store")

    def __init__(self, store: MemoryStore | None, *, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    def look(self, inbound: Inbound, signals: Signals, decision: Decision) -> tuple[CacheState, bytes, Kept | None]:
        """What the cache does for this request, its key, and the answer kept for it."""
        if self._store is None or not decision.route.cache or not inbound.cacheable:
            return CacheState.OFF, b"", None
        if not self._gate.permits(data=signals.data, limit=decision.ceiling, destination=CACHE):
            return CacheState.OFF, b"", None
        key = exact_key(inbound, signals, decision)
        try:
            kept = self._store.get(key)
        except OSError:  # a cache that does not answer is none
            return CacheState.OFF, b"", None
        return (CacheState.MISS if kept is None else CacheState.HIT), key, kept

    def keep(self, key: bytes, kept: Kept, signals: Signals, decision: Decision) -> None:
        """Keep an answer, through the gate. Only for a request that `look` called a miss."""
        if self._store is None:
            return
        released = self._gate.release(kept, data=signals.data, limit=decision.ceiling, destination=CACHE)
        with contextlib.suppress(OSError):
            self._store.put(key, released)
