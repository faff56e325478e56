"""`POST /v1/feedback`: what a caller says of an answer. A score is kept; a comment is text, and no text is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import BadJson, BadRequest

_KEYS: Final = ("request_id", "score", "accepted", "comment")
_LONGEST_ID: Final = 128


@dataclass(frozen=True, slots=True)
class Said:
    """A caller's judgement: 0 is useless, 1 is as wanted."""

    request_id: str
    score: float
    commented: bool


def read_feedback(raw: bytes) -> Said:
    """The judgement in a body; raises `BadJson` or `BadRequest` with the field that is wrong."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"the body is not valid JSON: {error.msg}") from None
    if not isinstance(body, dict):
        raise BadRequest('the body must be an object: {"request_id": "...", "score": 0.8}')
    if unknown := [key for key in body if key not in _KEYS]:
        raise BadRequest(f"there is no field {unknown[0][:60]!r}: send {', '.join(_KEYS)}", param=unknown[0][:60])
    request_id = body.get("request_id")
    if not isinstance(request_id, str) or not 0 < len(request_id) <= _LONGEST_ID:
        raise BadRequest("request_id: send the x-cauce-request-id of the answer", param="request_id")
    comment = body.get("comment")
    if comment is not None and not isinstance(comment, str):
        raise BadRequest("comment: a text, or nothing", param="comment")
    return Said(request_id, _score(body), bool(comment))


def _score(body: dict[str, Any]) -> float:
    score, accepted = body.get("score"), body.get("accepted")
    if (score is None) == (accepted is None):
        raise BadRequest("send either score, from 0 to 1, or accepted, true or false", param="score")
    if accepted is not None:
        if not isinstance(accepted, bool):
            raise BadRequest("accepted: true or false", param="accepted")
        return float(accepted)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise BadRequest("score: a number from 0 to 1", param="score")
    return float(score)
