"""Whether the cloud can be reached, from how its calls went: the signal `cloud`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from gateway.errors import UpstreamContext, UpstreamError, UpstreamFiltered, UpstreamRejected
from gateway.types import Cloud, Model

_REMEMBERED = 20
_FORGET_S = 60.0
_ITS_OWN_ANSWER = (UpstreamRejected, UpstreamContext, UpstreamFiltered)  # it was there, and said no


class CloudHealth:
    """The last calls to models off the premises; one older than a minute says nothing any more.

    Without such models, or without news, the cloud counts as up: a rung is skipped for what is known, not for doubt.
    """

    def __init__(self, models: frozenset[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._models = models
        self._clock = clock
        self._calls: deque[tuple[float, bool]] = deque(maxlen=_REMEMBERED)

    def heard(self, model: Model, error: UpstreamError | None) -> None:
        """Take note of how a call went."""
        if model.id in self._models:
            self._calls.append((self._clock(), error is None or isinstance(error, _ITS_OWN_ANSWER)))

    def state(self) -> Cloud:
        """Up, degraded (a third of the last calls failed) or down (three or more calls, all failed)."""
        calls = self._calls
        if not calls:
            return Cloud.UP
        oldest = self._clock() - _FORGET_S
        while calls and calls[0][0] < oldest:
            calls.popleft()
        failed = sum(not good for _, good in calls)
        if failed >= 3 and failed == len(calls):
            return Cloud.DOWN
        return Cloud.DEGRADED if failed * 3 >= len(calls) and failed else Cloud.UP
