"""Whether the cloud can be reached, from how its calls went and what its breakers say: the signal `cloud`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.errors import UpstreamError
from gateway.types import Cloud, Model
from gateway.upstreams.breaker import Breaker, Circuit
from gateway.upstreams.guarded import ITS_OWN_ANSWER

_REMEMBERED = 20
_FORGET_S = 60.0


def state_of(breakers: Sequence[Breaker]) -> Circuit:
    """The state of a model: as long as one replica takes calls, it does."""
    states = {breaker.state for breaker in breakers}
    return next((state for state in (Circuit.CLOSED, Circuit.HALF_OPEN) if state in states), Circuit.OPEN)


class CloudHealth:
    """The last calls to models off the premises, and their breakers.

    A call older than a minute says nothing any more. Without such models, or without news, the cloud counts as up: a
    rung is skipped for what is known, not for doubt.
    """

    def __init__(
        self,
        models: Iterable[str],
        breakers: Mapping[str, Sequence[Breaker]] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = frozenset(models)
        self._breakers = breakers or {}
        self._clock = clock
        self._calls: deque[tuple[float, str, bool]] = deque(maxlen=_REMEMBERED)

    def heard(self, model: Model, error: UpstreamError | None) -> None:
        """Take note of how a call went."""
        if model.id in self._models:
            good = error is None or isinstance(error, ITS_OWN_ANSWER)
            self._calls.append((self._clock(), model.id, good))

    def state(self) -> Cloud:
        """Down: each model that was asked of late is left alone. Degraded: one is, or a third of the last calls failed.

        A circuit whose rest is over is no longer down: the next request may find that the cloud is back.
        """
        circuits = {name: state_of(self._breakers[name]) for name in self._models & self._breakers.keys()}
        calls = self._calls
        oldest = self._clock() - _FORGET_S
        while calls and calls[0][0] < oldest:
            calls.popleft()
        troubled = {name for name, state in circuits.items() if state is not Circuit.CLOSED}
        asked = {name for _, name, _ in calls} | troubled
        if asked and all(circuits.get(name) is Circuit.OPEN for name in asked):
            return Cloud.DOWN
        failed = sum(not good for _, _, good in calls)
        return Cloud.DEGRADED if troubled or (failed and failed * 3 >= len(calls)) else Cloud.UP
