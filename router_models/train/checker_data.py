"""What the answer checker learns from: questions, answers, and whether the answer is acceptable.

`smollm2` real answers of a small model, held against what is known to be right (`checker_answers.py`);
`told` right and wrong answers to the same questions in a sentence, so that neither language nor manner gives it away;
`own` questions as people ask them with a good and two bad answers, written by hand (`data/answers/own.jsonl`);
`broken` good answers of `own` made bad: another question's answer, cut off, the question said back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from router_models.train.checker_questions import Known, questions

FOLDER: Final = Path(__file__).parents[1] / "data" / "answers"
_SEED: Final = 5
_FORMS: Final = {
    "en": ("{0}", "The answer is {0}.", "It is {0}."),
    "es": ("{0}", "La respuesta es {0}.", "Es {0}."),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with an answer. `group` is what is held out together: a kind of question, or a question."""

    source: str
    group: str
    language: str
    question: str
    answer: str
    good: bool
    mean_logprob: float | None = None


def read_pairs(folder: Path = FOLDER) -> list[Pair]:
    """All of them, in a fixed order. Raises `ConfigError` for a folder without files."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"{folder} holds no answers: expected smollm2-135m.jsonl and own.jsonl")
    found: list[Pair] = []
    for file in files:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found += _own(rows) if file.stem == "own" else _asked(rows)
    asked = {pair.question for pair in found if pair.source == "smollm2"}
    return [*found, *_told([known for known in questions() if known.text in asked])]


def _asked(rows: Sequence[dict[str, object]]) -> Iterator[Pair]:
    for row in rows:
        logprob = row["mean_logprob"]
        yield Pair(
            "smollm2", str(row["kind"]), str(row["lang"]), str(row["question"]), str(row["answer"]), bool(row["right"]),
            float(logprob) if isinstance(logprob, int | float) else None,
        )  # fmt: skip


def _told(known: Sequence[Known]) -> Iterator[Pair]:
    """One right and one wrong sentence for each question; the wrong one holds another question's right word."""
    draw = random.Random(_SEED)
    peers: dict[tuple[str, str], list[str]] = {}
    for one in known:
        peers.setdefault((one.kind, one.language), []).append(one.right.split("|")[0])
    for one in known:
        right = one.right.split("|")[0]
        others = [word for word in peers[one.kind, one.language] if word not in one.right.split("|")]
        form = draw.choice(_FORMS[one.language])
        yield Pair("told", one.kind, one.language, one.text, form.format(right), True)
        if others:
            yield Pair("told", one.kind, one.language, one.text, form.format(draw.choice(others)), False)


def _own(rows: Sequence[dict[str, object]]) -> Iterator[Pair]:
    draw = random.Random(_SEED)
    for number, row in enumerate(rows):
        language, question, good = str(row["lang"]), str(row["question"]), str(row["good"])
        group = f"own-{number:03}"
        yield Pair("own", group, language, question, good, True)
        bad = row["bad"]
        for answer in bad if isinstance(bad, list) else ():
            yield Pair("own", group, language, question, str(answer), False)
        other = draw.choice([one for one in rows if one["lang"] == language and one is not row])
        yield Pair("broken", group, language, question, str(other["good"]), False)
        yield Pair("broken", group, language, question, question, False)
        words = good.split()
        if len(words) > 12:
            yield Pair("broken", group, language, question, " ".join(words[: draw.randint(3, len(words) // 2)]), False)
