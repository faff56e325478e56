"""What callers may still spend: reserve before the call, settle after it, alert on the way.

Each budget counts by the business's days and months, in what is billed (machine time is no money that leaves). The
store (`Store`) decides a claim atomically; this keeps what it last said, for the signal `budget_left`, which costs the
request path a look into a dictionary. A period begins with what the ledger says was spent in it already.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, and_, func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.ledger.book import Answer, Claim, Claimed, Line, Question, Release, Use
from gateway.ledger.entry import SHADOW
from gateway.ledger.prices import MACHINE_TIME
from gateway.ledger.tables import attempts, budget_alerts, budget_use, entries
from gateway.types import Budget, Caller

_log = logging.getLogger("cauce.budgets")
THRESHOLDS: Final = (50, 80, 100)  # per cent
_NANO: Final = 1_000_000_000
_WAIT_S: Final = 2.0
_RELEASE_EVERY_S: Final = 15.0
_NEARLY_NOTHING: Final = 20  # a twentieth
_MOST_KNOWN: Final = 50_000
_MOST_HELD: Final = 100_000 * _NANO  # by one request: what it says it may cost can be any number, a column cannot


@dataclass(frozen=True, slots=True)
class Span:
    """One period of a budget: its name and, except for a total, where it begins and ends (microseconds)."""

    name: str
    start_us: int = 0
    end_us: int | None = None
    before: str = ""  # the period before it


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has passed a threshold, in per cent, for the first time in its period."""

    budget: Budget
    span: Span
    threshold: int
    use: Use


class Short(Exception):
    """A hard budget has too little left. `left` is nano-USD."""

    def __init__(self, budget: Budget, span: Span, left: int) -> None:
        super().__init__(budget.name)
        self.budget = budget
        self.span = span
        self.left = left


class StoreAway(Exception):
    """The store of budgets cannot be asked now."""


class Store(Protocol):
    """Where what is spent and reserved is counted."""

    async def claim(self, claim: Claim) -> Claimed:
        """Hold an amount on every line, or on none. Raises `StoreAway`."""
        ...

    async def release(self, now_us: int) -> None:
        """Let go of reservations past their time. Raises `StoreAway`."""
        ...

    async def read(self, names: Sequence[str]) -> Mapping[str, Use]:
        """The periods that have begun, of those named. Raises `StoreAway`."""
        ...

    def settle(self, request_id: str, nano_usd: int) -> None:
        """End the reservations of a request with what it cost. Nobody waits for it."""
        ...

    async def aclose(self) -> None:
        """Give everything back."""
        ...


class LedgerStore:
    """The ledger's own database (`book.py`). It settles in the transaction that writes the entry."""

    def __init__(self, engine: Engine, ask: Callable[[Question], Awaitable[Answer]]) -> None:
        self._engine = engine
        self._ask = ask

    async def claim(self, claim: Claim) -> Claimed:
        """Hold an amount on every line, or on none. Raises `StoreAway`."""
        answer = await self._answer(claim)
        assert isinstance(answer, Claimed)  # noqa: S101 - a claim's answer
        return answer

    async def release(self, now_us: int) -> None:
        """Let go of reservations past their time. Raises `StoreAway`."""
        await self._answer(Release(now_us))

    async def read(self, names: Sequence[str]) -> Mapping[str, Use]:
        """The periods that have begun, of those named. Raises `StoreAway`."""
        try:
            return await asyncio.to_thread(read_uses, self._engine, names)
        except SQLAlchemyError as error:
            raise StoreAway(type(error).__name__) from error

    def settle(self, request_id: str, nano_usd: int) -> None:
        """It is part of the entry."""

    async def aclose(self) -> None:
        """The ledger is closed by whoever opened it."""

    async def _answer(self, question: Question) -> Answer:
        try:
            async with asyncio.timeout(_WAIT_S):
                return await self._ask(question)
        except OSError as error:  # a timeout is one
            raise StoreAway(str(error) or "no answer in time") from error


class Budgets:
    """The callers' budgets as the request path sees them; `alert` hears of thresholds, in the event loop."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        store: Store,
        engine: Engine,
        *,
        zone: ZoneInfo,
        alert: Callable[[Alert], Awaitable[None]],
        ttl_s: float = 900.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._zone = zone
        self._alert = alert
        self._ttl_us = int(ttl_s * 1e6)
        self._clock = clock
        self._spans: dict[tuple[str, str], Span] = {}
        self._known: dict[str, Use] = {}
        self._named: dict[str, tuple[Budget, Span]] = {}
        self._told: set[tuple[str, int]] = set()
        self._openings: dict[str, asyncio.Task[Use]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_release = 0.0

    def left(self, caller: Caller) -> float | None:
        """USD left to a caller, the least of all budgets over it; nothing when it has none. Never below 0."""
        least: int | None = None
        for budget in caller.budgets:
            use = self._known.get(self.span(budget).name, Use())
            left = budget.nano_usd + use.carried - use.spent - use.reserved
            least = left if least is None else min(least, left)
        return None if least is None else max(0, least) / _NANO

    def span(self, budget: Budget) -> Span:
        """The period of a budget that is now, in the business's time zone."""
        now_us = int(self._clock() * 1e6)
        key = (budget.scope, budget.period)
        span = self._spans.get(key)
        if span is None or not (span.start_us <= now_us and (span.end_us is None or now_us < span.end_us)):
            if len(self._spans) > _MOST_KNOWN:
                self._spans.clear()
            span = self._spans[key] = span_at(budget, now_us, self._zone)
        return span

    async def reserve(self, caller: Caller, request_id: str, nano_usd: int) -> None:
        """Hold an amount on every budget of a caller, or on none. Raises `Short` or `StoreAway`."""
        self._loop = asyncio.get_running_loop()
        nano_usd = min(nano_usd, _MOST_HELD)
        over = {}
        for budget in caller.budgets:
            span = self.span(budget)
            over[span.name] = self._named[span.name] = (budget, span)
        lines = [Line(name, budget.nano_usd if budget.hard else None) for name, (budget, _) in over.items()]
        expires_us = int(self._clock() * 1e6) + self._ttl_us
        claimed = await self._store.claim(Claim(request_id, nano_usd, tuple(lines), expires_us))
        if claimed.unopened:
            begun = await self._begun([over[name] for name in claimed.unopened])
            lines = [Line(line.name, line.limit, begun.get(line.name)) for line in lines]
            claimed = await self._store.claim(Claim(request_id, nano_usd, tuple(lines), expires_us))
        self.saw(claimed.uses)
        if claimed.short:
            budget, span = over[claimed.short]
            use = claimed.uses[claimed.short]
            amount = budget.nano_usd + use.carried
            left = max(0, amount - use.spent - use.reserved)
            if left * _NEARLY_NOTHING <= amount:  # else it is one request that was too dear, not a budget at its end
                self._tell(budget, span, use, THRESHOLDS[-1])
            raise Short(budget, span, left)

    def settle(self, request_id: str, nano_usd: int) -> None:
        """End the reservations of a request with what it cost."""
        self._store.settle(request_id, nano_usd)

    def saw(self, uses: Mapping[str, Use]) -> None:
        """What the store says of some budgets now."""
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known.update(uses)
        for name, use in uses.items():
            if name in self._named:
                budget, span = self._named[name]
                amount = budget.nano_usd + use.carried
                for threshold in THRESHOLDS:
                    if use.spent * 100 >= threshold * amount:
                        self._tell(budget, span, use, threshold)

    def saw_from_thread(self, uses: Mapping[str, Use]) -> None:
        """The same, heard in another thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.saw, uses)

    def shares(self) -> dict[str, tuple[str, float]]:
        """How much of each budget is spent, by the scope's kind and the budget's name; keys' own are left out."""
        shares = {}
        for name, (budget, span) in self._named.items():
            if not budget.scope.startswith("key:") and span is self._spans.get((budget.scope, budget.period)):
                use = self._known.get(name, Use())
                amount = budget.nano_usd + use.carried
                shares[budget.name] = (budget.scope.partition(":")[0], use.spent / amount if amount else 1.0)
        return shares

    async def keep(self) -> None:
        """Follow what other processes spend, and release what they left; to be called every second or so."""
        current = [name for name, (_, span) in self._named.items() if self._is_now(span)]
        self._named = {name: self._named[name] for name in current}
        self._told = {told for told in self._told if told[0] in self._named}
        try:
            if (
                time.monotonic() >= self._next_release
            ):  # also where nobody has a budget: minutes of rates are let go too
                self._next_release = time.monotonic() + _RELEASE_EVERY_S
                await self._store.release(int(self._clock() * 1e6))
            if current:
                self.saw(await self._store.read(current))
        except StoreAway as error:
            _log.error("budgets could not be read, what was last known stays: %s", error)

    async def aclose(self) -> None:
        """Alerts that are on their way go out first."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store.aclose()

    def _is_now(self, span: Span) -> bool:
        return span.end_us is None or self._clock() * 1e6 < span.end_us

    async def _begun(self, wanted: Sequence[tuple[Budget, Span]]) -> dict[str, Use]:
        """What these periods begin with, read once however many requests ask for it at the same time."""
        for budget, span in wanted:
            if span.name not in self._openings:
                task = asyncio.create_task(asyncio.to_thread(opening, self._engine, budget, span))
                self._openings[span.name] = task
                task.add_done_callback(functools.partial(self._opened, span.name))
        reading = {span.name: self._openings[span.name] for _, span in wanted}
        try:
            async with asyncio.timeout(_WAIT_S):
                return {name: await asyncio.shield(task) for name, task in reading.items()}
        except (SQLAlchemyError, TimeoutError) as error:
            raise StoreAway(type(error).__name__) from error

    def _opened(self, name: str, _done: asyncio.Task[Use]) -> None:
        self._openings.pop(name, None)

    def _tell(self, budget: Budget, span: Span, use: Use, threshold: int) -> None:
        if (span.name, threshold) in self._told:
            return
        self._told.add((span.name, threshold))
        task = asyncio.create_task(self._first_tell(Alert(budget, span, threshold, use)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _first_tell(self, alert: Alert) -> None:
        """Once for all processes: whoever writes it down first sends it."""
        try:
            first = await asyncio.to_thread(_note, self._engine, alert, int(self._clock() * 1e6))
        except SQLAlchemyError:
            self._told.discard((alert.span.name, alert.threshold))  # the next look tells it
            return
        if first:
            await self._alert(alert)


def span_at(budget: Budget, at_us: int, zone: ZoneInfo) -> Span:
    """The period of a budget that holds a moment: a day or a month as the business's clocks show it."""
    if budget.period == "total":
        return Span(budget.name)
    moment = dt.datetime.fromtimestamp(at_us / 1e6, zone)
    day = dt.datetime(moment.year, moment.month, moment.day, tzinfo=zone)
    if budget.period == "day":
        start, end, before, form = day, _next_day(day), _next_day(day, -1), "%Y-%m-%d"
    else:
        start = day.replace(day=1)
        end = (start + dt.timedelta(days=32)).replace(day=1)
        before, form = (start - dt.timedelta(days=1)).replace(day=1), "%Y-%m"
    return Span(
        f"{budget.name}/{start.strftime(form)}",
        int(start.timestamp() * 1e6),
        int(end.timestamp() * 1e6),
        f"{budget.name}/{before.strftime(form)}",
    )


def _next_day(day: dt.datetime, step: int = 1) -> dt.datetime:
    return day + dt.timedelta(days=step)  # by the calendar: a day with a clock change has 23 or 25 hours


def opening(engine: Engine, budget: Budget, span: Span) -> Use:
    """What a period begins with: what was spent in it already, and what is carried over from the one before."""
    spent = spent_in(engine, budget, span.start_us, span.end_us)
    if not budget.carry_over or not span.before or budget.since_us >= span.start_us:
        return Use(spent=spent)
    before = read_uses(engine, [span.before]).get(span.before, Use())
    return Use(carried=min(budget.nano_usd, max(0, budget.nano_usd + before.carried - before.spent)), spent=spent)


def spent_in(engine: Engine, budget: Budget, start_us: int, end_us: int | None) -> int:
    """What the ledger says was billed to a budget's scope in a stretch of time; copies and machine time left out."""
    wanted = [_of(budget.scope), entries.c.time_us >= start_us]
    if end_us is not None:
        wanted.append(entries.c.time_us < end_us)
    billed = and_(attempts.c.kind != SHADOW, attempts.c.price_source != MACHINE_TIME)
    total = func.coalesce(func.sum(attempts.c.cost_nano_usd), 0)
    joined = entries.join(attempts, attempts.c.request_id == entries.c.request_id)
    with engine.connect() as connection:
        return int(connection.execute(select(total).select_from(joined).where(*wanted, billed)).scalar_one())


def _of(scope: str) -> ColumnElement[bool]:
    """The entries of a scope."""
    kind, _, path = scope.partition(":")
    if kind == "key":
        return entries.c.caller == path
    if kind == "org":
        return entries.c.org == path
    names = path.split("/")
    if kind == "team":
        org, team = ("", *names)[-2:]
        return and_(entries.c.org == org, entries.c.team == team)
    org, team, app = ("", "", *names)[-3:]
    return and_(entries.c.org == org, entries.c.team == team, entries.c.app == app)


def read_uses(engine: Engine, names: Sequence[str]) -> dict[str, Use]:
    """What was counted for some periods."""
    c = budget_use.c
    wanted = select(c.name, c.carried_nano_usd, c.spent_nano_usd, c.reserved_nano_usd).where(c.name.in_(names))
    with engine.connect() as connection:
        return {name: Use(*counts) for name, *counts in connection.execute(wanted)}


def _note(engine: Engine, alert: Alert, now_us: int) -> bool:
    """Write down that an alert is being sent; false when it was sent before."""
    row = insert(budget_alerts).values(name=alert.span.name, threshold=alert.threshold, time_us=now_us)
    try:
        with engine.begin() as connection:
            connection.execute(row)
    except IntegrityError:
        return False
    return True
