"""Headers that pass through, both ways: the two lists, and what a value must look like.

A header's value is text that leaves. Only names on the list go, only to the providers that know them, and only in a
strict form: names that a caller can make up (an organisation's, a beta's) are scanned with the request's texts and
raise its class as any of them does; a key of idempotency goes as a digest; a trace's state, which may say anything,
stays on the premises. Everything else that a client sends (its key, cookies, its user agent, `x-cauce-*`) ends here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.types import Model, Zone

_UUID: Final = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_BETA: Final = r"[a-z][a-z0-9-]{2,48}-20\d\d-\d\d-\d\d"
_STATE: Final = r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}"
# By name: the whole value's form. W3C Trace Context level 2; ids as OpenAI and Anthropic make them.
_FORMS: Final = {
    b"traceparent": re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"),
    b"tracestate": re.compile(rf"{_STATE}(?:\s*,\s*{_STATE}){{0,31}}"),
    b"idempotency-key": re.compile(rf"(?:[a-z]+-){{0,4}}{_UUID}|[0-9A-HJKMNP-TV-Z]{{26}}|[0-9a-f]{{32,64}}"),
    b"openai-organization": re.compile(r"org-[A-Za-z0-9]{4,48}"),
    b"openai-project": re.compile(r"proj_[A-Za-z0-9]{4,48}"),
    b"openai-beta": re.compile(r"[a-z_]{3,32}=(?:v\d|experimental)(?:\s*,\s*[a-z_]{3,32}=(?:v\d|experimental)){0,7}"),
    b"anthropic-beta": re.compile(rf"{_BETA}(?:\s*,\s*{_BETA}){{0,15}}"),
}
_MADE_UP: Final = frozenset({b"openai-organization", b"openai-project", b"openai-beta", b"anthropic-beta"})
_DATE: Final = re.compile(r"-20\d\d-\d\d-\d\d")
_MOST_CHARS: Final = 512
NAMES: Final = frozenset(_FORMS)

# What the reference says of each.
REQUEST: Final = {
    "traceparent": "W3C trace context, to every model",
    "tracestate": "its vendors' part, to models on the premises: it is free text",
    "idempotency-key": "a UUID (`stainless-python-retry-UUID` too), ULID or digest; goes on as a digest of it and of "
    "the caller, since all callers share one account",
    "openai-organization": "`org-...`, to provider `openai`",
    "openai-project": "`proj_...`, to provider `openai`",
    "openai-beta": "`NAME=v1`, to provider `openai`",
    "anthropic-beta": "names with their date, to provider `anthropic`",
}
REPLY: Final = {
    "x-ratelimit-*": "`limit`, `remaining`, `reset` of `requests` and `tokens`: the key's, or else the provider's",
    "anthropic-ratelimit-*": "the same, as Anthropic says it",
    "openai-processing-ms": "how long the provider took",
    "openai-version": "the version of its API",
    "x-cauce-provider-request-id": "the id that the answering provider gave to its call",
}

# Fixed forms and digests, in which nothing is said.
EVERYONES: Final = frozenset({"traceparent", "idempotency-key"})
_OPENAIS: Final = EVERYONES | {"openai-organization", "openai-project", "openai-beta"}
_ANTHROPICS: Final = EVERYONES | {"anthropic-beta"}
# SigV4, API keys in the address, IAM tokens: no keys of idempotency there.
_TRACED: Final = frozenset({"traceparent"})
_TAKEN: Final = {
    "openai": _OPENAIS, "anthropic": _ANTHROPICS, "gemini": _TRACED, "bedrock": _TRACED, "watsonx": _TRACED,
}  # fmt: skip

_LIMITS: Final = {
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    *(
        f"anthropic-ratelimit-{of}-{what}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
}
GIVEN: Final = {
    **{name: name for name in (*_LIMITS, "openai-processing-ms", "openai-version")},
    **dict.fromkeys(("x-request-id", "request-id", "x-amzn-requestid"), "x-cauce-provider-request-id"),
}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:,+-]{1,80}")


def taken(model: Model) -> frozenset[str]:
    """Which of a caller's headers a model's provider gets."""
    names = _TAKEN.get(model.provider, EVERYONES)
    return names | {"tracestate"} if model.zone is Zone.PREMISES else names


@dataclass(frozen=True, slots=True)
class Passing:
    """The headers of a request that may go on; those of their words that must be scanned; the names of the others."""

    headers: Mapping[str, str]
    texts: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def passed(headers: Mapping[bytes, bytes], caller: str) -> Passing:
    """What passes of a request's headers. One whose value has not its form is lost, as a trace's standard wants it."""
    found: dict[str, str] = {}
    texts: list[str] = []
    lost: list[str] = []
    for name in sorted(NAMES & headers.keys()):
        value, shown = headers[name].decode("latin-1").strip(), name.decode()
        if len(value) > _MOST_CHARS or not _FORMS[name].fullmatch(value):
            lost.append(shown)
            continue
        found[shown] = _own_key(caller, value) if name == b"idempotency-key" else value
        if name in _MADE_UP:
            texts.append(_DATE.sub("", value))
    return Passing(found, tuple(texts), tuple(lost))


def is_traceparent(value: str) -> bool:
    """Whether a value has the form of a trace's header."""
    return _FORMS[b"traceparent"].fullmatch(value) is not None


def _own_key(caller: str, key: str) -> str:
    """A caller's key of idempotency as the gateway's: the same for the same, and no other caller's."""
    return f"cauce-{hashlib.sha256(b'%b %b' % (caller.encode(), key.encode())).hexdigest()[:40]}"


def given(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers of a provider's answer that its caller gets. Nothing that could be a text is among them."""
    found: dict[str, str] = {}
    for raw, value in headers:
        name = GIVEN.get(raw.decode("latin-1").lower())
        if name is not None and _PLAIN.fullmatch(text := value.decode("latin-1")):
            found[name] = text
    return found
