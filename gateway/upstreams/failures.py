"""What a provider says went wrong, in our words: the one table from status, code and message to the error tree.

A provider's message reaches the caller, so it is bounded, and neither a key nor a text of the request is left in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.errors import (
    UpstreamBroken,
    UpstreamContext,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamFiltered,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnfit,
)
from gateway.types import Model, Part

_MAX_MESSAGE_CHARS: Final = 300
_MAX_RETRY_AFTER_S: Final = 3600.0
_SECRETS: Final = re.compile(r"\b(?:sk|pk|rk|key|gsk|xai|hf|nvapi|ghp|eyJ|AIza|AKIA)[-_A-Za-z0-9*.]{8,}|Bearer\s+\S+")
# Each has its own words for a prompt that does not fit: OpenAI, vLLM, llama.cpp, Mistral, TGI, Anthropic, Gemini,
# Bedrock, watsonx.
_CONTEXT: Final = re.compile(
    r"context.{0,20}(?:length|size|window|limit)|maximum context|(?:prompt|input) is too long|"
    r"too many (?:input )?tokens|input token count|max_new_tokens|exceeds the maximum number of tokens|"
    r"number of input tokens|input tokens exceed",
    re.IGNORECASE,
)
# Gemini and IBM's IAM say it with a 400, as if the request were wrong.
_KEY: Final = re.compile(r"api[_ ]key (?:not valid|expired|could not be found)", re.IGNORECASE)
_FILTER: Final = re.compile(r"content[ _]management[ _]policy|content[ _]filter|content[ _]policy", re.IGNORECASE)
# A parameter, a tool or an image that this model does not take, while the request may be right for another.
_UNFIT: Final = re.compile(r"\b(?:(?:does|do) ?(?:not|n't) support|not supported|unsupported)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"\w+")
_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_UNFIT_CODES: Final = frozenset({"unsupported_parameter", "unsupported_value", "unsupported_model"})
_QUOTA: Final = "insufficient_quota"  # comes back when somebody pays
_BUSY_CODES: Final = frozenset(
    {"rate_limit_exceeded", "rate_limit_error", "overloaded_error", _QUOTA, "server_is_overloaded"}
)
_BUSY: Final = frozenset({429, 503, 529})
_WRONG_REQUEST: Final = frozenset({400, 409, 413, 415, 422})
_GONE: Final = frozenset({404, 410})
_ANSWERED: Final = 200


def error_of(body: object) -> object:
    """The error object in the body of a status that is not 200, wherever the provider puts it."""
    if isinstance(body, list):  # Gemini, of a stream
        body = body[0] if body else None
    if not isinstance(body, dict):
        return {}
    if isinstance(errors := body.get("errors"), list) and errors:  # watsonx
        return errors[0]
    return body.get("error", body)


def said(model: Model, error: object, *, status: int, retry_after: str | None = None) -> UpstreamError:
    """A provider's error object (or string) and status as one of ours."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = fields.get("code") or fields.get("type") or ""
    if status == _ANSWERED and isinstance(code, int) and 400 <= code < 600:
        status = code  # an error inside a good answer brings its own status
    code = str(code)
    message = str(fields.get("message") or fields.get("Message") or "")
    text = f"{model.id}: {clean(message, model)}"
    kind = _by_words(code, message, status)
    if kind is not None:
        return kind(text, upstream=model.id)
    if status == 400 and _KEY.search(message):
        status = 401
    if status in _BUSY or code in _BUSY_CODES:
        return UpstreamOverloaded(
            text,
            upstream=model.id,
            retry_after_s=seconds(retry_after),
            status=503 if status in _BUSY - {429} else 429,
            passing=code != _QUOTA,
        )
    if status in _WRONG_REQUEST and code == "model_not_found":
        return UpstreamMissing(text, upstream=model.id)
    if status in _WRONG_REQUEST and (code in _UNFIT_CODES or _UNFIT.search(message)):
        return UpstreamUnfit(text, upstream=model.id, status=status)
    return _by_status(model, text, status, in_shape=bool(message))


def _by_words(code: str, message: str, status: int) -> type[UpstreamContext | UpstreamFiltered] | None:
    """Two errors that every provider hides in a status of its own."""
    if code in _CONTEXT_CODES or status == 413:
        return UpstreamContext
    if status in {401, 403} | _BUSY or status >= 500:
        return None
    if _CONTEXT.search(message):
        return UpstreamContext
    return UpstreamFiltered if _FILTER.search(code) or _FILTER.search(message) else None


def _by_status(model: Model, text: str, status: int, *, in_shape: bool) -> UpstreamError:
    name = model.id
    if status in {401, 403}:
        return UpstreamDenied(f"{name} refused the gateway's key: check its api_key in cauce.yaml", upstream=name)
    if status in {408, 504}:
        return UpstreamTimeout(text, upstream=name)
    if status in _GONE and in_shape:
        return UpstreamMissing(f"{text} (status {status}): check model in cauce.yaml", upstream=name)
    if status in _GONE or 300 <= status < 400:
        return UpstreamMissing(
            f"{name} has no chat completions at {model.base_url} (status {status}): check base_url in cauce.yaml, "
            "it usually ends in /v1",
            upstream=name,
        )
    if status in _WRONG_REQUEST:
        return UpstreamRejected(text, upstream=name, status=status)
    return UpstreamFailed(f"{text} (status {status})", upstream=name)


def broken(model: Model, what: str) -> UpstreamBroken:
    """An answer that is not what it should be."""
    return UpstreamBroken(f"{model.id} {what}", upstream=model.id)


def clean(message: str, model: Model) -> str:
    """A provider's message, fit for a caller to read."""
    text = message[: 2 * _MAX_MESSAGE_CHARS] or "no reason given"
    if model.api_key:
        text = text.replace(model.api_key, "***")
    text = _SECRETS.sub("***", text)
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "..."


def leave_out_quotes(error: UpstreamError, parts: Sequence[Part]) -> None:
    """Withhold a provider's message that repeats the request: errors end up in other people's logs."""
    words = list(_WORD.finditer(error.message))
    pieces = [error.message[first.start() : third.end()] for first, third in zip(words, words[2:], strict=False)]
    pieces += [word.group() for word in words if len(word.group()) >= 5 and any(map(str.isdigit, word.group()))]
    if any(piece in part.text for part in parts for piece in pieces):
        error.message = f"{error.upstream} answered with {error.code}; its message quotes the request and is left out"
        error.args = (error.message,)


def seconds(retry_after: str | None) -> float:
    """A Retry-After header, a number or a date, as seconds from now; a second when it says nothing."""
    if not retry_after:
        return 1.0
    try:
        value = float(retry_after)
    except ValueError:
        value = _until(retry_after)
    return min(max(value, 0.0), _MAX_RETRY_AFTER_S) if value == value else 1.0  # noqa: PLR0124 - not a NaN


def _until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 1.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
