"""A stream that an upstream has begun: what was read of it so far, what that says, and what it used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from gateway.sse import Relay
from gateway.stages.call import end
from gateway.stages.verify import Question, verify, verify_early
from gateway.types import ACCEPTED, Answer, Attempt, Decision, Mode, Outcome, Route, Usage, Verdict

_WINDOW_CHARS = 160  # what a windowed stream holds back: enough to tell the language and an empty answer
_BUFFER_CHARS = 400_000
_MOST_HELD_BYTES = 8_000_000  # a longer stream is judged by its beginning


@dataclass(slots=True)
class Opened:
    """A stream, and how to read on."""

    attempt: Attempt
    blocks: AsyncIterator[bytes]
    relay: Relay
    mode: Mode
    held: list[bytes] = field(default_factory=list)


def mode_of(route: Route, *, last: bool) -> Mode:
    """How a rung's stream is sent. Nothing is held back on the last rung: there is nowhere to escalate to."""
    if route.mode is not None and not (last and route.mode is Mode.WINDOWED):
        return route.mode
    return Mode.WINDOWED if route.checks and not last else Mode.STREAMED


def held_chars(mode: Mode) -> int:
    """How much of the text a stream in this mode collects for its checks."""
    return {Mode.STREAMED: 0, Mode.WINDOWED: 2 * _WINDOW_CHARS, Mode.BUFFERED: _BUFFER_CHARS}[mode]


async def hold(opened: Opened) -> None:
    """Read until the stream may be judged: its first token, its first window, or its end."""
    relay, mode, held_bytes = opened.relay, opened.mode, 0
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


def judge(opened: Opened, question: Question, decision: Decision) -> Verdict:
    """What the route's checks say of a stream, as far as it was held."""
    relay, checks = opened.relay, decision.route.checks
    if not checks or opened.mode is Mode.STREAMED:
        return ACCEPTED
    answer = heard_so_far(opened)
    if relay.done:
        return verify(answer, question, checks)
    return verify_early(answer, question, checks)


def heard_so_far(opened: Opened) -> Answer:
    """What a stream has said, as an answer."""
    relay = opened.relay
    return Answer(b"", relay.text, relay.finish_reason or "stop", relay.usage, relay.tool_calls)


def usage_of(opened: Opened, question: Question) -> Usage | None:
    """What the stream used: as the provider said, else counted from what came and marked as an estimate."""
    relay = opened.relay
    if relay.usage is not None:
        return relay.usage
    if not relay.content_events:
        return None
    return Usage(question.signals.prompt_tokens, relay.content_events, estimated=True)


async def leave(opened: Opened, question: Question) -> None:
    """Close a stream that is not sent; what it has brought was used all the same."""
    attempt = opened.attempt
    await close(opened.blocks)
    attempt.usage = usage_of(opened, question)
    if attempt.outcome == Outcome.ABORTED:  # it has not ended by itself
        end(attempt, Outcome.ABORTED if attempt.verdict.accepted else "ok")


async def close(blocks: AsyncIterator[bytes]) -> None:
    """End the upstream's call."""
    if isinstance(blocks, AsyncGenerator):
        await blocks.aclose()
