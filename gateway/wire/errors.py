"""Errors in OpenAI's shape, with the request's id."""

from __future__ import annotations

import orjson

from gateway.errors import CauceError


def error_object(error: CauceError, request_id: str) -> dict[str, object]:
    """OpenAI's error object. `code` is stable and from `errors.py`; the message holds no text of a request."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
            "request_id": request_id,
        }
    }


def error_body(error: CauceError, request_id: str) -> bytes:
    """The JSON body of an error reply."""
    return orjson.dumps(error_object(error, request_id))


def retry_after(error: CauceError) -> str | None:
    """The `Retry-After` value in whole seconds, at least 1, when waiting helps."""
    if error.retry_after_s is None:
        return None
    return str(max(1, round(error.retry_after_s)))
