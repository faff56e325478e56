"""Where a request stands in a distributed trace: W3C Trace Context, in and out.

Ids and nothing else: a request that came with a valid `traceparent` goes on in that trace, any other begins one. Each
upstream call has a span id of its own before it is made, so that `traceparent` can name it to the models that get the
header (`upstreams/passing.py`). Without an exporter (`otel.py`) none of this is done, and a caller's header goes on as
it came.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from gateway.types import Trace
from gateway.upstreams.passing import is_traceparent

_SAMPLED = 1


def joined(headers: Iterable[tuple[bytes, bytes]], *, share: float = 1.0) -> Trace | None:
    """The trace that a request's headers belong to, or a new one; nothing when it is not to be recorded.

    The caller decides for its own traces (the `sampled` flag); of the others, `share` are recorded. A header that is
    sent twice or has not its form counts as none, as the standard wants it.
    """
    given = [value for name, value in headers if name == b"traceparent"]
    if len(given) == 1 and is_traceparent(text := given[0].decode("latin-1").strip()):
        _, trace_id, parent_id, flags = text.split("-")
        return Trace(trace_id, new_span_id(), parent_id) if int(flags, 16) & _SAMPLED else None
    if share < 1.0 and random.random() >= share:
        return None
    return Trace(f"{random.getrandbits(128) or 1:032x}", new_span_id())


def new_span_id() -> str:
    """Sixteen hexadecimal digits, never all zero."""
    return f"{random.getrandbits(64) or 1:016x}"


def traceparent(trace: Trace, span_id: str) -> str:
    """The header that makes what an upstream records a child of this span."""
    return f"00-{trace.trace_id}-{span_id}-01"
