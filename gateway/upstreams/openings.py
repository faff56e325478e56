"""Gateways that share a Redis tell each other when a circuit opens: what one has found out, the others need not.

Only openings travel, on a channel: each process closes its own circuits by its own probe, since what is well from here
need not be well from there. An opening is good for the circuit's rest, so who was not listening has missed little, and
while Redis is away each process is alone. The gateways have their models under the same names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import uuid4

import orjson

from gateway.types import Model
from gateway.upstreams.fleet import Breakers

_CHANNEL: Final = "cauce:circuits"
_RETRY_S: Final = 1.0
_READ_S: Final = 30.0
_MOST_UNSENT: Final = 64
# Their models run inside each process: one that fails in another says nothing of ours.
_OWN_PROCESS: Final = frozenset({"embedded", "static", "fake"})
_log = logging.getLogger("cauce.circuits")


class Openings:
    """The circuits of one process, told to and heard from the others. `heard` counts what came from elsewhere."""

    def __init__(self, client: Any, breakers: Breakers, models: Mapping[str, Model]) -> None:
        from redis.exceptions import RedisError  # noqa: PLC0415 - there is a client: the package is there

        self._client = client
        self._errors: tuple[type[Exception], ...] = (RedisError, OSError)
        self._who = uuid4().hex
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Task[None] | None = None
        self._breakers = {name: each for name, each in breakers.items() if models[name].provider not in _OWN_PROCESS}
        self.heard = 0
        for name, replicas in self._breakers.items():
            for number, breaker in enumerate(replicas):
                breaker.on_open = partial(self._tell, name, number)

    def start(self) -> None:
        """Listen from now on."""
        self._listener = asyncio.create_task(self._listen())

    async def aclose(self) -> None:
        """Stop listening; what was being told is told or lost."""
        tasks = [task for task in (self._listener, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(*self._errors):
            await self._client.aclose()

    def _tell(self, name: str, number: int) -> None:
        """Nobody waits for it; while Redis is away nobody hears of it."""
        if len(self._tasks) >= _MOST_UNSENT:
            return
        task = asyncio.create_task(self._publish(orjson.dumps([self._who, name, number])))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, message: bytes) -> None:
        with contextlib.suppress(*self._errors):
            await self._client.publish(_CHANNEL, message)

    async def _listen(self) -> None:
        told = False
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(_CHANNEL)
                    told = False
                    while True:
                        message = await channel.get_message(timeout=_READ_S)
                        if message is not None:
                            self._hear(message["data"])
            except self._errors as error:
                if not told:
                    _log.warning("circuits are not shared while Redis is away: %s", type(error).__name__)
                told = True
                await asyncio.sleep(_RETRY_S)

    def _hear(self, said: str) -> None:
        """A message of another process; one that makes no sense here changes nothing."""
        try:
            who, name, number = orjson.loads(said)
            breaker = self._breakers[name][number]
        except (ValueError, TypeError, LookupError):
            return
        if who != self._who:
            self.heard += 1
            breaker.open()
