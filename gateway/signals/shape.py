"""What can be said of a request without reading it: tokens, modality, tools, JSON."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.types import Inbound

# Mean over Spanish and English text of the characters a token of current vocabularies covers; an estimate, and only
# used to choose: what is billed is what the provider counted.
_CHARS_PER_TOKEN = 3.7
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 765


@dataclass(frozen=True, slots=True)
class Shape:
    """The outline of a request. `modality` is `text`, `image`, `audio` or `file`: the most demanding one in it."""

    prompt_tokens: int
    modality: str
    tools: bool
    json: bool


def outline(inbound: Inbound) -> Shape:
    """The shape of a request."""
    characters = sum(len(part.text) for part in inbound.parts)
    opaque = inbound.opaque
    tokens = (
        int(characters / _CHARS_PER_TOKEN) + _TOKENS_PER_MESSAGE * len(inbound.parts) + _TOKENS_PER_IMAGE * len(opaque)
    )
    modality = next((kind for kind in ("file", "audio", "image") if kind in opaque), "text") if opaque else "text"
    body = inbound.body
    return Shape(
        tokens, modality, bool(body.get("tools") or body.get("functions")), _asks_json(body.get("response_format"))
    )


def _asks_json(response_format: object) -> bool:
    return isinstance(response_format, dict) and response_format.get("type") in {"json_object", "json_schema"}
