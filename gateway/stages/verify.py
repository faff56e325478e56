"""verify: `Answer` to `Verdict`. Each check is a small named function that a route can list.

A check that cannot tell says nothing: an answer is turned down for what it is, never for what is not known of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import orjson

from gateway.types import ACCEPTED, Answer, Check, Inbound, Signals, Verdict

_LETTERS_TO_JUDGE_LANGUAGE = 60


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer is held against."""

    inbound: Inbound
    signals: Signals
    language: Callable[[str], str]


def wants_logprobs(checks: Sequence[Check], inbound: Inbound) -> bool:
    """Whether the checks need probabilities that the caller did not ask for."""
    return any(check.name == "confidence" for check in checks) and "logprobs" not in inbound.body


Checker = Callable[[Answer, Question, Check], str]  # the reason to turn it down, or nothing


def _finish(answer: Answer, _question: Question, _check: Check) -> str:
    if answer.finish_reason in {"content_filter", "error"}:
        return f"it ended with {answer.finish_reason}"
    if not answer.text.strip() and not answer.tool_calls:
        return "it is empty"
    return ""


def _language(answer: Answer, question: Question, _check: Check) -> str:
    asked = question.signals.language
    if asked == "und" or question.signals.task in {"translate", "code"} or answer.tool_calls:
        return ""
    if sum(map(str.isalpha, answer.text[:2000])) < _LETTERS_TO_JUDGE_LANGUAGE:
        return ""
    given = question.language(answer.text)
    return f"asked in {asked}, answered in {given}" if given not in {asked, "und"} else ""


def _json(answer: Answer, question: Question, _check: Check) -> str:
    wanted = question.inbound.body.get("response_format")
    if answer.tool_calls or not isinstance(wanted, dict) or wanted.get("type") not in {"json_object", "json_schema"}:
        return ""
    try:
        value = orjson.loads(answer.text)
    except orjson.JSONDecodeError:
        return "JSON was asked for and it is not JSON"
    holder = wanted.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    return _against_schema(value, schema) if isinstance(schema, dict) else ""


def _against_schema(value: object, schema: dict[str, object]) -> str:
    import jsonschema_rs  # noqa: PLC0415 - 3 MB that only callers with a schema need

    try:
        # Linear-time patterns and no fetching: the schema is the caller's, and must neither stall us nor send us out.
        validator = jsonschema_rs.validator_for(
            schema, retriever=_fetch_nothing, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return ""  # the caller's schema is not one: nothing to hold the answer against
    return "" if validator.is_valid(value) else "it breaks the schema"


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"schemas are not fetched: {uri}")


def _confidence(answer: Answer, _question: Question, check: Check) -> str:
    if answer.mean_logprob is None:
        return ""
    confidence = math.exp(answer.mean_logprob)
    return f"confidence {confidence:.2f} is below {check.threshold:g}" if confidence < check.threshold else ""


CHECKS: Final[dict[str, Checker]] = {
    "finish": _finish,
    "language": _language,
    "json": _json,
    "confidence": _confidence,
}
# What can be said of the first tokens of a stream.
EARLY_CHECKS: Final = frozenset({"finish", "language"})


def verify(answer: Answer, question: Question, checks: Sequence[Check]) -> Verdict:
    """The first check that turns the answer down, else `ACCEPTED`."""
    for check in checks:
        reason = CHECKS[check.name](answer, question, check)
        if reason:
            return Verdict(accepted=False, check=check.name, reason=reason)
    return ACCEPTED


def verify_early(answer: Answer, question: Question, checks: Sequence[Check]) -> Verdict:
    """The same for the first tokens of a stream: only the checks that a beginning can fail."""
    return verify(answer, question, [check for check in checks if check.name in EARLY_CHECKS])
