"""What is wrong with a file, and where: collected, not raised one by one, so that all of it is mended at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `kind` is stable (`unknown_signal`, `duplicate_key`, ...); the message is for people."""

    file: str
    line: int
    column: int
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


def near(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'privacy'?`, or nothing when no known name is near."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[found[0]]!r}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """Names for a message, cut when there are many."""
    items = list(names)
    if not items:
        return "none"
    return ", ".join(items[:20]) + (f" and {len(items) - 20} more" if len(items) > 20 else "")
