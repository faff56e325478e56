"""The composition root: settings to objects to one ASGI application. The only place that wires."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import router_models
from gateway.cache.store import MemoryStore
from gateway.console.pages import home
from gateway.errors import ConfigError, UpstreamError
from gateway.gate import Gate
from gateway.ledger.keys import REFRESH_S, KeyRing
from gateway.ledger.prices import Machine, PriceBook, load_prices
from gateway.ledger.store import Ledger, open_engine
from gateway.pipeline import Pipeline
from gateway.policy.load import load_policy
from gateway.policy.rules import Policy
from gateway.settings import Settings
from gateway.signals.difficulty import DifficultyScorer
from gateway.signals.language import detect
from gateway.signals.privacy import PrivacyScanner
from gateway.stages.classify import Classifier, Moment, Unread
from gateway.stages.recall import Recall
from gateway.stages.record import LedgerRecorder
from gateway.telemetry.logs import fields, places
from gateway.telemetry.metrics import Metrics
from gateway.types import Cloud, Inbound, Model, Signals, Zone
from gateway.upstreams.base import Upstream
from gateway.upstreams.health import CloudHealth
from gateway.upstreams.registry import Pool, build
from gateway.wire.body import Receive, Scope, Send
from gateway.wire.chat import read_chat
from gateway.wire.endpoint import ChatEndpoint, new_request_id
from gateway.wire.pages import build_pages

_log = logging.getLogger("cauce")
ARTIFACTS = Path(router_models.__file__).parent / "artifacts"
_CLOUD_VALUES = {Cloud.UP: 1.0, Cloud.DEGRADED: 0.5, Cloud.DOWN: 0.0}
