"""Type a query and see what would be decided, and why; then run it like any other request, with its ledger entry."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from gateway.console.asking import Reply
from gateway.console.visit import Visit
from gateway.ledger.prices import PriceBook
from gateway.policy.trace import explained
from gateway.types import Attempt, Caller, DataClass, Exchange, Model, Usage
from gateway.wire.caller import refuse_model
from gateway.wire.chat import read_chat
from gateway.wire.endpoint import new_request_id

_MAX_CHARS: Final = 100_000
_CLASSES: Final = {data.label: data for data in DataClass}


async def playground(visit: Visit) -> Response:
    """The form; once it is sent, signals, rules, ladder and price, and after a run the answer too."""
    form = visit.form
    query, model = form.get("query", "").strip()[:_MAX_CHARS], form.get("model", "auto") or "auto"
    data = _CLASSES.get(form.get("data_class", ""), DataClass.PUBLIC)
    told: dict[str, Any] | None = None
    answer: dict[str, Any] | None = None
    if query and visit.who is not None:
        caller = _raised(visit.who.caller, data)
        body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": query}]})
        if form.get("do") == "run":
            if not visit.who.may_change:
                return visit.problem(403, visit.t["viewers_only_look"], visit.t["viewers_only_look_do"])
            answer = _answer(await visit.backend.ask(body, caller))
        told = _told(visit, body, caller)
    return visit.render(
        "playground.html",
        query=query,
        model=model,
        data_class=data.label,
        classes=list(_CLASSES),
        names=["auto", *(one.id for one in visit.backend.models.values() if one.kind != "embedding")],
        told=told,
        answer=answer,
        empty=visit.request.method == "POST" and not query,
    )


def _raised(caller: Caller, data: DataClass) -> Caller:
    """The caller, with a class that may be raised here and never lowered."""
    return dataclasses.replace(caller, data=max(caller.data, data))


def _told(visit: Visit, body: bytes, caller: Caller) -> dict[str, Any]:
    """What `/v1/route` says of it, and what each rung would cost. No call is made and nothing is kept."""
    backend = visit.backend
    exchange = Exchange(new_request_id(), "route", time.time_ns(), caller)
    inbound = read_chat(
        body,
        request_id=exchange.request_id,
        received_ns=exchange.received_ns,
        caller=caller,
        data=caller.data,
        tags=caller.tags,
        cacheable=False,
        max_messages=backend.settings.limits.max_messages,
    )
    refuse_model(inbound.model, caller)
    signals, decision = backend.pipeline.choose(inbound, exchange)
    told = explained(
        signals,
        decision,
        policy=backend.policy.current(),
        models=backend.models,
        requested=inbound.model,
        language=visit.language,
    )
    told["classify_us"] = exchange.classify_seconds * 1e6
    told["estimates"] = [
        estimate(backend.models[name], backend.prices, signals.prompt_tokens) for name in decision.ladder
    ]
    return told


def estimate(model: Model, prices: PriceBook, prompt_tokens: int) -> dict[str, Any]:
    """What a rung would cost: nano-USD of the prompt and of 1,000 tokens of answer, or of a second of the machine."""
    now = time.time_ns()
    if prices.by_time(model):
        second = prices.charge(Attempt(model, now, seconds=1.0))
        return {"model": model, "second": second.nano_usd, "source": second.source}
    prompt = prices.charge(Attempt(model, now, usage=Usage(prompt_tokens, 0)))
    answer = prices.charge(Attempt(model, now, usage=Usage(0, 1000)))
    return {"model": model, "prompt": prompt.nano_usd, "answer": answer.nano_usd, "source": prompt.source}


def _answer(reply: Reply) -> dict[str, Any]:
    """An answer, or an error, for people."""
    said: Mapping[str, Any] = orjson.loads(reply.body) if reply.body else {}
    shown: dict[str, Any] = {
        "status": reply.status,
        "request_id": reply.headers.get("x-cauce-request-id", ""),
        "headers": {name: value for name, value in reply.headers.items() if name.startswith("x-cauce-")},
        "text": "",
        "error": "",
    }
    if reply.status == 200:
        choices = said.get("choices") or [{}]
        shown["text"] = (choices[0].get("message") or {}).get("content") or ""
    else:
        shown["error"] = (said.get("error") or {}).get("message", "")
    return shown
