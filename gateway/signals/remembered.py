"""classify: a conversation, once personal, stays so: what its later turns are taken for, whatever they say themselves.

A client that sends its whole history shows the scan everything again. One that cuts it (a window of the last turns, or
an id in place of a history) does not: "and what should she take for it?" is about the person that was named before.
So the turns from the first personal one on are remembered, as keyed hashes with the class, for half an hour after the
last of them; a request that holds one of them, or has the id of such a conversation, is of that class at least.

Only what tells one conversation from another counts: two neighbouring turns, or one long turn of a user, by caller.
A class is raised so, never lowered; and what is forgotten (half an hour, 20,000 turns, another process of the gateway)
is scanned as any text is.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from cachetools import TTLCache

from gateway.types import DataClass, Finding, Inbound, Part

_TTL_S: Final = 1800.0
_MOST: Final = 20_000
_TURNS: Final = frozenset({"user", "assistant", "tool", "function"})
_LAST: Final = 32  # turns that are looked at
_LONG: Final = 40  # characters of a user's turn that is like no other
_LONG_PAIR: Final = 24
_IDS: Final = ("conversation_id", "session_id", "thread_id", "chat_id")  # of `metadata`, as clients name them
_NOT_READ: Final = frozenset({"scan_failed", "oversize"})  # says nothing of the conversation


class Remembered:
    """The turns of personal conversations that are going on. One thread."""

    def __init__(
        self, *, most: int = _MOST, ttl_s: float = _TTL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._classes: TTLCache[bytes, DataClass] = TTLCache(most, ttl_s, timer=clock)
        self._secret = os.urandom(32)

    def recall(self, inbound: Inbound) -> DataClass:
        """The class that this conversation has had; public when nothing is known of it."""
        if not self._classes:
            return DataClass.PUBLIC
        known = (self._classes.get(key, DataClass.PUBLIC) for key in self._keys(inbound, _turns(inbound.parts)))
        return max(known, default=DataClass.PUBLIC)

    def note(self, inbound: Inbound, data: DataClass, findings: Sequence[Finding], before: DataClass) -> None:
        """Keep what a request of class personal or above is known by; `before` is what was recalled of it."""
        if data < DataClass.PERSONAL:
            return
        start = 0 if before >= DataClass.PERSONAL else _first_personal(inbound, findings)
        if start is None:
            return
        turns = [turn for turn in _turns(inbound.parts) if turn[0] >= start]
        for key in self._keys(inbound, turns):
            self._classes[key] = max(data, self._classes.pop(key, DataClass.PUBLIC))  # again: that renews its time

    def clear(self) -> None:
        """Forget every conversation."""
        self._classes.clear()

    def _keys(self, inbound: Inbound, turns: Sequence[tuple[int, Part]]) -> Iterator[bytes]:
        metadata = inbound.body.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        for name in _IDS:
            if isinstance(given := named.get(name), str) and given:
                yield self._key(inbound, name, given)
        previous: Part | None = None
        for _, part in turns:
            if part.role == "user" and len(part.text) >= _LONG:
                yield self._key(inbound, "user", part.text)
            if previous is not None and len(previous.text) + len(part.text) >= _LONG_PAIR:
                yield self._key(inbound, previous.role, previous.text, part.role, part.text)
            previous = part

    def _key(self, inbound: Inbound, *said: str) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=16, person=b"cauce class")
        for text in (inbound.caller.id, *said):
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.digest()

    def __len__(self) -> int:
        return len(self._classes)


def _turns(parts: Sequence[Part]) -> list[tuple[int, Part]]:
    return [(number, part) for number, part in enumerate(parts) if part.role in _TURNS and part.text][-_LAST:]


def _first_personal(inbound: Inbound, findings: Sequence[Finding]) -> int | None:
    """The part from which on the conversation is personal; nothing where only the scan did not work."""
    places = [one.part if one.end else 0 for one in findings if one.data >= DataClass.PERSONAL]
    if all(one.label in _NOT_READ for one in findings if one.data >= DataClass.PERSONAL) and places:
        return None
    asked = max((number for number, part in enumerate(inbound.parts) if part.role == "user"), default=0)
    return min(places, default=asked)
