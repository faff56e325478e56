"""The `x-cauce-*` headers: what happened to a request, said to whoever sent it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.ledger.entry import answering_model, is_offline
from gateway.ledger.rates import Standing
from gateway.stages.call import PSEUDONYMISED
from gateway.types import Attempt, Exchange, Model
from gateway.upstreams import passing

Headers = list[tuple[bytes, bytes]]

# What each says. A request refused early has only those that can be known.
REPLY_HEADERS: Final = {
    "x-cauce-request-id": "the request's id, as in the ledger and the log",
    "x-request-id": "the same, for OpenAI's clients",
    "x-cauce-model": "which model answered, by its name in cauce.yaml",
    "x-cauce-route": "the route that was chosen",
    "x-cauce-rule": "the rule that chose it; `default` when none matched, `pinned` when the request named its model",
    "x-cauce-zone": "where the answering model is; without one, the farthest zone that the text may enter",
    "x-cauce-data-class": "the class of the request's data",
    "x-cauce-transform": "`pseudonymised` where the route did so; `none` where it could not and the text stayed",
    "x-cauce-slm-success": "how likely the small model answers acceptably, 0 to 1",
    "x-cauce-gain": "how much better the large model is expected to answer, -1 to 1",
    "x-cauce-cache": "`hit`, `miss` or `off`",
    "x-cauce-escalated": "`true` when more than one model was asked",
    "x-cauce-offline": "`true` when a model on the premises answered because those in the cloud cannot be reached",
    "x-cauce-cost-usd": "what the answer cost, exact; `unknown` without a price; not sent with a stream",
    "x-cauce-policy": "the policy that decided and its revision: `default@1f0c2ab9`",
    "x-cauce-notice": "what the model's owner wants callers to know (`models.NAME.notice`)",
    "x-cauce-lost": "fields of the request that have no place in the model's API and did not go there, with commas",
    "x-should-retry": "`false` with `budget_exceeded`, for OpenAI's clients: asking again at once would not help",
    "request-id": "the request's id on `/v1/messages`, for Anthropic's clients",
    **passing.REPLY,
}
_FIELD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_LOST: Final = 32


def reply_headers(exchange: Exchange, *, cost_nano_usd: int | None = None, whole: bool = True) -> Headers:
    """Every header of DESIGN that can be known: a request refused early has no model, a stream no cost yet."""
    request_id = exchange.request_id.encode()
    headers: Headers = [
        (b"x-cauce-request-id", request_id),
        (b"x-request-id", request_id),
        (b"x-cauce-cache", exchange.cache.encode()),
    ]
    model = answering_model(exchange)
    if lost := _lost(exchange, model):
        headers.append((b"x-cauce-lost", lost))
    if (decision := exchange.decision) is not None:
        headers += [
            (b"x-cauce-route", _latin(decision.route.name)),
            (b"x-cauce-rule", _latin(decision.rule)),
            (b"x-cauce-zone", (model.zone if model else decision.ceiling).label.encode()),
            (b"x-cauce-policy", _latin(f"{decision.policy}@{decision.policy_revision}")),
        ]
    if exchange.transform:
        done = exchange.transform == PSEUDONYMISED
        headers.append((b"x-cauce-transform", exchange.transform.encode() if done else b"none"))
    if (signals := exchange.signals) is not None:
        headers += [
            (b"x-cauce-data-class", signals.data.label.encode()),
            (b"x-cauce-slm-success", b"%.3f" % signals.slm_success),
            (b"x-cauce-gain", b"%.3f" % signals.gain),
        ]
    if exchange.attempts:
        headers += [
            (name.encode(), value.encode()) for name, value in _answering(exchange, model).aside.headers.items()
        ]
    if model is not None:
        headers += [
            (b"x-cauce-model", _latin(model.id)),
            (b"x-cauce-escalated", b"true" if _escalated(exchange) else b"false"),
        ]
        if is_offline(exchange, model):
            headers.append((b"x-cauce-offline", b"true"))
        if model.notice:
            headers.append((b"x-cauce-notice", _latin(model.notice)))
        if whole:
            headers.append((b"x-cauce-cost-usd", usd(cost_nano_usd)))
    return headers


def _lost(exchange: Exchange, model: Model | None) -> bytes:
    """What was left out for this model, by name. A name that a caller made up may be anything, and is not repeated."""
    inbound = exchange.inbound
    if inbound is None:
        return b""
    names = [*inbound.lost]
    if exchange.attempts or exchange.cached_model:
        names += inbound.hints - (model.hints if model else frozenset())
        names += inbound.headers.keys() - (model.headers if model else frozenset())
    if exchange.attempts:
        names += _answering(exchange, model).aside.lost
    if not names:
        return b""
    shown = sorted({name if _FIELD.fullmatch(name) else "other" for name in names})
    return ",".join([*shown[:_MOST_LOST], *(["..."] if len(shown) > _MOST_LOST else [])]).encode()


def _answering(exchange: Exchange, model: Model | None) -> Attempt:
    """The call whose answer is sent; the last one, when none is."""
    return next((a for a in reversed(exchange.attempts) if a.model is model), exchange.attempts[-1])


def rate_headers(standings: Sequence[Standing]) -> Headers:
    """OpenAI's headers for what a key may still send this minute."""
    headers: Headers = []
    for standing in standings:
        kind = standing.kind.encode()
        headers += [
            (b"x-ratelimit-limit-" + kind, b"%d" % standing.limit),
            (b"x-ratelimit-remaining-" + kind, b"%d" % standing.remaining),
            (b"x-ratelimit-reset-" + kind, b"%.3gs" % standing.reset_s),
        ]
    return headers


def usd(nano_usd: int | None) -> bytes:
    """Nano-dollars as a decimal number of dollars, exact; `unknown` when a price or a count is not known."""
    if nano_usd is None:
        return b"unknown"
    return b"%d.%09d" % divmod(nano_usd, 1_000_000_000)


def _latin(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _escalated(exchange: Exchange) -> bool:
    """Whether more than one model was tried; a judge or a sample tries none."""
    return len({attempt.model.id for attempt in exchange.attempts if not attempt.verifies}) > 1
