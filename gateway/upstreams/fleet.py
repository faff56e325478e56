"""Every upstream as the pipeline calls it: behind its breaker, and a model's replicas as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from gateway.types import Model
from gateway.upstreams.base import Embedder, Upstream
from gateway.upstreams.breaker import Breaker
from gateway.upstreams.guarded import GuardedEmbedder, GuardedUpstream
from gateway.upstreams.pool import Pool
from gateway.upstreams.registry import build, build_embedder
from gateway.upstreams.replicas import Replicas

Breakers = Mapping[str, Sequence[Breaker]]  # by model, one for each replica


def guarded(model: Model, pool: Pool) -> GuardedUpstream | Replicas:
    """The upstream of a model that answers chats; raises `ConfigError`."""
    own = GuardedUpstream(build(dataclasses.replace(model, replicas=()), pool), breaker_of(model))
    if not model.replicas:
        return own
    members, weights = [own], [model.weight]
    for replica in model.replicas:
        there = dataclasses.replace(
            own.model,
            base_url=replica.base_url,
            api_key=replica.api_key,
            max_in_flight=replica.max_in_flight,
        )
        members.append(GuardedUpstream(build(there, pool), breaker_of(model)))
        weights.append(replica.weight)
    return Replicas(dataclasses.replace(own.model, replicas=model.replicas), members, weights)


def guarded_embedder(model: Model, pool: Pool) -> GuardedEmbedder:
    """The same for a model that makes embeddings."""
    return GuardedEmbedder(build_embedder(model, pool), breaker_of(model))


def breaker_of(model: Model) -> Breaker:
    """A closed breaker with a model's settings."""
    return Breaker(model.breaker.failures, model.breaker.rest_s)


def breakers_of(upstreams: Mapping[str, Upstream | Embedder]) -> Breakers:
    """The breakers of some upstreams."""
    return {name: tuple(_breakers(upstream)) for name, upstream in upstreams.items()}


def _breakers(upstream: Upstream | Embedder) -> Iterator[Breaker]:
    if isinstance(upstream, Replicas):
        for member in upstream.members:
            yield member.breaker
    elif isinstance(upstream, GuardedUpstream | GuardedEmbedder):
        yield upstream.breaker
