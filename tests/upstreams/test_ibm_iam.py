"""The token that watsonx wants in place of a key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest

from gateway.errors import UpstreamBroken, UpstreamDenied, UpstreamError, UpstreamFailed, UpstreamTimeout
from gateway.types import Timeouts
from gateway.upstreams.ibm_iam import IamToken
from gateway.upstreams.pool import Pool
from tests.upstreams.dialects import KEY, TEXT, Watsonx
from tests.upstreams.loopback import Handler, Request, Server, Wire, a_model, clean_run, serving
from tests.upstreams.speaking import LITELLMS_WARNING, ask, sound, speaking

pytestmark = [pytest.mark.usefixtures("at_home"), LITELLMS_WARNING]
QUICK = Timeouts(connect_s=2.0, first_token_s=0.3, idle_s=0.3, total_s=0.6)


def giving(lives_s: int = 3600) -> Handler:
    given = iter(range(1, 100))

    async def handler(_request: Request, wire: Wire) -> None:
        token = {"access_token": f"token-{next(given)}", "refresh_token": "not_supported", "token_type": "Bearer"}
        await wire.whole({**token, "expires_in": lives_s, "scope": "ibm openid"})

    return handler


@asynccontextmanager
async def iam(handler: Handler, **changes: Any) -> AsyncIterator[tuple[IamToken, Server]]:
    pool = Pool()
    async with serving(handler) as server:
        options = {"iam_url": f"{server.url}/identity/token"}
        yield IamToken(a_model(provider="watsonx", options=options, **changes), pool), server
        await pool.aclose()


def test_a_token_is_asked_for_once_and_kept() -> None:
    async def main() -> None:
        async with iam(giving()) as (tokens, server):
            assert await asyncio.gather(*(tokens.get() for _ in range(5))) == ["token-1"] * 5
            assert await tokens.get() == "token-1"
            (request,) = server.requests
            assert request.path == "/identity/token"
            assert request.headers["content-type"] == "application/x-www-form-urlencoded"
            form = parse_qs(request.raw.decode())
            assert form == {"grant_type": ["urn:ibm:params:oauth:grant-type:apikey"], "apikey": [KEY]}

    clean_run(main())


@pytest.mark.parametrize("forgotten", [False, True], ids=["near-its-end", "not-taken"])
def test_a_token_that_is_no_good_any_more_is_asked_for_anew(forgotten: bool) -> None:
    async def main() -> None:
        async with iam(giving(lives_s=3600 if forgotten else 60)) as (tokens, _server):
            assert await tokens.get() == "token-1"
            if forgotten:
                tokens.forget()
            assert await tokens.get() == "token-2"

    clean_run(main())


ERRORS: dict[str, tuple[int, object, type[UpstreamError]]] = {
    "an unknown key": (400, {"errorCode": "BXNIM0415E", "errorMessage": f"key {KEY} not found."}, UpstreamDenied),
    "a locked key": (403, {"errorCode": "BXNIM0462E", "errorMessage": "API key is locked."}, UpstreamDenied),
    "a fault": (500, {"errorMessage": "Internal error"}, UpstreamFailed),
    "a page": (200, b"<html></html>", UpstreamBroken),
    "no token": (200, {"expires_in": 3600}, UpstreamBroken),
    "a list": (200, [], UpstreamBroken),
}


@pytest.mark.parametrize(("status", "body", "kind"), ERRORS.values(), ids=ERRORS)
def test_no_token_is_an_error_of_the_upstream(status: int, body: object, kind: type[UpstreamError]) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(body, status=status)

    async def main() -> None:
        async with iam(handler) as (tokens, server):
            for _ in range(2):  # and the next call asks again
                with pytest.raises(kind) as raised:
                    await tokens.get()
                assert KEY not in raised.value.message
            assert len(server.requests) == 2

    clean_run(main())


def test_a_token_that_does_not_come_in_time_is_a_timeout() -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.hang()

    async def main() -> None:
        async with iam(handler, timeouts=QUICK) as (tokens, _server):
            with pytest.raises(UpstreamTimeout):
                await tokens.get()

    clean_run(main())


def test_the_adapter_sends_the_token_and_never_the_key_and_asks_for_another_when_it_is_not_taken() -> None:
    watsonx = Watsonx()

    async def handler(request: Request, wire: Wire) -> None:
        assert KEY not in str(request.headers)
        assert KEY.encode() not in request.raw
        if request.headers["authorization"] == "Bearer token-1":
            refusal = watsonx.refusals["denied"]
            return await wire.whole(refusal.body, status=refusal.status)
        assert request.headers["authorization"] == "Bearer token-2"
        assert b"token-2" not in request.raw
        return await sound(watsonx)(request, wire)

    async def main() -> None:
        async with serving(giving()) as server:
            options = {"project_id": "project-1", "iam_url": f"{server.url}/identity/token"}
            async with speaking(watsonx, handler, api_key=KEY, options=options) as (upstream, _server):
                with pytest.raises(UpstreamDenied):
                    await ask(upstream)
                assert (await ask(upstream)).text == TEXT
                assert (await ask(upstream, stream=True)).text == TEXT
            assert len(server.requests) == 2

    clean_run(main())
