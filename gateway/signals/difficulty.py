"""classify: how hard a query is: which text of a conversation is judged, and what the router model says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.signals.follow_up import follows
from gateway.signals.incantations import asked_plainly
from gateway.signals.mixed import is_mixed
from gateway.types import Difficulty, Part
from router_models import manifest
from router_models.calibration import Calibration
from router_models.encoder import Encoder
from router_models.router_runtime import DOMAINS, FILES, TASKS, VERSION, Inputs, RouterModel, Scores

_MOST_BEFORE: Final = 8  # turns that are gone back, from one that follows to one that stands alone
_LONGEST_BEFORE: Final = 900
_INSTRUCTIONS_CHARS: Final = 600
_GLANCE: Final = 200
_LEAST_LETTERS: Final = 3
_END_OF_LATIN: Final = "\u0250"
_MOSTLY_UNREAD: Final = 50_000  # characters: of a long text only the ends are read


class DifficultyScorer:
    """The router model of a process. One thread."""

    def __init__(self, model: RouterModel, calibration: Calibration | None = None) -> None:
        self._model = model
        self._calibration = calibration

    @classmethod
    def load(
        cls, artifacts: Path, *, encoder: Encoder | None = None, calibration: Calibration | None = None
    ) -> DifficultyScorer:
        """Read the model; raises `ConfigError` when an artefact is missing, truncated or of another version."""
        manifest.verify(artifacts, FILES, version=VERSION)
        return cls(RouterModel.load(artifacts, encoder or Encoder.load(artifacts)), calibration)

    def score(self, parts: Sequence[Part]) -> Difficulty:
        """Success of the small model, gain of the large one, task and domain of what is asked."""
        text = judged(parts)
        scores = self.calibrated(self.inputs(text))
        return Difficulty(
            slm_success=scores.slm_success,
            gain=scores.gain,
            task=TASKS[scores.tasks.index(max(scores.tasks))],
            domain=DOMAINS[scores.domains.index(max(scores.domains))],
            low_confidence=scores.doubt > self._model.doubtful or _says_little(text) or is_mixed(text),
            follow_up=is_follow_up(parts),
        )

    def inputs(self, text: str) -> Inputs:
        """What the router sees of a text."""
        return self._model.inputs(asked_plainly(text))

    def calibrated(self, inputs: Inputs) -> Scores:
        """The scores of the small model here."""
        scores = self._model.score(inputs)
        return scores if self._calibration is None else self._calibration.scores(scores, inputs)

    def read(self, text: str) -> tuple[Scores, Inputs]:
        """The router's own scores of a text, without calibration, and what they were made from."""
        inputs = self.inputs(text)
        return self._model.score(inputs), inputs


def judged(parts: Sequence[Part]) -> str:
    """The text that is scored: the last user turn, after those that it needs to make sense (`follow_up.py`).

    Instructions of an application (a system prompt) stand before it: they say what is to be done with the text.
    """
    asked = _asked(parts)
    if not asked:
        return parts[-1].text if parts else ""
    text = asked[-1]
    start = len(asked) - 1
    while start > 0 and len(asked) - start <= _MOST_BEFORE and follows(asked[start]):
        start -= 1
    if start < len(asked) - 1:
        before = "\n".join(asked[start:-1]) if start == len(asked) - 2 else _several(asked[start:-1])
        text = f"{before[-_LONGEST_BEFORE:]}\n{text}"
    instructions = next((part.text for part in parts if part.role in {"system", "developer"} and part.text), "")
    return f"{instructions[:_INSTRUCTIONS_CHARS]}\n\n{text}" if instructions else text


def _several(turns: Sequence[str]) -> str:
    """The turn that stands alone, and those that follow it, which are short."""
    rest = "\n".join(turns[1:])
    return f"{turns[0][-max(_LONGEST_BEFORE - len(rest) - 1, 0) :]}\n{rest}"


def is_follow_up(parts: Sequence[Part]) -> bool:
    """Whether the last thing that the user said needs what was said before it."""
    asked = _asked(parts)
    return len(asked) > 1 and follows(asked[-1])


def _asked(parts: Sequence[Part]) -> list[str]:
    return [part.text for part in parts if part.role == "user" and part.text.strip()]


def _says_little(text: str) -> bool:
    """Whether the router can know little of a text: hardly a letter, another alphabet, bytes, or most of it unread."""
    head = text[:_GLANCE]
    letters = sum(map(str.isalpha, head))
    if letters < _LEAST_LETTERS or len(text) > _MOSTLY_UNREAD:
        return True
    if not head.isascii() and 2 * sum(char >= _END_OF_LATIN and char.isalpha() for char in head) > letters:
        return True
    seen = "".join(head.split())
    return not seen.isprintable() and 20 * sum(not char.isprintable() for char in seen) > len(head)
