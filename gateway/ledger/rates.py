"""Requests and tokens a minute, counted by the library `limits` with its sliding window.

Counted in Redis when gateways share one (`shared:`), else in the ledger's database: either way a limit holds for all
processes together. With the store away each process holds the limit by itself, in memory: callers are not locked out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, SlidingWindowCounterSupport, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from gateway.errors import LimitExceeded
from gateway.ledger.book import Answer, Counted, Hit, Question
from gateway.types import Rate

_log = logging.getLogger("cauce.limits")
_MINUTE_S: Final = 60
_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with the tightest of its limits of one kind."""

    kind: str
    limit: int
    remaining: int
    reset_s: float


class LedgerStorage(Storage, SlidingWindowCounterSupport):
    """A storage of `limits` in the ledger's database: its writer counts, in the transaction of a batch."""

    STORAGE_SCHEME = None

    def __init__(self, ask: Callable[[Question], Awaitable[Answer]]) -> None:
        super().__init__(wrap_exceptions=True)
        self._ask = ask
        self._last: dict[str, tuple[int, Counted]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        """What says that the database is away."""
        return OSError

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count, unless that would pass the limit."""
        return (await self._hit(Hit(key, limit, amount))).taken

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """The minute before and this one: what was used, and how many seconds it still counts."""
        minute, counted = self._last.get(key, (0, Counted(True, 0, 0)))
        if minute != int(time.time() // _MINUTE_S):
            counted = await self._hit(Hit(key, 0, 0))
        left = _MINUTE_S - time.time() % _MINUTE_S
        return counted.before, left if counted.before else 0.0, counted.now, left + expiry

    async def _hit(self, hit: Hit) -> Counted:
        async with asyncio.timeout(_WAIT_S):
            answer = await self._ask(hit)
        assert isinstance(answer, Counted)  # noqa: S101 - a hit's answer
        if len(self._last) > 10_000:
            self._last.clear()
        self._last[hit.name] = int(time.time() // _MINUTE_S), answer
        return answer

    # The other strategies of the library are not used.
    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Not a sliding window."""
        raise NotImplementedError

    async def get(self, key: str) -> int:
        """Not a sliding window."""
        raise NotImplementedError

    async def get_expiry(self, key: str) -> float:
        """Not a sliding window."""
        raise NotImplementedError

    async def check(self) -> bool:
        """The ledger says by itself how it is."""
        return True

    async def reset(self) -> int | None:
        """Limits are not reset."""
        raise NotImplementedError

    async def clear(self, key: str) -> None:
        """Limits are not cleared."""
        raise NotImplementedError

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Limits are not cleared."""
        raise NotImplementedError


def redis_storage(client: Any, url: str) -> Storage:
    """The library's own storage in Redis, over the connections of a client that somebody else closes."""
    from limits.aio.storage import RedisStorage  # noqa: PLC0415 - only a gateway that shares its state needs it

    return RedisStorage(
        f"async+{url}",
        connection_pool=client.connection_pool,
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="cauce",
    )


class Rates:
    """The callers' rates; `refused` hears of the scope and kind that turned a request away, `away` of a lost store."""

    def __init__(
        self, storage: Storage, *, refused: Callable[[str, str], None], away: Callable[[Exception], None]
    ) -> None:
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._refused = refused
        self._away = away
        self._items: dict[tuple[str, int], RateLimitItem] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self, rates: Sequence[Rate], tokens: int) -> tuple[Standing, ...]:
        """Take one request and its tokens from every limit over a caller; raises `LimitExceeded`.

        What a limit further down has counted stays counted when one further up is passed: never too little.
        """
        standings: dict[str, Standing] = {}
        for rate in rates:
            cost = 1 if rate.kind == "requests" else tokens
            taken, standing = await self._take(rate, cost)
            if not taken:
                self._refused(rate.scope, rate.kind)
                raise _exceeded(rate, standing, cost)
            tightest = standings.get(rate.kind)
            if tightest is None or standing.remaining < tightest.remaining:
                standings[rate.kind] = standing
        return tuple(standings.values())

    def add(self, rates: Sequence[Rate], tokens: int) -> None:
        """Tokens that an answer had beyond what was taken for it. Nobody waits for it; a limit may be filled by it."""
        counted = [rate for rate in rates if rate.kind == "tokens"]
        if counted and tokens > 0:
            task = asyncio.create_task(self._add(counted, tokens))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """What is being counted first."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _add(self, rates: Sequence[Rate], tokens: int) -> None:
        for rate in rates:
            taken, standing = await self._take(rate, min(tokens, rate.per_minute))
            if not taken and standing.remaining:
                await self._take(rate, standing.remaining)

    async def _take(self, rate: Rate, cost: int) -> tuple[bool, Standing]:
        try:
            return await self._take_from(self._shared, rate, cost)
        except (StorageError, OSError) as error:  # a timeout is an OSError
            self._away(error)
            return await self._take_from(self._alone, rate, cost)

    async def _take_from(
        self, limiter: SlidingWindowCounterRateLimiter, rate: Rate, cost: int
    ) -> tuple[bool, Standing]:
        key = (rate.kind, rate.per_minute)
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = RateLimitItemPerMinute(rate.per_minute, namespace=rate.kind)
        taken = await limiter.hit(item, rate.scope, cost=cost) if cost else True
        stats = await limiter.get_window_stats(item, rate.scope)
        reset_s = max(0.0, stats.reset_time - time.time())
        return taken, Standing(rate.kind, rate.per_minute, int(stats.remaining), reset_s)


def _exceeded(rate: Rate, standing: Standing, cost: int) -> LimitExceeded:
    what = f"{rate.scope} may use {rate.per_minute} {rate.kind} a minute"
    if cost > rate.per_minute:
        return LimitExceeded(f"{what}, and this request alone may use {cost}: send less, or state max_tokens")
    wait_s = max(1.0, math.ceil(standing.reset_s))
    return LimitExceeded(f"{what}, and they are used up: ask again in {wait_s:g} s", retry_after_s=wait_s)
