"""A gateway from its start to its end: one ASGI application, what it follows meanwhile, and how ready it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cache.store import MemoryStore
from gateway.ledger.budgets import Budgets
from gateway.ledger.erasure import Erasures
from gateway.ledger.keys import REFRESH_S, KeyRing
from gateway.ledger.policies import remember
from gateway.ledger.rates import Rates
from gateway.ledger.writer import Ledger
from gateway.policy.live import LivePolicy
from gateway.policy.rules import Policy
from gateway.pseudonyms.names import Pseudonyms
from gateway.settings import Settings
from gateway.shadows import Shadows
from gateway.signals.remembered import Remembered
from gateway.telemetry.audit import policy_record
from gateway.telemetry.logs import fields, places
from gateway.telemetry.metrics import Metrics
from gateway.types import Cloud, Model
from gateway.upstreams.base import Embedder, Upstream
from gateway.upstreams.breaker import Circuit
from gateway.upstreams.fleet import Breakers
from gateway.upstreams.health import CloudHealth, state_of
from gateway.upstreams.openings import Openings
from gateway.upstreams.pool import Pool
from gateway.watch import Watch
from gateway.wire.body import App, Receive, Scope, Send
from gateway.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.telemetry.otel import Traces

_LOOK_S = REFRESH_S / 2
_CIRCUIT_VALUES = {Circuit.CLOSED: 0.0, Circuit.HALF_OPEN: 0.5, Circuit.OPEN: 1.0}
_CLOUD_VALUES = {Cloud.UP: 1.0, Cloud.DEGRADED: 0.5, Cloud.DOWN: 0.0}


_log = logging.getLogger("cauce")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway is made of, for whoever starts and stops it."""

    settings: Settings
    policy: LivePolicy
    models: Mapping[str, Model]
    upstreams: Mapping[str, Upstream | Embedder]
    pool: Pool
    ledger: Ledger
    keys: KeyRing
    metrics: Metrics
    store: MemoryStore | None
    health: CloudHealth
    breakers: Breakers
    erasures: Erasures
    shadows: Shadows
    pseudonyms: Pseudonyms
    remembered: Remembered
    budgets: Budgets
    rates: Rates
    watch: Watch
    openings: Openings | None
    traces: Traces | None


class Gateway:
    """The ASGI application: the request path goes straight to its endpoint, everything else to the pages."""

    def __init__(self, parts: Parts, *, endpoint: Endpoint, pages: App, console: App) -> None:
        self.parts = parts
        self.endpoint = endpoint
        self._pages = pages
        self._console = console
        self._keeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's life."""
        if scope["type"] == "http":
            if scope["path"] in self.endpoint.doors:
                await self.endpoint(scope, receive, send)
            elif scope["path"] == "/console" or scope["path"].startswith("/console/"):
                await self._console(scope, receive, send)
            else:
                await self._pages(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def start(self) -> None:
        """Ask each upstream whether it is there, which also starts the embedded one; follow keys and policy."""
        self._keeper = asyncio.create_task(self._keep())
        if self.parts.openings is not None:
            self.parts.openings.start()
        self.parts.watch.start()

    async def stop(self) -> None:
        """Give everything back; what the ledger still holds is written first."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        try:
            await self.parts.watch.aclose()
            if self.parts.openings is not None:
                await self.parts.openings.aclose()
            await self.parts.shadows.aclose()
            await asyncio.gather(*(upstream.aclose() for upstream in self.parts.upstreams.values()))
            await self.parts.rates.aclose()
            await self.parts.budgets.aclose()
            await self.parts.pool.aclose()
        finally:  # whatever would not end: what was promised is written
            await asyncio.to_thread(self.parts.ledger.close)
        if self.parts.traces is not None:
            await self.parts.traces.aclose()
        self.parts.metrics.close()

    async def _keep(self) -> None:
        await self._looked(self._greet)
        looks = (self._follow_keys, self.parts.budgets.keep, self._follow_erasures, self._follow_policy)
        while True:
            await asyncio.sleep(_LOOK_S)
            for look in looks:
                await self._looked(look)

    async def _looked(self, look: Callable[[], Awaitable[None]]) -> None:
        """One look; a fault in it ends no other: a key that is revoked must lose the gateway whatever else is wrong."""
        try:
            await look()
        except Exception as error:
            _log.error(
                "the gateway could not look after itself", extra=fields(error=type(error).__name__, at=places(error))
            )

    async def _greet(self) -> None:
        upstreams = self.parts.upstreams
        states = await asyncio.gather(*(upstream.health() for upstream in upstreams.values()))
        for name, state in zip(upstreams, states, strict=True):
            if not state.ready:
                _log.warning("a model is not ready", extra=fields(model=name, detail=state.detail))
        await asyncio.to_thread(self._remember)

    async def _follow_keys(self) -> None:
        await asyncio.to_thread(self.parts.keys.load)

    async def _follow_erasures(self) -> None:
        if subjects := await asyncio.to_thread(self.parts.erasures.look):
            self._forget(subjects)

    async def _follow_policy(self) -> None:
        if (policy := await asyncio.to_thread(self.parts.policy.look)) is not None:
            before = self._enter(policy)
            await asyncio.to_thread(self._remember, before)

    def _forget(self, subjects: frozenset[str]) -> None:
        """Callers were erased: no answer is kept that could be theirs, and the audit gives them no old name."""
        if self.parts.store is not None:
            self.parts.store.clear()
        self.parts.pseudonyms.clear()
        self.parts.remembered.clear()
        self.parts.ledger.forget(subjects)
        _log.warning("callers were erased, the answer cache is empty", extra=fields(erasures=len(subjects)))

    def _enter(self, policy: Policy) -> str:
        """From the next request on, this policy: a request keeps the one that it began with. The revision before."""
        before = self.parts.policy.current()
        self.parts.policy.enter(policy)
        self.parts.metrics.policy_reloads.labels("in_force").inc()
        _log.warning(
            "a new policy is in force",
            extra=fields(policy=policy.name, revision=policy.revision, before=before.revision),
        )
        return before.revision

    def _remember(self, before: str = "") -> None:
        live = self.parts.policy
        policy = live.current()
        included = tuple(Path(name) for name in policy.files[1:])
        engine = self.parts.ledger.engine
        remember(engine, name=policy.name, revision=policy.revision, file=live.file, included=included)
        self.parts.ledger.note(policy_record(policy, before=before))


class State:
    """Readiness and gauges, for the pages."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.endpoint: Endpoint | None = None

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether requests can be answered, and what `/readyz` says."""
        parts = self._parts
        policy = parts.policy.current()
        return any(model.kind != "embedding" for model in parts.models.values()), {
            "policy": f"{policy.name}@{policy.revision}",
            "policy_refused": str(parts.policy.refusal) if parts.policy.refusal else None,
            "models": {name: model.zone.label for name, model in parts.models.items()},
            "cloud": str(parts.health.state()),
            "circuits": {name: str(state_of(each)) for name, each in parts.breakers.items()},
            "ledger": parts.ledger.state,
            "ledger_waiting": parts.ledger.waiting,
            "ledger_spooled": parts.ledger.spooled,
        }

    def refresh_gauges(self) -> None:
        """What is read only when somebody asks for the metrics."""
        parts, metrics = self._parts, self._parts.metrics
        metrics.in_flight.set(self.endpoint.in_flight if self.endpoint else 0)
        metrics.ledger_waiting.set(parts.ledger.waiting)
        metrics.ledger_spooled.set(parts.ledger.spooled)
        metrics.spool_used.set(parts.ledger.spool_used)
        metrics.policy_refused.set(parts.policy.refusal is not None)
        for zone, ready in _ready_by_zone(parts).items():
            metrics.models_ready.labels(zone).set(ready)
        metrics.ledger_away.set(parts.ledger.state != "ok")
        metrics.see_budgets(parts.budgets.shares())
        metrics.cloud.set(_CLOUD_VALUES[parts.health.state()])
        for name, breakers in parts.breakers.items():
            for number, breaker in enumerate(breakers):
                metrics.circuits.labels(name, str(number)).set(_CIRCUIT_VALUES[breaker.state])
        metrics.cache_bytes.set(parts.store.size_bytes if parts.store else 0)


def _ready_by_zone(parts: Parts) -> dict[str, int]:
    """How many models that answer chats take calls, in each zone that has any."""
    ready: dict[str, int] = {}
    for name, model in parts.models.items():
        if model.kind != "embedding":
            takes_calls = state_of(parts.breakers[name]) is not Circuit.OPEN
            ready[model.zone.label] = ready.get(model.zone.label, 0) + takes_calls
    return ready
