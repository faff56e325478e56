"""The policy in force: read at the start, read again when its folder changes, swapped whole or not at all.

A request takes `current()` once and keeps it. A changed file is read when it has stopped changing and proved as `cauce
check` proves it (`look`, in a thread), then put in force by one assignment (`enter`, on the loop that serves); a bad
one is refused and the last good one stays. Files are followed through links, so that a ConfigMap's swap of a whole
folder is one change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigError
from gateway.policy.check import prove
from gateway.policy.load import load_policy, read_policy
from gateway.policy.problems import Problem
from gateway.policy.rules import Policy
from gateway.types import Model

_MAX_FILES = 500
_ENDINGS = (".yaml", ".yml")
Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a changed file was not put in force."""

    file: str
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        shown = "; ".join(map(str, self.problems[:3]))
        return shown + (f"; and {len(self.problems) - 3} more" if len(self.problems) > 3 else "")


class LivePolicy:
    """One policy file and what is in force of it. `on_refusal` hears of each file that was not put in force."""

    def __init__(self, file: Path, *, models: Mapping[str, Model], on_refusal: Callable[[Refusal], None]) -> None:
        """Raises `ConfigError` when the file holds no policy: without a first one nothing can be served."""
        self.file = file
        self.refusal: Refusal | None = None
        self._models = models
        self._on_refusal = on_refusal
        self._seen = self._read = signature(file)
        self._policy = load_policy(file)
        self._files = tuple(Path(name) for name in self._policy.files)
        if len(self._files) > 1:
            self._read = ()  # what it includes was not known before it was read: read once more

    def current(self) -> Policy:
        """The policy in force now."""
        return self._policy

    def enter(self, policy: Policy) -> None:
        """Put a policy that `look` found in force."""
        self._policy = policy

    def look(self) -> Policy | None:
        """The policy of a changed file, when it is a good one and a new one. Called about once a second."""
        now = signature(self.file, self._files)
        settled, self._seen = now == self._seen, now
        if not settled or now == self._read:
            return None
        self._read = now
        try:
            problems, policy = self._proved()
        except (OSError, ConfigError) as error:
            problems, policy = (Problem(str(self.file), 1, 1, "unreadable", str(error)),), None
        if policy is None:
            self.refusal = Refusal(str(self.file), problems)
            self._on_refusal(self.refusal)
            return None
        self.refusal = None
        return None if policy.revision == self._policy.revision else policy

    def _proved(self) -> tuple[tuple[Problem, ...], Policy | None]:
        loaded = read_policy(self.file)
        self._files = loaded.files
        if loaded.policy is None:
            return loaded.problems, None
        errors = prove(loaded, self._models).errors
        return errors, None if errors else loaded.policy


def signature(file: Path, included: Iterable[Path] = ()) -> Signature:
    """What changes when a policy of the file's folder does, or one that it includes: names, times, sizes and inodes."""
    beside = [path for path in sorted(file.parent.glob("*"))[:_MAX_FILES] if path.suffix in _ENDINGS or path == file]
    found = []
    for path in dict.fromkeys((*beside, *included)):
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
