"""What an answer is held against, and what a check is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.types import Answer, Check, DataClass, Inbound, Signals


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer is held against.

    `checker` is the trained one: P(acceptable), or nothing where it cannot say. `scan` gives the class of what a model
    said, as the request's own texts are read.
    """

    inbound: Inbound
    signals: Signals
    language: Callable[[str], str]
    checker: Callable[[str, str], float | None] | None = None
    scan: Callable[[str], DataClass] | None = None

    @property
    def asked(self) -> str:
        """The last thing that the user said; nothing when the user said nothing."""
        return next((part.text for part in reversed(self.inbound.parts) if part.role == "user"), "")

    def says_more(self, text: str) -> bool:
        """Whether an answer is of a higher class than the request, so that the request's ceiling is not its own.

        A model on the premises may know what nobody outside does: it was trained on it, or looks it up.
        """
        return self.scan is not None and self.scan(text) > self.signals.data


Checker = Callable[[Answer, Question, Check], str]  # the reason to turn it down, or nothing


def wants_json(question: Question) -> bool:
    """Whether the caller asked for JSON, or for a grammar of its own."""
    body = question.inbound.body
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}:
        return True
    return any(name in body for name in ("grammar", "guided_json", "guided_grammar", "guided_regex", "guided_choice"))
