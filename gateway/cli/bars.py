"""Progress of a long command: a bar for each part of the work, on stderr, so that stdout stays clean."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """A bar for each part of the work, on stderr: what a command says on stdout stays clean."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}"),
            console=Console(stderr=True),
        )
        self._part: TaskID | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def begins(self, what: str, steps: int) -> None:
        """A new bar."""
        self._part = self._progress.add_task(what, total=steps, said="")

    def step(self, said: str = "") -> None:
        """Move the bar on."""
        if self._part is not None:
            self._progress.update(self._part, advance=1, said=said)
