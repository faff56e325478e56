"""After the reply: copies of some requests go to another model, to be judged as answers are, and thrown away.

Through the gate like any call, never awaited by a client, and few at once: a copy that finds no place is left out,
since a sample may lose some and a gateway that is busy with copies may not. What each cost is in the ledger, as a call
of the kind `shadow` under its request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway.errors import GateRefused, UpstreamError
from gateway.gate import Gate
from gateway.stages.call import call_whole, open_door
from gateway.stages.verify import Question, verify, wants_logprobs
from gateway.types import Attempt, Decision, Exchange, Model, Outcome
from gateway.upstreams.base import Upstream

_log = logging.getLogger("cauce.shadow")
_MOST_IN_FLIGHT: Final = 8
_OF_STREAMS: Final = frozenset({"stream", "stream_options"})


class Shadows:
    """The copies that are on their way. `record` writes a finished one down; `crashed` hears of a fault of ours."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        *,
        models: Mapping[str, Model],
        upstreams: Mapping[str, Upstream],
        gate: Gate,
        record: Callable[[Exchange, Attempt], None],
        heard: Callable[[Model, UpstreamError | None], None],
        crashed: Callable[[str, BaseException], None],
        most_in_flight: int = _MOST_IN_FLIGHT,
    ) -> None:
        self._models = models
        self._upstreams = upstreams
        self._gate = gate
        self._record = record
        self._heard = heard
        self._crashed = crashed
        self._most = most_in_flight
        self._tasks: set[asyncio.Task[None]] = set()

    def cast(self, question: Question, decision: Decision, exchange: Exchange) -> None:
        """Send the copy that the decision asks for, to the first model that has not answered; do not wait for it."""
        asked = {attempt.model.id for attempt in exchange.attempts if not attempt.verifies}
        name = next((name for name in decision.shadow if name not in asked), None)
        if name is None:
            return
        if len(self._tasks) >= self._most:
            _log.info("%d shadows are in flight: one is left out", self._most)
            return
        task = asyncio.create_task(self._copy(self._models[name], question, decision, exchange))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._end(ended, exchange.request_id))

    def _end(self, task: asyncio.Task[None], request_id: str) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(request_id, error)

    async def _copy(self, model: Model, question: Question, decision: Decision, exchange: Exchange) -> None:
        body = {name: value for name, value in question.inbound.body.items() if name not in _OF_STREAMS}
        copy = dataclasses.replace(question.inbound, body=body, stream=False)
        checks = decision.route.checks
        try:
            released = open_door(
                copy,
                model,
                gate=self._gate,
                signals=question.signals,
                decision=decision,
                logprobs=wants_logprobs(checks, question),
            )
        except GateRefused:
            return  # the gate has counted it, and no call was made
        attempt = Attempt(
            model, started_ns=time.time_ns(), outcome=Outcome.ABORTED, shadow=True, aside=released.value.aside
        )
        try:
            answer = await call_whole(self._upstreams[model.id], released, attempt)
            self._heard(model, None)
            attempt.verdict = verify(answer, question, checks)
        except UpstreamError as error:
            self._heard(model, error)
        finally:
            self._record(exchange, attempt)

    async def aclose(self) -> None:
        """Break off what is on its way; each is written down as far as it came."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
