"""Errors in OpenAI's shape, with the request's id."""

from __future__ import annotations

import orjson

from gateway.errors import CauceError


def error_body(error: CauceError, request_id: str) -> bytes:
    """The JSON body of an error reply."""
    return orjson.dumps(error.as_object(request_id))


def retry_after(error: CauceError) -> str | None:
    """The `Retry-After` value in whole seconds, at least 1, when waiting helps."""
    if error.retry_after_s is None:
        return None
    return str(max(1, round(error.retry_after_s)))
