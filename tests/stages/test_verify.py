from __future__ import annotations

import math

import orjson
import pytest

from gateway.stages.verify import Question, verify, verify_early
from gateway.types import Answer, Check
from tests.builders import an_inbound, some_signals

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
LONG_ES = "Puede devolver el producto en cualquier tienda durante los treinta días siguientes a la compra."


def a_question(language: str = "es", task: str = "faq", **body: object) -> Question:
    given = {"es": "es", "Th": "en"}
    return Question(
        an_inbound(body=body),
        some_signals(language=language, task=task),
        lambda text: given.get(text[:2], "es"),
    )


def rejected_by(answer: Answer, check: str, question: Question | None = None, threshold: float = 0.0) -> str:
    return verify(answer, question or a_question(), [Check(check, threshold)]).check


def test_an_answer_that_passes_every_check_is_accepted() -> None:
    checks = [Check("finish"), Check("language"), Check("json"), Check("confidence", 0.6)]
    assert verify(Answer(b"", LONG_ES), a_question(), checks).accepted


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_is_turned_down(text: str) -> None:
    assert rejected_by(Answer(b"", text), "finish") == "finish"


def test_a_tool_call_is_not_empty() -> None:
    assert rejected_by(Answer(b"", "", "tool_calls", tool_calls=1), "finish") == ""


def test_a_filtered_answer_is_turned_down() -> None:
    assert rejected_by(Answer(b"", "I", "content_filter"), "finish") == "finish"


def test_an_answer_in_another_language_is_turned_down() -> None:
    english = "The product can be returned in any shop during the thirty days that follow the purchase."
    assert rejected_by(Answer(b"", english), "language") == "language"
    assert rejected_by(Answer(b"", english), "language", a_question(task="translate")) == ""
    assert rejected_by(Answer(b"", english), "language", a_question(language="und")) == ""
    assert rejected_by(Answer(b"", "The end"), "language") == ""


@pytest.mark.parametrize(("text", "check"), [('{"n": 1}', ""), ('{"n": "x"}', "json"), ("[]", "json"), ("no", "json")])
def test_json_that_was_asked_for_must_keep_its_schema(text: str, check: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert rejected_by(Answer(b"", text), "json", a_question(response_format=wanted)) == check


def test_json_is_checked_only_when_it_was_asked_for() -> None:
    assert rejected_by(Answer(b"", "no"), "json") == ""
    assert rejected_by(Answer(b"", "no"), "json", a_question(response_format={"type": "json_object"})) == "json"


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "http://127.0.0.1:1/schema.json"}, {"type": 3}, {"pattern": "("}, {"$ref": "file:///etc/passwd"}],
)
def test_a_schema_that_is_none_is_not_held_against_the_answer_and_never_fetched(schema: dict[str, object]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert rejected_by(Answer(b"", "{}"), "json", a_question(response_format=wanted)) == ""


def test_a_pattern_made_to_stall_does_not() -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "^(a+)+$"}}}
    text = orjson.dumps("a" * 50_000 + "b").decode()
    assert rejected_by(Answer(b"", text), "json", a_question(response_format=wanted)) == "json"


def test_an_unsure_answer_is_turned_down_only_when_its_confidence_is_known() -> None:
    unsure = Answer(b"", LONG_ES, mean_logprob=math.log(0.5))
    assert rejected_by(unsure, "confidence", threshold=0.6) == "confidence"
    assert rejected_by(unsure, "confidence", threshold=0.4) == ""
    assert rejected_by(Answer(b"", LONG_ES), "confidence", threshold=0.6) == ""


def test_the_beginning_of_a_stream_is_held_only_against_what_a_beginning_can_fail() -> None:
    question = a_question(response_format={"type": "json_object"})
    assert verify_early(Answer(b"", '{"n": '), question, [Check("json"), Check("finish")]).accepted
