"""What reads a request: the models that see a text, and the hour of the business."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson

import router_models
from gateway.errors import ConfigError
from gateway.policy.rules import Policy
from gateway.settings import Settings
from gateway.signals.difficulty import DifficultyScorer
from gateway.signals.language import detect
from gateway.signals.privacy import PrivacyScanner, read_points
from gateway.signals.remembered import Remembered
from gateway.stages.classify import Classifier, Moment, Unread
from gateway.telemetry.logs import fields, places
from gateway.types import ANONYMOUS, DataClass, Inbound, Signals
from gateway.wire.chat import read_chat
from gateway.wire.endpoint import new_request_id
from router_models.calibration import load as load_calibration
from router_models.encoder import shared

_log = logging.getLogger("cauce")
ARTIFACTS = Path(router_models.__file__).parent / "artifacts"


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
    classifier = build_models(settings, on_failure=log_scan_failure)
    unread = Unread(policy.unreadable, policy.failure, policy.operating_point)
    clock = Clock(settings.time_zone)

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


def log_scan_failure(error: BaseException) -> None:
    """Where a scan failed, without the text."""
    _log.error("the privacy scan failed", extra=fields(error=type(error).__name__, at=places(error)))


class Clock:
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
        """0 to 23."""
        zone, minute = time_zone or self._own, int(time.time() // 60)
        if minute != self._minute or zone != self._zone:
            self._hour = dt.datetime.fromtimestamp(minute * 60, ZoneInfo(zone)).hour
            self._zone, self._minute = zone, minute
        return self._hour
