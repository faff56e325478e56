"""The circuit breaker of one upstream: after some failures in a row it is left alone for a moment, then tried once.

    closed --failures in a row--> open --rest_s--> half-open --one probe--> closed, or open again

A small state machine of our own: of the libraries kept today none lets exactly one probe through a half-open circuit,
leaves a call that was broken off out of the count, and shows its state (see ARCHITECTURE.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum


class Circuit(StrEnum):
    """What a breaker does with a call."""

    CLOSED = "closed"  # it goes through
    HALF_OPEN = "half-open"  # one goes through, to see
    OPEN = "open"  # none does


class Breaker:
    """`refuses` says whether a call may begin; who begins one says at its end how it went.

    `failures` in a row open it, 0: never. It rests `rest_s` seconds. `on_open` hears of each opening here, and `open`
    opens it from elsewhere: what gateways that share their state need, whatever carries the news.
    """

    __slots__ = ("_clock", "_failed", "_failures", "_probing", "_rest_s", "_until", "on_open", "opened")

    def __init__(
        self,
        failures: int,
        rest_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_open: Callable[[], None] | None = None,
    ) -> None:
        self._failures = failures
        self._rest_s = rest_s
        self._clock = clock
        self.on_open = on_open
        self._failed = 0
        self._until: float | None = None  # nothing: closed
        self._probing = False
        self.opened = 0  # how often, since the start

    @property
    def state(self) -> Circuit:
        """Where it stands now; a circuit whose rest is over counts as half-open."""
        if self._until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._until else Circuit.HALF_OPEN

    @property
    def refuses(self) -> bool:
        """Whether a call must not begin now."""
        if self._until is None:
            return False
        return self._probing or self._clock() < self._until

    @property
    def rest_s(self) -> float:
        """Seconds until a probe may begin."""
        return max(self._until - self._clock(), 0.0) if self._until is not None else 0.0

    def begin(self) -> bool:
        """A call begins, not refused; whether it is the probe. Its `end` must follow."""
        probe = self._until is not None
        self._probing = self._probing or probe
        return probe

    def end(self, good: bool | None, *, probe: bool) -> None:
        """How a call went; None: it says nothing, since it was broken off or never asked the upstream.

        While the circuit is not closed only the probe's word counts: other calls began before it opened.
        """
        if probe:
            self._probing = False
        if good is None or (self._until is not None and not probe):
            return
        if good:
            self._failed, self._until = 0, None
            return
        self._failed += 1
        if probe or 0 < self._failures <= self._failed:
            self.open()
            if self.on_open is not None:
                self.on_open()

    def open(self) -> None:
        """Leave the upstream alone from now on, for its rest."""
        if self._failures:
            self._until = self._clock() + self._rest_s
            self.opened += 1
