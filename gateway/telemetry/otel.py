"""Traces for OpenTelemetry, by the GenAI semantic conventions: labels, counts and times, never a text.

One span of kind SERVER a request and one of kind CLIENT an upstream call (retries, hedges, judges, samples and shadows
too). They are made when a request is recorded, from its ledger entry: so a trace says what the ledger says, and what
`x-cauce-*` said to the caller. Attributes come from the entry alone, which holds no text; a caller is its key's id. As
with metrics they are labels, so they may leave the premises, to `telemetry.otlp_endpoint` and nowhere else.

Names: https://github.com/open-telemetry/semantic-conventions-genai (and version 1.37 of the conventions before they
moved there), all held against the package `opentelemetry-semantic-conventions` by a test. Needs the extra `otel`; no
`OTEL_*` variable switches it on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

import gateway
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.telemetry.trace import new_span_id
from gateway.types import Exchange, Model, Trace

_MOST_WAITING: Final = 4_096  # spans; more are dropped
_BATCH: Final = 512
_DELAY_MS: Final = 1_000.0
_TIMEOUT_S: Final = 5.0
_STOP_S: Final = 3.0
_WELL: Final = frozenset({"ok", "outrun", "aborted", "cached"})  # ends that are no failure of the one who was asked
# Where the door's API is, by the ledger's name of it.
_PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}
_OPERATIONS: Final = {"completions": "text_completion", "embeddings": "embeddings"}
_CHAT: Final = "chat"
# Names of the conventions for providers whose own differ.
_PROVIDERS: Final = {
    "gemini": "gcp.gemini",
    "bedrock": "aws.bedrock",
    "watsonx": "ibm.watsonx.ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
Attributes = dict[str, AttributeValue]
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status()
_FAILED: Final = Status(StatusCode.ERROR)


class _Counted(SpanExporter):
    """An exporter whose results are counted."""

    def __init__(self, exporter: SpanExporter, counted: Callable[[str, int], None]) -> None:
        self._exporter = exporter
        self._counted = counted

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; from the processor's own thread."""
        result = self._exporter.export(spans)
        self._counted("sent" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        """End; a wait before another try is broken off."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return self._exporter.force_flush(timeout_millis)


def otlp_exporter(endpoint: str, authorization: str = "") -> SpanExporter:
    """OTLP over HTTP to this address and no other: no proxy of the environment, no redirect, no netrc."""
    session = requests.Session()
    session.trust_env = False
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # a full queue would be a line for each span
    headers = {"authorization": authorization} if authorization else {}
    return OTLPSpanExporter(
        endpoint, headers=headers, timeout=_TIMEOUT_S, compression=Compression.Gzip, session=session
    )


class Traces:
    """Makes the spans of each request, and hands them to the exporter's own thread.

    Made when they are over, so as values: the SDK's tracer, which keeps a span open, costs three times as much.
    """

    def __init__(
        self, exporter: SpanExporter, *, models: Mapping[str, Model], counted: Callable[[str, int], None]
    ) -> None:
        self._models = models
        self._counted = counted
        self._resource = Resource(
            {
                "service.name": "cauce",
                "service.version": gateway.__version__,
                "service.instance.id": str(uuid4()),
            }
        )
        self._scope = InstrumentationScope("cauce", gateway.__version__)
        # Each part is given: what is not would be read from the environment.
        self._processor = BatchSpanProcessor(
            _Counted(exporter, counted),
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_DELAY_MS,
            max_export_batch_size=_BATCH,
            export_timeout_millis=_TIMEOUT_S * 1000,
            meter_provider=NoOpMeterProvider(),
        )

    def record(self, exchange: Exchange, entry: Entry, attempts: Sequence[AttemptEntry]) -> None:
        """The spans of a request that has ended; nothing for one that is not to be recorded."""
        trace = exchange.trace
        if trace is None:
            return
        path = _PATHS.get(entry.endpoint, "/v1/chat/completions")
        self._span(
            f"POST {path}",
            trace,
            trace.span_id,
            trace.parent_id,
            kind=SpanKind.SERVER,
            attributes=request_attributes(entry, path),
            times_us=(entry.time_us, entry.duration_us),
            failed=entry.code if entry.status >= 500 or entry.outcome == "cut" else "",
        )
        for attempt, call in zip(exchange.attempts, attempts, strict=True):
            self._call(trace, attempt.aside.span_id, call, entry.endpoint)
        self._counted("made", 1 + len(attempts))

    def record_shadow(self, exchange: Exchange, span_id: str, call: AttemptEntry) -> None:
        """The span of a copy's call, after its request's."""
        if exchange.trace is not None:
            self._call(exchange.trace, span_id, call, exchange.endpoint)
            self._counted("made", 1)

    def _call(self, trace: Trace, span_id: str, call: AttemptEntry, endpoint: str) -> None:
        operation = "embeddings" if endpoint == "embeddings" else _CHAT
        model = self._models.get(call.model)
        self._span(
            f"{operation} {call.upstream_model}",
            trace,
            span_id or new_span_id(),
            trace.span_id,
            kind=SpanKind.CLIENT,
            attributes=call_attributes(call, operation, model.base_url if model else ""),
            times_us=(call.started_us, call.duration_us),
            failed="" if call.outcome in _WELL else call.outcome,
        )

    def _span(  # noqa: PLR0913 - what a span is made of, each named
        self,
        name: str,
        trace: Trace,
        span_id: str,
        parent_id: str,
        *,
        kind: SpanKind,
        attributes: Attributes,
        times_us: tuple[int, int],
        failed: str,
    ) -> None:
        trace_number = int(trace.trace_id, 16)
        parent = SpanContext(trace_number, int(parent_id, 16), kind is SpanKind.SERVER, _SAMPLED) if parent_id else None
        if failed:
            attributes["error.type"] = failed
        start_us, duration_us = times_us
        self._processor.on_end(
            ReadableSpan(
                name,
                context=SpanContext(trace_number, int(span_id, 16), is_remote=False, trace_flags=_SAMPLED),
                parent=parent,
                resource=self._resource,
                attributes=attributes,
                kind=kind,
                status=_FAILED if failed else _UNSET,
                start_time=start_us * 1000,
                end_time=(start_us + duration_us) * 1000,
                instrumentation_scope=self._scope,
            )
        )

    async def aclose(self) -> None:
        """Send what waits, for a few seconds at the most: a receiver that hangs keeps no gateway from ending."""
        ending = threading.Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _STOP_S)


def request_attributes(entry: Entry, path: str) -> Attributes:
    """What the span of a request says: HTTP's, GenAI's, and `cauce.*` as in the headers and the ledger."""
    signals = orjson.loads(entry.signals)
    values: dict[str, AttributeValue | None] = {
        "http.request.method": "POST",
        "http.route": path,
        "http.response.status_code": entry.status or None,
        "gen_ai.operation.name": _OPERATIONS.get(entry.endpoint, _CHAT),
        "gen_ai.provider.name": "cauce",
        "gen_ai.request.model": signals.get("requested") or None,
        "gen_ai.request.stream": bool(entry.stream),
        "gen_ai.usage.input_tokens": entry.prompt_tokens,
        "gen_ai.usage.output_tokens": entry.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": entry.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": entry.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": entry.reasoning_tokens,
        "gen_ai.response.time_to_first_chunk": None if entry.first_byte_us is None else entry.first_byte_us / 1e6,
        "gen_ai.response.model": entry.model or None,
        "cauce.request_id": entry.request_id,
        "cauce.key": entry.caller,
        "cauce.rule": entry.rule or None,
        "cauce.route": entry.route or None,
        "cauce.policy": f"{entry.policy}@{entry.policy_revision}" if entry.policy else None,
        "cauce.model": entry.model or None,
        "cauce.zone": entry.zone or None,
        "cauce.data_class": entry.data_class or None,
        "cauce.slm_success": signals.get("slm_success"),
        "cauce.gain": signals.get("gain"),
        "cauce.cache": entry.cache,
        "cauce.escalated": bool(entry.escalated),
        "cauce.outcome": entry.outcome,
        "cauce.code": entry.code or None,
        "cauce.cost_nano_usd": entry.cost_nano_usd,
        "cauce.estimated": bool(entry.estimated),
    }
    return {name: value for name, value in values.items() if value is not None}


def call_attributes(call: AttemptEntry, operation: str, base_url: str) -> Attributes:
    """What the span of an upstream call says."""
    address = urlsplit(base_url)
    values: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDERS.get(call.provider, call.provider),
        "gen_ai.request.model": call.upstream_model,
        "gen_ai.usage.input_tokens": call.prompt_tokens,
        "gen_ai.usage.output_tokens": call.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": call.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": call.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": call.reasoning_tokens,
        "gen_ai.response.time_to_first_chunk": None if call.first_token_us is None else call.first_token_us / 1e6,
        "server.address": address.hostname,
        "server.port": address.port or {"https": 443, "http": 80}.get(address.scheme),
        "cauce.model": call.model,
        "cauce.kind": call.kind,
        "cauce.zone": call.zone,
        "cauce.outcome": call.outcome,
        "cauce.rejected_by": call.rejected_by or None,
        "cauce.cost_nano_usd": call.cost_nano_usd,
        "cauce.estimated": bool(call.estimated),
    }
    return {name: value for name, value in values.items() if value is not None}
