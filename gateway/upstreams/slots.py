"""At most so many calls at once to one upstream: a short queue waits, the rest is refused at once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway.errors import UpstreamOverloaded
from gateway.types import Model

_MAX_WAITING: Final = 64
_WAITING_PER_PLACE: Final = 4


class Slots:
    """`take` a place before a call and `give` it back after it."""

    __slots__ = ("_model", "_queue", "_taken")

    def __init__(self, model: Model) -> None:
        self._model = model
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """Calls in flight now."""
        return self._taken

    async def take(self) -> None:
        """A place, at once or after a wait; raises `UpstreamOverloaded` when the queue is full or does not move."""
        if self._taken < self._model.max_in_flight:
            self._taken += 1
            return
        if len(self._queue) >= min(_MAX_WAITING, _WAITING_PER_PLACE * self._model.max_in_flight):
            raise self._overloaded("and its queue is full")
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            async with asyncio.timeout(self._model.timeouts.first_token_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.give()  # it was handed over in the moment that this caller left
            elif place in self._queue:
                self._queue.remove(place)
            if isinstance(error, TimeoutError):
                waited = self._model.timeouts.first_token_s
                raise self._overloaded(f"and none of them ended in {waited:g} s") from error
            raise

    def give(self) -> None:
        """Hand the place to the first who waits, else free it."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._taken -= 1

    def _overloaded(self, why: str) -> UpstreamOverloaded:
        limit = self._model.max_in_flight
        return UpstreamOverloaded(
            f"{self._model.id} has {limit} calls in flight, its limit, {why}: "
            "try again later, or raise max_in_flight in cauce.yaml",
            upstream=self._model.id,
            retry_after_s=1.0,
            passing=False,  # asking again at once would make the queue longer
        )
