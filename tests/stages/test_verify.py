from __future__ import annotations

import dataclasses
import math

import orjson
import pytest

from gateway.stages.verify import Question, verify, verify_early, wants_logprobs
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


# --- what the words say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is no.\n" * 5 + "So it is, the answer is no.",
        "no " * 12,
        " ".join(["I think that the bill is right and that you owe it"] * 9),
    ],
)
def test_an_answer_that_runs_in_circles_is_turned_down(text: str) -> None:
    assert rejected_by(Answer(b"", text), "repeats") == "repeats"


@pytest.mark.parametrize("text", [LONG_ES * 1, "1. Sí\n2. Sí\n3. Sí\n4. Sí\n5. Sí", "ja, ja, ja", "Sí."])
def test_lists_and_short_answers_do_not_run_in_circles(text: str) -> None:
    assert rejected_by(Answer(b"", text), "repeats") == ""


def test_code_may_repeat_itself() -> None:
    assert rejected_by(Answer(b"", "    total += value\n" * 6), "repeats", a_question(task="code")) == ""


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I don\u2019t have access to real-time data.",
        "As an AI language model, I cannot give legal advice.",
        "Lo siento, no puedo ayudarte con eso.",
        "No lo sé.",
        "No dispongo de información sobre ese pedido.",
        "Ho sento, però no puc ajudar-te.",
        "No ho sé.",
        "Síntoo, pero non podo axudar con iso.",
        "Non o sei.",
        "Sentitzen dut, ezin dizut lagundu.",
        "Ez dakit.",
        "Desculpe, mas não posso ajudar com isso.",
        "Não sei.",
        "Désolé, je ne peux pas vous aider.",
        "Je ne sais pas.",
    ],
)
def test_a_refusal_and_an_i_do_not_know_are_turned_down(text: str) -> None:
    assert rejected_by(Answer(b"", text), "refusal") == "refusal"


@pytest.mark.parametrize(
    "text",
    [
        "No se puede devolver pasado el plazo de treinta días.",
        "El servicio no se cobra aparte.",
        "You cannot return it after thirty days.",
        "No, no tiene coste.",
        "La factura no tiene datos de acceso: están en el área de clientes.",
        "I'm sorry to hear that. " + "Here is what you can do about the router, step by step. " * 9,
        LONG_ES,
    ],
)
def test_an_answer_that_only_says_no_is_no_refusal(text: str) -> None:
    assert rejected_by(Answer(b"", text), "refusal") == ""


def test_a_refusal_that_was_asked_for_stays() -> None:
    assert rejected_by(Answer(b"", "I'm sorry, but I can't help."), "refusal", a_question(task="translate")) == ""


def asked(text: str, task: str = "faq") -> Question:
    return Question(an_inbound(text), some_signals(language="es", task=task), lambda _text: "es")


@pytest.mark.parametrize(
    ("question", "answer", "check"),
    [
        (asked("¿Es positiva o negativa? En una palabra.", "classify"), "Positiva.", ""),
        (asked("¿Es positiva o negativa? En una palabra.", "classify"), "Es " + "muy " * 20 + "positiva", "length"),
        (asked("Describe la luz en como máximo 20 palabras."), "luz " * 60, "length"),
        (asked("Describe la luz en como máximo 20 palabras."), "luz " * 22, ""),
        (asked("Resume este texto: " + LONG_ES * 5, "summarize"), LONG_ES * 8, "length"),
        (asked("Resume este texto: " + LONG_ES * 5, "summarize"), LONG_ES, ""),
        (asked("Traduce al inglés: " + LONG_ES * 3, "translate"), "The", "length"),
        (asked("Escribe una carta de reclamación", "write"), "Claro.", "length"),
        (asked("¿Cuánto cuesta?"), "3 euros", ""),
    ],
)
def test_an_answer_out_of_all_proportion_is_turned_down(question: Question, answer: str, check: str) -> None:
    assert rejected_by(Answer(b"", answer), "length", question) == check


# --- sums -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("48 / 2 = 24 clips en mayo, y 48 + 24 = 72 en total.", ""),
        ("Son 48 + 24 = 62 en total.", "arithmetic"),
        ("3 x 60 = 180, 180 × 3 = 540 metros", ""),
        ("3 x 60 = 190", "arithmetic"),
        ("2 + 3 * 4 = 14", ""),
        ("2 + 3 * 4 = 20", "arithmetic"),
        ("$1,200.50 - $200.50 = $1,000.00", ""),
        ("10 / 3 = 3.33", ""),
        ("100 / 3 = 40", "arithmetic"),
        ("3,5 + 1,5 = 5", ""),
        ("x = 3 y 2x + 3 = 9", ""),
        ("El 20% de 50 = 10", ""),
        ("1.234 + 1 = 1.235", ""),
        ("el 2024-05-06 = hoy", ""),
    ],
)
def test_a_wrong_sum_is_turned_down_and_a_rounded_one_is_not(text: str, check: str) -> None:
    assert rejected_by(Answer(b"", text), "arithmetic") == check


# --- tool calls -----------------------------------------------------------------------------------------------------

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}]


def calling(name: str, arguments: str) -> Answer:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return Answer(orjson.dumps({"choices": [{"message": message}]}), "", "tool_calls", tool_calls=1)


@pytest.mark.parametrize(
    ("name", "arguments", "check"),
    [
        ("look_up", '{"n": 3}', ""),
        ("look_up", '{"n": "three"}', "tools"),
        ("look_up", "{n: 3", "tools"),
        ("look_up", "[3]", "tools"),
        ("delete_all", '{"n": 3}', "tools"),
    ],
)
def test_a_tool_call_must_be_of_a_tool_that_was_offered_and_keep_its_schema(
    name: str, arguments: str, check: str
) -> None:
    assert rejected_by(calling(name, arguments), "tools", a_question(tools=TOOLS)) == check


def test_a_tool_call_that_was_required_must_come() -> None:
    said = Answer(b"", LONG_ES)
    assert rejected_by(said, "tools", a_question(tools=TOOLS, tool_choice="required")) == "tools"
    assert rejected_by(said, "tools", a_question(tools=TOOLS)) == ""
    assert rejected_by(said, "tools") == ""


# --- probabilities and the trained checker --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["confidence", "confidence_tail", "confidence_margin"])
def test_probabilities_under_a_grammar_say_nothing_and_are_not_asked_for(name: str) -> None:
    unsure = Answer(b"", "{}", mean_logprob=-3, tail_logprob=-6, margin=0.1)
    assert rejected_by(unsure, name, threshold=0.5) == name
    for constrained in ({"response_format": {"type": "json_object"}}, {"grammar": "root ::= [0-9]"}):
        assert rejected_by(unsure, name, a_question(**constrained), threshold=0.5) == ""
        assert wants_logprobs([Check(name, 0.5)], a_question(**constrained)) == 0


def test_only_the_margin_asks_for_the_other_tokens() -> None:
    assert wants_logprobs([Check("confidence", 0.6)], a_question()) == 1
    assert wants_logprobs([Check("confidence_margin", 0.6)], a_question()) == 2
    assert wants_logprobs([Check("finish")], a_question()) == 0


def test_an_answer_that_the_trained_checker_gives_little_chance_is_turned_down() -> None:
    def chance(question: str, answer: str) -> float | None:
        return None if answer == "?" else 0.9 if question in answer else 0.1

    question = dataclasses.replace(asked("la luz"), checker=chance)
    assert rejected_by(Answer(b"", "es la luz"), "checker", question, threshold=0.3) == ""
    assert rejected_by(Answer(b"", "un pez"), "checker", question, threshold=0.3) == "checker"
    assert rejected_by(Answer(b"", "?"), "checker", question, threshold=0.3) == ""
    assert rejected_by(Answer(b"", "un pez"), "checker", threshold=0.3) == ""


def test_a_verdict_names_the_checks_that_passed() -> None:
    verdict = verify(Answer(b"", "No lo sé."), a_question(), [Check("finish"), Check("judge"), Check("refusal")])
    assert (verdict.accepted, verdict.check, verdict.passed) == (False, "refusal", ("finish",))
