"""The log-probabilities that an upstream sends with its tokens, as the figures that checks look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard


@dataclass(frozen=True, slots=True)
class Sureness:
    """What the log-probabilities of an answer's tokens come to; nothing where there are none."""

    mean: float | None = None
    tail: float | None = None  # the mean of the least likely tenth
    margin: float | None = None  # probability of the token less that of the best other one, on average


def read_logprobs(logprobs: object) -> Sureness:
    """The shape of `choices[].logprobs` to figures. Never raises."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    tokens = [token for token in content if isinstance(token, dict)] if isinstance(content, list) else []
    values = sorted(value for token in tokens if _is_number(value := token.get("logprob")))
    if not values:
        return Sureness()
    least = values[: max(1, len(values) // 10)]
    margins = [margin for token in tokens if (margin := _margin(token)) is not None]
    return Sureness(
        sum(values) / len(values), sum(least) / len(least), sum(margins) / len(margins) if margins else None
    )


def _margin(token: dict[str, Any]) -> float | None:
    """How far a token was ahead of the best other one; negative when another was likelier."""
    own, tops = token.get("logprob"), token.get("top_logprobs")
    if not _is_number(own) or not isinstance(tops, list):
        return None
    others = [
        value
        for top in tops
        if isinstance(top, dict) and top.get("token") != token.get("token") and _is_number(value := top.get("logprob"))
    ]
    return math.exp(min(own, 0.0)) - math.exp(min(max(others), 0.0)) if others else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
