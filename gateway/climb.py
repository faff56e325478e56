"""Up the ladder: call, verify, escalate. Whose answer a client gets, and whose failure when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gateway.drafts import with_draft
from gateway.errors import CauceError, NothingAllowed, UpstreamError, UpstreamRejected
from gateway.opened import Opened, heard_so_far, judge, leave
from gateway.opinions import Opinions, asks
from gateway.rungs import Answered, Asked, Rungs
from gateway.stages.verify import verify
from gateway.types import ACCEPTED, Answer, Attempt, Decision, Mode, Verdict
from gateway.upstreams.guarded import ITS_OWN_ANSWER


class _Ladder:
    """The rungs of one request in order, each with the next one, and how they failed.

    Behind the policy's own ladder stands its reserve: when every model of a ladder in the cloud has failed, and not for
    the request's sake, the models on the premises that the policy has a route for are asked.
    """

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._failures: list[UpstreamError] = []
        self._answered = False

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        yield from _with_next(self._decision.ladder)
        if not self._answered and not any(isinstance(error, ITS_OWN_ANSWER) for error in self._failures):
            yield from _with_next(self._decision.reserve)

    def answered(self) -> None:
        """There is an answer, good or not."""
        self._answered = True

    def failed(self, error: UpstreamError) -> bool:
        """A rung has failed; whether the request itself is wrong, so that no other model would take it."""
        self._failures.append(error)
        return isinstance(error, UpstreamRejected)

    def failure(self) -> CauceError:
        """What a client without an answer is told: how the last model of its ladder failed."""
        if self._failures:
            return self._failures[min(len(self._failures), len(self._decision.ladder)) - 1]
        return nothing_allowed(self._decision)


class Climb:
    """The way up the ladder of a decision."""

    def __init__(self, rungs: Rungs, *, opinions: Opinions | None = None) -> None:
        self._rungs = rungs
        self._opinions = opinions

    async def whole(self, asked: Asked) -> Answered:
        """Up until an answer passes; a turned-down answer is better than none."""
        draft: Answered | None = None
        checks = asked.decision.route.checks
        ladder = _Ladder(asked.decision)
        for name, spare in ladder:
            try:
                draft = answer, attempt = await self._rungs.whole(name, asked, spare=spare)
            except UpstreamError as error:
                if ladder.failed(error):
                    break
                continue
            ladder.answered()
            attempt.verdict = verify(answer, asked.question, checks) if checks else ACCEPTED
            if attempt.verdict.accepted and spare is not None:
                attempt.verdict = await self._opinion(answer, attempt, asked)
            if attempt.verdict.accepted:
                break
            asked = _with_draft(asked, answer, attempt)
        if draft is None:
            raise ladder.failure()
        return draft

    async def streamed(self, asked: Asked) -> Opened:
        """The first stream that begins well: until its first token, a failure is invisible to the client.

        One that was turned down stays open until a better one has begun: it is what is sent when none does.
        """
        begun: list[Opened] = []
        chosen: Opened | None = None
        ladder = _Ladder(asked.decision)
        try:
            for name, spare in ladder:
                try:
                    opened = await self._rungs.streamed(name, asked, spare=spare)
                except UpstreamError as error:
                    if ladder.failed(error):
                        break
                    continue
                begun.append(opened)
                ladder.answered()
                opened.attempt.verdict = judge(opened, asked.question, asked.decision)
                if opened.attempt.verdict.accepted and opened.mode is Mode.BUFFERED and spare is not None:
                    opened.attempt.verdict = await self._opinion(heard_so_far(opened), opened.attempt, asked)
                if opened.attempt.verdict.accepted:
                    break
                asked = _with_draft(asked, heard_so_far(opened), opened.attempt)
            chosen = begun[-1] if begun else None
        finally:
            for opened in begun:
                if opened is not chosen:
                    await leave(opened, asked.question)
        if chosen is None:
            raise ladder.failure()
        return chosen

    async def _opinion(self, answer: Answer, attempt: Attempt, asked: Asked) -> Verdict:
        """What the route's checks that make calls say; the verdict as it is where it has none."""
        if self._opinions is None or not asks(asked.decision):
            return attempt.verdict
        return await self._opinions.ask(answer, attempt, asked.question, asked.decision, asked.exchange)


def _with_draft(asked: Asked, answer: Answer, attempt: Attempt) -> Asked:
    """The question with the answer that was turned down, for the next rung, where the route says so."""
    if not asked.decision.route.draft:
        return asked
    return dataclasses.replace(asked, question=with_draft(asked.question, answer, attempt.verdict))


def _with_next(names: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    return zip(names, (*names[1:], None), strict=False)


def nothing_allowed(decision: Decision) -> CauceError:
    """No model may or can answer."""
    reasons = "; ".join(f"{skip.model}: {skip.reason}" for skip in decision.skipped) or "the route names no model"
    return NothingAllowed(
        f"rule {decision.rule} (policy {decision.policy}) leaves no model that may answer this request. "
        f"It must stay inside {decision.ceiling.label}. {reasons}. Add a model in that zone to cauce.yaml."
    )
