"""classify: `Inbound` to `Signals`. No IO; the models run inline, since they take less than a thread hop.

Fails closed: a detector that raises, or that cannot read what it was given, yields the class that the policy names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.signals.conversation import draw
from gateway.signals.remembered import Remembered
from gateway.signals.shape import outline
from gateway.types import Cloud, DataClass, Detection, Difficulty, Finding, Inbound, Part, Signals

# The languages that the privacy model was trained on; `und` is text without enough letters to tell.
READ_LANGUAGES = frozenset({"es", "en", "ca", "gl", "eu", "pt", "fr", "und"})
UNKNOWN_LANGUAGES = frozenset({"und", "mis"})  # what the router model says of them is a guess
_LETTERS_TO_JUDGE_LANGUAGE = 40


class Scorer(Protocol):
    """The router model."""

    def score(self, parts: Sequence[Part]) -> Difficulty:
        """How hard a query is and what it is about. Never raises for a text, however odd."""
        ...


class Scanner(Protocol):
    """The privacy scan."""

    def scan(self, parts: Sequence[Part]) -> Detection:
        """The data class of all parts together."""
        ...


@dataclass(frozen=True, slots=True)
class Unread:
    """How the policy wants a text read: where the scan cuts, and the classes of what could not be read or failed."""

    unreadable: DataClass = DataClass.SPECIAL
    failure: DataClass = DataClass.SPECIAL
    operating_point: str = "balanced"


@dataclass(frozen=True, slots=True)
class Moment:
    """What is true now and of no text: filled in by whoever asks."""

    cloud: Cloud = Cloud.UP
    hour: int = 12
    budget_left: float | None = None
    held_by: str = ""  # the sticky rule that keeps this conversation with a large model


class Classifier:
    """The models of one process, asked for one request at a time; a scanner for each operating point.

    `on_failure` hears of each scan that failed.
    """

    __slots__ = ("_language", "_max_chars", "_on_failure", "_remembered", "_scanners", "_scorer")

    def __init__(  # noqa: PLR0913 - the composition root hands in each part by name
        self,
        *,
        scorer: Scorer,
        scanners: Mapping[str, Scanner],
        language: Callable[[str], str],
        max_scan_chars: int,
        on_failure: Callable[[BaseException], None],
        remembered: Remembered | None = None,
    ) -> None:
        self._scorer = scorer
        self._scanners = scanners
        self._language = language
        self._max_chars = max_scan_chars
        self._on_failure = on_failure
        self._remembered = remembered

    def classify(self, inbound: Inbound, *, unread: Unread, moment: Moment) -> Signals:
        """Every signal of a request."""
        difficulty = self._scorer.score(inbound.parts)
        language = self._language(asked(inbound.parts))
        detection = self.detect(inbound, language, unread)
        data = max(detection.data, inbound.data)
        if self._remembered is not None:
            before = self._remembered.recall(inbound)
            data = max(data, before)
            self._remembered.note(inbound, data, detection.findings, before)
        shape = outline(inbound)
        return Signals(
            slm_success=difficulty.slm_success,
            gain=difficulty.gain,
            stay_score=detection.stay_score,
            task=difficulty.task,
            domain=difficulty.domain,
            data=data,
            data_kinds=detection.kinds,
            language=language,
            prompt_tokens=shape.prompt_tokens,
            modality=shape.modality,
            tools=shape.tools,
            json=shape.json,
            caller=inbound.caller,
            budget_left=moment.budget_left,
            cloud=moment.cloud,
            hour=moment.hour,
            low_confidence=difficulty.low_confidence or language in UNKNOWN_LANGUAGES,
            follow_up=difficulty.follow_up,
            draw=draw(inbound.caller.id, inbound.parts),
            held_by=moment.held_by,
            findings=detection.findings,
        )

    def detect(self, inbound: Inbound, language: str, unread: Unread) -> Detection:
        """The privacy scan alone, with what the policy says of what cannot be read. Never raises."""
        if sum(len(part.text) for part in inbound.parts) > self._max_chars:
            return _unreadable("oversize", unread.unreadable)
        try:
            detection = self._scanners[unread.operating_point].scan(inbound.parts)
        except Exception as error:
            self._on_failure(error)
            return _unreadable("scan_failed", unread.failure)
        reason = _unread_part(inbound, language)
        if reason and unread.unreadable > detection.data:
            finding = Finding("unreadable", reason, unread.unreadable)
            return Detection(
                unread.unreadable, max(detection.stay_score, 0.5), detection.kinds, (*detection.findings, finding)
            )
        return detection


def asked(parts: Sequence[Part]) -> str:
    """What is being asked: the last thing the user said."""
    return next((part.text for part in reversed(parts) if part.role == "user"), parts[-1].text if parts else "")


def _unreadable(reason: str, data: DataClass) -> Detection:
    score = 1.0 if data >= DataClass.PERSONAL else 0.0
    return Detection(data, score, findings=(Finding("unreadable", reason, data),))


def _unread_part(inbound: Inbound, language: str) -> str:
    """Why some of the request could not be read, or nothing."""
    if inbound.opaque:
        return inbound.opaque[0]
    if language in READ_LANGUAGES:
        return ""
    letters = sum(map(str.isalpha, asked(inbound.parts)[:2000]))
    return f"language_{language}" if letters >= _LETTERS_TO_JUDGE_LANGUAGE else ""
