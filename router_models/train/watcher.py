"""Who looks on while a model is trained or measured. What a watcher is told changes nothing in the work."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told of each part of the work as it begins, and of each step of it."""

    def begins(self, what: str, steps: int) -> None:
        """A part begins, so many steps long; the part before it is done."""
        ...

    def step(self, said: str = "") -> None:
        """One step is done; `said` is how it stands."""
        ...


class Printed:
    """A line for each part, and for every fourth step that says something."""

    def __init__(self) -> None:
        self._done = self._steps = 0

    def begins(self, what: str, steps: int) -> None:
        """Print the part's name."""
        self._done, self._steps = 0, steps
        print(what, flush=True)

    def step(self, said: str = "") -> None:
        """Print every fourth."""
        self._done += 1
        if said and self._done % 4 == 0:
            print(f"  {self._done}/{self._steps}: {said}", flush=True)
