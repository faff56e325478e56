"""A receiver of OpenTelemetry traces on loopback, over OTLP/HTTP: what it was sent, as spans."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span."""

    name: str
    kind: int  # 2 SERVER, 3 CLIENT
    trace_id: str
    span_id: str
    parent_id: str
    seconds: float
    failed: bool
    said: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Receiver:
    """All that has arrived."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def spans(self) -> list[Seen]:
        return [span for body in self.bodies for span in _spans(body)]

    def of(self, request_id: str) -> tuple[Seen, list[Seen]]:
        """A request's own span and those of its calls, in order of their beginning."""
        spans = self.spans()
        (server,) = [span for span in spans if span.said.get("cauce.request_id") == request_id]
        return server, [span for span in spans if span.parent_id == server.span_id]


def _spans(body: bytes) -> Iterator[Seen]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    span.status.code == 2,
                    _said(span.attributes),
                    _said(resource.resource.attributes),
                )


def _said(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextlib.contextmanager
def receiving(*, answers: bool = True) -> Iterator[Receiver]:
    """One that runs until the block ends; without `answers` it takes connections and says nothing."""
    receiver, end = Receiver(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not answers:
                end.wait(30)
                return
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            receiver.bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        end.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
