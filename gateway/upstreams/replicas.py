"""One model on several endpoints: a conversation goes to the same one, whose prompt cache knows it, unless it is full.

Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018, doi 10.1137/1.9781611975031.39):
rendezvous hashing over the conversation's beginning gives an order of preference, and the first replica with room takes
the call, where room is a quarter more than its share of the calls in flight. Above that the one with the fewest calls
for its weight does.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from gateway.gate import Released
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.guarded import GuardedUpstream

_ROOM: Final = 1.25  # of its share of the calls in flight: the paper's 1 + epsilon


class Replicas:
    """A model's endpoints as one upstream. `weights` has a share for each, all above 0."""

    def __init__(self, model: Model, members: Sequence[GuardedUpstream], weights: Sequence[int]) -> None:
        self.model = model
        self.members = tuple(members)
        self._weights = tuple(weights)

    async def complete(self, call: Released[Call]) -> Answer:
        """The whole answer, of the replica that is chosen."""
        return await self.choose(call.value).complete(call)

    def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """The answer's events, of the replica that is chosen."""
        return self.choose(call.value).stream(call)

    def choose(self, call: Call) -> GuardedUpstream:
        """The replica for a call; a second try of the same request goes to the next in the order."""
        order = self._order(call)
        open_ones = [place for place in order if not self.members[place].breaker.refuses] or order
        if call.number:
            return self.members[open_ones[call.number % len(open_ones)]]
        share = (sum(self.members[place].calls for place in open_ones) + 1) * _ROOM
        whole = sum(self._weights[place] for place in open_ones)
        for place in open_ones:
            if self.members[place].calls < math.ceil(share * self._weights[place] / whole):
                return self.members[place]
        return self.members[min(open_ones, key=lambda place: self.members[place].calls / self._weights[place])]

    def _order(self, call: Call) -> list[int]:
        """The replicas by preference for this conversation: weighted rendezvous hashing."""
        prefix = beginning(call.body)
        return sorted(range(len(self.members)), key=lambda place: self._cost(prefix, place))

    def _cost(self, prefix: bytes, place: int) -> float:
        digest = hashlib.blake2b(prefix, digest_size=8, salt=place.to_bytes(16, "big")).digest()
        lot = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)  # above 0, below 1
        return -math.log(lot) / self._weights[place]

    async def health(self) -> Health:
        """Ready when one of them is."""
        states = await asyncio.gather(*(member.health() for member in self.members))
        return next((state for state in states if state.ready), states[0])

    async def aclose(self) -> None:
        """Give back what they hold."""
        await asyncio.gather(*(member.aclose() for member in self.members))


def beginning(body: Any) -> bytes:
    """What every turn of a conversation begins with: all up to the first thing that its user said."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return b""
    first = next((n for n, turn in enumerate(messages) if isinstance(turn, dict) and turn.get("role") == "user"), 0)
    return orjson.dumps(messages[: first + 1])
