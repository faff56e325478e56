"""What a running gateway looks at now and then for its metrics: the month so far, and whether the audit is whole.

Neither is on a request's path: the month is a look at an index in a thread every ten seconds, the audit is read in a
process of its own at a low priority (`console/apart.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.console.apart import TooLong, apart
from gateway.console.computing import verify
from gateway.errors import CauceError
from gateway.ledger.month import month_so_far
from gateway.telemetry.logs import fields
from gateway.telemetry.metrics import Metrics

_log = logging.getLogger("cauce.watch")
_MONTH_S: Final = 10.0
_SHARE: Final = 100  # a look that took long is followed by a rest a hundred times as long
_FIRST_CHECK_S: Final = 600.0  # after the start, which is busy enough
_LONGEST_CHECK_S: Final = 3_600.0


class Watch:
    """Two loops, from start to stop. `check_s` is the time between two checks of the audit, 0: never."""

    def __init__(self, engine: Engine, *, ledger: str, zone: ZoneInfo, metrics: Metrics, check_s: float) -> None:
        self._engine = engine
        self._ledger = ledger
        self._zone = zone
        self._metrics = metrics
        self._check_s = check_s
        self._line = asyncio.Lock()  # its own: nobody at the console waits for it
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks.append(asyncio.create_task(self._follow_month()))
        if self._check_s:
            self._tasks.append(asyncio.create_task(self._check_audit()))

    async def aclose(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def _follow_month(self) -> None:
        while True:
            began = time.monotonic()
            try:
                month = await asyncio.to_thread(month_so_far, self._engine, self._zone, dt.datetime.now(dt.UTC))
            except (SQLAlchemyError, OSError) as error:  # the ledger says so itself; the figures stay as they are
                _log.info("the month could not be read", extra=fields(error=type(error).__name__))
            else:
                self._metrics.see_month(month)
            await asyncio.sleep(max(_MONTH_S, (time.monotonic() - began) * _SHARE))

    async def _check_audit(self) -> None:
        await asyncio.sleep(min(self._check_s, _FIRST_CHECK_S))
        while True:
            try:
                found = await apart(verify, self._ledger, limit_s=_LONGEST_CHECK_S, line=self._line)
            except (CauceError, TooLong, OSError) as error:
                _log.warning("the audit could not be checked", extra=fields(error=type(error).__name__))
            else:
                self._metrics.audit_problems.set(found["problem_count"])
                if found["problem_count"]:
                    _log.error(
                        "the audit's chain is not whole: cauce audit verify says where",
                        extra=fields(problems=found["problem_count"]),
                    )
            await asyncio.sleep(self._check_s)
