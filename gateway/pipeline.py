"""The life of a request: classify > decide > recall > call > verify (escalate) > reply > record.

`receive` has happened (`wire/chat.py`) and `reply` happens on the wire; between them, this page is the product.
An entry is recorded before the last byte of a reply is sent: whoever has seen a whole answer finds it in the ledger,
also after a crash.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.cache.conversations import Conversations
from gateway.cache.store import Kept
from gateway.drafts import with_draft
from gateway.errors import CauceError, NothingAllowed, UpstreamError, UpstreamRejected
from gateway.gate import Gate, Released
from gateway.opinions import Opinions, asks
from gateway.policy.decide import decide
from gateway.policy.rules import Policy
from gateway.shadows import Shadows
from gateway.sse import Relay, error_event
from gateway.stages.call import begin, call_whole, end, open_door
from gateway.stages.classify import Classifier, Moment, Unread
from gateway.stages.recall import Recall
from gateway.stages.verify import Question, verify, verify_early, wants_logprobs
from gateway.types import (
    ACCEPTED,
    Answer,
    Attempt,
    CacheState,
    Decision,
    Exchange,
    Inbound,
    Mode,
    Model,
    Outcome,
    Route,
    Signals,
    Usage,
    Verdict,
)
from gateway.upstreams.base import Call, Upstream
from gateway.upstreams.failures import leave_out_quotes

_WINDOW_CHARS = 160  # what a windowed stream holds back: enough to tell the language and an empty answer
_BUFFER_CHARS = 400_000
_CHARS_PER_TOKEN = 4  # of an answer whose provider counts nothing, as in `signals/shape.py`
_MOST_HELD_BYTES = 8_000_000  # a longer stream is judged by its beginning
_KEEP_STREAM_BYTES = 1_000_000


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


@dataclass(slots=True)
class _Opened:
    """A stream that an upstream has begun: what was read of it so far, and how to read on."""

    attempt: Attempt
    blocks: AsyncIterator[bytes]
    relay: Relay
    held: list[bytes] = field(default_factory=list)


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
        conversations: Conversations | None = None,
        shadows: Shadows | None = None,
        opinions: Opinions | None = None,
        checker: Callable[[str, str], float | None] | None = None,
    ) -> None:
        self._classifier = classifier
        self._policy = policy
        self._models = models
        self._upstreams = upstreams
        self._gate = gate
        self._recall = recall
        self._recorder = recorder
        self._language = language
        self._moment = moment
        self._heard = heard
        self._conversations = conversations
        self._shadows = shadows
        self._opinions = opinions
        self._checker = checker

    async def run(self, inbound: Inbound, exchange: Exchange) -> Reply:
        """Answer a request, or raise `CauceError`. A whole reply is recorded on return, a stream at its end."""
        signals, decision = self.choose(inbound, exchange)
        exchange.cache, key, kept = self._recall.look(inbound, signals, decision)
        if kept is not None:
            self._hold(kept.model, inbound, decision)
            return await self._replay(kept, exchange)
        if not decision.ladder:
            raise _nothing_allowed(decision)
        question = Question(inbound, signals, self._language, self._checker)
        if inbound.stream:
            opened = await self._climb_streamed(question, decision, exchange)
            return Streamed(self._relay(opened, key, question, decision, exchange))
        answer, attempt = await self._climb_whole(question, decision, exchange)
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
        decision = decide(signals, policy=policy, models=self._models, requested=inbound.model)
        exchange.decision = decision
        return signals, decision

    def classify(self, inbound: Inbound, exchange: Exchange) -> tuple[Signals, Policy]:
        """classify, and the policy that the request keeps."""
        policy = self._policy()
        started = time.perf_counter()
        unread = Unread(policy.unreadable, policy.failure, policy.operating_point)
        signals = self._classifier.classify(inbound, unread=unread, moment=self._moment(inbound))
        exchange.classify_seconds = time.perf_counter() - started
        exchange.signals = signals
        return signals, policy

    async def _replay(self, kept: Kept, exchange: Exchange) -> Whole:
        exchange.outcome, exchange.status = Outcome.CACHED, 200
        exchange.cached_usage, exchange.cached_model = kept.usage, kept.model
        await self._recorder.record(exchange)
        return Whole(kept.body)

    # --- whole answers ----------------------------------------------------------------------------------------------

    async def _climb_whole(self, question: Question, decision: Decision, exchange: Exchange) -> tuple[Answer, Attempt]:
        """Up the ladder until an answer passes; a turned-down answer is better than none."""
        draft: tuple[Answer, Attempt] | None = None
        failure: UpstreamError | None = None
        checks = decision.route.checks
        logprobs = wants_logprobs(checks, question)
        for name in decision.ladder:
            upstream, released, attempt = self._open(name, question, decision, exchange, logprobs=logprobs)
            try:
                answer = await call_whole(upstream, released, attempt)
            except UpstreamError as error:
                failure = error
                self._heard(attempt.model, error)
                if _is_the_requests_fault(error):
                    break
                continue
            self._heard(attempt.model, None)
            attempt.usage = answer.usage or _counted(answer, question)
            draft = answer, attempt
            attempt.verdict = verify(answer, question, checks) if checks else ACCEPTED
            if attempt.verdict.accepted and name != decision.ladder[-1]:
                attempt.verdict = await self._asked(answer, attempt, question, decision, exchange)
            if attempt.verdict.accepted:
                break
            question = self._with_draft(question, answer, attempt, decision)
        if draft is not None:
            return draft
        raise failure or _nothing_allowed(decision)

    async def _asked(
        self, answer: Answer, attempt: Attempt, question: Question, decision: Decision, exchange: Exchange
    ) -> Verdict:
        """What the route's checks that make calls say; the verdict as it is where it has none."""
        if self._opinions is None or not asks(decision):
            return attempt.verdict
        return await self._opinions.ask(answer, attempt, question, decision, exchange)

    @staticmethod
    def _with_draft(question: Question, answer: Answer, attempt: Attempt, decision: Decision) -> Question:
        """The question with the answer that was turned down, for the next rung, where the route says so."""
        return with_draft(question, answer, attempt.verdict) if decision.route.draft else question

    def _open(
        self, name: str, question: Question, decision: Decision, exchange: Exchange, *, logprobs: int = 0
    ) -> tuple[Upstream, Released[Call], Attempt]:
        """One rung's upstream, the request released to it, and the attempt booked for it."""
        model = self._models[name]
        released = open_door(
            question.inbound, model, gate=self._gate, signals=question.signals, decision=decision, logprobs=logprobs
        )
        return self._upstreams[name], released, begin(exchange, model, released.value.aside)

    # --- streams ----------------------------------------------------------------------------------------------------

    async def _climb_streamed(self, question: Question, decision: Decision, exchange: Exchange) -> _Opened:
        """The first stream that begins well: until its first token, a failure is invisible to the client.

        One that was turned down stays open until a better one has begun: it is what is sent when none does.
        """
        begun: list[_Opened] = []
        draft: _Opened | None = None
        chosen: _Opened | None = None
        failure: UpstreamError | None = None
        last = decision.ladder[-1]
        try:
            for name in decision.ladder:
                mode = _mode(decision.route, last=name == last)
                upstream, released, attempt = self._open(name, question, decision, exchange)
                relay = Relay(include_usage=question.inbound.include_usage, collect_chars=_held_chars(mode))
                opened = _Opened(attempt, upstream.stream(released), relay)
                begun.append(opened)
                try:
                    await _hold(opened, mode)
                except UpstreamError as error:
                    failure = error
                    end(attempt, error.code)
                    self._heard(attempt.model, error)
                    if _is_the_requests_fault(error):
                        break
                    continue
                attempt.first_token_seconds = time.monotonic() - attempt.began
                draft = opened
                attempt.verdict = _judge(opened, mode, question, decision)
                if attempt.verdict.accepted and mode is Mode.BUFFERED and name != last:
                    attempt.verdict = await self._asked(_heard_so_far(opened), attempt, question, decision, exchange)
                if attempt.verdict.accepted:
                    break
                question = self._with_draft(question, _heard_so_far(opened), attempt, decision)
            chosen = draft
        finally:
            for opened in begun:
                if opened is not chosen:
                    await _leave(opened, question)
        if chosen is None:
            raise failure or _nothing_allowed(decision)
        return chosen

    async def _relay(
        self, opened: _Opened, key: bytes, question: Question, decision: Decision, exchange: Exchange
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
            attempt.usage = _usage(opened, question)
            end(attempt)
            self._heard(attempt.model, None)
            if copy.whole:
                body = b"".join((*copy.pieces, relay.done_bytes))
                self._recall.keep(key, Kept(body, attempt.model, attempt.usage), question.signals, decision)
        except UpstreamError as error:
            exchange.outcome, exchange.code = Outcome.CUT, error.code
            end(attempt, error.code)
            attempt.usage = _usage(opened, question)
            self._heard(attempt.model, error)
            await self._recorder.record(exchange)
            leave_out_quotes(error, question.inbound.parts)
            yield error_event(error, exchange.request_id)
            return
        finally:
            await _close(opened.blocks)
            if exchange.outcome is Outcome.ABORTED:
                end(attempt, Outcome.ABORTED)
                attempt.usage = _usage(opened, question)
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


def _mode(route: Route, *, last: bool) -> Mode:
    """How a rung's stream is sent. Nothing is held back on the last rung: there is nowhere to escalate to."""
    if route.mode is not None and not (last and route.mode is Mode.WINDOWED):
        return route.mode
    return Mode.WINDOWED if route.checks and not last else Mode.STREAMED


def _held_chars(mode: Mode) -> int:
    """How much of the text a stream in this mode collects for its checks."""
    return {Mode.STREAMED: 0, Mode.WINDOWED: 2 * _WINDOW_CHARS, Mode.BUFFERED: _BUFFER_CHARS}[mode]


async def _hold(opened: _Opened, mode: Mode) -> None:
    """Read until the stream may be judged: its first token, its first window, or its end."""
    relay, held_bytes = opened.relay, 0
    async for block in opened.blocks:
        if piece := relay.feed(block):
            opened.held.append(piece)
            held_bytes += len(piece)
        if relay.done or held_bytes > _MOST_HELD_BYTES:
            return
        if mode is Mode.STREAMED and relay.content_events:
            return
        if mode is Mode.WINDOWED and len(relay.text) >= _WINDOW_CHARS:
            return


def _judge(opened: _Opened, mode: Mode, question: Question, decision: Decision) -> Verdict:
    relay, checks = opened.relay, decision.route.checks
    if not checks or mode is Mode.STREAMED:
        return ACCEPTED
    answer = _heard_so_far(opened)
    if relay.done:
        return verify(answer, question, checks)
    return verify_early(answer, question, checks)


def _heard_so_far(opened: _Opened) -> Answer:
    """What a stream has said, as an answer."""
    relay = opened.relay
    return Answer(b"", relay.text, relay.finish_reason or "stop", relay.usage, relay.tool_calls)


def _usage(opened: _Opened, question: Question) -> Usage | None:
    """What the stream used: as the provider said, else counted from what came and marked as an estimate."""
    relay = opened.relay
    if relay.usage is not None:
        return relay.usage
    if not relay.content_events:
        return None
    return Usage(question.signals.prompt_tokens, relay.content_events, estimated=True)


def _counted(answer: Answer, question: Question) -> Usage:
    """What a whole answer used whose provider did not say: by its characters, marked as an estimate."""
    return Usage(question.signals.prompt_tokens, -(-len(answer.text) // _CHARS_PER_TOKEN), estimated=True)


async def _leave(opened: _Opened, question: Question) -> None:
    """Close a stream that is not sent; what it has brought was used all the same."""
    attempt = opened.attempt
    await _close(opened.blocks)
    attempt.usage = _usage(opened, question)
    if attempt.outcome == Outcome.ABORTED:  # it has not ended by itself
        end(attempt, Outcome.ABORTED if attempt.verdict.accepted else "ok")


async def _close(blocks: AsyncIterator[bytes]) -> None:
    if isinstance(blocks, AsyncGenerator):
        await blocks.aclose()


def _is_the_requests_fault(error: UpstreamError) -> bool:
    """A request that is wrong in itself is told so at once: no other model would take it."""
    return isinstance(error, UpstreamRejected)


def _nothing_allowed(decision: Decision) -> CauceError:
    reasons = "; ".join(f"{skip.model}: {skip.reason}" for skip in decision.skipped) or "the route names no model"
    return NothingAllowed(
        f"rule {decision.rule} (policy {decision.policy}) leaves no model that may answer this request. "
        f"It must stay inside {decision.ceiling.label}. {reasons}. Add a model in that zone to cauce.yaml."
    )
