"""The composition root: settings to objects to one ASGI application. The only place that wires."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Engine

import gateway
import router_models
from gateway.cache.conversations import Conversations
from gateway.cache.store import MemoryStore
from gateway.console.asking import Tickets, asks
from gateway.console.backend import Backend
from gateway.console.site import build_console
from gateway.embedding import Embedding
from gateway.errors import ConfigError
from gateway.gate import Destination, Gate
from gateway.ledger.budgets import Budgets, LedgerStore, Store
from gateway.ledger.budgets_redis import RedisStore, connect
from gateway.ledger.costing import footprint, price_book
from gateway.ledger.erasure import Erasures
from gateway.ledger.feedback import keep
from gateway.ledger.keys import REFRESH_S, KeyRing
from gateway.ledger.policies import remember
from gateway.ledger.rates import LedgerStorage, Rates, redis_storage
from gateway.ledger.spool import Spool
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.opinions import Opinions
from gateway.pipeline import Pipeline
from gateway.policy.live import LivePolicy, Refusal
from gateway.policy.rules import Policy
from gateway.policy.trace import explained
from gateway.pseudonyms.names import Pseudonyms
from gateway.settings import Settings
from gateway.shadows import Shadows
from gateway.signals.answers import LazyChecker, lists_checker
from gateway.signals.difficulty import DifficultyScorer
from gateway.signals.language import detect
from gateway.signals.privacy import PrivacyScanner, read_points
from gateway.signals.remembered import Remembered
from gateway.stages.classify import Classifier, Moment, Unread
from gateway.stages.pseudonymise import Pseudonymiser
from gateway.stages.recall import Recall
from gateway.stages.record import LedgerRecorder
from gateway.stages.reserve import Purse
from gateway.telemetry.alerts import BudgetAlerts
from gateway.telemetry.audit import policy_record, refusal_record
from gateway.telemetry.logs import fields, places
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace import joined
from gateway.types import ANONYMOUS, Cloud, DataClass, Inbound, Model, Signals, Zone
from gateway.upstreams.base import Embedder, Upstream
from gateway.upstreams.breaker import Circuit
from gateway.upstreams.fleet import Breakers, breakers_of, guarded, guarded_embedder
from gateway.upstreams.health import CloudHealth, state_of
from gateway.upstreams.openings import Openings
from gateway.upstreams.pool import Pool
from gateway.upstreams.static import default_embedding
from gateway.watch import Watch
from gateway.wire import completions, embeddings, messages, responses
from gateway.wire.body import App, Receive, Scope, Send
from gateway.wire.chat import read_chat, read_texts
from gateway.wire.door import Door
from gateway.wire.endpoint import Endpoint, new_request_id
from gateway.wire.pages import build_pages
from router_models.calibration import load as load_calibration
from router_models.encoder import shared

if TYPE_CHECKING:
    from gateway.telemetry.otel import Traces

_log = logging.getLogger("cauce")
ARTIFACTS = Path(router_models.__file__).parent / "artifacts"
_HOME = Path(gateway.__file__).parent
# In a wheel the policies lie inside the package; in a checkout beside it.
SHIPPED_POLICIES = next((p for p in (_HOME / "shipped_policies", _HOME.parent / "policies") if p.is_dir()), _HOME)
_LOOK_S = REFRESH_S / 2
_CIRCUIT_VALUES = {Circuit.CLOSED: 0.0, Circuit.HALF_OPEN: 0.5, Circuit.OPEN: 1.0}
_CLOUD_VALUES = {Cloud.UP: 1.0, Cloud.DEGRADED: 0.5, Cloud.DOWN: 0.0}


def policy_file(settings: Settings, named: Path | None = None) -> Path:
    """The policy to follow: the one named, that of cauce.yaml, `policies/default.yaml` here, or the shipped default."""
    if named is not None:
        return named
    if settings.policy:
        return Path(settings.policy)
    here = Path("policies/default.yaml")
    return here if here.exists() else SHIPPED_POLICIES / "default.yaml"


def build_models(
    settings: Settings,
    *,
    on_failure: Callable[[BaseException], None],
    slms: Sequence[str] | None = None,
    remembered: Remembered | None = None,
) -> Classifier:
    """The models that read a request; raises `ConfigError` when an artefact is missing or broken.

    `slms` are the small models that may answer, in their order; none: those of cauce.yaml.
    """
    encoder = shared()
    scanner = PrivacyScanner.load(ARTIFACTS, encoder=encoder)
    classifier = Classifier(
        scorer=build_scorer(settings, slms),
        scanners={name: scanner.at(point) for name, point in read_points(ARTIFACTS).items()},
        language=detect,
        max_scan_chars=settings.limits.max_scan_chars,
        on_failure=on_failure,
        remembered=remembered,
    )
    _warm(classifier)
    return classifier


def build_scorer(settings: Settings, slms: Sequence[str] | None = None) -> DifficultyScorer:
    """The router model, calibrated for the small model here where `calibration:` says so; raises `ConfigError`."""
    names = slms if slms is not None else [model.id for model in settings.catalogue() if model.kind == "slm"]
    calibration = load_calibration(Path(settings.calibration), names) if settings.calibration else None
    return DifficultyScorer.load(ARTIFACTS, encoder=shared(), calibration=calibration)


def _warm(classifier: Classifier) -> None:
    """Read one text, so that what loads at its first use is loaded, or found broken, before there is a caller."""
    asked = {"messages": [{"role": "user", "content": "¿Puedo llamar al 900 100 100? Ref. 4471-2 (ana@example.com)"}]}
    classifier.classify(_inbound(orjson.dumps(asked), 1), unread=Unread(), moment=Moment())


def build_classifier(settings: Settings, policy: Policy) -> Callable[[str | list[dict[str, object]]], Signals]:
    """What `explain`, `check` and the cases use: a text or messages to signals, as a request would get them."""
    classifier = build_models(settings, on_failure=_log_scan_failure)
    unread = Unread(policy.unreadable, policy.failure, policy.operating_point)
    clock = _Clock(settings.time_zone)

    def classify(asked: str | list[dict[str, object]]) -> Signals:
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        inbound = _inbound(orjson.dumps({"messages": messages}), settings.limits.max_messages)
        return classifier.classify(inbound, unread=unread, moment=Moment(hour=clock.hour(policy.time_zone)))

    return classify


def _inbound(raw: bytes, max_messages: int) -> Inbound:
    return read_chat(
        raw,
        request_id=new_request_id(),
        received_ns=time.time_ns(),
        caller=ANONYMOUS,
        data=DataClass.PUBLIC,
        tags=(),
        cacheable=False,
        max_messages=max_messages,
    )


def _log_scan_failure(error: BaseException) -> None:
    _log.error("the privacy scan failed", extra=fields(error=type(error).__name__, at=places(error)))


class _Clock:
    """The hour of the business, or of the policy's own time zone, read once a minute at the most."""

    def __init__(self, time_zone: str) -> None:
        try:
            ZoneInfo(time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise ConfigError(f"time_zone: {time_zone!r} is not known; write one such as Europe/Madrid") from error
        self._own = time_zone
        self._zone = ""
        self._minute = -1
        self._hour = 0

    def hour(self, time_zone: str = "") -> int:
        zone, minute = time_zone or self._own, int(time.time() // 60)
        if minute != self._minute or zone != self._zone:
            self._hour = dt.datetime.fromtimestamp(minute * 60, ZoneInfo(zone)).hour
            self._zone, self._minute = zone, minute
        return self._hour


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


class _State:
    """Readiness and gauges, for the pages."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.endpoint: Endpoint | None = None

    def ready(self) -> tuple[bool, dict[str, object]]:
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


def build_gateway(settings: Settings, models: Sequence[Model], *, policy_path: Path | None = None) -> Gateway:
    """Everything wired: `models` are the configured or discovered ones. Raises `ConfigError`."""
    pool = Pool()
    upstreams = {model.id: guarded(model, pool) for model in models if model.kind != "embedding"}
    given = [model for model in models if model.kind == "embedding"] or [default_embedding()]
    embedders = {model.id: guarded_embedder(model, pool) for model in given}
    callable_ones: dict[str, Upstream | Embedder] = {**upstreams, **embedders}
    # As each adapter describes its model: with the notice and the context of the embedded one, say.
    catalogue = {name: each.model for name, each in callable_ones.items()}
    metrics = Metrics()
    policy = LivePolicy(policy_file(settings, policy_path), models=catalogue, on_refusal=_policy_refused(metrics))
    checker = LazyChecker(ARTIFACTS)
    if lists_checker(policy.current()):
        checker.load()  # a broken artefact stops the start, not a request
    engine = open_engine(settings.ledger)
    keys = KeyRing(engine, always=not is_loopback(settings.host))
    refuse_open_doors(settings, keys)
    prices = price_book(settings, catalogue)
    prices.look_up(catalogue.values(), time.time_ns())
    breakers = breakers_of(callable_ones)
    health = CloudHealth((m.id for m in catalogue.values() if m.zone is not Zone.PREMISES), breakers)
    ledger = Ledger(
        engine,
        on_failure=_ledger_failed(metrics),
        spool=_spool(settings, engine),
        time_zone=ZoneInfo(settings.time_zone),
    )
    zone = ZoneInfo(settings.time_zone)
    shared = connect(settings.shared) if settings.shared else None
    counted: Store = RedisStore(shared) if shared is not None else LedgerStore(engine, ledger.ask)
    alerts = BudgetAlerts(
        settings.budgets.webhook,
        language=settings.language,
        session=pool.session,
        counted=lambda threshold, outcome: metrics.budget_alerts.labels(str(threshold), outcome).inc(),
    )
    budgets = Budgets(counted, engine, zone=zone, alert=alerts, ttl_s=settings.budgets.reservation_ttl_s)
    ledger.on_use = budgets.saw_from_thread
    rates = Rates(
        redis_storage(shared, settings.shared) if settings.shared else LedgerStorage(ledger.ask),
        refused=lambda scope, kind: metrics.rate_refusals.labels(scope.partition(":")[0], kind).inc(),
        away=_limits_alone(metrics),
    )
    purse = Purse(
        budgets,
        prices=prices,
        models=catalogue,
        zone=zone,
        default_completion_tokens=settings.budgets.default_completion_tokens,
        refused=lambda scope: metrics.budget_refusals.labels(scope.partition(":")[0]).inc(),
    )
    gate = Gate(on_refusal=_gate_refused(metrics, ledger))
    cache = settings.cache
    store = MemoryStore(max_bytes=int(cache.max_mb * 1e6), ttl_s=cache.ttl_s) if cache.enabled else None
    traces = _traces(settings, catalogue, metrics)
    recorder = LedgerRecorder(
        ledger,
        prices=prices,
        metrics=metrics,
        footprint=footprint(settings, catalogue),
        settle=budgets.settle,
        traces=traces,
    )
    traced = partial(joined, share=settings.telemetry.otlp_share) if traces is not None else None
    shadows = Shadows(
        models=catalogue,
        upstreams=upstreams,
        gate=gate,
        record=recorder.record_shadow,
        heard=health.heard,
        crashed=_crashed(metrics),
    )
    conversations = Conversations()
    pseudonyms, remembered = Pseudonyms(), Remembered()
    erasures = Erasures(engine)
    parts = Parts(
        settings,
        policy,
        catalogue,
        callable_ones,
        pool,
        ledger,
        keys,
        metrics,
        store,
        health,
        breakers,
        erasures,
        shadows,
        pseudonyms,
        remembered,
        budgets,
        rates,
        Watch(
            engine,
            ledger=settings.ledger,
            zone=zone,
            metrics=metrics,
            check_s=settings.telemetry.audit_check_hours * 3600,
        ),
        Openings(connect(settings.shared), breakers, catalogue) if settings.shared else None,
        traces,
    )
    clock = _Clock(settings.time_zone)
    pipeline = Pipeline(
        classifier=build_models(
            settings,
            on_failure=_scan_failed(metrics),
            slms=[model.id for model in catalogue.values() if model.kind == "slm"],
            remembered=remembered,
        ),
        policy=policy.current,
        models=catalogue,
        upstreams=upstreams,
        gate=gate,
        recall=Recall(store, gate=gate),
        recorder=recorder,
        language=detect,
        moment=lambda inbound: Moment(
            health.state(),
            clock.hour(policy.current().time_zone),
            budgets.left(inbound.caller) if inbound.caller.budgets else None,
            conversations.held_by(inbound),
        ),
        heard=health.heard,
        pseudonymiser=Pseudonymiser(pseudonyms, read=read_texts),
        conversations=conversations,
        shadows=shadows,
        opinions=Opinions(models=catalogue, upstreams=upstreams, gate=gate, heard=health.heard),
        checker=checker,
        purse=purse,
    )
    state = _State(parts)
    embedding = Embedding(
        pipeline,
        models=catalogue,
        embedders=embedders,
        gate=gate,
        recorder=recorder,
        heard=health.heard,
        purse=purse,
    )
    chat = {"/v1/chat/completions": (Door("chat"), pipeline.run)}
    endpoint = Endpoint(
        {
            **chat,
            "/v1/completions": (completions.DOOR, pipeline.run),
            "/v1/messages": (messages.DOOR, pipeline.run),
            "/v1/responses": (responses.DOOR, pipeline.run),
            "/v1/embeddings": (embeddings.DOOR, embedding.run),
        },
        keys=keys,
        limits=settings.limits,
        recorder=recorder,
        crashed=_crashed(metrics),
        rates=rates,
        traced=traced,
    )
    state.endpoint = endpoint
    pages = build_pages(
        pipeline=pipeline,
        keys=keys,
        limits=settings.limits,
        models=catalogue,
        metrics=metrics,
        status=state,
        explain=lambda signals, decision, *, requested, language: explained(
            signals, decision, policy=policy.current(), models=catalogue, requested=requested, language=language
        ),
        keep_feedback=lambda request_id, caller, score: asyncio.to_thread(keep, engine, request_id, caller, score),
        language=settings.language,
    )
    tickets = Tickets()
    own_door = Endpoint(
        chat, keys=tickets, limits=settings.limits, recorder=recorder, crashed=_crashed(metrics), rates=rates
    )
    backend = Backend(
        settings=settings,
        policy=policy,
        models=catalogue,
        upstreams=callable_ones,
        ledger=ledger,
        keys=keys,
        prices=prices,
        pipeline=pipeline,
        ready=state.ready,
        ask=asks(own_door, tickets),
        classifier=build_classifier,
        curl=curl_line(settings.port),
    )
    return Gateway(parts, endpoint=endpoint, pages=pages, console=build_console(backend))


def _scan_failed(metrics: Metrics) -> Callable[[BaseException], None]:
    def failed(error: BaseException) -> None:
        metrics.scan_failures.inc()
        _log_scan_failure(error)

    return failed


def _gate_refused(metrics: Metrics, ledger: Ledger) -> Callable[[Destination, DataClass], None]:
    def refused(destination: Destination, data: DataClass) -> None:
        metrics.refused(destination, data)
        ledger.note(refusal_record(destination, data))

    return refused


def _policy_refused(metrics: Metrics) -> Callable[[Refusal], None]:
    def refused(refusal: Refusal) -> None:
        metrics.policy_reloads.labels("refused").inc()
        _log.error("a changed policy was refused, the last good one stays", extra=fields(why=str(refusal)))

    return refused


def _ledger_failed(metrics: Metrics) -> Callable[[Exception], None]:
    def failed(error: Exception) -> None:
        metrics.ledger_failures.inc()
        _log.error("the ledger could not be written, it is tried again", extra=fields(error=type(error).__name__))

    return failed


def _limits_alone(metrics: Metrics) -> Callable[[Exception], None]:
    def away(error: Exception) -> None:
        metrics.limits_alone.inc()
        _log.error("a limit is held by this process alone", extra=fields(error=type(error).__name__))

    return away


def _traces(settings: Settings, models: Mapping[str, Model], metrics: Metrics) -> Traces | None:
    """Where cauce.yaml names a receiver; raises `ConfigError` when the extra is missing."""
    to = settings.telemetry
    if not to.otlp_endpoint:
        return None
    try:
        from gateway.telemetry.otel import Traces, otlp_exporter  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        raise ConfigError("telemetry.otlp_endpoint: needs the extra `otel`: pip install 'cauce[otel]'") from error
    exporter = otlp_exporter(to.otlp_endpoint, to.otlp_authorization)
    return Traces(exporter, models=models, counted=lambda outcome, spans: metrics.spans.labels(outcome).inc(spans))


def _spool(settings: Settings, engine: Engine) -> Spool:
    """Beside the SQLite file, unless the operator names a folder."""
    beside = engine.url.database if engine.dialect.name == "sqlite" else None
    folder = settings.spool.folder or (f"{beside}.spool" if beside else "cauce.spool")
    return Spool(Path(folder), max_bytes=int(settings.spool.max_mb * 1e6))


def _crashed(metrics: Metrics) -> Callable[[str, BaseException], None]:
    def crashed(request_id: str, error: BaseException) -> None:
        metrics.crashes.inc()
        place = fields(request_id=request_id, error=type(error).__name__, at=places(error))
        _log.error("a request ended in a fault of the gateway", extra=place)

    return crashed


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_open_doors(settings: Settings, keys: KeyRing) -> None:
    """Beyond loopback nobody is served without a key; raises `ConfigError` with the line that mends it."""
    if not is_loopback(settings.host) and keys.empty:
        raise ConfigError(
            f"host {settings.host} can be reached from other machines and there is no key yet. Make one first:\n"
            "  cauce keys create --team NAME --app NAME"
        )


def curl_line(port: int) -> str:
    """A first request."""
    body = '{"messages": [{"role": "user", "content": "What is the capital of France?"}]}'
    return f"curl http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' -d '{body}'"
