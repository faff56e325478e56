"""The seam between the pipeline and every provider.

An adapter speaks one wire format and gives the OpenAI chat-completion shape back. It never sees a `Decision`, and it
takes only what the gate released.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.gate import Released
from gateway.types import Answer, Aside, Model


@dataclass(frozen=True, slots=True)
class Call:
    """What one upstream is asked.

    `body` is the caller's own chat-completion body, unknown fields included: the adapter sets `model` and the stream
    options, and changes nothing else. `logprobs` asks for token log-probabilities that the caller did not ask for: 1 of
    the chosen tokens, 2 of the best other ones too. `headers` are the caller's that this model gets. In `aside` the
    adapter says what stands in no body. `number` is 0 for the first call of a request to a model, more for a retry or
    a hedge.
    """

    request_id: str
    body: Mapping[str, object]
    stream: bool
    logprobs: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    aside: Aside = field(default_factory=Aside)
    number: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an upstream can be called now. `detail` says what to do when it cannot."""

    ready: bool
    detail: str = ""


class Upstream(Protocol):
    """One endpoint and model that we can call."""

    @property
    def model(self) -> Model:
        """Which one it is."""
        ...

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, its body in the chat-completion shape; or raise `UpstreamError` and nothing else."""
        ...

    def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """The answer as server-sent events.

        Each item is one or more whole events in the chat-completion-chunk shape, ending with their blank line, as the
        provider sent them. A usage event is always asked for. The last item ends with `data: [DONE]`; a stream that
        ends without it raises `UpstreamBroken`. Closing the iterator (`aclose`) ends the upstream call.
        """
        ...

    async def health(self) -> Health:
        """Ask the endpoint whether it is there. Never raises."""
        ...

    async def aclose(self) -> None:
        """Give back connections and processes."""
        ...


class Embedder(Protocol):
    """One endpoint and model that makes vectors of texts."""

    @property
    def model(self) -> Model:
        """Which one it is."""
        ...

    async def embed(self, call: Released[Call]) -> Answer:
        """A vector for each text of the call's `input`; or raise `UpstreamError` and nothing else.

        The answer's body has the shape of OpenAI's embeddings, its vectors as numbers or in base64.
        """
        ...

    async def health(self) -> Health:
        """Ask the endpoint whether it is there. Never raises."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...
