"""The life of an embedding request: classify > decide > call > record. No ladder and no cache.

The vectors of two models cannot be compared, so no request is ever sent to a second one: it is the model that was
named, else the first one of its kind in the catalogue, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.errors import NothingAllowed, UnknownModel, UpstreamError
from gateway.gate import Gate
from gateway.pipeline import Pipeline, Recorder, Whole
from gateway.policy.decide import limit_of
from gateway.policy.rules import AUTO, DEFAULT, PINNED, Policy
from gateway.stages.call import begin, end, open_door
from gateway.stages.reserve import Purse
from gateway.types import Decision, Exchange, Inbound, Model, Outcome, Route, Signals, Skipped
from gateway.upstreams.base import Embedder

_ROUTE: Final = "embedding"


class Embedding:
    """All that an embedding request passes through, wired by `app.py`."""

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        pipeline: Pipeline,
        *,
        models: Mapping[str, Model],
        embedders: Mapping[str, Embedder],
        gate: Gate,
        recorder: Recorder,
        heard: Callable[[Model, UpstreamError | None], None],
        purse: Purse | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._models = models
        self._embedders = embedders
        self._gate = gate
        self._recorder = recorder
        self._heard = heard
        self._purse = purse

    async def run(self, inbound: Inbound, exchange: Exchange) -> Whole:
        """The vectors, or `CauceError`. Recorded on return."""
        signals, policy = self._pipeline.classify(inbound, exchange)
        decision = choose(signals, policy=policy, models=self._models, requested=inbound.model)
        exchange.decision = decision
        if decision.ladder and inbound.caller.budgets and self._purse is not None:
            chosen = decision
            _, decision = await self._purse.reserve(inbound, signals, chosen, exchange, again=lambda _poorer: chosen)
        if not decision.ladder:
            raise NothingAllowed(
                f"no embedding model may read this text, which must stay inside {decision.ceiling.label} "
                f"(policy {decision.policy}). {decision.skipped[0].model}: {decision.skipped[0].reason}. "
                "Name one in that zone, or add it to cauce.yaml."
            )
        model = self._models[decision.ladder[0]]
        released = open_door(inbound, model, gate=self._gate, signals=signals, decision=decision, logprobs=0)
        attempt = begin(exchange, model, released.value.aside)
        try:
            answer = await self._embedders[model.id].embed(released)
        except UpstreamError as error:
            end(attempt, error.code)
            self._heard(model, error)
            raise
        end(attempt)
        self._heard(model, None)
        attempt.usage = answer.usage
        exchange.outcome, exchange.status = Outcome.OK, 200
        await self._recorder.record(exchange)
        return Whole(answer.body)


def choose(signals: Signals, *, policy: Policy, models: Mapping[str, Model], requested: str) -> Decision:
    """The one model for these texts, if they may go there. Raises `UnknownModel` for one that makes no embeddings."""
    known = [model for model in models.values() if model.kind == _ROUTE]
    target = policy.aliases.get(requested, requested)
    model = next((model for model in known if target in (AUTO, model.id)), None)
    if model is None:
        what = f"{target!r} answers chats" if target in models else f"there is no embedding model {requested[:80]!r}"
        names = ", ".join(model.id for model in known)
        raise UnknownModel(f"{what}. Send `auto`, or one of: {names}", param="model")
    limit = limit_of(signals, policy)
    why = f"it is in zone {model.zone.label}, and {signals.data.label} data stays inside {limit.label}"
    skipped = (Skipped(model.id, why),) if model.zone > limit else ()
    return Decision(
        rule=DEFAULT if target == AUTO else PINNED,
        route=Route(_ROUTE, (model.id,), cache=False),
        ladder=() if skipped else (model.id,),
        ceiling=limit,
        policy=policy.name,
        policy_revision=policy.revision,
        skipped=skipped,
    )
