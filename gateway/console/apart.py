"""Long computations in a process of their own, one at a time: a proof or a simulation must not slow a request down.

A thread would share the interpreter's lock with the requests; a process has its own, at a lower priority, and can be
ended when it takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from gateway.errors import CauceError

T = TypeVar("T")
LIMIT_S: Final = 120.0
_SPAWN: Final = multiprocessing.get_context("spawn")
_one_at_a_time: Final = asyncio.Lock()


class TooLong(Exception):
    """It was ended after its time."""


async def apart(
    function: Callable[..., T], *arguments: Any, limit_s: float = LIMIT_S, line: asyncio.Lock = _one_at_a_time
) -> T:
    """What the function gives. It, its arguments and what it gives must be picklable; its `CauceError` is raised here.
    `line` is where it waits for its turn: the console's, unless it is another's.

    Raises `TooLong` after `limit_s` seconds, waiting for others included.
    """
    try:
        async with asyncio.timeout(limit_s), line:
            return await _run(function, arguments)
    except TimeoutError:
        raise TooLong(
            f"this took more than {limit_s:g} s and was ended: choose a shorter period, or use the command line"
        ) from None


async def _run(function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(theirs, function, arguments), daemon=True)
    try:
        await asyncio.to_thread(process.start)
        theirs.close()
        good, value = await asyncio.to_thread(ours.recv)
    except EOFError:
        raise TooLong("the computation ended without a result: the machine may be out of memory") from None
    finally:
        if process.pid is not None:
            process.kill()  # a thread that still waits for it gets the end of its pipe
            await asyncio.to_thread(process.join)
        ours.close()
    if not good:
        raise value
    result: T = value
    return result


def _work(pipe: Connection, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        pipe.send((True, function(*arguments)))
    except CauceError as error:
        pipe.send((False, error))
