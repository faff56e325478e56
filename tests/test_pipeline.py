from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.cache.store import MemoryStore
from gateway.errors import (
    NothingAllowed,
    UpstreamBroken,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.gate import Gate, Released
from gateway.pipeline import Pipeline, Streamed
from gateway.sse import Relay
from gateway.stages.classify import Classifier, Moment
from gateway.stages.recall import Recall
from gateway.types import CacheState, DataClass, Detection, Difficulty, Exchange, Model, Outcome, Part
from gateway.upstreams.base import Call
from gateway.upstreams.fake import FakeUpstream, an_answer
from tests.builders import LARGE, SMALL, an_inbound
from tests.policy.builders import a_policy, catalogue

POLICY = """
version: 1
guarantees:
  - {data: personal, stays: premises}
routes:
  local: {try: [slm]}
  cloud: {try: [llm]}
  small-first: {try: [slm, llm], verify: [finish, language]}
  whole: {try: [slm, llm], verify: [finish], mode: buffered}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: local}
default: small-first
"""
# Longer than a window, so that a stream of it is judged before its end; it begins as English does (`language` below).
ENGLISH = "The shop opens every day from nine in the morning until eight in the evening, and on Sundays until two. " * 3
EITHER_WAY = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass
class Ledger:
    """What was recorded."""

    exchanges: list[Exchange] = field(default_factory=list)

    async def record(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    @property
    def only(self) -> Exchange:
        (exchange,) = self.exchanges
        return exchange


class Scorer:
    def score(self, parts: Sequence[Part]) -> Difficulty:
        return Difficulty(slm_success=0.9, gain=0.05, task="faq", domain="retail")


class Scanner:
    def scan(self, parts: Sequence[Part]) -> Detection:
        personal = any("DNI" in part.text for part in parts)
        return Detection(DataClass.PERSONAL if personal else DataClass.PUBLIC, stay_score=float(personal))


def language(text: str) -> str:
    return "en" if text.startswith("The") else "es"


class Shop:
    """A pipeline over fake upstreams, with what went through it."""

    def __init__(self, *upstreams: FakeUpstream, route: str = "auto") -> None:
        self.ledger = Ledger()
        self.heard: list[tuple[str, str]] = []
        self._route = route
        self.policy = a_policy(POLICY)
        gate = Gate()
        self._pipeline = Pipeline(
            classifier=Classifier(
                scorer=Scorer(),
                scanners={"balanced": Scanner()},
                language=language,
                max_scan_chars=10_000,
                on_failure=_no_failure,
            ),
            policy=lambda: self.policy,
            models=catalogue(*(upstream.model for upstream in upstreams)),
            upstreams={upstream.model.id: upstream for upstream in upstreams},
            gate=gate,
            recall=Recall(MemoryStore(max_bytes=1_000_000, ttl_s=60), gate=gate),
            recorder=self.ledger,
            language=language,
            moment=lambda _inbound: Moment(),
            heard=self._hear,
        )

    def _hear(self, model: Model, error: UpstreamError | None) -> None:
        self.heard.append((model.id, error.code if error else "ok"))

    def ask(self, text: str = "¿A qué hora abrís?", *, stream: bool = False) -> str:
        """The answer's text, as a client puts it together."""
        return asyncio.run(self.answer(text, stream=stream)).text

    async def answer(self, text: str = "¿A qué hora abrís?", *, stream: bool = False) -> Got:
        inbound = an_inbound(text, body={"stream": True} if stream else {}, model=self._route)
        exchange = Exchange(inbound.request_id, inbound.endpoint, inbound.received_ns, inbound=inbound)
        reply = await self._pipeline.run(inbound, exchange)
        if isinstance(reply, Streamed):
            got = Got(streamed=True)
            async for chunk in reply.chunks:
                got.add(chunk, recorded=exchange in self.ledger.exchanges)
            return got
        return Got(raw=reply.body, streamed=stream)

    async def leave_after(self, pieces: int) -> None:
        """A client that goes away when it has this many pieces of a stream."""
        inbound = an_inbound(body={"stream": True}, model=self._route)
        reply = await self._pipeline.run(inbound, Exchange(inbound.request_id, "chat", inbound.received_ns))
        assert isinstance(reply, Streamed)
        for _ in range(pieces):
            await anext(reply.chunks)
        await reply.chunks.aclose()

    def attempts(self) -> list[tuple[str, str, str]]:
        """Model, outcome and failed check of each call of the only request."""
        return [(a.model.id, a.outcome, a.verdict.check) for a in self.ledger.only.attempts]


@dataclass
class Got:
    """What a client has received."""

    raw: bytes = b""
    streamed: bool = False
    recorded_at_done: bool = False

    def add(self, chunk: bytes, *, recorded: bool) -> None:
        self.raw += chunk
        if b"[DONE]" in chunk:
            self.recorded_at_done = recorded

    @property
    def text(self) -> str:
        if self.streamed:
            relay = Relay(include_usage=True, collect_chars=100_000)
            relay.feed(self.raw)
            return relay.text
        start = self.raw.index(b'"content":"') + len(b'"content":"')
        return self.raw[start : self.raw.index(b'"}', start)].decode()


def _no_failure(error: BaseException) -> None:
    raise error


@EITHER_WAY
def test_a_timeout_on_the_small_model_moves_up_the_ladder(stream: bool) -> None:
    shop = Shop(FakeUpstream(SMALL, [UpstreamTimeout("5 s")]), FakeUpstream(LARGE, ["cuarenta y dos"]))
    assert shop.ask(stream=stream) == "cuarenta y dos"
    assert shop.attempts() == [("small", "upstream_timeout", ""), ("large", "ok", "")]
    assert shop.heard == [("small", "upstream_timeout"), ("large", "ok")]


@EITHER_WAY
def test_an_answer_that_fails_a_check_moves_up_the_ladder_and_is_paid_for(stream: bool) -> None:
    shop = Shop(FakeUpstream(SMALL, [ENGLISH]), FakeUpstream(LARGE, ["A las nueve"]))
    assert shop.ask(stream=stream) == "A las nueve"
    assert shop.attempts() == [("small", "ok", "language"), ("large", "ok", "")]
    small, large = (attempt.usage for attempt in shop.ledger.only.attempts)
    assert small is not None and small.completion_tokens > 10
    assert large is not None and large.completion_tokens == 3


@EITHER_WAY
def test_a_request_that_no_model_may_answer_is_refused_by_the_rules_name(stream: bool) -> None:
    cloud = FakeUpstream(LARGE)
    with pytest.raises(NothingAllowed, match="personal-stays") as refused:
        Shop(cloud).ask("Mi DNI es 12345678Z", stream=stream)
    assert "premises" in refused.value.message
    assert "12345678Z" not in refused.value.message
    assert cloud.seen == []


@EITHER_WAY
def test_personal_data_stays_with_the_small_model_when_it_fails(stream: bool) -> None:
    cloud = FakeUpstream(LARGE)
    with pytest.raises(UpstreamTimeout):
        Shop(FakeUpstream(SMALL, [UpstreamTimeout("5 s")]), cloud).ask("Mi DNI es 12345678Z", stream=stream)
    assert cloud.seen == []


@EITHER_WAY
def test_the_last_answer_is_sent_when_none_passes_the_checks(stream: bool) -> None:
    shop = Shop(FakeUpstream(SMALL, [""]), FakeUpstream(LARGE, [ENGLISH]))
    assert shop.ask(stream=stream) == ENGLISH
    assert [model for model, _, _ in shop.attempts()] == ["small", "large"]
    assert shop.ledger.only.outcome is Outcome.OK


@EITHER_WAY
@pytest.mark.parametrize("route", ["auto", "whole"])
@pytest.mark.parametrize("failure", [UpstreamTimeout("5 s"), UpstreamOverloaded("busy"), UpstreamRejected("no")])
def test_a_turned_down_answer_is_sent_when_the_next_model_gives_none(
    failure: UpstreamError, route: str, stream: bool
) -> None:
    turned_down, check = (ENGLISH, "language") if route == "auto" else ("", "finish")
    shop = Shop(FakeUpstream(SMALL, [turned_down]), FakeUpstream(LARGE, [failure]), route=route)
    assert shop.ask(stream=stream) == turned_down
    assert shop.attempts() == [("small", "ok", check), ("large", failure.code, "")]
    assert (shop.ledger.only.outcome, shop.ledger.only.status) == (Outcome.OK, 200)


@EITHER_WAY
def test_a_turned_down_answer_is_not_kept_for_others(stream: bool) -> None:
    small = FakeUpstream(SMALL, [ENGLISH, "A las nueve"])
    shop = Shop(small, FakeUpstream(LARGE, [UpstreamTimeout("5 s")]))
    assert shop.ask(stream=stream) == ENGLISH
    assert shop.ask(stream=stream) == "A las nueve"
    assert shop.ask(stream=stream) == "A las nueve"
    assert [exchange.cache for exchange in shop.ledger.exchanges] == ["miss", "miss", "hit"]


@EITHER_WAY
def test_a_request_that_is_wrong_in_itself_is_not_tried_on_another_model(stream: bool) -> None:
    large = FakeUpstream(LARGE)
    shop = Shop(FakeUpstream(SMALL, [UpstreamRejected("n must be 1", status=422)]), large)
    with pytest.raises(UpstreamRejected) as rejected:
        shop.ask(stream=stream)
    assert rejected.value.status == 422
    assert large.seen == []


@EITHER_WAY
def test_the_last_models_failure_is_told_when_all_fail(stream: bool) -> None:
    shop = Shop(FakeUpstream(SMALL, [UpstreamTimeout("5 s")]), FakeUpstream(LARGE, [UpstreamBroken("not JSON")]))
    with pytest.raises(UpstreamBroken):
        shop.ask(stream=stream)


@EITHER_WAY
def test_a_cached_answer_is_the_same_and_books_no_call(stream: bool) -> None:
    small = FakeUpstream(SMALL, ["A las nueve", "A las diez"])
    shop = Shop(small)
    first, second = asyncio.run(shop.answer(stream=stream)), asyncio.run(shop.answer(stream=stream))
    assert second.raw == first.raw
    assert len(small.seen) == 1
    miss, hit = shop.ledger.exchanges
    assert (miss.cache, miss.outcome, len(miss.attempts)) == (CacheState.MISS, Outcome.OK, 1)
    assert (hit.cache, hit.outcome, hit.attempts) == (CacheState.HIT, Outcome.CACHED, [])
    assert hit.cached_model == SMALL
    assert hit.cached_usage == miss.attempts[0].usage


def test_an_entry_is_recorded_before_the_end_of_a_stream_is_sent() -> None:
    shop = Shop(FakeUpstream(SMALL, ["A las nueve"]))
    got = asyncio.run(shop.answer(stream=True))
    assert got.raw.endswith(b"data: [DONE]\n\n")
    assert got.recorded_at_done
    assert len(shop.ledger.exchanges) == 1


def test_a_stream_that_breaks_is_an_error_to_the_client_and_is_not_kept() -> None:
    small = FakeUpstream(SMALL, ["A las...", UpstreamBroken("cut off"), "A las nueve"])
    shop = Shop(small, route="local")
    broken = asyncio.run(shop.answer(stream=True))
    assert broken.text == "A las..."
    assert b"event: error\n" in broken.raw
    assert b"[DONE]" not in broken.raw
    cut = shop.ledger.only
    assert (cut.outcome, cut.status, cut.code) == (Outcome.CUT, 200, "upstream_broken_answer")
    assert cut.attempts[0].usage is not None and cut.attempts[0].usage.estimated
    assert shop.ask(stream=True) == "A las nueve"
    assert shop.heard == [("small", "upstream_broken_answer"), ("small", "ok")]


class Faulty(FakeUpstream):
    """Our own adapter, with a fault in it."""

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        async for block in super().stream(call):
            yield block
            raise AttributeError("when")


def test_a_stream_that_a_fault_of_ours_breaks_is_in_the_ledger_as_failed() -> None:
    shop = Shop(Faulty(SMALL, ["A las nueve"]))
    with pytest.raises(AttributeError):
        shop.ask(stream=True)
    broken = shop.ledger.only
    assert (broken.outcome, broken.code, broken.attempts[0].outcome) == (Outcome.FAILED, "internal_error", "aborted")
    assert broken.attempts[0].usage is not None


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_client_that_leaves_a_stream_is_recorded_once_with_what_it_received(pieces: int) -> None:
    shop = Shop(FakeUpstream(SMALL, ["A las nueve de la mañana"]), route="local")
    asyncio.run(shop.leave_after(pieces))
    exchange = shop.ledger.only
    assert exchange.outcome is Outcome.ABORTED
    (attempt,) = exchange.attempts
    assert attempt.outcome == "aborted"
    assert attempt.usage is not None
    assert (attempt.usage.completion_tokens, attempt.usage.estimated) == (pieces, True)


def test_what_a_stream_brought_before_it_failed_was_used_all_the_same() -> None:
    small = FakeUpstream(SMALL, ["A las...", UpstreamBroken("cut off")])
    shop = Shop(small, FakeUpstream(LARGE, ["A las nueve"]), route="whole")
    assert shop.ask(stream=True) == "A las nueve"
    assert shop.attempts() == [("small", "upstream_broken_answer", ""), ("large", "ok", "")]
    usage = shop.ledger.only.attempts[0].usage
    assert usage is not None
    assert (usage.completion_tokens, usage.estimated) == (2, True)


def test_an_answer_that_is_too_long_to_be_held_back_is_sent_as_it_comes() -> None:
    endless = FakeUpstream(SMALL, [f"{'x' * 8_000_001} y...", UpstreamBroken("cut off")])
    shop = Shop(endless, FakeUpstream(LARGE, ["A las nueve"]), route="whole")
    got = asyncio.run(shop.answer(stream=True))
    assert got.raw.count(b"x") > 8_000_000
    assert b"event: error\n" in got.raw


def test_a_whole_answer_without_usage_is_counted_and_marked_as_an_estimate() -> None:
    silent = dataclasses.replace(an_answer("forty-two"), usage=None)
    shop = Shop(FakeUpstream(SMALL, [silent]))
    shop.ask()
    usage = shop.ledger.only.attempts[0].usage
    assert usage is not None
    assert (usage.completion_tokens, usage.estimated) == (3, True)
