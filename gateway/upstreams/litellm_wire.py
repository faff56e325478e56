"""LiteLLM's way out: one call over our own pool.

Its own clients follow redirects, take proxies from the environment, ask again after a reset and keep a connection pool
that nobody closes; and what goes wrong on the way comes out of them in other words for each provider.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
import httpx
from yarl import URL

from gateway.errors import UpstreamError, UpstreamFailed
from gateway.types import Model
from gateway.upstreams.base import Call
from gateway.upstreams.passing import given
from gateway.upstreams.pool import MAX_ANSWER_BYTES, TRANSPORT_ERRORS, Deadline, Pool, refused, too_large, translated

# In JSON a quote inside a text is escaped, so a word with both its quotes is a field's name or a whole value.
_REASON: Final = re.compile(rb'"(?:finishReason|blockReason|stopReason)"|"(?:finish_reason|stop_reason)"\s*:\s*"')
_LONGEST: Final = 40


class Wire(httpx.AsyncBaseTransport, httpx.AsyncByteStream):
    """The transport of one call, and the body of its answer.

    `failure` is what went wrong on it, in our words: LiteLLM wraps what it does not know. `origin` is the one place
    that the call may go to, whatever an environment variable tells LiteLLM. `gave_reason` says whether the provider has
    said why it stopped: where it has not, LiteLLM 1.105 makes up a reason for Gemini.
    """

    def __init__(self, model: Model, pool: Pool, *, origin: URL, call: Call) -> None:
        self.failure: UpstreamError | None = None
        self.answered = False
        self.gave_reason = False
        self._model = model
        self._pool = pool
        self._call = call
        self._origin = origin
        self._end = asyncio.get_running_loop().time() + model.timeouts.total_s
        self._response: aiohttp.ClientResponse | None = None
        self._deadline: Deadline | None = None
        self._tail = b""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer's head, its status 200; raises `UpstreamError` for any other."""
        try:
            self._response = await self._ask(request)
            if self._response.status != 200:
                raise await refused(self._model, self._response)
            if (self._response.content_length or 0) > MAX_ANSWER_BYTES:
                raise too_large(self._model)
        except TRANSPORT_ERRORS as error:
            self.failure = translated(self._model, error)
            raise self.failure from error
        except UpstreamError as error:
            self.failure = error
            raise
        self.answered = True
        return httpx.Response(200, headers=self._response.headers, stream=self, request=request)

    async def _ask(self, request: httpx.Request) -> aiohttp.ClientResponse:
        url = URL(str(request.url), encoded=True)
        if url.origin() != self._origin:
            raise UpstreamFailed(
                f"{self._model.id}: the call was to go to {url.origin()}, not to {self._origin}: set base_url in "
                "cauce.yaml; the environment does not count",
                upstream=self._model.id,
            )
        headers = _joined(self._call.headers, request.headers)
        connect_s = self._model.timeouts.connect_s
        response = await self._pool.post(url, data=await request.aread(), headers=headers, connect_s=connect_s)
        self._call.aside.headers = given(response.raw_headers)
        return response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The answer's body as it comes."""
        assert self._response is not None  # noqa: S101 - tells the type checker that a body comes after its head
        idle_s, size = self._model.timeouts.idle_s, 0
        self._deadline = deadline = Deadline(self._response, end=self._end)
        try:
            deadline.within(idle_s)
            while piece := await self._response.content.readany():
                deadline.rest()
                size += len(piece)
                if size > MAX_ANSWER_BYTES:
                    raise too_large(self._model)
                self._look(piece)
                yield piece
                deadline.within(idle_s)
        except TRANSPORT_ERRORS as error:
            self.failure = translated(self._model, error)
            raise self.failure from error
        except UpstreamError as error:
            self.failure = error
            raise
        finally:
            deadline.stop()

    def _look(self, piece: bytes) -> None:
        if not self.gave_reason:
            seen = self._tail + piece
            self.gave_reason = _REASON.search(seen) is not None
            self._tail = seen[-_LONGEST:]

    def close(self) -> None:
        """End the call, if it has not ended by itself."""
        if self._deadline is not None:
            self._deadline.stop()
        if self._response is not None:
            self._response.close()


def _joined(callers: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """LiteLLM's headers with the caller's; of Anthropic's betas, which both may ask for, all."""
    headers = {**callers, **own, "accept-encoding": "identity"}
    betas = [named.get("anthropic-beta", "") for named in (own, callers)]
    if all(betas):
        headers["anthropic-beta"] = ",".join(dict.fromkeys(beta.strip() for beta in ",".join(betas).split(",")))
    return headers
