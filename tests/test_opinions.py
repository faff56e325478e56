"""The checks that ask a model: a judge, and further answers to the same question."""

from __future__ import annotations

import asyncio
import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from gateway.agreement import agreement
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.gate import Gate, Released
from gateway.ledger.entry import answering_model, attempt_entries, entry_of
from gateway.ledger.prices import Machine, PriceBook
from gateway.opinions import Opinions, read_grade
from gateway.pipeline import Pipeline, Streamed
from gateway.stages.classify import Classifier, Moment
from gateway.stages.recall import Recall
from gateway.stages.verify import Question
from gateway.types import Answer, Check, Exchange, Model, Route, Zone
from gateway.upstreams.base import Call
from gateway.upstreams.fake import FakeUpstream
from gateway.wire.headers import reply_headers
from tests.builders import LARGE, SMALL, a_decision, an_attempt, an_exchange, an_inbound, some_signals
from tests.policy.builders import a_policy, catalogue
from tests.test_pipeline import Ledger, Scanner, Scorer, language

JUDGE = Model("judge", "fake", "judge-1", Zone.PREMISES, "llm")
SHOP = "A las nueve de la mañana, de lunes a sábado."


class Slow(FakeUpstream):
    """Never answers."""

    async def complete(self, call: Released[Call]) -> Answer:
        self.seen.append(call)
        await asyncio.Event().wait()
        raise AssertionError


class House:
    """A pipeline whose one route has these checks, over fake upstreams."""

    def __init__(self, route: str, *upstreams: FakeUpstream) -> None:
        text = f"""
            version: 1
            guarantees: [{{data: personal, stays: premises}}]
            routes:
              first: {{try: [small, large], {route}}}
            rules: []
            default: first
        """
        policy, gate = a_policy(text), Gate()
        by_name = {upstream.model.id: upstream for upstream in upstreams}
        models = catalogue(*(upstream.model for upstream in upstreams))
        self.heard: list[tuple[str, bool]] = []
        self.ledger = Ledger()
        self._pipeline = Pipeline(
            classifier=Classifier(
                scorer=Scorer(), scanners={"balanced": Scanner()}, language=language, max_scan_chars=10_000,
                on_failure=lambda error: pytest.fail(str(error)),
            ),
            policy=lambda: policy,
            models=models,
            upstreams=by_name,
            gate=gate,
            recall=Recall(None, gate=gate),
            recorder=self.ledger,
            language=language,
            moment=lambda _inbound: Moment(),
            heard=self._hear,
            opinions=Opinions(models=models, upstreams=by_name, gate=gate, heard=self._hear),
        )  # fmt: skip

    def _hear(self, model: Model, error: UpstreamError | None) -> None:
        self.heard.append((model.id, error is None))

    def ask(self, text: str = "¿A qué hora abrís?", **body: Any) -> Exchange:
        return asyncio.run(asyncio.wait_for(self._ask(text, body), 20))

    async def _ask(self, text: str, body: dict[str, Any]) -> Exchange:
        inbound = an_inbound(text, body=body)
        exchange = Exchange(inbound.request_id, "chat", inbound.received_ns, inbound=inbound)
        reply = await self._pipeline.run(inbound, exchange)
        if isinstance(reply, Streamed):
            async for _ in reply.chunks:
                pass
        return exchange


def calls(exchange: Exchange) -> list[tuple[str, str]]:
    return [(attempt.model.id, attempt.verifies) for attempt in exchange.attempts]


def house(route: str, *, judge: Any = ("8",), small: Any = (SHOP,), large: Any = ("A las diez",)) -> House:
    return House(route, FakeUpstream(SMALL, small), FakeUpstream(LARGE, large), FakeUpstream(JUDGE, judge))


JUDGED = "verify: [finish, {judge: {model: judge, at_least: 0.6}}]"


@pytest.mark.parametrize(("grade", "asked"), [("8", ["small", "judge"]), ("3/10", ["small", "judge", "large"])])
def test_the_judge_decides_whether_the_next_rung_is_asked(grade: str, asked: list[str]) -> None:
    exchange = house(JUDGED, judge=[grade]).ask()
    assert [model for model, _ in calls(exchange)] == asked
    assert [verifies for _, verifies in calls(exchange)][1] == "judge"


def test_a_stream_is_judged_where_it_is_buffered() -> None:
    exchange = house(f"{JUDGED}, mode: buffered", judge=["2"]).ask(stream=True)
    assert [model for model, _ in calls(exchange)] == ["small", "judge", "large"]
    assert [model for model, _ in calls(house(JUDGED, judge=["2"]).ask(stream=True))] == ["small"]


@pytest.mark.parametrize("judge", [["I cannot say"], [UpstreamTimeout("5 s")], [""]])
def test_a_judge_that_fails_accepts_the_answer(judge: list[Any]) -> None:
    exchange = house(JUDGED, judge=judge).ask()
    assert [model for model, _ in calls(exchange)] == ["small", "judge"]
    assert exchange.attempts[0].opinions == (("judge", "failed"),)
    assert exchange.outcome == "ok"


def test_a_judge_that_is_slow_or_would_cost_too_much_accepts_the_answer() -> None:
    slow = House(
        f"{JUDGED}, verify_budget: {{ms: 30}}", FakeUpstream(SMALL, [SHOP]), FakeUpstream(LARGE), Slow(JUDGE)
    ).ask()
    assert (slow.attempts[0].opinions, slow.attempts[1].outcome) == ((("judge", "over_budget"),), "aborted")
    poor = house(f"{JUDGED}, verify_budget: {{tokens: 50}}").ask()
    assert (calls(poor), poor.attempts[0].opinions) == ([("small", "")], (("judge", "over_budget"),))


def test_the_judge_of_data_that_may_not_leave_stays_inside_too() -> None:
    outside = dataclasses.replace(JUDGE, zone=Zone.WORLD)
    near = dataclasses.replace(LARGE, zone=Zone.PREMISES)
    judge = FakeUpstream(outside)
    exchange = House(JUDGED, FakeUpstream(SMALL, [SHOP]), FakeUpstream(near), judge).ask("Mi DNI es 12345678Z")
    assert judge.seen == []
    assert exchange.attempts[0].opinions == (("judge", "no_model"),)


@pytest.mark.parametrize(("said", "came"), [("El DNI de Ana es 12345678Z.", "no_model"), (SHOP, "passed")])
def test_no_judge_farther_away_sees_an_answer_that_says_more_than_the_request(said: str, came: str) -> None:
    judge = FakeUpstream(dataclasses.replace(JUDGE, zone=Zone.WORLD), ["8"])
    exchange = House(JUDGED, FakeUpstream(SMALL, [said]), FakeUpstream(LARGE), judge).ask()
    assert exchange.attempts[0].opinions == (("judge", came),)
    assert bool(judge.seen) == (came == "passed")


def test_a_judge_as_near_as_who_answered_sees_all_of_it() -> None:
    exchange = house(JUDGED, small=["El DNI de Ana es 12345678Z."]).ask()
    assert exchange.attempts[0].opinions == (("judge", "passed"),)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("said", "shown"), [("The DNI of Ana is 12345678Z.", False), ("The shop opens at nine.", True)]
)
def test_a_draft_that_says_more_than_the_request_is_shown_to_nobody(said: str, shown: bool, stream: bool) -> None:
    large = FakeUpstream(LARGE, ["A las diez."])
    shop = House("verify: [json], draft: true, mode: buffered", FakeUpstream(SMALL, [said]), large)
    exchange = shop.ask(stream=stream, response_format={"type": "json_object"})
    assert calls(exchange) == [("small", ""), ("large", "")]
    assert (said in str(large.seen[0].value.body)) == shown


def test_nobody_is_asked_about_the_last_rung_or_an_answer_that_was_turned_down() -> None:
    judge = FakeUpstream(JUDGE)
    exchange = House(JUDGED, FakeUpstream(SMALL, [" "]), FakeUpstream(LARGE, ["A las diez"]), judge).ask()
    assert judge.seen == []
    assert [model for model, _ in calls(exchange)] == ["small", "large"]


def test_the_judge_sees_question_and_answer_and_no_tools_or_history() -> None:
    judge = FakeUpstream(JUDGE, ["7"])
    House(JUDGED, FakeUpstream(SMALL, [SHOP]), FakeUpstream(LARGE), judge).ask(user="ana", seed=3)
    (seen,) = judge.seen
    assert set(seen.value.body) == {"messages", "max_tokens"}
    assert "¿A qué hora abrís?" in str(seen.value.body)
    assert SHOP in str(seen.value.body)


@pytest.mark.parametrize(
    ("text", "grade"),
    [("8", 0.8), ("Grade: 7/10", 0.7), ("10", 1.0), ("7.5", 0.75), ("0", 0.0), ("eleven", None), ("2024", None)],
)
def test_a_grade_is_read_however_the_judge_puts_it(text: str, grade: float | None) -> None:
    assert read_grade(text) == grade


# --- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "asked"), [("9 de la mañana", 3), ("A las 7", 4)])
def test_an_answer_that_further_ones_contradict_is_turned_down(second: str, asked: int) -> None:
    exchange = house("verify: [{samples: 2}]", small=["A las 9", second, second]).ask()
    assert calls(exchange)[:3] == [("small", ""), ("small", "sample"), ("small", "sample")]
    assert len(exchange.attempts) == asked


def test_samples_of_another_model_are_asked_with_the_callers_own_request() -> None:
    other = FakeUpstream(JUDGE, [SHOP])
    exchange = House(
        "verify: [{samples: {times: 1, model: judge}}]", FakeUpstream(SMALL, [SHOP]), FakeUpstream(LARGE), other
    ).ask(max_tokens=30, seed=4)
    assert calls(exchange) == [("small", ""), ("judge", "sample")]
    assert exchange.attempts[0].opinions == (("samples", "passed"),)
    assert other.seen[0].value.body["max_tokens"] == 30
    assert "seed" not in other.seen[0].value.body


def test_a_model_that_was_sent_placeholders_is_asked_nothing_more() -> None:
    far = FakeUpstream(LARGE, [SHOP])
    opinions = Opinions(
        models=catalogue(LARGE), upstreams={"large": far}, gate=Gate(), heard=lambda _model, _error: None
    )
    route = Route("masked", ("large", "small"), (Check("samples", 0.5, "", 2),))
    decision = a_decision("large", "small", route=route, ceiling=Zone.PREMISES, masked=Zone.WORLD)
    attempt, exchange = an_attempt(LARGE, transform="pseudonymised"), an_exchange()
    question = Question(an_inbound(), some_signals(), language)
    verdict = asyncio.run(opinions.ask(Answer(b"", SHOP), attempt, question, decision, exchange))
    assert verdict.accepted
    assert attempt.opinions == (("samples", "no_model"),)
    assert far.seen == []


def test_samples_that_all_fail_accept_the_answer() -> None:
    exchange = house("verify: [{samples: 2}]", small=[SHOP, UpstreamTimeout("5 s")]).ask()
    assert exchange.attempts[0].opinions == (("samples", "failed"),)
    assert exchange.outcome == "ok"


@pytest.mark.parametrize(
    ("first", "second", "task", "same"),
    [
        ("The answer is 1,200.", "It is 1200", "math", True),
        ("3 + 4 = 7", "She has 8 apples.", "math", False),
        ("Answer: B", "The answer is (b) because it fits", "", True),
        ("A", "B", "", False),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', "", True),
        ("París", "La capital de Francia es París.", "", True),
        ("Roma", "La capital de Francia es París.", "", False),
        ("Positivo", "negativo", "", False),
        (SHOP, "Abrimos a las nueve de la mañana, de lunes a sábado; los domingos cerramos.", "", True),
        (SHOP, "Puede devolver cualquier producto con su tique en treinta días.", "", False),
    ],
)
def test_two_answers_agree_by_their_result_or_else_by_their_words(
    first: str, second: str, task: str, same: bool
) -> None:
    assert agreement(first, second, task=task) == agreement(second, first, task=task) == same


# --- booked, and the draft ------------------------------------------------------------------------------------------


def test_a_judges_call_is_paid_for_and_is_no_escalation() -> None:
    exchange = house(JUDGED).ask()
    prices = PriceBook(machine=Machine(Decimal(1), Decimal(0), Decimal(0)), baseline=LARGE, own={})
    rows = attempt_entries(exchange, prices)
    entry = entry_of(exchange, rows, prices)
    assert [row.kind for row in rows] == ["slm", "judge"]
    assert (entry.model, entry.escalated) == ("small", 0)
    assert entry.completion_tokens == sum(row.completion_tokens or 0 for row in rows)
    assert answering_model(exchange) is SMALL
    assert dict(reply_headers(exchange, whole=True, cost_nano_usd=None))[b"x-cauce-escalated"] == b"false"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_next_rung_sees_the_draft_only_where_the_route_says_so(stream: bool) -> None:
    for route, turns in (("verify: [refusal]", 1), ("verify: [refusal], draft: true", 3)):
        large = FakeUpstream(LARGE, ["A las diez"])
        House(route, FakeUpstream(SMALL, ["No lo sé."]), large).ask(stream=stream)
        messages = large.seen[0].value.body["messages"]
        assert isinstance(messages, list)
        assert len(messages) == turns
        assert ("No lo sé." in str(messages)) is (turns == 3)
