"""Who asks, and what they say about their request in headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.errors import BadKey, BadRequest, MissingKey, ModelNotAllowed
from gateway.types import ANONYMOUS, Caller, DataClass
from gateway.upstreams import passing

_TAG = re.compile(r"[A-Za-z0-9_.:=/@+-]{1,64}")
_MAX_TAGS = 16
_CLASSES = {member.label: member for member in DataClass}

# What each does. Those of `passing.REQUEST` go on to the model, in a strict form; others change nothing and go nowhere.
REQUEST_HEADERS: Final = {
    "authorization": "`Bearer KEY`: who asks. Without any key set up, whatever is sent is ignored",
    "x-api-key": "the same, as Anthropic's clients send it",
    "x-cauce-data-class": "raises the data class: public, internal, personal, special, secret; never lowers it",
    "x-cauce-tags": "cost tags beside the key's, separated by commas: up to 16 of up to 64 letters, digits, `_.:=/@+-`",
    "cache-control": "`no-cache` or `no-store`: the answer is neither taken from the cache nor kept there",
    "content-encoding": "only `identity`: a compressed body is refused",
    "anthropic-version": "`2023-06-01` or `2026-10-21`, on `/v1/messages`",
    "accept-language": "`es` or `en`: the language of the explanation that `/v1/route` gives",
    **passing.REQUEST,
}


class Keys(Protocol):
    """The callers' keys."""

    @property
    def required(self) -> bool:
        """Whether a request without a key is refused."""
        ...

    def find(self, key: str) -> Caller | None:
        """The caller of a valid key, else nothing. Constant time in the key."""
        ...


def find_caller(headers: Mapping[bytes, bytes], keys: Keys) -> Caller:
    """The caller of a request; raises `MissingKey` or `BadKey`.

    Without any key set up every loopback caller is `anonymous`, and whatever key its client sends is ignored.
    """
    if not keys.required:
        return ANONYMOUS
    key = _bearer(headers) or headers.get(b"x-api-key", b"").decode("latin-1")
    if not key:
        raise MissingKey("this gateway asks for a key: send `Authorization: Bearer KEY` (cauce keys create makes one)")
    caller = keys.find(key)
    if caller is None:
        raise BadKey(
            "this key is not known, or was revoked, or has expired: ask whoever runs the gateway for a new one"
        )
    return caller


def _bearer(headers: Mapping[bytes, bytes]) -> str:
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def refuse_model(asked: str, caller: Caller) -> None:
    """Raises `ModelNotAllowed` for a model that the key is not for."""
    if caller.models is not None and asked not in caller.models:
        raise ModelNotAllowed(f"this key may use: {', '.join(sorted(caller.models))}", param="model")


def raised_class(headers: Mapping[bytes, bytes], caller: Caller) -> DataClass:
    """The floor that the key and the `x-cauce-data-class` header set; raises `BadRequest` for an unknown class."""
    value = headers.get(b"x-cauce-data-class")
    if value is None:
        return caller.data
    name = value.decode("latin-1").strip().lower()
    if name not in _CLASSES:
        raise BadRequest(f"x-cauce-data-class must be one of {', '.join(_CLASSES)}", param="x-cauce-data-class")
    return max(caller.data, _CLASSES[name])


def cost_tags(headers: Mapping[bytes, bytes], caller: Caller) -> tuple[str, ...]:
    """The key's tags and those of `x-cauce-tags`; raises `BadRequest` for what cannot be a tag."""
    value = headers.get(b"x-cauce-tags")
    if value is None:
        return caller.tags
    tags = [tag.strip() for tag in value.decode("latin-1").split(",") if tag.strip()]
    if len(tags) > _MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        raise BadRequest(
            f"x-cauce-tags takes up to {_MAX_TAGS} tags of letters, digits and _.:=/@+-, separated by commas",
            param="x-cauce-tags",
        )
    return tuple(dict.fromkeys((*caller.tags, *tags)))
