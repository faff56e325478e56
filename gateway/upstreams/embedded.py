"""A model inside the product: llama.cpp in a process of its own, behind the same client as every other server.

A native crash ends that process, never the gateway: the call fails as an upstream error and the process is started
again, at once the first time, then with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import secrets
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import orjson

from gateway.errors import (
    ConfigError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamUnreachable,
)
from gateway.gate import Released
from gateway.telemetry.logs import fields
from gateway.types import Answer, Model
from gateway.upstreams import weights
from gateway.upstreams.base import Call, Health
from gateway.upstreams.openai_http import OpenAIUpstream
from gateway.upstreams.pool import Pool

_log = logging.getLogger("cauce.embedded")
_CONTEXT: Final = 2048
_START_S: Final = 120.0
_PAUSES_S: Final = (0.0, 1.0, 2.0, 5.0, 15.0, 60.0)
_CALM_S: Final = 60.0  # a process that lived this long starts the pauses anew
_LAST_BREATH_S: Final = 0.3  # between a process's last word and the news of its end
_BROKEN_OFF: Final = (UpstreamUnreachable, UpstreamFailed, UpstreamBroken)


class EmbeddedUpstream:
    """Serves `model.model`, a known name or a path to GGUF weights.

    `options`: `threads` (1), `slots` (2: answers at once), `context` (2048 tokens each). A few more calls than
    there are slots wait; then callers get 503 with Retry-After.
    """

    def __init__(self, model: Model, pool: Pool) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(f"models.{model.id}: the embedded provider needs an extra: pip install 'cauce[embedded]'")
        known = weights.KNOWN.get(model.model)
        self._slots = _option(model, "slots", 2)
        self._context = _option(model, "context", _CONTEXT)
        self.model = dataclasses.replace(
            model,
            max_in_flight=min(model.max_in_flight, self._slots),
            context_tokens=min(model.context_tokens or self._context, self._context),
            notice=model.notice or (known.notice if known else ""),
            tools=model.tools and (known is None or known.tools),
        )
        self._threads = _option(model, "threads", 1)
        self._template = known.chat_template if known else ""
        self._pool = pool
        self._process: asyncio.subprocess.Process | None = None
        self._client: OpenAIUpstream | None = None
        self._starting: asyncio.Task[OpenAIUpstream] | None = None
        self._failures = 0
        self._trouble = ""
        self._started_at = 0.0
        self._not_before = 0.0

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, from the worker."""
        client = await self._ready()
        try:
            return await client.complete(call)
        except _BROKEN_OFF:
            await self._hear_of_its_end()
            raise

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """The answer's events, from the worker."""
        client = await self._ready()
        blocks = client.stream(call)
        try:
            async for block in blocks:
                yield block
        except _BROKEN_OFF:
            await self._hear_of_its_end()
            raise
        finally:
            await blocks.aclose()

    async def health(self) -> Health:
        """Starts the worker when it is not there."""
        try:
            client = await self._ready()
        except (UpstreamUnreachable, UpstreamOverloaded) as error:
            return Health(ready=False, detail=error.message)
        return await client.health()

    async def aclose(self) -> None:
        """End the worker."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _ready(self) -> OpenAIUpstream:
        """The client of a running worker; all callers share one start."""
        if self._client is not None and self._process is not None and self._process.returncode is None:
            return self._client
        if self._starting is None or self._starting.done():
            self._refuse_while_pausing()
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _hear_of_its_end(self) -> None:
        """A call that broke off may be the process's end: let that be known before the next call comes."""
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _LAST_BREATH_S)

    def _refuse_while_pausing(self) -> None:
        now = time.monotonic()
        if self._process is not None:  # it ran, and is gone
            if now - self._started_at > _CALM_S:
                self._failures = 0
            self._not_before = now + _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
            self._failures += 1
            code = self._process.returncode
            _log.error("the embedded model's process ended", extra=fields(model=self.model.id, code=code))
            self._process, self._client = None, None
        if now < self._not_before:
            raise UpstreamOverloaded(
                f"{self.model.id}: {self._trouble}; it is started again soon",
                upstream=self.model.id,
                retry_after_s=self._not_before - now,
            )

    async def _start(self) -> OpenAIUpstream:
        path = weights.find(self.model.model)
        if path is None:
            raise UpstreamUnreachable(weights.missing(self.model.model, self.model.id), upstream=self.model.id)
        key = secrets.token_urlsafe(24)
        order = {
            "weights": str(path),
            "name": self.model.model,
            "template": self._template,
            "key": key,
            "threads": self._threads,
            "slots": self._slots,
            "context": self._context,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.upstreams.embedded_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._process, self._started_at = process, time.monotonic()
        said = await self._greeting(process, order)
        if "address" not in said:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self._trouble = f"llama.cpp could not load {path.name}: {said.get('error', 'its process ended')}"
            raise UpstreamUnreachable(f"{self.model.id}: {self._trouble}", upstream=self.model.id)
        self._trouble = "its process ended"
        self._client = OpenAIUpstream(
            dataclasses.replace(self.model, base_url=f"{said['address']}/v1", api_key=key), self._pool
        )
        return self._client

    async def _greeting(self, process: asyncio.subprocess.Process, order: dict[str, object]) -> dict[str, str]:
        """The worker's one line: its address, or what went wrong."""
        if process.stdin is None or process.stdout is None:
            return {}
        try:
            process.stdin.write(orjson.dumps(order) + b"\n")
            async with asyncio.timeout(_START_S):
                await process.stdin.drain()
                line = await process.stdout.readline()
            said = orjson.loads(line)
        except (TimeoutError, OSError, orjson.JSONDecodeError):
            return {}
        return said if isinstance(said, dict) else {}


def _option(model: Model, name: str, default: int) -> int:
    value = model.options.get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"models.{model.id}.options.{name}: {value!r} is not a whole number of 1 or more")
    return int(value)
