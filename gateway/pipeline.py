"""The life of a request: classify > decide > recall > reserve > call > verify (escalate) > reply > record.

`receive` has happened (`wire/chat.py`) and `reply` happens on the wire; between them, this page is the product.
An entry is recorded before the last byte of a reply is sent: whoever has seen a whole answer finds it in the ledger,
also after a crash.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.cache.conversations import Conversations
from gateway.cache.store import Kept
from gateway.climb import Climb, nothing_allowed
from gateway.errors import InternalError, UpstreamError
from gateway.gate import Gate
from gateway.opened import Opened, close, usage_of
from gateway.opinions import Opinions
from gateway.policy.decide import decide
from gateway.policy.rules import Policy
from gateway.rungs import Asked, Rungs
from gateway.shadows import Shadows
from gateway.sse import error_event
from gateway.stages.call import PSEUDONYMISED, end
from gateway.stages.classify import Classifier, Moment, Unread
from gateway.stages.pseudonymise import UNPLACED, Pseudonymiser, masked_request
from gateway.stages.recall import Recall
from gateway.stages.reserve import Purse
from gateway.stages.verify import Question
from gateway.types import (
    CacheState,
    DataClass,
    Decision,
    Exchange,
    Inbound,
    Masked,
    Model,
    Outcome,
    Part,
    Signals,
)
from gateway.upstreams.base import Upstream
from gateway.upstreams.failures import leave_out_quotes

_KEEP_STREAM_BYTES = 1_000_000
_BROKEN_OFF = frozenset({Outcome.ABORTED, Outcome.FAILED})


class Recorder(Protocol):
    """The end of every request."""

    def record(self, exchange: Exchange) -> Awaitable[None]:
        """Write the story down; done when it would survive a crash. Never raises: its own failure is counted."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A reply in one piece."""

    body: bytes


@dataclass(frozen=True, slots=True)
class Streamed:
    """A reply in pieces: each item goes out at once. Closing it ends the upstream call."""

    chunks: AsyncGenerator[bytes, None]


Reply = Whole | Streamed


class Pipeline:
    """All that a request passes through, wired by `app.py`."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        *,
        classifier: Classifier,
        policy: Callable[[], Policy],
        models: Mapping[str, Model],
        upstreams: Mapping[str, Upstream],
        gate: Gate,
        recall: Recall,
        recorder: Recorder,
        language: Callable[[str], str],
        moment: Callable[[Inbound], Moment],
        heard: Callable[[Model, UpstreamError | None], None],
        pseudonymiser: Pseudonymiser | None = None,
        conversations: Conversations | None = None,
        shadows: Shadows | None = None,
        opinions: Opinions | None = None,
        checker: Callable[[str, str], float | None] | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._classifier = classifier
        self._policy = policy
        self._models = models
        self._climb = Climb(Rungs(models=models, upstreams=upstreams, gate=gate, heard=heard), opinions=opinions)
        self._recall = recall
        self._recorder = recorder
        self._language = language
        self._moment = moment
        self._heard = heard
        self._pseudonymiser = pseudonymiser
        self._conversations = conversations
        self._shadows = shadows
        self._checker = checker
        self._purse = purse

    async def run(self, inbound: Inbound, exchange: Exchange) -> Reply:
        """Answer a request, or raise `CauceError`. A whole reply is recorded on return, a stream at its end."""
        signals, policy = self.classify(inbound, exchange)
        decision = self._decide(inbound, signals, policy, exchange)
        exchange.cache, key, kept = self._recall.look(inbound, signals, decision)
        if kept is None and decision.ladder and inbound.caller.budgets and self._purse is not None:
            signals, decided = await self._purse.reserve(
                inbound,
                signals,
                decision,
                exchange,
                again=lambda poorer: self._decide(inbound, poorer, policy, exchange),
            )
            if decided is not decision:
                decision = decided
                exchange.cache, key, kept = self._recall.look(inbound, signals, decision)
        if kept is not None:
            self._hold(kept.model, inbound, decision)
            return await self._replay(kept, exchange)
        if decision.masked is not None:
            inbound, decision = self._mask(inbound, signals, decision, policy, exchange)
        if not decision.ladder:
            raise nothing_allowed(decision)
        scan = partial(self._class_of, inbound, unread=unread_of(policy))
        question = Question(inbound, signals, self._language, self._checker, scan)
        asked = Asked(question, decision, exchange)
        if inbound.stream:
            opened = await self._climb.streamed(asked)
            return Streamed(self._relay(opened, key, question, decision, exchange))
        answer, attempt = await self._climb.whole(asked)
        if exchange.cache is CacheState.MISS and attempt.verdict.accepted:
            self._recall.keep(key, Kept(answer.body, attempt.model, answer.usage), signals, decision)
        exchange.outcome, exchange.status = Outcome.OK, 200
        self._hold(attempt.model, question.inbound, decision)
        await self._recorder.record(exchange)
        self._copy(question, decision, exchange)
        return Whole(answer.body)

    def _hold(self, model: Model, inbound: Inbound, decision: Decision) -> None:
        """A sticky rule keeps a conversation where a large model has answered it."""
        if decision.holds and model.kind == "llm" and self._conversations is not None:
            self._conversations.hold(inbound, decision.rule)

    def _copy(self, question: Question, decision: Decision, exchange: Exchange) -> None:
        """After the reply, a copy goes where the rule wants one; nobody waits for it."""
        if decision.shadow and self._shadows is not None:
            self._shadows.cast(question, decision, exchange)

    def choose(self, inbound: Inbound, exchange: Exchange) -> tuple[Signals, Decision]:
        """classify and decide: under one policy, which the request keeps. No call is made."""
        signals, policy = self.classify(inbound, exchange)
        return signals, self._decide(inbound, signals, policy, exchange)

    def _decide(self, inbound: Inbound, signals: Signals, policy: Policy, exchange: Exchange) -> Decision:
        decision = decide(signals, policy=policy, models=self._models, requested=inbound.model)
        exchange.decision = decision
        return decision

    def _mask(
        self, inbound: Inbound, signals: Signals, decision: Decision, policy: Policy, exchange: Exchange
    ) -> tuple[Inbound, Decision]:
        """pseudonymise what may leave only so; where that cannot be done, leave out the models beyond the ceiling."""
        started, unread = time.perf_counter(), unread_of(policy)
        made: Masked | str = UNPLACED
        if self._pseudonymiser is not None:
            detect = partial(self._classifier.detect, unread=unread)
            made = self._pseudonymiser.mask(inbound, signals, detect)
        exchange.classify_seconds += time.perf_counter() - started
        inbound, decision = masked_request(made, inbound, decision, self._models)
        exchange.inbound, exchange.decision = inbound, decision
        exchange.transform = PSEUDONYMISED if inbound.masked is not None else str(made)
        return inbound, decision

    def classify(self, inbound: Inbound, exchange: Exchange) -> tuple[Signals, Policy]:
        """classify, and the policy that the request keeps."""
        policy = self._policy()
        started = time.perf_counter()
        signals = self._classifier.classify(inbound, unread=unread_of(policy), moment=self._moment(inbound))
        exchange.classify_seconds = time.perf_counter() - started
        exchange.signals = signals
        return signals, policy

    def _class_of(self, inbound: Inbound, text: str, *, unread: Unread) -> DataClass:
        """The class of what a model said. Never raises."""
        said = dataclasses.replace(inbound, parts=(Part("assistant", text),), opaque=())
        return self._classifier.detect(said, self._language(text), unread).data

    async def _replay(self, kept: Kept, exchange: Exchange) -> Whole:
        exchange.outcome, exchange.status = Outcome.CACHED, 200
        exchange.cached_usage, exchange.cached_model = kept.usage, kept.model
        await self._recorder.record(exchange)
        return Whole(kept.body)

    async def _relay(
        self, opened: Opened, key: bytes, question: Question, decision: Decision, exchange: Exchange
    ) -> AsyncGenerator[bytes, None]:
        """The stream's bytes as they come; the entry is recorded before `[DONE]` is sent."""
        attempt, relay = opened.attempt, opened.relay
        copy = _Copy(exchange.cache is CacheState.MISS and attempt.verdict.accepted)
        exchange.outcome, exchange.status = Outcome.ABORTED, 200
        try:
            for piece in opened.held:
                copy.add(piece)
                yield piece
            async for block in opened.blocks:
                if piece := relay.feed(block):
                    copy.add(piece)
                    yield piece
            exchange.outcome = Outcome.OK
            attempt.usage = usage_of(opened, question)
            end(attempt)
            self._heard(attempt.model, None)
            if copy.whole:
                body = b"".join((*copy.pieces, relay.done_bytes))
                self._recall.keep(key, Kept(body, attempt.model, attempt.usage), question.signals, decision)
        except UpstreamError as error:
            exchange.outcome, exchange.code = Outcome.CUT, error.code
            end(attempt, error.code)
            attempt.usage = usage_of(opened, question)
            self._heard(attempt.model, error)
            await self._recorder.record(exchange)
            leave_out_quotes(error, question.inbound.parts)
            yield error_event(error, exchange.request_id)
            return
        except Exception:  # a fault of ours
            exchange.outcome, exchange.code = Outcome.FAILED, InternalError.code
            raise
        finally:
            await close(opened.blocks)
            if exchange.outcome in _BROKEN_OFF:
                end(attempt, Outcome.ABORTED)
                attempt.usage = usage_of(opened, question)
                await self._recorder.record(exchange)
        self._hold(attempt.model, question.inbound, decision)
        await self._recorder.record(exchange)
        yield relay.done_bytes
        self._copy(question, decision, exchange)


class _Copy:
    """A stream's bytes as they were sent, for the cache; given up when there are too many."""

    __slots__ = ("pieces", "size", "whole")

    def __init__(self, wanted: bool) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.whole = wanted

    def add(self, piece: bytes) -> None:
        if not self.whole:
            return
        self.size += len(piece)
        if self.size > _KEEP_STREAM_BYTES:
            self.whole, self.pieces = False, []
            return
        self.pieces.append(piece)


def unread_of(policy: Policy) -> Unread:
    """How a policy wants a text read."""
    return Unread(policy.unreadable, policy.failure, policy.operating_point)
