"""The key of the exact cache: all that an answer depends on, and the partition it may be seen in."""

from __future__ import annotations

import hashlib

import orjson

from gateway.types import Decision, Inbound, Signals

# Who the caller says their own user is, and labels for the provider's dashboards: they do not change an answer.
_NOT_ANSWERING = frozenset({"user", "metadata", "safety_identifier"})


def exact_key(inbound: Inbound, signals: Signals, decision: Decision) -> bytes:
    """A digest over caller, data class, policy revision, route and the whole body that can change an answer."""
    body = inbound.body
    if not _NOT_ANSWERING.isdisjoint(body):
        body = {name: value for name, value in body.items() if name not in _NOT_ANSWERING}
    digest = hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=24)
    caller = inbound.caller
    for field in (
        caller.id,
        caller.team,
        signals.data.label,
        decision.policy_revision,
        decision.rule,
        decision.route.name,
    ):
        digest.update(b"\x00" + field.encode())
    for model in decision.ladder:
        digest.update(b"\x01" + model.encode())
    return digest.digest()
