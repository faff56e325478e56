"""Every server that speaks OpenAI's chat-completion API: OpenAI itself, vLLM, Ollama, llama.cpp, LM Studio, TGI, ...

One pooled client for all of them. The caller's body goes out with the upstream's own model name and key, and with
headers of our own only; what comes back is relayed as it came. Each read has a limit of its own: aiohttp 3.14 neither
ends nor fails a read when a chunk's size is broken in mid-stream.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import orjson
from aiohttp.client_proto import ResponseHandler

from gateway.errors import UpstreamError, UpstreamFailed, UpstreamTimeout, UpstreamUnreachable
from gateway.gate import Released
from gateway.sse import Aligner, events, has_done, payload, read_usage
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.failures import broken, said
from gateway.upstreams.slots import Slots

MAX_ANSWER_BYTES: Final = 64_000_000
_MAX_ERROR_BYTES: Final = 65_536
_ERROR_S: Final = 2.0  # for the reason of a failure that is known already
_KEEP_ALIVE_S: Final = 30.0
_STALE_TRIES: Final = 3
_LINGER_S: Final = 1.0
_TRANSPORT_ERRORS: Final = (TimeoutError, aiohttp.ClientError, OSError)
# Whether the request that is being sent had a connection made for it; read where it fails, in the same task.
_fresh: Final = contextvars.ContextVar("fresh", default=True)


class _Connector(aiohttp.TCPConnector):
    """Takes note of new connections: only on an old one can a failure mean that the server had just closed it."""

    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        _fresh.set(True)
        return await super()._create_connection(*args, **kwargs)


class Pool:
    """The one client session, made on the running loop when it is first needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

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

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()


class _Deadline:
    """Ends a response whose next piece does not come: one timer a response, moved by a number a piece."""

    __slots__ = ("_at", "_end", "_handle", "_loop", "_response")

    def __init__(self, response: aiohttp.ClientResponse, *, end: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._end = end
        self._at = self._end
        self._handle: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """The next piece must come within this time."""
        self._at = min(self._loop.time() + seconds, self._end)
        if self._handle is None or self._handle.when() > self._at:
            self.stop()
            self._handle = self._loop.call_at(self._at, self._check)

    def rest(self) -> None:
        """A piece has come; until the next is asked for, the time is not the upstream's."""
        self._at = self._end

    def _check(self) -> None:
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._check)
            return
        self._handle = None
        # Waking the reader with an error is what works whatever state the parser is in.
        self._response.content.set_exception(TimeoutError())

    def stop(self) -> None:
        """Forget the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class OpenAIUpstream:
    """One model behind an OpenAI-compatible endpoint."""

    def __init__(self, model: Model, pool: Pool) -> None:
        self.model = model
        self._pool = pool
        self._slots = Slots(model)
        self._url = f"{model.base_url}/chat/completions"
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if model.api_key:
            self._headers["authorization"] = f"Bearer {model.api_key}"
        limits = model.timeouts
        self._connect = aiohttp.ClientTimeout(total=None, connect=limits.connect_s, sock_connect=limits.connect_s)

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, as the provider sent it."""
        limits = self.model.timeouts
        await self._slots.take()
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(limits.total_s):
                response = await self._post(call.value)
                raw = await self._read(response, MAX_ANSWER_BYTES)
        except _TRANSPORT_ERRORS as error:
            raise self._translated(error) from error
        finally:
            self._slots.give()
            if response is not None:
                response.close()
        return self._answer(raw, hide_logprobs=call.value.logprobs)

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """Its events as they come; see `Upstream.stream`."""
        limits = self.model.timeouts
        await self._slots.take()
        response: aiohttp.ClientResponse | None = None
        deadline: _Deadline | None = None
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(limits.first_token_s):
                response = await self._post(call.value)
            if response.content_type != "text/event-stream":
                raise await self._no_stream(response)
            deadline = _Deadline(response, end=started + limits.total_s)
            deadline.within(started + limits.first_token_s - clock())
            read, aligner = response.content.readany, Aligner()
            while data := await read():
                deadline.rest()
                block = aligner.feed(data)
                if b'"error"' in block or block.startswith(b"error:"):
                    good, failure = self._split_at_error(block)
                    if good:
                        yield good
                    if failure is not None:
                        raise failure
                elif block:
                    yield block
                if has_done(block):
                    _let_end(response)
                    response = None
                    return
                deadline.within(limits.idle_s)
            raise broken(self.model, "ended its stream before the answer was complete")
        except _TRANSPORT_ERRORS as error:
            raise self._translated(error) from error
        except ValueError as error:
            raise broken(self.model, f"sent a stream that cannot be read: {error}") from error
        finally:
            self._slots.give()
            if deadline is not None:
                deadline.stop()
            if response is not None:
                response.close()

    def _split_at_error(self, block: bytes) -> tuple[bytes, UpstreamError | None]:
        """The events before one that holds an error, and that error."""
        good: list[bytes] = []
        for event in events(block):
            if (failure := self._error_in(event)) is not None:
                return b"".join(good), failure
            good.append(event)
        return block, None

    def _error_in(self, event: bytes) -> UpstreamError | None:
        try:
            body = orjson.loads(event[6:] if event.startswith(b"error:") else payload(event))
        except orjson.JSONDecodeError:
            return None
        if not isinstance(body, dict):
            return None
        if event.startswith((b"error:", b"event: error")) or body.get("object") == "error":
            return said(self.model, body.get("error") or body, status=200)
        return said(self.model, body["error"], status=200) if body.get("error") else None

    async def _post(self, call: Call) -> aiohttp.ClientResponse:
        """The response, its status 200; raises `UpstreamError` for any other."""
        data = orjson.dumps(self._body(call))
        headers = {**self._headers, "x-request-id": call.request_id}
        for number in range(_STALE_TRIES):
            _fresh.set(False)
            try:
                response = await self._pool.session().post(
                    self._url, data=data, headers=headers, timeout=self._connect, allow_redirects=False
                )
                break
            except aiohttp.ClientConnectionError:
                # The server closed a kept connection while we took it: nothing was asked yet, so ask on another.
                if _fresh.get() or number == _STALE_TRIES - 1:
                    raise
        if response.status == 200:
            return response
        try:
            raise await self._refused(response)
        finally:
            response.close()

    def _body(self, call: Call) -> dict[str, object]:
        body = {**call.body, "model": self.model.model}
        if call.stream:
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if call.logprobs:
            body["logprobs"] = True
        return body

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole body; raises `UpstreamBroken` past the limit."""
        limits = self.model.timeouts
        content = response.content
        if content.is_eof():
            return content.read_nowait()
        if (response.content_length or 0) > limit:
            raise broken(self.model, f"sent an answer of more than {limit // 1000} kB")
        pieces: list[bytes] = []
        size = 0
        deadline = _Deadline(response, end=asyncio.get_running_loop().time() + limits.total_s)
        try:
            deadline.within(limits.idle_s)
            while piece := await content.readany():
                size += len(piece)
                if size > limit:
                    raise broken(self.model, f"sent an answer of more than {limit // 1000} kB")
                pieces.append(piece)
                deadline.within(limits.idle_s)
        finally:
            deadline.stop()
        return b"".join(pieces)

    def _answer(self, raw: bytes, *, hide_logprobs: bool) -> Answer:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise broken(self.model, "sent an answer that is not JSON: does base_url end in /v1?") from error
        if isinstance(body, dict) and body.get("error"):
            raise said(self.model, body["error"], status=200)
        return read_answer(self.model, raw, body, hide_logprobs=hide_logprobs)

    async def health(self) -> Health:
        """Ask for the list of models."""
        try:
            async with (
                asyncio.timeout(self.model.timeouts.connect_s + 3),
                self._pool.session().get(
                    f"{self.model.base_url}/models",
                    headers=self._headers,
                    timeout=self._connect,
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
        except _TRANSPORT_ERRORS as error:
            return Health(ready=False, detail=self._translated(error).message)
        if status in {401, 403} or status >= 500:
            return Health(ready=False, detail=said(self.model, "", status=status).message)
        return Health(ready=True)  # a server that does not know the question is there

    async def aclose(self) -> None:
        """The pool owns the connections."""

    # --- what went wrong, in our words -----------------------------------------------------------------------------

    def _translated(self, error: BaseException) -> UpstreamError:
        name, where = self.model.id, self.model.base_url
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError | ConnectionRefusedError):
            return UpstreamUnreachable(f"{name} cannot be reached at {where}: is it running?", upstream=name)
        if isinstance(error, aiohttp.InvalidURL):
            return UpstreamUnreachable(f"{name}: base_url {where} is not an address", upstream=name)
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(
                f"{name} gave no answer in time: its timeouts in cauce.yaml say how long", upstream=name
            )
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
            return broken(self.model, "sent something that is not HTTP, or only a part of it")
        return UpstreamFailed(f"{name} broke off the connection", upstream=name)

    async def _refused(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """The error of a status that is not 200. The status counts, whatever its body is."""
        body = await self._error_body(response)
        error = body.get("error", body) if isinstance(body, dict) else {}
        return said(self.model, error, status=response.status, retry_after=response.headers.get("retry-after"))

    async def _no_stream(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """A streamed request got something else: perhaps an error in a good status."""
        body = await self._error_body(response)
        if isinstance(body, dict) and body.get("error"):
            return said(self.model, body["error"], status=200)
        return broken(self.model, f"answered a streamed request with {response.content_type}")

    async def _error_body(self, response: aiohttp.ClientResponse) -> object:
        try:
            async with asyncio.timeout(_ERROR_S):
                return orjson.loads(await self._read(response, _MAX_ERROR_BYTES))
        except (*_TRANSPORT_ERRORS, UpstreamError, orjson.JSONDecodeError):
            return None


def read_answer(model: Model, raw: bytes, body: Any, *, hide_logprobs: bool) -> Answer:
    """What the checks and the ledger need of a chat completion; raises `UpstreamBroken` when it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        tool_calls = len(message.get("tool_calls") or ()) + bool(message.get("function_call"))
        mean_logprob = _mean_logprob(choice.get("logprobs"))
        if hide_logprobs:
            for each in body["choices"]:
                each.pop("logprobs", None)
            raw = orjson.dumps(body)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise broken(model, "sent something that is no chat completion") from error
    return Answer(
        raw,
        text=content if isinstance(content, str) else "",
        finish_reason=str(choice.get("finish_reason") or "stop"),
        usage=read_usage(body.get("usage")),
        tool_calls=tool_calls,
        mean_logprob=mean_logprob,
    )


def _let_end(response: aiohttp.ClientResponse) -> None:
    """After `[DONE]` the connection goes back to the pool by itself with its last chunk; soon, or it is closed."""
    if not response.closed:
        asyncio.get_running_loop().call_later(_LINGER_S, response.close)


def _mean_logprob(logprobs: object) -> float | None:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return None
    said_of = (token.get("logprob") for token in content if isinstance(token, dict))
    values = [value for value in said_of if isinstance(value, float | int)]
    return sum(values) / len(values) if values else None
