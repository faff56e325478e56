"""What the console shows and works on, handed in by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.console.asking import Asks
from gateway.ledger.keys import KeyRing
from gateway.ledger.prices import PriceBook
from gateway.ledger.writer import Ledger
from gateway.pipeline import Pipeline
from gateway.policy.cases import Classify
from gateway.policy.live import LivePolicy
from gateway.policy.rules import Policy
from gateway.settings import Settings
from gateway.types import Model
from gateway.upstreams.base import Embedder, Upstream


@dataclass(frozen=True, slots=True)
class Backend:
    """The running gateway, as far as people look at it. Nothing here is on the request path."""

    settings: Settings
    policy: LivePolicy
    models: Mapping[str, Model]
    upstreams: Mapping[str, Upstream | Embedder]
    ledger: Ledger
    keys: KeyRing
    prices: PriceBook
    pipeline: Pipeline
    ready: Callable[[], tuple[bool, dict[str, object]]]
    ask: Asks  # sends a request through the pipeline like any other
    classifier: Callable[[Settings, Policy], Classify]  # picklable: it is called in another process
    curl: str  # a first request
