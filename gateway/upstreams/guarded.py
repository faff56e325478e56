"""An upstream behind its circuit breaker: a call to one that is left alone fails at once, without asking it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from gateway.errors import (
    UpstreamContext,
    UpstreamDenied,
    UpstreamError,
    UpstreamFiltered,
    UpstreamOverloaded,
    UpstreamPaused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnfit,
    UpstreamUnreachable,
)
from gateway.gate import Released
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Embedder, Health, Upstream
from gateway.upstreams.breaker import Breaker

_IN_OUR_WORDS: Final = (UpstreamUnreachable, UpstreamTimeout, UpstreamDenied)
# It was there, and said no.
ITS_OWN_ANSWER: Final = (UpstreamRejected, UpstreamUnfit, UpstreamContext, UpstreamFiltered)


def went_well(error: UpstreamError) -> bool | None:
    """What an error says of the upstream's health; None: nothing. Busy is neither well nor broken."""
    if isinstance(error, UpstreamOverloaded):
        return None
    return isinstance(error, ITS_OWN_ANSWER)


class _Guard:
    """A breaker that is asked before each call and told how it went, and the calls in flight behind it."""

    def __init__(self, model: Model, breaker: Breaker) -> None:
        self._model = model
        self.breaker = breaker
        self.calls = 0
        self._why = ""

    @contextlib.contextmanager
    def call(self) -> Iterator[_Call]:
        """One call; raises `UpstreamPaused` when the breaker lets none through."""
        if self.breaker.refuses:
            raise UpstreamPaused(
                f"{self._model.id} is left alone for a moment, since its last calls failed{self._why}",
                upstream=self._model.id,
                retry_after_s=max(self.breaker.rest_s, 1.0),
            )
        probe = self.breaker.begin()
        this = _Call()
        self.calls += 1
        try:
            yield this
        except UpstreamError as error:
            this.good = went_well(error)
            # In our own words only: a provider's may quote the request of somebody else.
            self._why = f": {error.message}" if isinstance(error, _IN_OUR_WORDS) else f" ({error.code})"
            raise
        finally:
            self.calls -= 1
            self.breaker.end(this.good, probe=probe)


class _Call:
    __slots__ = ("good",)

    def __init__(self) -> None:
        self.good: bool | None = None  # a call that is broken off says nothing


class GuardedUpstream:
    """The same upstream behind its breaker."""

    def __init__(self, upstream: Upstream, breaker: Breaker) -> None:
        self._upstream = upstream
        self._guard = _Guard(upstream.model, breaker)
        self.breaker = breaker

    @property
    def model(self) -> Model:
        """Which one it is."""
        return self._upstream.model

    @property
    def calls(self) -> int:
        """In flight now."""
        return self._guard.calls

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer; raises `UpstreamPaused` while the circuit is open."""
        with self._guard.call() as this:
            answer = await self._upstream.complete(call)
            this.good = True
        return answer

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """The answer's events; raises `UpstreamPaused` while the circuit is open."""
        with self._guard.call() as this:
            blocks = self._upstream.stream(call)
            try:
                async for block in blocks:
                    this.good = True  # a client that leaves in the middle says nothing against it
                    yield block
            finally:
                await blocks.aclose()  # type: ignore[attr-defined]  # an async generator, as in `Upstream.stream`

    async def health(self) -> Health:
        """As the upstream says; it is asked whatever the circuit."""
        return await self._upstream.health()

    async def aclose(self) -> None:
        """Give back what it holds."""
        await self._upstream.aclose()


class GuardedEmbedder:
    """The same for a model that makes vectors."""

    def __init__(self, embedder: Embedder, breaker: Breaker) -> None:
        self._embedder = embedder
        self._guard = _Guard(embedder.model, breaker)
        self.breaker = breaker

    @property
    def model(self) -> Model:
        """Which one it is."""
        return self._embedder.model

    async def embed(self, call: Released[Call]) -> Answer:
        """The vectors; raises `UpstreamPaused` while the circuit is open."""
        with self._guard.call() as this:
            answer = await self._embedder.embed(call)
            this.good = True
        return answer

    async def health(self) -> Health:
        """As the embedder says."""
        return await self._embedder.health()

    async def aclose(self) -> None:
        """Give back what it holds."""
        await self._embedder.aclose()
