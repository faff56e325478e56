"""`POST /v1/messages/count_tokens`: about how many tokens a request of Anthropic's has. No call is made."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import orjson
from fastapi import Request, Response

from gateway.errors import CauceError
from gateway.settings import LimitSettings
from gateway.signals.shape import outline
from gateway.types import Inbound
from gateway.wire import messages
from gateway.wire.body import content_length, read_body
from gateway.wire.caller import Keys, find_caller, raised_class
from gateway.wire.chat import parse_json, read_translated
from gateway.wire.endpoint import new_request_id


def counting(keys: Keys, limits: LimitSettings) -> Callable[[Request], Awaitable[Response]]:
    """The page. The count is the signal `prompt_tokens`: an estimate, whichever model will answer."""

    async def count_tokens(request: Request) -> Response:
        request_id = new_request_id()
        ids = {"request-id": request_id, "x-request-id": request_id, "x-cauce-request-id": request_id}
        try:
            inbound = await _read(request, request_id, keys, limits)
            body = orjson.dumps({"input_tokens": outline(inbound).prompt_tokens})
        except CauceError as error:
            body = messages.error_body(error, request_id)
            return Response(body, error.status, ids, media_type="application/json")
        return Response(body, 200, ids, media_type="application/json")

    return count_tokens


async def _read(request: Request, request_id: str, keys: Keys, limits: LimitSettings) -> Inbound:
    headers = dict(request.scope["headers"])
    caller = find_caller(headers, keys)
    messages.check(headers)
    raw = await read_body(
        request.receive,
        content_length=content_length(headers.get(b"content-length")),
        max_bytes=int(limits.max_body_mb * 1_000_000),
        timeout_s=limits.body_timeout_s,
    )
    return read_translated(
        messages.to_chat({"max_tokens": 1, **parse_json(raw)}),
        endpoint="count_tokens",
        request_id=request_id,
        received_ns=time.time_ns(),
        caller=caller,
        data=raised_class(headers, caller),
        tags=(),
        cacheable=False,
        max_messages=limits.max_messages,
    )
