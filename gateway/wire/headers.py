"""The `x-cauce-*` headers: what happened to a request, said to whoever sent it."""

from __future__ import annotations

from gateway.ledger.entry import answering_model
from gateway.types import Exchange

Headers = list[tuple[bytes, bytes]]


def reply_headers(exchange: Exchange, *, cost_nano_usd: int | None = None, whole: bool = True) -> Headers:
    """Every header of DESIGN that can be known: a request refused early has no model, a stream no cost yet."""
    request_id = exchange.request_id.encode()
    headers: Headers = [
        (b"x-cauce-request-id", request_id),
        (b"x-request-id", request_id),
        (b"x-cauce-cache", exchange.cache.encode()),
    ]
    model = answering_model(exchange)
    if (decision := exchange.decision) is not None:
        headers += [
            (b"x-cauce-route", _latin(decision.route.name)),
            (b"x-cauce-rule", _latin(decision.rule)),
            (b"x-cauce-zone", (model.zone if model else decision.ceiling).label.encode()),
            (b"x-cauce-policy", _latin(f"{decision.policy}@{decision.policy_revision}")),
        ]
    if (signals := exchange.signals) is not None:
        headers += [
            (b"x-cauce-data-class", signals.data.label.encode()),
            (b"x-cauce-slm-success", b"%.3f" % signals.slm_success),
            (b"x-cauce-gain", b"%.3f" % signals.gain),
        ]
    if model is not None:
        headers += [
            (b"x-cauce-model", _latin(model.id)),
            (b"x-cauce-escalated", b"true" if len({a.model.id for a in exchange.attempts}) > 1 else b"false"),
        ]
        if model.notice:
            headers.append((b"x-cauce-notice", _latin(model.notice)))
        if whole:
            headers.append((b"x-cauce-cost-usd", usd(cost_nano_usd)))
    return headers


def usd(nano_usd: int | None) -> bytes:
    """Nano-dollars as a decimal number of dollars, exact; `unknown` when a price or a count is not known."""
    if nano_usd is None:
        return b"unknown"
    return b"%d.%09d" % divmod(nano_usd, 1_000_000_000)


def _latin(text: str) -> bytes:
    return text.encode("ascii", "replace")
