"""verify: the trained answer checker, read the first time that a route asks for it.

A gateway whose policy does not list `checker` never reads it: with its own copy of the encoder's words it takes a few
megabytes. Where it cannot be read every answer passes, and the log says so once.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from gateway.errors import ConfigError
from gateway.policy.rules import Policy
from router_models import manifest
from router_models.checker_runtime import FILES, VERSION, AnswerChecker
from router_models.encoder import Encoder

_log = logging.getLogger("cauce.verify")


class LazyChecker:
    """P(acceptable) of a question and its answer; nothing where the model cannot be read."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._model: AnswerChecker | None = None
        self._broken = False
        self._reading = threading.Lock()

    def __call__(self, question: str, answer: str) -> float | None:
        """0 to 1."""
        if self._model is None:
            if self._broken:
                return None
            try:
                self.load()
            except ConfigError as error:
                self._broken = True
                _log.error("the answer checker cannot be read, every answer passes it: %s", error)
                return None
        return self._model.chance(question, answer) if self._model is not None else None

    def load(self) -> None:
        """Read the model now; raises `ConfigError` when the artefact is missing, truncated or of another version."""
        with self._reading:
            if self._model is None:
                manifest.verify(self._artifacts, FILES, version=VERSION)
                self._model = AnswerChecker.load(self._artifacts, Encoder.load(self._artifacts))

    @property
    def loaded(self) -> bool:
        """Whether it has been read."""
        return self._model is not None


def lists_checker(policy: Policy) -> bool:
    """Whether any route of a policy asks for it."""
    return any(check.name == "checker" for route in policy.routes.values() for check in route.checks)
