"""classify: how hard a query is: which text of a conversation is judged, and what the router model says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.types import Difficulty, Part
from router_models import manifest
from router_models.encoder import Encoder
from router_models.router_runtime import DOMAINS, FILES, TASKS, VERSION, RouterModel

# A turn this short may only make sense after the one before it: "hazlo", "and in Java?", "¿y en el otro caso?"
_FOLLOW_UP_CHARS: Final = 60
_LONGEST_BEFORE: Final = 900
_INSTRUCTIONS_CHARS: Final = 600
_LEAST_LETTERS: Final = 3


class DifficultyScorer:
    """The router model of a process. One thread."""

    def __init__(self, model: RouterModel) -> None:
        self._model = model

    @classmethod
    def load(cls, artifacts: Path, *, encoder: Encoder | None = None) -> DifficultyScorer:
        """Read the model; raises `ConfigError` when an artefact is missing, truncated or of another version."""
        manifest.verify(artifacts, FILES, version=VERSION)
        return cls(RouterModel.load(artifacts, encoder or Encoder.load(artifacts)))

    def score(self, parts: Sequence[Part]) -> Difficulty:
        """Success of the small model, gain of the large one, task and domain of what is asked."""
        text = judged(parts)
        scores = self._model.read(text)
        return Difficulty(
            slm_success=scores.slm_success,
            gain=scores.gain,
            task=TASKS[scores.tasks.index(max(scores.tasks))],
            domain=DOMAINS[scores.domains.index(max(scores.domains))],
            low_confidence=scores.doubt > self._model.doubtful or _says_little(text),
        )


def judged(parts: Sequence[Part]) -> str:
    """The text that is scored: the last user turn, with the turn before it when it is too short to stand alone.

    Instructions of an application (a system prompt) stand before it: they say what is to be done with the text.
    """
    asked = [part.text for part in parts if part.role == "user" and part.text.strip()]
    if not asked:
        return parts[-1].text if parts else ""
    text = asked[-1]
    if len(asked) > 1 and len(text) <= _FOLLOW_UP_CHARS:
        text = f"{asked[-2][-_LONGEST_BEFORE:]}\n{text}"
    instructions = next((part.text for part in parts if part.role in {"system", "developer"} and part.text), "")
    return f"{instructions[:_INSTRUCTIONS_CHARS]}\n\n{text}" if instructions else text


def _says_little(text: str) -> bool:
    return sum(map(str.isalpha, text[:200])) < _LEAST_LETTERS
