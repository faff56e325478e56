"""Asking one rung again, and asking a second while the first is slow: waits, and who may wait for what.

A call is made again only before the first byte of its answer has reached the client, and only when the same call may go
well in a moment (`UpstreamError.passing`). While another rung may answer, nobody waits for a busy or unreachable one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from gateway.errors import UpstreamError, UpstreamOverloaded, UpstreamUnreachable
from gateway.types import Retries

T = TypeVar("T")
_SHARE: Final = 0.2  # of its calls that may be retries, or hedges, in the long run
_RESERVE: Final = 10.0  # and so many beyond it: a burst, or the first calls of a process
_REMEMBERED: Final = 100
_ENOUGH: Final = 20  # times, before their 95th percentile means anything


class Budget:
    """Second calls as a share of first ones, so that an upstream in trouble does not get more calls but fewer.

    The share is that of gRPC's and Finagle's retry budgets, a fifth.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _RESERVE

    def earn(self) -> None:
        """A first call was made."""
        self.left = min(self.left + _SHARE, _RESERVE)

    def spend(self) -> bool:
        """Whether a second call may be made; it counts as made."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Pace:
    """How fast a model's last answers began: what tells a slow one."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, seconds: float) -> None:
        """One more."""
        self._seconds.append(seconds)

    @property
    def p95(self) -> float | None:
        """The 95th percentile; nothing while too few are known."""
        if len(self._seconds) < _ENOUGH:
            return None
        return sorted(self._seconds)[int(0.95 * len(self._seconds))]


def worth_it(error: BaseException, retries: Retries, *, last: bool) -> bool:
    """Whether the same upstream is asked again after this error; `last`: no other rung may answer."""
    if not isinstance(error, UpstreamError) or not error.passing or not retries.most:
        return False
    if not last and isinstance(error, UpstreamOverloaded | UpstreamUnreachable):
        return False
    return (error.retry_after_s or 0.0) <= retries.longest_wait_s


async def again(
    first: UpstreamError, once: Callable[[int], Awaitable[T]], *, retries: Retries, budget: Budget, last: bool
) -> T:
    """Make a call again that failed with `first`, as often as `retries` and the budget say; `once` takes its number.

    The wait is exponential with full jitter, or the upstream's Retry-After with a jitter on top. Raises the last error.
    """
    pending: list[UpstreamError] = [first]
    number = 0

    async def attempt() -> T:
        nonlocal number
        if pending:
            raise pending.pop()
        number += 1
        return await once(number)

    backoff = wait_random_exponential(multiplier=retries.first_wait_s, max=retries.longest_wait_s)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = getattr(error, "retry_after_s", None) or 0.0
        return float(asked_for + backoff(state))

    retrying = AsyncRetrying(
        stop=stop_after_attempt(retries.most + 1),
        wait=wait,
        retry=retry_if_exception(lambda error: worth_it(error, retries, last=last) and budget.spend()),
        sleep=asyncio.sleep,
        reraise=True,
    )
    return await retrying(attempt)


async def race(
    first: Coroutine[Any, Any, T],
    second: Callable[[], Coroutine[Any, Any, T] | None],
    *,
    after_s: float,
    drop: Callable[[T], Awaitable[None]],
) -> T:
    """The first good result of two calls, the second made when the first has not ended after `after_s`.

    `second` may decline with None. The loser is cancelled, and its result, if it has one at the same moment, goes to
    `drop`. Raises the first call's error when neither is good.
    """
    tasks: list[asyncio.Task[T]] = [asyncio.create_task(first)]
    winner: asyncio.Task[T] | None = None
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if not tasks[0].done() and (other := second()) is not None:
            tasks.append(asyncio.create_task(other))
        while (winner := next(filter(_good, tasks), None)) is None:
            waiting = [task for task in tasks if not task.done()]
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return (winner or tasks[0]).result()
    finally:
        losers = [task for task in tasks if task is not winner]
        for task in losers:
            task.cancel()
        for result in await asyncio.gather(*losers, return_exceptions=True):
            if not isinstance(result, BaseException):
                await drop(result)


def _good(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
