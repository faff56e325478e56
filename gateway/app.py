"""The composition root: settings to objects to one ASGI application. The only place that wires."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

import gateway
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
from gateway.ledger.keys import KeyRing
from gateway.ledger.rates import LedgerStorage, Rates, redis_storage
from gateway.ledger.spool import Spool
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.life import Gateway, Parts, State
from gateway.opinions import Opinions
from gateway.pipeline import Pipeline
from gateway.policy.live import LivePolicy, Refusal
from gateway.policy.trace import explained
from gateway.pseudonyms.names import Pseudonyms
from gateway.reading import ARTIFACTS, Clock, build_classifier, build_models, log_scan_failure
from gateway.settings import Settings
from gateway.shadows import Shadows
from gateway.signals.answers import LazyChecker, lists_checker
from gateway.signals.language import detect
from gateway.signals.remembered import Remembered
from gateway.stages.classify import Moment
from gateway.stages.pseudonymise import Pseudonymiser
from gateway.stages.recall import Recall
from gateway.stages.record import LedgerRecorder
from gateway.stages.reserve import Purse
from gateway.telemetry.alerts import BudgetAlerts
from gateway.telemetry.audit import refusal_record
from gateway.telemetry.logs import fields, places
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.trace import joined
from gateway.types import DataClass, Model, Zone
from gateway.upstreams.base import Embedder, Upstream
from gateway.upstreams.fleet import breakers_of, guarded, guarded_embedder
from gateway.upstreams.health import CloudHealth
from gateway.upstreams.openings import Openings
from gateway.upstreams.pool import Pool
from gateway.upstreams.static import default_embedding
from gateway.watch import Watch
from gateway.wire import completions, embeddings, messages, responses
from gateway.wire.chat import read_texts
from gateway.wire.door import Door
from gateway.wire.endpoint import Endpoint
from gateway.wire.pages import build_pages

if TYPE_CHECKING:
    from gateway.telemetry.otel import Traces

_log = logging.getLogger("cauce")
_HOME = Path(gateway.__file__).parent
# In a wheel the policies lie inside the package; in a checkout beside it.
SHIPPED_POLICIES = next((p for p in (_HOME / "shipped_policies", _HOME.parent / "policies") if p.is_dir()), _HOME)


def policy_file(settings: Settings, named: Path | None = None) -> Path:
    """The policy to follow: the one named, that of cauce.yaml, `policies/default.yaml` here, or the shipped default."""
    if named is not None:
        return named
    if settings.policy:
        return Path(settings.policy)
    here = Path("policies/default.yaml")
    return here if here.exists() else SHIPPED_POLICIES / "default.yaml"


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
    clock = Clock(settings.time_zone)
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
    state = State(parts)
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
        log_scan_failure(error)

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
