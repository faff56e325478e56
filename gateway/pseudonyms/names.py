"""Which placeholder stands for which value: one table a conversation, in the memory of this process, for a while.

A placeholder is a word, `PERSON_TQVX`: its type, so that a model can write a sentence around it, and four consonants
drawn at random. It is made to survive a model: no brackets that invite to be filled in, no number to count on with,
nothing that markdown, JSON, a file's name or a tool's name has another use for. All codes are of one length, so none is
the beginning of another. The same value keeps its placeholder while its conversation goes on (half an hour after the
last turn at most), which also keeps the provider's prompt cache warm.

The conversation is known by who asks and the first thing said, as a keyed hash. Two conversations that begin alike may
share a table: an answer gets back only what stood for something in its own request, so no name moves between them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cachetools import TTLCache

CODE_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no word by chance
CODE_LENGTH: Final = 4
TYPES: Final = (
    "PERSON", "ID", "ACCOUNT", "CARD", "PHONE", "EMAIL", "ADDRESS", "DATE", "AMOUNT", "DEVICE", "PLATE", "DETAIL",
)  # fmt: skip
_NUMBERED: Final = frozenset({"ID", "ACCOUNT", "CARD", "PHONE", "DEVICE", "PLATE"})  # alike with or without their dots
_TTL_S: Final = 1800.0
_MOST_VALUES: Final = 200_000  # in all conversations
MOST_OF_ONE: Final = 1_000  # in one conversation
_LIKE_ONE: Final = re.compile(rf"(?:{'|'.join(TYPES)})\\{{0,8}}[_\- ]?[{CODE_LETTERS}]{{{CODE_LENGTH}}}", re.IGNORECASE)


class TooMany(Exception):
    """A conversation names more values than one table holds."""


def key_of(placeholder: str) -> str:
    """A placeholder however it was written: `Person\\_tqvx` is `persontqvx`."""
    return "".join(char for char in placeholder.lower() if char.isalpha())


def like_placeholders(text: str) -> Iterator[str]:
    """The keys of all that looks like a placeholder in a text, minted here or not."""
    return (key_of(match.group()) for match in _LIKE_ONE.finditer(text))


class Names:
    """One conversation's table. `values` is by type and canonical form; only values that JSON need not escape."""

    __slots__ = ("_taken", "values")

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self._taken: dict[str, int] = {}  # key -> ordinal

    def placeholder(self, kind: str, value: str, *, avoid: frozenset[str] = frozenset()) -> str:
        """What stands for a value of this type; a new one when there is none yet or the request itself says it.

        Raises `TooMany`.
        """
        canonical = kind, _canonical(kind, value)
        known = self.values.get(canonical)
        if known is not None and key_of(known) not in avoid:
            return known
        if len(self._taken) >= MOST_OF_ONE:
            raise TooMany
        while True:
            code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
            made = f"{kind}_{code}"
            if key_of(made) not in self._taken and key_of(made) not in avoid:
                break
        self._taken[key_of(made)] = len(self._taken) + 1
        self.values[canonical] = made
        return made

    def ordinal(self, placeholder: str) -> int:
        """The number of a placeholder among its conversation's; the same as long as the table lives."""
        return self._taken[key_of(placeholder)]

    def __len__(self) -> int:
        return len(self._taken)


def _canonical(kind: str, value: str) -> str:
    folded = unicodedata.normalize("NFKC", value).casefold()
    if kind in _NUMBERED:
        return "".join(filter(str.isalnum, folded))
    return " ".join(folded.split())


class Pseudonyms:
    """The tables of all conversations that are going on; the oldest go first. For any thread."""

    def __init__(
        self, *, most_values: int = _MOST_VALUES, ttl_s: float = _TTL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tables: TTLCache[bytes, Names] = TTLCache(most_values, ttl_s, timer=clock, getsizeof=_size)
        self._secret = os.urandom(32)
        self._lock = threading.Lock()

    def of(self, caller: str, first_said: str) -> Names:
        """The table of a conversation. `keep` it after use: that renews its time."""
        with self._lock:
            return self._tables.get(self._key(caller, first_said)) or Names()

    def keep(self, caller: str, first_said: str, names: Names) -> None:
        """Keep a table until half an hour from now."""
        with self._lock:
            key = self._key(caller, first_said)
            self._tables.pop(key, None)  # its size may have changed, which the cache must not find out by itself
            self._tables[key] = names

    def clear(self) -> None:
        """Forget every value."""
        with self._lock:
            self._tables.clear()

    def __len__(self) -> int:
        return len(self._tables)

    def _key(self, caller: str, first_said: str) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=16, person=b"cauce pseudonym")
        digest.update(caller.encode("utf-8", "surrogatepass") + b"\x00")
        digest.update(first_said.encode("utf-8", "surrogatepass"))
        return digest.digest()


def _size(names: Names) -> int:
    return len(names) + 1


def codes(placeholders: Iterable[str]) -> list[str]:
    """The codes of some placeholders, once each."""
    return sorted({placeholder.rpartition("_")[2] for placeholder in placeholders})
