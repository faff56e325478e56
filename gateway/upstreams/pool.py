"""The one HTTP client, and what can go wrong with it: for every adapter that asks over HTTP.

Each read has a limit of its own: aiohttp 3.14 neither ends nor fails a read when a chunk's size is broken on the way.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from gateway.errors import UpstreamError, UpstreamFailed, UpstreamTimeout, UpstreamUnreachable
from gateway.types import Model
from gateway.upstreams.failures import broken, error_of, said

MAX_ANSWER_BYTES: Final = 64_000_000
_MAX_ERROR_BYTES: Final = 65_536
_ERROR_S: Final = 2.0  # for the reason of a failure that is known already
_KEEP_ALIVE_S: Final = 30.0
_LINGER_S: Final = 1.0
TRANSPORT_ERRORS: Final = (TimeoutError, aiohttp.ClientError, OSError)
# Whether the request that is being sent has a connection made for it; read where it fails, in the same task.
_fresh: Final = contextvars.ContextVar("fresh", default=False)


class _Connector(aiohttp.TCPConnector):
    """Takes note of new connections, and makes one where an old one will not do."""

    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        return None if _fresh.get() else await super()._get(*args, **kwargs)

    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        _fresh.set(True)
        return await super()._create_connection(*args, **kwargs)


class Pool:
    """The one client session, made on the running loop when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._ending: set[aiohttp.ClientResponse] = set()

    def session(self) -> aiohttp.ClientSession:
        """The session: no cookies, no proxies from the environment, no limit of its own on connections."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, ttl_dns_cache=60, keepalive_timeout=_KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
            )
        return self._session

    async def post(
        self, url: str | URL, *, data: bytes, headers: Mapping[str, str], connect_s: float
    ) -> aiohttp.ClientResponse:
        """Ask. No redirect is followed: the text would go where nobody allowed it to go."""
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)

        async def ask() -> aiohttp.ClientResponse:
            return await self.session().post(url, data=data, headers=headers, timeout=timeout, allow_redirects=False)

        _fresh.set(False)
        try:
            return await ask()
        except aiohttp.ClientConnectionError:
            if _fresh.get():
                raise
        # The server closed a kept connection while we took it: nothing was asked yet, so ask on a new one.
        _fresh.set(True)
        return await ask()

    def let_end(self, response: aiohttp.ClientResponse) -> None:
        """All has come but the body's last chunk, with which the connection is free again: soon, or it is closed."""
        if not response.closed:
            self._ending.add(response)
            asyncio.get_running_loop().call_later(_LINGER_S, self._end, response)

    def _end(self, response: aiohttp.ClientResponse) -> None:
        self._ending.discard(response)
        response.close()

    async def aclose(self) -> None:
        """Close every connection."""
        for response in [*self._ending]:
            self._end(response)
        if self._session is not None:
            await self._session.close()


class Deadline:
    """Ends a response whose next piece does not come: one timer a response, moved by a number a piece."""

    __slots__ = ("_at", "_due", "_end", "_handle", "_loop", "_response")

    def __init__(self, response: aiohttp.ClientResponse, *, end: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._end = end
        self._at = self._end
        self._due = self._end  # when the timer looks; uvloop gives none for a moment that is now, which cannot say
        self._handle: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """The next piece must come within this time."""
        self._at = min(self._loop.time() + seconds, self._end)
        if self._handle is None or self._due > self._at:
            self.stop()
            self._look_at(self._at)

    def rest(self) -> None:
        """A piece has come; until the next is asked for, the time is not the upstream's."""
        self._at = self._end

    def _look_at(self, due: float) -> None:
        self._due = due
        self._handle = self._loop.call_at(due, self._check)

    def _check(self) -> None:
        if self._loop.time() < self._at:
            self._look_at(self._at)
            return
        self._handle = None
        # Waking the reader with an error is what works whatever state the parser is in.
        self._response.content.set_exception(TimeoutError())

    def stop(self) -> None:
        """Forget the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


async def read_whole(model: Model, response: aiohttp.ClientResponse, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """The whole body; raises `UpstreamBroken` past the limit."""
    content = response.content
    if content.is_eof():
        return content.read_nowait()
    if (response.content_length or 0) > limit:
        raise too_large(model, limit)
    pieces: list[bytes] = []
    size = 0
    deadline = Deadline(response, end=asyncio.get_running_loop().time() + model.timeouts.total_s)
    try:
        deadline.within(model.timeouts.idle_s)
        while piece := await content.readany():
            size += len(piece)
            if size > limit:
                raise too_large(model, limit)
            pieces.append(piece)
            deadline.within(model.timeouts.idle_s)
    finally:
        deadline.stop()
    return b"".join(pieces)


# --- what went wrong, in our words -----------------------------------------------------------------------------------


async def refused(model: Model, response: aiohttp.ClientResponse) -> UpstreamError:
    """The error of a status that is not 200. The status counts, whatever its body is."""
    error = error_of(await error_body(model, response))
    return said(model, error, status=response.status, retry_after=response.headers.get("retry-after"))


async def error_body(model: Model, response: aiohttp.ClientResponse) -> object:
    """The JSON that came instead of an answer; nothing when it is none, or comes too late."""
    try:
        async with asyncio.timeout(_ERROR_S):
            return orjson.loads(await read_whole(model, response, _MAX_ERROR_BYTES))
    except (*TRANSPORT_ERRORS, UpstreamError, orjson.JSONDecodeError):
        return None


def translated(model: Model, error: BaseException) -> UpstreamError:
    """What aiohttp, or the time limit around it, raised."""
    name, where = model.id, model.base_url
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError | ConnectionRefusedError):
        return UpstreamUnreachable(f"{name} cannot be reached at {where}: is it running?", upstream=name)
    if isinstance(error, aiohttp.InvalidURL):
        return UpstreamUnreachable(f"{name}: base_url {where} is not an address", upstream=name)
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{name} gave no answer in time: its timeouts in cauce.yaml say how long", upstream=name)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return broken(model, "sent something that is not HTTP, or only a part of it")
    return UpstreamFailed(f"{name} broke off the connection", upstream=name)


def too_large(model: Model, limit: int = MAX_ANSWER_BYTES) -> UpstreamError:
    """An answer past the limit."""
    return broken(model, f"sent an answer of more than {limit // 1000} kB")
