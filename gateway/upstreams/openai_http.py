"""Every server that speaks OpenAI's API for chats or embeddings: OpenAI itself, vLLM, Ollama, llama.cpp, TGI, ...

The caller's body goes out with the upstream's own model name and key, and with headers of our own only; what comes back
is relayed as it came.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp
import orjson

from gateway.errors import UpstreamError
from gateway.gate import Released
from gateway.sse import Aligner, events, has_done, payload, read_usage
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.failures import broken, said
from gateway.upstreams.logprobs import read_logprobs
from gateway.upstreams.passing import given, taken
from gateway.upstreams.pool import TRANSPORT_ERRORS, Deadline, Pool, error_body, read_whole, refused, translated
from gateway.upstreams.slots import Slots


class OpenAIUpstream:
    """One model behind an OpenAI-compatible endpoint."""

    def __init__(self, model: Model, pool: Pool) -> None:
        self.model = dataclasses.replace(model, headers=taken(model))
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
        raw = await self._whole(self._url, self._body(call.value), call.value)
        return read_answer(self.model, raw, self._parsed(raw), hide_logprobs=bool(call.value.logprobs))

    async def embed(self, call: Released[Call]) -> Answer:
        """The vectors, as the provider sent them."""
        body = {**call.value.body, "model": self.model.model}
        raw = await self._whole(f"{self.model.base_url}/embeddings", body, call.value)
        return read_vectors(self.model, raw, self._parsed(raw), call.value.body.get("input"))

    async def _whole(self, url: str, body: Mapping[str, object], call: Call) -> bytes:
        limits = self.model.timeouts
        await self._slots.take()
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(limits.total_s):
                response = await self._post(url, body, call)
                return await read_whole(self.model, response)
        except TRANSPORT_ERRORS as error:
            raise translated(self.model, error) from error
        finally:
            self._slots.give()
            if response is not None:
                response.close()

    async def stream(self, call: Released[Call]) -> AsyncGenerator[bytes, None]:
        """Its events as they come; see `Upstream.stream`."""
        limits = self.model.timeouts
        await self._slots.take()
        response: aiohttp.ClientResponse | None = None
        deadline: Deadline | None = None
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(limits.first_token_s):
                response = await self._post(self._url, self._body(call.value), call.value)
            if response.content_type != "text/event-stream":
                raise await self._no_stream(response)
            deadline = Deadline(response, end=started + limits.total_s)
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
                    self._pool.let_end(response)
                    response = None
                    return
                deadline.within(limits.idle_s)
            raise broken(self.model, "ended its stream before the answer was complete")
        except TRANSPORT_ERRORS as error:
            raise translated(self.model, error) from error
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

    async def _post(self, url: str, body: Mapping[str, object], call: Call) -> aiohttp.ClientResponse:
        """The response, its status 200; raises `UpstreamError` for any other."""
        data = orjson.dumps(body)
        headers = {**call.headers, **self._headers, "x-request-id": call.request_id}
        response = await self._pool.post(url, data=data, headers=headers, connect_s=self.model.timeouts.connect_s)
        call.aside.headers = given(response.raw_headers)
        if response.status == 200:
            return response
        try:
            raise await refused(self.model, response)
        finally:
            response.close()

    def _body(self, call: Call) -> dict[str, object]:
        body = {**call.body, "model": self.model.model}
        if call.stream:
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if call.logprobs:
            body["logprobs"] = True
        if call.logprobs > 1:
            body["top_logprobs"] = 2
        if self.model.provider == "openai" and "max_completion_tokens" not in body and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")  # its newer models refuse the older name
        return body

    def _parsed(self, raw: bytes) -> object:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise broken(self.model, "sent an answer that is not JSON: does base_url end in /v1?") from error
        if isinstance(body, dict) and body.get("error"):
            raise said(self.model, body["error"], status=200)
        return body

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
        except TRANSPORT_ERRORS as error:
            return Health(ready=False, detail=translated(self.model, error).message)
        if status in {401, 403} or status >= 500:
            return Health(ready=False, detail=said(self.model, "", status=status).message)
        return Health(ready=True)  # a server that does not know the question is there

    async def aclose(self) -> None:
        """The pool owns the connections."""

    async def _no_stream(self, response: aiohttp.ClientResponse) -> UpstreamError:
        """A streamed request got something else: perhaps an error in a good status."""
        body = await error_body(self.model, response)
        if isinstance(body, dict) and body.get("error"):
            return said(self.model, body["error"], status=200)
        return broken(self.model, f"answered a streamed request with {response.content_type}")


def read_answer(model: Model, raw: bytes, body: Any, *, hide_logprobs: bool) -> Answer:
    """What the checks and the ledger need of a chat completion; raises `UpstreamBroken` when it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        tool_calls = len(message.get("tool_calls") or ()) + bool(message.get("function_call"))
        sureness = read_logprobs(choice.get("logprobs"))
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
        usage=read_usage(body.get("usage"), body.get("service_tier")),
        tool_calls=tool_calls,
        mean_logprob=sureness.mean,
        tail_logprob=sureness.tail,
        margin=sureness.margin,
    )


def read_vectors(model: Model, raw: bytes, body: Any, texts: object) -> Answer:
    """What the ledger needs of an answer with vectors, one for each text; raises `UpstreamBroken` when it is none."""
    wanted = len(texts) if isinstance(texts, list) and not all(isinstance(text, int) for text in texts) else 1
    try:
        vectors = [entry["embedding"] for entry in body["data"]]
        sound = len(vectors) == wanted and all(map(_is_vector, vectors))
        usage = {"completion_tokens": 0, **(body.get("usage") or {})}
    except (KeyError, TypeError, AttributeError) as error:
        raise broken(model, "sent something that holds no embeddings") from error
    if not sound:
        raise broken(model, f"sent no embedding for each of {wanted} texts")
    return Answer(raw, usage=read_usage(usage))


def _is_vector(value: object) -> bool:
    if isinstance(value, str):
        try:
            return len(base64.b64decode(value, validate=True)) % 4 == 0
        except ValueError:
            return False
    return isinstance(value, list) and all(isinstance(number, float | int) for number in value)
