"""The embedding that comes with the gateway: the mean of static word vectors, in process, in microseconds.

It is the table that the router and the privacy model read (`router_models/encoder.py`): 128 dimensions, several
languages. A bag of words: it tells what a text is about, and knows neither their order nor a negation. Enough for
grouping and for a first search; a real embedding model finds more.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final

import orjson

from gateway.errors import UpstreamRejected
from gateway.gate import Released
from gateway.types import Answer, Model, Usage, Zone
from gateway.upstreams.base import Call, Health
from router_models.encoder import shared

NAME: Final = "cauce-static-128"
_NOTICE: Final = f"{NAME} is a small bag-of-words embedding: configure a model of kind embedding for real use"


def default_embedding() -> Model:
    """The model that answers where no other of its kind is configured."""
    return Model(NAME, "static", NAME, Zone.PREMISES, "embedding")


class StaticEmbedder:
    """The built-in table as an embedding model. It is read when it is first asked."""

    def __init__(self, model: Model) -> None:
        self.model = dataclasses.replace(model, notice=model.notice or _NOTICE)

    async def embed(self, call: Released[Call]) -> Answer:
        """A vector of length 1 for each text; zeros for a text without a word."""
        body = call.value.body
        given = body.get("input")
        texts = [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str)]
        if not texts:
            raise self._refused("it reads texts, not tokens (LangChain: check_embedding_ctx_length=False)")
        return await asyncio.to_thread(self._answer, texts, body.get("dimensions"))

    def _answer(self, texts: list[str], dimensions: object) -> Answer:
        encoder = shared()
        if dimensions not in (None, encoder.dim):
            raise self._refused(f"it has {encoder.dim} dimensions, not {dimensions}")
        data, tokens = [], 0
        for number, text in enumerate(texts):
            read = encoder.encode(text, head=len(text), tail=0)
            tokens += len(read)
            data.append({"object": "embedding", "index": number, "embedding": encoder.mean(read.ids).tolist()})
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": self.model.model, "usage": usage}
        return Answer(orjson.dumps(answer), usage=Usage(tokens, 0))

    def _refused(self, why: str) -> UpstreamRejected:
        return UpstreamRejected(f"{self.model.id}: {why}", upstream=self.model.id)

    async def health(self) -> Health:
        """It is a part of the gateway."""
        return Health(ready=True)

    async def aclose(self) -> None:
        """Holds nothing of its own."""
