"""One rung of the ladder: one model, asked through the gate, asked again or twice where that may help.

Every call is an attempt of its own in the story, booked before it is made: a retry, a hedge and its loser too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.errors import UpstreamError
from gateway.gate import Gate, Released
from gateway.ledger.entry import HEDGE, RETRY
from gateway.opened import Opened, held_chars, hold, leave, mode_of
from gateway.retries import Budget, Pace, again, race, worth_it
from gateway.sse import Relay
from gateway.stages.call import answering, begin, call_whole, end, open_door
from gateway.stages.verify import Question, wants_logprobs
from gateway.types import Answer, Attempt, Decision, Exchange, Model, Outcome, Usage
from gateway.upstreams.base import Call, Upstream

T = TypeVar("T")
OUTRUN: Final = "outrun"  # how the loser of a hedge ended
_CHARS_PER_TOKEN: Final = 4  # of an answer whose provider counts nothing, as in `signals/shape.py`
Answered = tuple[Answer, Attempt]
Heard = Callable[[Model, UpstreamError | None], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rung is asked: the question, with a draft of the rung below where the route says so."""

    question: Question
    decision: Decision
    exchange: Exchange


class _Model:
    """What is remembered of one model between requests."""

    __slots__ = ("budget", "streams", "wholes")

    def __init__(self) -> None:
        self.budget = Budget()
        self.streams = Pace()
        self.wholes = Pace()


class Rungs:
    """Every rung that there is, wired by `app.py`. `heard` takes note of how each call went."""

    def __init__(
        self, *, models: Mapping[str, Model], upstreams: Mapping[str, Upstream], gate: Gate, heard: Heard
    ) -> None:
        self._models = models
        self._upstreams = upstreams
        self._gate = gate
        self.heard = heard
        self._kept = {name: _Model() for name in models}

    async def whole(self, name: str, asked: Asked, *, spare: str | None) -> Answered:
        """The whole answer of one rung; `spare` is the next one, if there is one. Raises `UpstreamError`."""

        async def once(name: str, number: int, role: str) -> Answered:
            upstream, released, attempt = self._open(name, asked, number, role)
            try:
                answer = await call_whole(upstream, released, attempt)
            except UpstreamError as error:
                self.heard(attempt.model, error)
                raise
            self.heard(attempt.model, None)
            attempt.usage = answer.usage or _counted(answer, asked.question)
            self._kept[name].wholes.add(attempt.seconds)
            return answer, attempt

        return await self._asked(name, once, asked, spare, pace=self._kept[name].wholes, drop=_outran)

    async def streamed(self, name: str, asked: Asked, *, spare: str | None) -> Opened:
        """A stream that has begun, read until it may be judged. Raises `UpstreamError`; what it held is closed then."""

        async def once(name: str, number: int, role: str) -> Opened:
            upstream, released, attempt = self._open(name, asked, number, role)
            mode = mode_of(asked.decision.route, last=spare is None)
            relay = Relay(include_usage=asked.question.inbound.include_usage, collect_chars=held_chars(mode))
            opened = Opened(attempt, upstream.stream(released), relay, mode)
            try:
                await hold(opened)
            except UpstreamError as error:
                end(attempt, error.code)
                self.heard(attempt.model, error)
                await leave(opened, asked.question)
                raise
            except BaseException:
                await leave(opened, asked.question)
                raise
            attempt.first_token_seconds = time.monotonic() - attempt.began
            self._kept[name].streams.add(attempt.first_token_seconds)
            return opened

        async def drop(opened: Opened) -> None:
            await leave(opened, asked.question)
            opened.attempt.outcome = OUTRUN

        return await self._asked(name, once, asked, spare, pace=self._kept[name].streams, drop=drop)

    async def _asked(  # noqa: PLR0913 - the two kinds of answer differ in `once`, `pace` and `drop`
        self,
        name: str,
        once: Callable[[str, int, str], Coroutine[Any, Any, T]],
        asked: Asked,
        spare: str | None,
        *,
        pace: Pace,
        drop: Callable[[T], Awaitable[None]],
    ) -> T:
        """One call, hedged where the model's settings say so, and made again where that may help."""
        model, budget = self._models[name], self._kept[name].budget
        budget.earn()
        try:
            other = {"replica": name, "rung": spare}.get(model.hedge)
            if other is None or pace.p95 is None:
                return await once(name, 0, "")
            begun = len(asked.exchange.attempts)
            try:
                return await race(
                    once(name, 0, ""),
                    lambda: once(other, 1, HEDGE) if budget.spend() else None,
                    after_s=pace.p95,
                    drop=drop,
                )
            finally:
                _bill(asked.exchange.attempts[begun:], asked.question)
        except UpstreamError as error:
            if not worth_it(error, model.retries, last=spare is None):
                raise
            return await again(
                error,
                lambda number: once(name, number, RETRY),
                retries=model.retries,
                budget=budget,
                last=spare is None,
            )

    def _open(self, name: str, asked: Asked, number: int, role: str) -> tuple[Upstream, Released[Call], Attempt]:
        """One rung's upstream, the request released to it, and the attempt booked for it."""
        model, inbound = self._models[name], asked.question.inbound
        released = open_door(
            inbound,
            model,
            gate=self._gate,
            signals=asked.question.signals,
            decision=asked.decision,
            logprobs=0 if inbound.stream else wants_logprobs(asked.decision.route.checks, asked.question),
            number=number,
        )
        upstream = answering(self._upstreams[name], inbound, asked.decision)
        return upstream, released, begin(asked.exchange, model, released.value.aside, role)


async def _outran(result: Answered) -> None:
    """Two answers came at the same moment: one is sent, both are paid for."""
    result[1].outcome = OUTRUN


def _counted(answer: Answer, question: Question) -> Usage:
    """What a whole answer used whose provider did not say: by its characters, marked as an estimate."""
    return Usage(question.signals.prompt_tokens, -(-len(answer.text) // _CHARS_PER_TOKEN), estimated=True)


def _bill(attempts: list[Attempt], question: Question) -> None:
    """A race is over. Who was broken off in it had the prompt at least, and is paid for that much, as an estimate."""
    task = asyncio.current_task()
    left = task is not None and task.cancelling() > 0  # the client has: nobody has lost
    for attempt in attempts:
        broken_off = attempt.outcome == Outcome.ABORTED and attempt.seconds > 0  # a stream that goes on has no time yet
        if broken_off and not left:
            attempt.outcome = OUTRUN
            attempt.usage = attempt.usage or Usage(question.signals.prompt_tokens, 0, estimated=True)
