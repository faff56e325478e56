"""Which conversations a sticky rule keeps with a large model, in the memory of this process.

A conversation that has moved up stays there while it goes on: going back to the small model in mid-task would lose what
the task needs, and the large model's provider still has the earlier turns in its prompt cache, at a fraction of their
price. After half an hour without a turn that cache is gone, and the conversation is judged afresh.

A turn knows its conversation by what was said before the last answer: that is what the turn before it asked. A client
that leaves out earlier turns, or another process of the gateway, begins afresh, which costs money and no promise: a
turn is decided under the same guarantees, held or not.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from cachetools import TTLCache

from gateway.types import Inbound

_TTL_S: Final = 1800.0
_MOST: Final = 50_000
_STANDING: Final = frozenset({"system", "developer"})  # may say the time of day: no part of the conversation


class Conversations:
    """The turns that a large model answered under a sticky rule, each as a keyed hash; the oldest go first."""

    def __init__(
        self, *, most: int = _MOST, ttl_s: float = _TTL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._held: TTLCache[bytes, str] = TTLCache(maxsize=most, ttl=ttl_s, timer=clock)
        self._secret = os.urandom(32)

    def held_by(self, inbound: Inbound) -> str:
        """The rule that moved this conversation to a large model; nothing when none did, or long ago."""
        if not self._held:
            return ""
        turns = _turns(inbound)
        answers = [number for number, turn in enumerate(turns) if _role(turn) == "assistant"]
        return self._held.get(self._key(inbound, turns[: answers[-1]]), "") if answers else ""

    def hold(self, inbound: Inbound, rule: str) -> None:
        """Keep the conversation of a request that a large model has answered under a sticky rule."""
        self._held[self._key(inbound, _turns(inbound))] = rule

    def _key(self, inbound: Inbound, turns: Sequence[object]) -> bytes:
        digest = hashlib.blake2b(inbound.caller.id.encode(), digest_size=16, key=self._secret)
        for turn in turns:
            digest.update(b"\x00" + orjson.dumps(turn, option=orjson.OPT_SORT_KEYS))
        return digest.digest()


def _turns(inbound: Inbound) -> list[object]:
    messages = inbound.body.get("messages")
    return [turn for turn in messages if _role(turn) not in _STANDING] if isinstance(messages, list) else []


def _role(turn: Any) -> object:
    return turn.get("role") if isinstance(turn, dict) else None
