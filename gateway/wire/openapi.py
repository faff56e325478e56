"""`GET /openapi.json`: the whole HTTP API, written down; the request path has no framework that would do it.

Requests are described as far as they are checked: what passes through to a model is not forbidden here either.
"""

from __future__ import annotations

from typing import Any, Final

from gateway import __version__
from gateway.wire.caller import REQUEST_HEADERS

Json = dict[str, Any]
_DOORS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings")
_STREAMED: Final = frozenset(_DOORS) - {"/v1/embeddings"}
_TEXT: Final[Json] = {"type": "string"}
_NUMBER: Final[Json] = {"type": ["number", "null"]}
_PARTS: Final[Json] = {
    "type": "array",
    "items": {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}},
}
_CHAT: Final[Json] = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": ["string", "null"], "description": "`auto`, or none: the policy chooses; a name pins it"},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
                    "content": {"anyOf": [_TEXT, _PARTS]},
                },
            },
        },
        "stream": {"type": ["boolean", "null"]},
        **dict.fromkeys(("temperature", "top_p", "max_tokens", "n", "seed"), _NUMBER),
        "tools": {"type": "array", "items": {"type": "object"}},
        "response_format": {"type": "object"},
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": ["boolean", "null"]}}},
    },
}
_REQUESTS: Final[dict[str, Json]] = {
    "/v1/chat/completions": _CHAT,
    "/v1/route": _CHAT,
    "/v1/messages/count_tokens": {
        "type": "object",
        "required": ["messages"],
        "properties": {"model": _TEXT, "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}}},
    },
    "/v1/completions": {
        "type": "object",
        "required": ["prompt"],
        "properties": {"model": _TEXT, "prompt": {"type": "string", "minLength": 1}, "stream": {"type": "boolean"}},
    },
    "/v1/responses": {
        "type": "object",
        "required": ["input"],
        "properties": {
            "model": _TEXT,
            "input": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": {"type": "object"}}]},
            "instructions": {"type": ["string", "null"]},
            "stream": {"type": "boolean"},
        },
    },
    "/v1/messages": {
        "type": "object",
        "required": ["messages", "max_tokens"],
        "properties": {
            "model": _TEXT,
            "max_tokens": {"type": "integer"},
            "messages": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["role", "content"]}},
            "stream": {"type": "boolean"},
        },
    },
    "/v1/embeddings": {
        "type": "object",
        "required": ["input"],
        "properties": {
            "model": _TEXT,
            "input": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": 2048}]},
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": "integer", "minimum": 1},
        },
    },
}
_ERRORS: Final = ("400", "401", "403", "404", "408", "413", "429", "502", "503", "504")
_SAYS: Final = {
    "/v1/chat/completions": "OpenAI's chat completions, whole or streamed",
    "/v1/completions": "OpenAI's completions: one prompt, one text",
    "/v1/responses": "OpenAI's responses; nothing is stored",
    "/v1/messages": "Anthropic's messages",
    "/v1/messages/count_tokens": "about how many tokens a request of Anthropic's messages has; no call is made",
    "/v1/embeddings": "OpenAI's embeddings",
    "/v1/route": "the decision for a chat request, without a call",
}
_ERROR: Final[Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["type", "message", "code"]}},
}
_PAGES: Final = {
    "/v1/models": ("the models that requests can name", "application/json", (200, 401)),
    "/healthz": ("the process answers", "application/json", (200,)),
    "/readyz": ("requests can be answered", "application/json", (200, 503)),
    "/metrics": ("Prometheus text format", "text/plain", (200,)),
}


def document() -> Json:
    """OpenAPI 3.1."""
    paths = {path: {"post": _asked(path)} for path in _REQUESTS}
    paths |= {path: {"get": _page(*facts)} for path, facts in _PAGES.items()}
    named: Json = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    paths["/v1/models/{name}"] = {
        "get": {**_page("one model", "application/json", (200, 401, 404)), "parameters": [named]}
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Cauce", "version": __version__},
        "security": [{}, {"bearer": []}],
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _asked(path: str) -> Json:
    good: Json = {"application/json": {"schema": {"type": "object"}}}
    if path in _STREAMED:
        good["text/event-stream"] = {"schema": {"type": "string"}}
    return {
        "summary": _SAYS[path],
        "parameters": [
            {"name": name, "in": "header", "schema": _TEXT, "description": REQUEST_HEADERS[name]}
            for name in ("x-cauce-tags", "traceparent")
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUESTS[path]}}},
        "responses": {
            "200": {"description": "the answer", "content": good},
            **{status: _wrong() for status in _ERRORS},
        },
    }


def _page(says: str, media: str, statuses: tuple[int, ...]) -> Json:
    return {
        "summary": says,
        "responses": {
            str(status): {"description": "as it is", "content": {media: {}}} if status in {200, 503} else _wrong()
            for status in statuses
        },
    }


def _wrong() -> Json:
    return {"description": "an error, with its code", "content": {"application/json": {"schema": _ERROR}}}
