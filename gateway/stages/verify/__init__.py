"""verify: `Answer` to `Verdict`. Each check is a small named function that a route can list.

A check that cannot tell says nothing: an answer is turned down for what it is, never for what is not known of it.
Those that ask another model (`judge`, `samples`) make calls, so they live in `gateway/opinions.py`, after all of these.

    text.py what the words say   structure.py JSON and tool calls   sums.py arithmetic   confidence.py probabilities
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.stages.verify import confidence, structure, sums, text
from gateway.stages.verify.confidence import Logprobs, wants_logprobs
from gateway.stages.verify.question import Checker, Question
from gateway.types import ACCEPTED, Answer, Check, Verdict

__all__ = (
    "ASKING", "CHECKS", "EARLY_CHECKS", "Logprobs", "Question", "verify", "verify_early", "wants_logprobs",
)  # fmt: skip


def _trained(answer: Answer, question: Question, check: Check) -> str:
    if question.checker is None or answer.tool_calls or not answer.text.strip():
        return ""
    chance = question.checker(question.asked, answer.text)
    if chance is None or chance >= check.threshold:
        return ""
    return f"the answer checker gives it {chance:.2f}, below {check.threshold:g}"


CHECKS: Final[dict[str, Checker]] = {
    "finish": text.finish,
    "repeats": text.repeats,
    "language": text.language,
    "refusal": text.refusal,
    "length": text.length,
    "json": structure.json_kept,
    "tools": structure.tools_kept,
    "arithmetic": sums.arithmetic,
    "confidence": confidence.mean,
    "confidence_tail": confidence.tail,
    "confidence_margin": confidence.margin,
    "checker": _trained,
}
# Those that make calls of their own.
ASKING: Final = frozenset({"judge", "samples"})
# What can be said of the first tokens of a stream.
EARLY_CHECKS: Final = frozenset({"finish", "language", "refusal"})


def verify(answer: Answer, question: Question, checks: Sequence[Check]) -> Verdict:
    """The first check that turns the answer down, else accepted; those that ask another model are left out."""
    passed: list[str] = []
    for check in checks:
        if check.name in ASKING:
            continue
        reason = CHECKS[check.name](answer, question, check)
        if reason:
            return Verdict(accepted=False, check=check.name, reason=reason, passed=tuple(passed))
        passed.append(check.name)
    return Verdict(accepted=True, passed=tuple(passed)) if passed else ACCEPTED


def verify_early(answer: Answer, question: Question, checks: Sequence[Check]) -> Verdict:
    """The same for the first tokens of a stream: only the checks that a beginning can fail."""
    return verify(answer, question, [check for check in checks if check.name in EARLY_CHECKS])
