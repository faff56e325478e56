"""Budgets that several gateways share over Redis or Valkey: the same claims as `book.py`, each one script.

    {cauce:budgets}:use:NAME   hash: carried, spent, reserved    {cauce:budgets}:held  zset: request ids by expiry
    {cauce:budgets}:of:ID      hash: what a request holds, by budget      (one hash slot, so that a cluster takes them)

A script is atomic; what has passed its time to live is released by the next claim. The ledger stays the truth: a
counter that is not there (a new period, or a Redis that has forgotten) begins with what the ledger says was spent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.errors import ConfigError
from gateway.ledger.book import Claim, Claimed, Use
from gateway.ledger.budgets import StoreAway

_log = logging.getLogger("cauce.budgets")
_PREFIX: Final = "{cauce:budgets}:"
_USE: Final = f"{_PREFIX}use:"
_HELD: Final = f"{_PREFIX}held"
_OF: Final = f"{_PREFIX}of:"
_WAIT_S: Final = 2.0  # for a connection, and for an answer
_CONNECTIONS: Final = 16
_KEEP_S: Final = 100 * 86_400  # longer than any period that can be carried over from
_MOST_OWED: Final = 100_000

_RELEASE: Final = """
local function release(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
    local of = ARGV[1] .. id
    local held = redis.call('HGETALL', of)
    for i = 1, #held, 2 do
      if held[i + 1] ~= '0' then redis.call('HINCRBY', ARGV[2] .. held[i], 'reserved', '-' .. held[i + 1]) end
      redis.call('HSET', of, held[i], '0')
    end
    redis.call('ZREM', KEYS[1], id)
  end
end
"""
# ARGV: of-prefix, use-prefix, now, expires, id, amount, seconds to keep, then for each line: name, limit or -1,
# carried or -1, spent. Reply: 1 and all uses; 0 and the number of the line that is short, and all uses; -1 and the
# numbers of the lines that have not begun.
_CLAIM: Final = (
    _RELEASE
    + """
release(ARGV[3])
local id, amount = ARGV[5], ARGV[6]
local missing, uses, short = {-1}, {}, 0
for i = 8, #ARGV, 4 do
  local use = ARGV[2] .. ARGV[i]
  if redis.call('EXISTS', use) == 0 then
    if ARGV[i + 2] == '-1' then
      missing[#missing + 1] = (i - 8) / 4
    else
      redis.call('HSET', use, 'carried', ARGV[i + 2], 'spent', ARGV[i + 3], 'reserved', '0')
      redis.call('EXPIRE', use, ARGV[7])
    end
  end
end
if #missing > 1 then return missing end
for i = 8, #ARGV, 4 do
  local now = redis.call('HMGET', ARGV[2] .. ARGV[i], 'carried', 'spent', 'reserved')
  for j = 1, 3 do uses[#uses + 1] = now[j] end
  if short == 0 and ARGV[i + 1] ~= '-1' then
    if tonumber(now[2]) + tonumber(now[3]) + tonumber(amount) > tonumber(ARGV[i + 1]) + tonumber(now[1]) then
      short = (i - 8) / 4 + 1
    end
  end
end
if redis.call('EXISTS', ARGV[1] .. id) == 1 then return {1, 0, unpack(uses)} end
if short > 0 then return {0, short - 1, unpack(uses)} end
for i = 8, #ARGV, 4 do
  uses[(i - 8) / 4 * 3 + 3] = tostring(redis.call('HINCRBY', ARGV[2] .. ARGV[i], 'reserved', amount))
  redis.call('HSET', ARGV[1] .. id, ARGV[i], amount)
end
redis.call('EXPIRE', ARGV[1] .. id, 86400)
redis.call('ZADD', KEYS[1], ARGV[4], id)
return {1, 0, unpack(uses)}
"""
)
_SETTLE: Final = """
local of = ARGV[1] .. ARGV[3]
local held = redis.call('HGETALL', of)
for i = 1, #held, 2 do
  if held[i + 1] ~= '0' then redis.call('HINCRBY', ARGV[2] .. held[i], 'reserved', '-' .. held[i + 1]) end
  redis.call('HINCRBY', ARGV[2] .. held[i], 'spent', ARGV[4])
end
redis.call('DEL', of)
redis.call('ZREM', KEYS[1], ARGV[3])
return #held / 2
"""


def connect(url: str) -> Any:
    """A client for `shared:` of cauce.yaml; raises `ConfigError`. Nothing is asked of it yet."""
    try:
        from redis import asyncio as redis  # noqa: PLC0415 - only a gateway that shares its state needs it
    except ModuleNotFoundError as error:
        raise ConfigError("shared: needs the extra `redis`: pip install 'cauce[redis]'") from error
    try:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_WAIT_S,
            socket_timeout=_WAIT_S,
            socket_connect_timeout=_WAIT_S,
            decode_responses=True,
        )
        return redis.Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigError(f"shared: {url.rsplit('@', maxsplit=1)[-1]!r} is no Redis address: {error}") from error


class RedisStore:
    """One client for all budgets. What could not be settled while Redis was away is settled when it is back."""

    def __init__(self, client: Any, *, clock: Callable[[], float] = time.time) -> None:
        from redis.exceptions import ConnectionError as Broken  # noqa: PLC0415 - there is a client: the package is there
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._client = client
        self._clock = clock
        self._errors: tuple[type[Exception], ...] = (RedisError, OSError)
        self._broken: type[Exception] = Broken
        self._claim = client.register_script(_CLAIM)
        self._settle = client.register_script(_SETTLE)
        self._release = client.register_script(_RELEASE + "release(ARGV[3])")
        self._owed: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def claim(self, claim: Claim) -> Claimed:
        """Hold an amount on every line, or on none. Raises `StoreAway`."""
        given: list[Any] = [_OF, _USE, int(self._clock() * 1e6), claim.expires_us, claim.request_id, claim.nano_usd]
        given.append(_KEEP_S)
        for line in claim.lines:
            limit = -1 if line.limit is None else line.limit
            begun = (-1, 0) if line.opening is None else (line.opening.carried, line.opening.spent)
            given += [line.name, limit, *begun]
        state, *rest = await self._run(self._claim, given)
        names = [line.name for line in claim.lines]
        if state < 0:
            return Claimed(unopened=tuple(names[int(number)] for number in rest))
        number, *counts = (int(each) for each in rest)
        uses = {name: Use(*counts[3 * i : 3 * i + 3]) for i, name in enumerate(names)}
        return Claimed("" if state else names[number], (), uses)

    async def release(self, now_us: int) -> None:
        """Let go of reservations past their time, and settle what is owed. Raises `StoreAway`."""
        await self._run(self._release, [_OF, _USE, now_us])
        for request_id, nano_usd in list(self._owed.items()):
            await self._run(self._settle, [_OF, _USE, request_id, nano_usd])
            self._owed.pop(request_id, None)

    async def read(self, names: Sequence[str]) -> Mapping[str, Use]:
        """The periods that have begun, of those named. Raises `StoreAway`."""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(_USE + name, "carried", "spent", "reserved")
                found = await pipe.execute()
        except self._errors as error:
            raise StoreAway(type(error).__name__) from error
        return {n: Use(*map(int, counts)) for n, counts in zip(names, found, strict=True) if None not in counts}

    def settle(self, request_id: str, nano_usd: int) -> None:
        """End the reservations of a request with what it cost. Nobody waits for it."""
        task = asyncio.create_task(self._settle_now(request_id, nano_usd))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """What is being settled first, then the connections."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _settle_now(self, request_id: str, nano_usd: int) -> None:
        try:
            await self._run(self._settle, [_OF, _USE, request_id, nano_usd])
        except StoreAway:
            if len(self._owed) < _MOST_OWED:
                self._owed[request_id] = nano_usd

    async def _run(self, script: Any, given: list[Any]) -> Any:
        """Run a script, and again when a connection broke: asked twice for one request, each does it once."""
        try:
            try:
                return await script(keys=[_HELD], args=given)
            except self._broken:
                return await script(keys=[_HELD], args=given)
        except self._errors as error:
            raise StoreAway(type(error).__name__) from error
