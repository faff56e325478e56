"""Checks of the probabilities that a model gave its own tokens: on the whole, at its least sure, and to spare.

Not under a grammar or in JSON mode: there the server forbids tokens, and the probabilities of those that it lets
through say what the grammar wants, not what the model is sure of. They are not even asked for then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from gateway.stages.verify.question import Question, wants_json
from gateway.types import Answer, Check

_MEASURES: Final = frozenset({"confidence", "confidence_tail", "confidence_margin"})


class Logprobs(IntEnum):
    """What is asked of an upstream beyond what the caller asked for."""

    NONE = 0
    CHOSEN = 1  # of the tokens that were chosen
    RIVALS = 2  # of the best other token too, for the margin


def wants_logprobs(checks: Sequence[Check], question: Question) -> Logprobs:
    """What probabilities the checks need that the caller did not ask for."""
    names = {check.name for check in checks} & _MEASURES
    if not names or "logprobs" in question.inbound.body or wants_json(question):
        return Logprobs.NONE
    return Logprobs.RIVALS if "confidence_margin" in names else Logprobs.CHOSEN


def mean(answer: Answer, question: Question, check: Check) -> str:
    """Turns down an answer whose tokens had a geometric mean probability below the threshold."""
    return _below("confidence", answer.mean_logprob, question, check)


def tail(answer: Answer, question: Question, check: Check) -> str:
    """Turns down an answer whose least sure tenth of the tokens was, in geometric mean, below the threshold."""
    return _below("the confidence of its least sure tokens", answer.tail_logprob, question, check)


def margin(answer: Answer, question: Question, check: Check) -> str:
    """Turns down an answer whose tokens were on average less than the threshold ahead of the best other token."""
    if answer.margin is None or wants_json(question) or answer.margin >= check.threshold:
        return ""
    return f"its tokens were {answer.margin:.2f} ahead of the next best, below {check.threshold:g}"


def _below(what: str, logprob: float | None, question: Question, check: Check) -> str:
    if logprob is None or wants_json(question):
        return ""
    confidence = math.exp(logprob)
    return f"{what} {confidence:.2f} is below {check.threshold:g}" if confidence < check.threshold else ""
