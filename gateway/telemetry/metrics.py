"""Every metric, declared once: name, help, labels. Labels come from closed sets, never from a request.

`grafana/` and `deploy/prometheus/` may use no other name; a test holds both sides against each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway.gate import Destination
from gateway.ledger.budgets import THRESHOLDS
from gateway.ledger.entry import HEDGE, RETRY, SHADOW, VERIFYING, AttemptEntry, Entry, answering_model, is_offline
from gateway.ledger.limits import LEVELS, RATES
from gateway.ledger.month import Month
from gateway.types import Attempt, DataClass, Exchange, Zone

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own switch, set by `serve` with workers
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_MOST_NAMES = 500  # budgets, teams: the operator names them, and no more are shown
_GATEWAY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_TENTHS = tuple(n / 10 for n in range(1, 11))
_GAINS = (-0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
_CLASSIFY_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1)


TRANSFORMS: Final = ("pseudonymised", "none")
TURNED_DOWN: Final = "turned_down"
VERIFIED: Final = "verifying"


def wasted(attempt: AttemptEntry, sent_from: str) -> str:
    """Why an attempt's tokens brought the client nothing; nothing where they did, or where it failed by itself."""
    if attempt.kind in VERIFYING:
        return VERIFIED
    return TURNED_DOWN if attempt.rejected_by and attempt.model != sent_from else ""


def gateway_us(entry: Entry, attempts: list[AttemptEntry]) -> int:
    """The part of a request's time in which no upstream was being asked, in microseconds; calls may overlap."""
    asked, until = 0, 0
    for attempt in sorted(attempts, key=lambda each: each.started_us) if len(attempts) > 1 else attempts:
        end = attempt.started_us + attempt.duration_us
        asked += max(0, end - max(attempt.started_us, until))
        until = max(until, end)
    return max(0, entry.duration_us - asked)


class Metrics:
    """The gateway's metrics in one registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:  # noqa: PLR0915 - a list, one by one
        self.registry = registry or CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "cauce_requests",
            "Requests by route, answering model and outcome.",
            ["route", "model", "outcome"],
            registry=r,
        )
        self.errors = Counter("cauce_errors", "Requests that ended in an error, by its code.", ["code"], registry=r)
        self.duration = Histogram(
            "cauce_request_seconds",
            "Whole time of a request, to its last byte.",
            ["route", "model", "outcome"],
            buckets=_SECONDS,
            registry=r,
        )
        self.first_byte = Histogram(
            "cauce_first_byte_seconds",
            "Time to the first byte of a streamed answer.",
            ["route", "model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.classify = Histogram(
            "cauce_classify_seconds", "Time to compute all signals of a request.", buckets=_CLASSIFY_SECONDS, registry=r
        )
        self.gateway = Histogram(
            "cauce_gateway_seconds",
            "The gateway's own part of a request's time: no upstream was being asked.",
            ["route"],
            buckets=_GATEWAY_SECONDS,
            registry=r,
        )
        self.cost = Counter(
            "cauce_cost_usd",
            "What answers cost, in USD, unknown costs left out.",
            ["route", "model", "outcome"],
            registry=r,
        )
        self.saved = Counter(
            "cauce_baseline_usd", "What the baseline model would have cost, in USD.", ["route"], registry=r
        )
        self.unknown_cost = Counter(
            "cauce_unknown_cost_requests", "Requests whose cost is not known.", ["model"], registry=r
        )
        self.tokens = Counter("cauce_tokens", "Tokens by model and kind.", ["model", "kind"], registry=r)
        self.data = Counter(
            "cauce_data_requests",
            "Requests by data class and the zone that answered.",
            ["data_class", "zone"],
            registry=r,
        )
        self.cache = Counter("cauce_cache", "What the cache did.", ["state"], registry=r)
        self.attempts = Counter(
            "cauce_upstream_attempts", "Upstream calls by model and how they ended.", ["model", "outcome"], registry=r
        )
        self.upstream = Histogram(
            "cauce_upstream_seconds", "Time of an upstream call.", ["model"], buckets=_SECONDS, registry=r
        )
        self.retries = Counter(
            "cauce_upstream_retries",
            "Upstream calls made again, by model and how they ended.",
            ["model", "outcome"],
            registry=r,
        )
        self.hedges = Counter(
            "cauce_upstream_hedges",
            "Second calls beside a slow one: `ok` answered first, `outrun` came too late, `failed`, `aborted`.",
            ["outcome"],
            registry=r,
        )
        for outcome in ("ok", "outrun", "failed", "aborted"):
            self.hedges.labels(outcome)
        self.fallbacks = Counter(
            "cauce_fallbacks",
            "Requests that went on to another model, by the one that failed and how.",
            ["model", "outcome"],
            registry=r,
        )
        self.circuits = Gauge(
            "cauce_circuit_open",
            "The circuit breaker of each model's replica: 0 closed, 0.5 half-open, 1 open.",
            ["model", "replica"],
            multiprocess_mode="livemax",
            registry=r,
        )
        self.verdicts = Counter(
            "cauce_rejected_answers", "Answers turned down, by model and check.", ["model", "check"], registry=r
        )
        self.checked = Counter(
            "cauce_verdicts",
            "What each check said of an answer: passed or turned_down; of those that ask a model also no_model, "
            "over_budget and failed, after which the answer counts as accepted.",
            ["check", "verdict"],
            registry=r,
        )
        self.escalated = Counter(
            "cauce_escalations", "Requests that more than one model was asked to answer.", ["route"], registry=r
        )
        self.wasted = Counter(
            "cauce_wasted_tokens",
            "Tokens of answers that were turned down and not sent, and of the calls that checks made.",
            ["model", "why"],
            registry=r,
        )
        self.wasted_cost = Counter(
            "cauce_wasted_usd",
            "What those tokens cost, in USD, unknown costs left out.",
            ["model", "why"],
            registry=r,
        )
        self.offline = Counter(
            "cauce_offline_requests",
            "Requests that a model on the premises answered because those in the cloud could not be reached.",
            ["route"],
            registry=r,
        )
        self.transforms = Counter(
            "cauce_transformed_requests",
            "Requests on routes that pseudonymise: `pseudonymised`, or `none` where it could not be and they stayed.",
            ["transform"],
            registry=r,
        )
        for transform in TRANSFORMS:
            self.transforms.labels(transform)
        self.slm_success = Histogram(
            "cauce_slm_success",
            "How likely the small model answers acceptably, of each request.",
            buckets=_TENTHS,
            registry=r,
        )
        self.gain = Histogram(
            "cauce_gain",
            "How much better the large model is expected to answer, of each request.",
            buckets=_GAINS,
            registry=r,
        )
        self.refusals = Counter(
            "cauce_gate_refusals",
            "Times the gate let nothing out, by data class and zone.",
            ["data_class", "zone"],
            registry=r,
        )
        # Each is there from the start: an increase from nothing to one is none to Prometheus, and no alert would fire.
        for data in DataClass:
            for zone in Zone:
                self.refusals.labels(data.label, zone.label)
        self.scan_failures = Counter("cauce_privacy_scan_failures", "Privacy scans that failed.", registry=r)
        self.ledger_failures = Counter("cauce_ledger_failures", "Ledger writes that failed.", registry=r)
        self.crashes = Counter("cauce_crashes", "Requests that ended in a fault of the gateway's own.", registry=r)
        self.policy_reloads = Counter(
            "cauce_policy_reloads", "Changed policy files: put in force, or refused.", ["outcome"], registry=r
        )
        for outcome in ("in_force", "refused"):
            self.policy_reloads.labels(outcome)
        self.spans = Counter(
            "cauce_trace_spans",
            "Spans for OpenTelemetry: made, sent, failed to be sent; those that are neither were dropped, or wait.",
            ["outcome"],
            registry=r,
        )
        for outcome in ("made", "sent", "failed"):
            self.spans.labels(outcome)
        self.policy_refused = Gauge(
            "cauce_policy_refused",
            "1 while the policy file is refused and an older policy is in force.",
            multiprocess_mode="livemax",
            registry=r,
        )
        self.audit_problems = Gauge(
            "cauce_audit_problems",
            "What the last check of the audit's chains found amiss; -1 before the first check since the start.",
            multiprocess_mode="livemax",
            registry=r,
        )
        self.audit_problems.set(-1)
        self.models_ready = Gauge(
            "cauce_models_ready",
            "Models that answer chats and whose circuit is not open, by zone; zones without any model are left out.",
            ["zone"],
            multiprocess_mode="livemin",
            registry=r,
        )
        self.in_flight = Gauge(
            "cauce_requests_in_flight", "Requests being served.", multiprocess_mode="livesum", registry=r
        )
        self.ledger_waiting = Gauge(
            "cauce_ledger_waiting", "Entries not yet committed.", multiprocess_mode="livesum", registry=r
        )
        self.cloud = Gauge(
            "cauce_cloud_up",
            "1 when models off the premises answer, 0.5 degraded, 0 down.",
            multiprocess_mode="mostrecent",
            registry=r,
        )
        self.cache_bytes = Gauge(
            "cauce_cache_bytes", "Bytes in the answer cache.", multiprocess_mode="livesum", registry=r
        )
        self.ledger_spooled = Gauge(
            "cauce_ledger_spooled", "Entries that wait on disk.", multiprocess_mode="livesum", registry=r
        )
        self.spool_used = Gauge(
            "cauce_ledger_spool_used_ratio",
            "How full this process's spool is, 0 to 1.",
            multiprocess_mode="livemax",
            registry=r,
        )
        self.ledger_away = Gauge(
            "cauce_ledger_away", "1 while the ledger's database is away.", multiprocess_mode="livemax", registry=r
        )
        self.month_cost = Gauge(
            "cauce_month_cost_usd",
            "What each team has spent in the business's month so far, by the ledger, in USD, unknown costs left out; "
            "without adjustments and shadows.",
            ["team"],
            multiprocess_mode="mostrecent",
            registry=r,
        )
        self.month_baseline = Gauge(
            "cauce_month_baseline_usd",
            "What the baseline model would have cost in the month so far, in USD.",
            ["team"],
            multiprocess_mode="mostrecent",
            registry=r,
        )
        self.month_elapsed = Gauge(
            "cauce_month_elapsed_ratio",
            "How much of the business's month has passed, 0 to 1.",
            multiprocess_mode="mostrecent",
            registry=r,
        )
        self.budget_used = Gauge(
            "cauce_budget_used_ratio",
            "How much of a budget's period is spent, 0 to 1 and beyond; keys' own budgets are left out.",
            ["level", "budget"],
            multiprocess_mode="mostrecent",
            registry=r,
        )
        self.budget_refusals = Counter(
            "cauce_budget_refusals", "Calls that a hard budget did not cover, by its level.", ["level"], registry=r
        )
        self.budget_alerts = Counter(
            "cauce_budget_alerts",
            "Alerts on budgets, by threshold and how they went.",
            ["threshold", "outcome"],
            registry=r,
        )
        self.rate_refusals = Counter(
            "cauce_rate_refusals", "Requests over a limit a minute, by level and kind.", ["level", "kind"], registry=r
        )
        self.limits_alone = Counter(
            "cauce_limits_alone", "Times a limit was held by this process alone: the shared store was away.", registry=r
        )
        for threshold in THRESHOLDS:
            for outcome in ("sent", "failed", "logged"):
                self.budget_alerts.labels(str(threshold), outcome)
        for level in LEVELS:
            self.budget_refusals.labels(level)
            for kind in RATES:
                self.rate_refusals.labels(level, kind)
        self._teams: set[str] = set()
        self._bound: dict[tuple[Any, ...], Any] = {}

    def observe(self, entry: Entry, attempts: list[AttemptEntry]) -> None:
        """Count one recorded request."""
        route, model, outcome = entry.route, entry.model, entry.outcome
        seconds = entry.duration_us / 1e6
        self._child(self.requests, route, model, outcome).inc()
        self._child(self.duration, route, model, outcome).observe(seconds)
        self._child(self.gateway, route).observe(gateway_us(entry, attempts) / 1e6)
        if entry.code:
            self._child(self.errors, entry.code).inc()
        if entry.first_byte_us is not None:
            self._child(self.first_byte, route, model).observe(entry.first_byte_us / 1e6)
        if entry.data_class:
            self.classify.observe(entry.classify_us / 1e6)
            self._child(self.data, entry.data_class, entry.zone).inc()
        if entry.cost_nano_usd is None:
            self._child(self.unknown_cost, model).inc()
        elif entry.cost_nano_usd:
            self._child(self.cost, route, model, outcome).inc(entry.cost_nano_usd / 1e9)
        if entry.baseline_nano_usd:
            self._child(self.saved, route).inc(entry.baseline_nano_usd / 1e9)
        self._child(self.cache, entry.cache).inc()
        if entry.escalated:
            self._child(self.escalated, route).inc()
        for attempt in attempts:
            self._observe_attempt(attempt)
            if why := wasted(attempt, entry.model):
                tokens = (attempt.prompt_tokens or 0) + (attempt.completion_tokens or 0)
                self._child(self.wasted, attempt.model, why).inc(tokens)
                if attempt.cost_nano_usd:
                    self._child(self.wasted_cost, attempt.model, why).inc(attempt.cost_nano_usd / 1e9)
        if len(attempts) > 1:
            self._observe_second_calls(attempts)

    def observe_story(self, exchange: Exchange) -> None:
        """Count what an entry does not say: verdicts, scores, what was done to the text, whether the cloud was away."""
        if (signals := exchange.signals) is not None:
            self.slm_success.observe(signals.slm_success)
            self.gain.observe(signals.gain)
        if exchange.transform:
            self._child(self.transforms, exchange.transform if exchange.transform in TRANSFORMS else "none").inc()
        if exchange.attempts:
            self.observe_verdicts(exchange.attempts)
            model, decision = answering_model(exchange), exchange.decision
            if model is not None and decision is not None and is_offline(exchange, model):
                self._child(self.offline, decision.route.name).inc()

    def observe_verdicts(self, attempts: Iterable[Attempt]) -> None:
        """Count what the checks said of each answer of a request."""
        for attempt in attempts:
            for check in attempt.verdict.passed:
                self._child(self.checked, check, "passed").inc()
            for check, came in attempt.opinions:
                self._child(self.checked, check, came).inc()
            asked = {check for check, _ in attempt.opinions}
            if attempt.verdict.check and attempt.verdict.check not in asked:
                self._child(self.checked, attempt.verdict.check, "turned_down").inc()

    def _observe_second_calls(self, attempts: list[AttemptEntry]) -> None:
        calls = [attempt for attempt in attempts if attempt.kind not in VERIFYING]
        for attempt, following in zip(calls, [*calls[1:], None], strict=True):
            if attempt.kind == RETRY:
                self._child(self.retries, attempt.model, attempt.outcome).inc()
            elif attempt.kind == HEDGE:
                known = attempt.outcome in {"ok", "outrun", "aborted"}
                self._child(self.hedges, attempt.outcome if known else "failed").inc()
            went_on = following is not None and following.kind != HEDGE and following.model != attempt.model
            if went_on and attempt.outcome != "ok":
                self._child(self.fallbacks, attempt.model, attempt.outcome).inc()

    def observe_shadow(self, route: str, attempt: AttemptEntry) -> None:
        """Count the call of one copy: a call like any other, whose cost is told apart from the answers'."""
        self._observe_attempt(attempt)
        if attempt.cost_nano_usd:
            self._child(self.cost, route, attempt.model, SHADOW).inc(attempt.cost_nano_usd / 1e9)

    def _observe_attempt(self, attempt: AttemptEntry) -> None:
        model = attempt.model
        self._child(self.attempts, model, attempt.outcome).inc()
        self._child(self.upstream, model).observe(attempt.duration_us / 1e6)
        if attempt.prompt_tokens:
            self._child(self.tokens, model, "prompt").inc(attempt.prompt_tokens)
        if attempt.completion_tokens:
            self._child(self.tokens, model, "completion").inc(attempt.completion_tokens)
        if attempt.rejected_by:
            self._child(self.verdicts, model, attempt.rejected_by).inc()

    def see_budgets(self, shares: Mapping[str, tuple[str, float]]) -> None:
        """How much of each budget is spent, by its name: level and share."""
        for name, (level, share) in list(shares.items())[:_MOST_NAMES]:
            self.budget_used.labels(level, name).set(share)

    def see_month(self, month: Month) -> None:
        """What the ledger says of the month so far; a team that has spent nothing in it stands at 0."""
        self.month_elapsed.set(month.elapsed)
        gone = self._teams - month.teams.keys()
        self._teams |= set(list(month.teams)[: _MOST_NAMES - len(self._teams)])
        for team in self._teams:
            cost, baseline = (0, 0) if team in gone else month.teams[team]
            self.month_cost.labels(team).set(cost / 1e9)
            self.month_baseline.labels(team).set(baseline / 1e9)

    def refused(self, destination: Destination, data: DataClass) -> None:
        """Count one refusal of the gate."""
        self._child(self.refusals, data.label, destination.zone.label).inc()

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it: of every worker process where there are several."""
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self.registry)
        everyones = CollectorRegistry()
        MultiProcessCollector(everyones)  # type: ignore[no-untyped-call]
        return generate_latest(everyones)

    def close(self) -> None:
        """This process ends: what it holds now counts no more."""
        if SHARED_FOLDER in os.environ:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]

    def _child(self, metric: Any, *labels: str) -> Any:
        """The metric of these labels, kept at hand: `labels()` builds and hashes each time."""
        key = (metric, *labels)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = metric.labels(*labels)
        return child
