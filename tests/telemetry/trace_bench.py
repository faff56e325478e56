"""What a traced request costs on the event loop: `python -m tests.telemetry.trace_bench`. The export is a thread's.

Each figure is the median of five rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from gateway.telemetry.otel import Traces
from gateway.telemetry.trace import joined, new_span_id
from gateway.types import Aside
from tests.builders import LARGE, an_attempt, an_attempt_entry, an_entry, an_exchange

REQUESTS = 5_000
ROUNDS = 5
HEADERS = [(b"host", b"gateway"), (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]


class _Nowhere(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        """Take them."""
        return SpanExportResult.SUCCESS


def microseconds(once: Callable[[], object]) -> float:
    """Of one call, the median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(REQUESTS):
            once()
        rounds.append((time.perf_counter() - began) / REQUESTS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    """Print the figures."""
    traces = Traces(_Nowhere(), models={LARGE.id: LARGE}, counted=lambda _outcome, _spans: None)
    exchange = an_exchange(an_attempt(aside=Aside(span_id=new_span_id())), trace=joined(HEADERS))
    entry = an_entry(signals='{"slm_success":0.91,"gain":0.05,"task":"faq","requested":"auto","tags":[]}')
    attempts = [an_attempt_entry()]
    print(f"spans of a request with one call: {microseconds(lambda: traces.record(exchange, entry, attempts)):.0f} us")
    print(f"joining a trace, an id for a call: {microseconds(lambda: (joined(HEADERS), new_span_id())):.1f} us")
    asyncio.run(traces.aclose())


if __name__ == "__main__":
    main()
