"""Valid values of the vocabulary; a test changes what it is about."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from gateway.ledger.entry import AttemptEntry, Entry
from gateway.types import (
    ANONYMOUS,
    Attempt,
    Caller,
    Decision,
    Exchange,
    Inbound,
    Model,
    Part,
    Retries,
    Route,
    Signals,
    Usage,
    Zone,
)

ONCE = Retries(most=0)  # a test of retries says so
SMALL = Model("small", "fake", "small-1", Zone.PREMISES, "slm", retries=ONCE)
LARGE = Model("large", "openai", "gpt-4.1", Zone.WORLD, "llm", retries=ONCE)
NOON_NS = 1_795_521_600_000_000_000  # 2026-11-24T12:00:00Z


def an_inbound(text: str = "What are your opening hours?", **changes: Any) -> Inbound:
    """A chat request with one user message."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **changes.pop("body", {})}
    inbound = Inbound(
        request_id="req_1",
        endpoint="chat",
        body=body,
        parts=(Part("user", text),),
        caller=ANONYMOUS,
        model="auto",
        stream=bool(body.get("stream")),
        received_ns=time.time_ns(),
    )
    return dataclasses.replace(inbound, **changes)


def some_signals(**changes: Any) -> Signals:
    """Signals of an easy public query."""
    return dataclasses.replace(Signals(slm_success=0.9, gain=0.05, task="faq", prompt_tokens=12), **changes)


def a_decision(*ladder: str, **changes: Any) -> Decision:
    """A decision for this ladder."""
    route = Route("small-first", ladder)
    decision = Decision("default", route, ladder, Zone.WORLD, "default", "abc123")
    return dataclasses.replace(decision, **changes)


def an_exchange(*attempts: Attempt, **changes: Any) -> Exchange:
    """The story of a request that went well."""
    exchange = Exchange("req_1", "chat", NOON_NS, attempts=list(attempts), status=200)
    exchange.inbound, exchange.signals, exchange.decision = an_inbound(), some_signals(), a_decision("small")
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange


def an_attempt(model: Model = SMALL, prompt: int = 10, completion: int = 5, **changes: Any) -> Attempt:
    """An upstream call that answered in half a second."""
    usage = Usage(prompt, completion)
    return dataclasses.replace(Attempt(model, NOON_NS, seconds=0.5, usage=usage), **changes)


def an_entry(request_id: str = "req_1", **changes: Any) -> Entry:
    """A ledger entry of a request that a small model answered."""
    entry = Entry(
        request_id, NOON_NS // 1000, "anonymous", "", "", "[]", "chat", 0, "default", "abc123", "default",
        "small-first", "small", "premises", "public", "[]", "faq", "general", "en", "ok", 200, "", "miss", 0,
        10, 0, 5, 0, 0, 1_000, 9_000, "large", 500_000, 300, None, "{}",
    )  # fmt: skip
    return dataclasses.replace(entry, **changes)


def an_attempt_entry(request_id: str = "req_1", number: int = 0, **changes: Any) -> AttemptEntry:
    """The ledger's line of one upstream call."""
    entry = AttemptEntry(
        request_id, number, "small", "small-1", "fake", "premises", "slm", "ok", "", NOON_NS // 1000, 500_000, None,
        10, 0, 5, 0, 0, 1_000, "machine time", "",
    )  # fmt: skip
    return dataclasses.replace(entry, **changes)


def a_caller(**changes: Any) -> Caller:
    """A caller with a key."""
    return dataclasses.replace(Caller(id="key_1", team="billing", app="bot"), **changes)
