"""What comes of a decision after the reply: copies to a shadow, and conversations that stay where they moved."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.cache.conversations import Conversations
from gateway.cache.store import MemoryStore
from gateway.errors import UpstreamTimeout
from gateway.gate import Gate, Released
from gateway.pipeline import Pipeline, Streamed
from gateway.shadows import Shadows
from gateway.stages.classify import Classifier, Moment
from gateway.stages.recall import Recall
from gateway.types import Answer, Attempt, Exchange, Inbound, Model
from gateway.upstreams.base import Call
from gateway.upstreams.fake import FakeUpstream
from tests.builders import LARGE, SMALL, an_inbound
from tests.policy.builders import a_policy, catalogue, with_rules
from tests.test_pipeline import Ledger, Scanner, Scorer, language

ENGLISH = "The shop opens every day from nine in the morning until eight in the evening, and on Sundays until two. " * 3
EITHER_WAY = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
STAYS = '{name: stays, when: {data: ">= personal"}, use: local}'
SHADOWED = f"{STAYS}\n{{name: all, when: {{}}, use: local, shadow: llm}}"


class Waiting(FakeUpstream):
    """Answers when it is let."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.let = asyncio.Event()

    async def complete(self, call: Released[Call]) -> Answer:
        self.seen.append(call)
        await self.let.wait()
        return await super().complete(call)


class House:
    """A pipeline with shadows and conversations over fake upstreams, and what was recorded."""

    def __init__(self, rules: str, *upstreams: FakeUpstream, most_in_flight: int = 8, cached: bool = False) -> None:
        self.ledger = Ledger()
        self.copies: list[tuple[Exchange, Attempt]] = []
        self.crashes: list[str] = []
        self.heard: list[tuple[str, bool]] = []
        text = with_rules(rules).replace("{try: [slm]}", "{try: [slm], verify: [finish, language]}")
        policy, gate = a_policy(text), Gate()
        models = catalogue(*(upstream.model for upstream in upstreams))
        by_name = {upstream.model.id: upstream for upstream in upstreams}
        self.now = 0.0
        conversations = Conversations(clock=lambda: self.now)
        self.shadows = Shadows(
            models=models,
            upstreams=by_name,
            gate=gate,
            record=lambda exchange, attempt: self.copies.append((exchange, attempt)),
            heard=self._hear,
            crashed=lambda request_id, _error: self.crashes.append(request_id),
            most_in_flight=most_in_flight,
        )
        self._pipeline = Pipeline(
            classifier=Classifier(
                scorer=Scorer(),
                scanners={"balanced": Scanner()},
                language=language,
                max_scan_chars=10_000,
                on_failure=lambda error: pytest.fail(str(error)),
            ),
            policy=lambda: policy,
            models=models,
            upstreams=by_name,
            gate=gate,
            recall=Recall(MemoryStore(max_bytes=1_000_000, ttl_s=60) if cached else None, gate=gate),
            recorder=self.ledger,
            language=language,
            moment=lambda inbound: Moment(held_by=conversations.held_by(inbound)),
            heard=self._hear,
            conversations=conversations,
            shadows=self.shadows,
        )

    def _hear(self, model: Model, error: object) -> None:
        self.heard.append((model.id, error is None))

    async def ask(self, text: str = "¿A qué hora abrís?", *, stream: bool = False, **body: Any) -> Exchange:
        """One request to the end of its reply, and its story; its copy may still be on its way."""
        return await self.send(an_inbound(text, body={**body, "stream": stream}))

    async def send(self, inbound: Inbound) -> Exchange:
        exchange = Exchange(inbound.request_id, "chat", inbound.received_ns, inbound=inbound)
        reply = await self._pipeline.run(inbound, exchange)
        if isinstance(reply, Streamed):
            async for _ in reply.chunks:
                pass
        return exchange

    def settle(self, stream: bool = False, text: str = "¿A qué hora abrís?") -> Exchange:
        """One request, and whatever follows it."""

        async def live() -> Exchange:
            exchange = await self.ask(text, stream=stream)
            for _ in range(10):
                await asyncio.sleep(0)
            return exchange

        return asyncio.run(live())


@EITHER_WAY
def test_a_copy_goes_to_the_shadow_and_is_judged_and_not_sent(stream: bool) -> None:
    large = FakeUpstream(LARGE, [ENGLISH])
    house = House(SHADOWED, FakeUpstream(SMALL, ["A las nueve"]), large)

    exchange = house.settle(stream)

    assert [attempt.model.id for attempt in exchange.attempts] == ["small"]
    ((copied, attempt),) = house.copies
    assert copied is exchange
    assert (attempt.model, attempt.shadow, attempt.outcome) == (LARGE, True, "ok")
    assert attempt.verdict.check == "language"
    assert attempt.usage is not None
    assert house.heard == [("small", True), ("large", True)]


def test_a_copy_of_a_stream_is_asked_for_whole() -> None:
    large = FakeUpstream(LARGE)
    House(SHADOWED, FakeUpstream(SMALL), large).settle(stream=True)
    (seen,) = large.seen
    assert not seen.value.stream
    assert not {"stream", "stream_options"} & seen.value.body.keys()


@EITHER_WAY
def test_data_that_may_not_leave_has_no_copy_outside(stream: bool) -> None:
    large = FakeUpstream(LARGE)
    careless = "{name: all, when: {}, use: local, shadow: llm}"
    house = House(careless, FakeUpstream(SMALL), large)
    house.settle(stream, "Mi DNI es 12345678Z")
    assert large.seen == []
    assert house.copies == []


def test_the_client_waits_for_no_copy() -> None:
    async def live() -> None:
        large = Waiting(LARGE)
        house = House(SHADOWED, FakeUpstream(SMALL), large)
        await house.ask()
        assert len(house.ledger.exchanges) == 1
        assert house.copies == []
        await asyncio.sleep(0)
        large.let.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(house.copies) == 1

    asyncio.run(asyncio.wait_for(live(), 10))


def test_copies_that_find_no_place_are_left_out() -> None:
    async def live() -> None:
        large = Waiting(LARGE)
        house = House(SHADOWED, FakeUpstream(SMALL), large, most_in_flight=2)
        for _ in range(5):
            await house.ask()
        await asyncio.sleep(0)
        assert len(large.seen) == 2
        await house.shadows.aclose()
        assert [attempt.outcome for _, attempt in house.copies] == ["aborted", "aborted"]

    asyncio.run(asyncio.wait_for(live(), 10))


def test_a_shadow_that_fails_is_a_failed_call_and_no_more() -> None:
    house = House(SHADOWED, FakeUpstream(SMALL), FakeUpstream(LARGE, [UpstreamTimeout("5 s")]))
    exchange = house.settle()
    assert exchange.outcome == "ok"
    assert [(attempt.outcome, attempt.usage) for _, attempt in house.copies] == [("upstream_timeout", None)]
    assert house.heard[-1] == ("large", False)
    assert house.crashes == []


def test_a_model_that_was_asked_already_gets_no_copy() -> None:
    rules = f"{STAYS}\n{{name: all, when: {{}}, use: cloud, shadow: llm}}"
    house = House(rules, FakeUpstream(SMALL), FakeUpstream(LARGE))
    house.settle()
    assert house.copies == []


def test_a_request_that_nobody_answered_has_no_copy() -> None:
    large = FakeUpstream(LARGE)
    house = House(SHADOWED, FakeUpstream(SMALL, [UpstreamTimeout("5 s")]), large)
    with pytest.raises(UpstreamTimeout):
        house.settle()
    assert large.seen == []


# --- conversations --------------------------------------------------------------------------------------------------

MOVES = f"""{STAYS}
{{name: hard, when: {{tools: true}}, use: cloud, sticky: conversation}}"""
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "look_up"}}]}


def turns(*said: str) -> list[dict[str, str]]:
    """User and assistant in turn."""
    return [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(said)]


@EITHER_WAY
def test_a_conversation_stays_with_the_large_model_until_it_is_answered_elsewhere(stream: bool) -> None:
    async def live() -> None:
        large = FakeUpstream(LARGE, ["Sí", "También", UpstreamTimeout("5 s"), "Ya"])
        house = House(MOVES, FakeUpstream(SMALL, ["No"]), large)

        async def model(*said: str, **body: Any) -> str:
            exchange = await house.ask(stream=stream, messages=turns(*said), **body)
            return exchange.attempts[-1].model.id

        assert await model("¿Cuánto debo?") == "small"
        assert await model("¿Cuánto debo?", **TOOLS) == "large"
        assert await model("¿Cuánto debo?", "Sí", "gracias") == "large"
        assert await model("otra cosa", "Sí", "gracias") == "small"
        assert await model("¿Cuánto debo?", "Sí", "gracias", "También", "¿y ayer?") == "small"
        assert await model("¿Cuánto debo?", "Sí", "gracias", "También", "¿y ayer?", "No", "vale") == "small"

    asyncio.run(live())


def test_a_kept_answer_of_a_large_model_holds_a_conversation_too() -> None:
    async def live() -> None:
        house = House(MOVES, FakeUpstream(SMALL, ["No"]), FakeUpstream(LARGE, ["Sí"]), cached=True)
        await house.ask(messages=turns("¿Cuánto debo?"), **TOOLS)
        house.now += 3_600
        forgotten = await house.ask(messages=turns("¿Cuánto debo?", "Sí", "gracias"))
        assert forgotten.attempts[-1].model is SMALL
        again = await house.ask(messages=turns("¿Cuánto debo?"), **TOOLS)
        assert again.outcome == "cached"
        held = await house.ask(messages=turns("¿Cuánto debo?", "Sí", "gracias"))
        assert held.attempts[-1].model is LARGE

    asyncio.run(live())


def test_a_turn_with_personal_data_leaves_the_large_model_whatever_held_it() -> None:
    async def live() -> None:
        large = FakeUpstream(LARGE, ["Sí"])
        house = House(MOVES, FakeUpstream(SMALL, ["No"]), large)
        await house.ask(messages=turns("¿Cuánto debo?"), **TOOLS)
        held = an_inbound("Mi DNI es 12345678Z", body={"messages": turns("¿Cuánto debo?", "Sí", "Mi DNI es 12345678Z")})
        exchange = await house.send(held)
        assert exchange.decision is not None
        assert (exchange.decision.rule, exchange.attempts[-1].model.id) == ("stays", "small")

    asyncio.run(live())
