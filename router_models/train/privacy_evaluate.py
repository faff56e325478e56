"""How well the privacy scan does, on labelled rows: shares with Wilson intervals, whole and by group.

`recall` is the share of texts that must stay and were held; `false_alarms` the share of harmless texts that were held.
"At 2 %" cuts the stay score where 2 % of this set's harmless texts lie above, as `privacy/tools/score.py` does.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from gateway.signals.privacy import PrivacyScanner, examine
from gateway.types import DataClass, Part
from router_models.privacy_runtime import LEVELS
from router_models.train.privacy_data import Row

GROUPS: dict[str, Callable[[Row], Iterable[str]]] = {
    "language": lambda row: (row.lang,),
    "kind": lambda row: row.kinds or ("-",),
    "level": lambda row: (LEVELS[row.level] if row.level is not None else "-",),
    "evasion": lambda row: row.evasion.split("+") if row.evasion else ("-",),
    "source": lambda row: (row.source,),
}
RATES = (0.01, 0.02, 0.05)
LENGTHS = {100: 600, 1_000: 300, 100_000: 12}  # characters, and how many texts of that length are timed


@dataclass(frozen=True, slots=True)
class Scored:
    """A row and what the scan said of it; `form` is the evidence of identifiers alone, `presidio` its surest result."""

    row: Row
    stay_score: float
    data: DataClass
    held: bool
    form: bool
    presidio: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The share; 0 of nothing is 0."""
        return self.hits / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        return wilson(self.hits, self.total)


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    group: str
    name: str
    recall: Share
    false_alarms: Share
    level_right: Share
    patterns_recall: Share
    patterns_false_alarms: Share
    presidio_recall: Share
    presidio_false_alarms: Share

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one scan takes on one thread (its CPU time), texts never seen before, words partly so."""

    characters: int
    p50_ms: float
    p99_ms: float


def latencies(scanner: PrivacyScanner, texts: Sequence[str], seed: int = 1) -> Iterator[Latency]:
    """Scan times of texts put together from `texts`, after a warm-up."""
    chance = random.Random(seed)
    for length, count in LENGTHS.items():
        made = [_text_of(length, texts, chance) for _ in range(count + count // 4)]
        seconds = []
        for text in made:
            start = time.thread_time()
            scanner.scan([Part("user", text)])
            seconds.append(time.thread_time() - start)
        timed = sorted(seconds[count // 4 :])
        yield Latency(length, 1e3 * timed[len(timed) // 2], 1e3 * timed[min(len(timed) - 1, int(0.99 * len(timed)))])


def _text_of(length: int, texts: Sequence[str], chance: random.Random) -> str:
    pieces: list[str] = []
    size = 0
    while size < length:
        piece = chance.choice(texts)
        pieces.append(piece)
        size += len(piece) + 1
    return "\n".join(pieces)[:length]


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, z * z / total
    middle = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return (middle - reach) / (1 + spread), (middle + reach) / (1 + spread)


def score(
    rows: Iterable[Row], scanner: PrivacyScanner, presidio: Callable[[str, str], float] | None = None
) -> list[Scored]:
    """Scan every row that has a label; `presidio` gives its score of a text in a language."""
    scored = []
    for row in rows:
        if row.label is None:
            continue
        detection = scanner.scan([Part("user", row.text)])
        form = any(one.data >= DataClass.PERSONAL and one.score >= 0.5 for one in examine(row.text).found)
        held = detection.data >= DataClass.PERSONAL
        other = presidio(row.text, row.lang) if presidio is not None else None
        scored.append(Scored(row, detection.stay_score, detection.data, held, form, other))
    return scored


def recall_at(scored: Sequence[Scored], rate: float) -> tuple[Share, float]:
    """Recall where `rate` of the harmless texts of this set are held, and the cut that gives it."""
    harmless = sorted((one.stay_score for one in scored if not one.row.label), reverse=True)
    place = int(rate * len(harmless))
    cut = harmless[place] if place < len(harmless) else -math.inf
    held = [one.stay_score > cut for one in scored if one.row.label]
    return Share(sum(held), len(held)), cut


def table(scored: Sequence[Scored], groups: Iterable[str] = GROUPS) -> Iterator[Line]:
    """All together first, then each group by size."""
    yield _line("all", "all", scored)
    for group in groups:
        members: dict[str, list[Scored]] = {}
        for one in scored:
            for name in GROUPS[group](one.row):
                members.setdefault(name, []).append(one)
        for name, some in sorted(members.items(), key=lambda item: -len(item[1])):
            yield _line(group, name, some)


def _line(group: str, name: str, scored: Sequence[Scored]) -> Line:
    sensitive = [one for one in scored if one.row.label]
    harmless = [one for one in scored if not one.row.label]
    graded = [one for one in sensitive if one.row.level is not None]
    return Line(
        group,
        name,
        recall=Share(sum(one.held for one in sensitive), len(sensitive)),
        false_alarms=Share(sum(one.held for one in harmless), len(harmless)),
        level_right=Share(sum(one.data == one.row.level for one in graded), len(graded)),
        patterns_recall=Share(sum(one.form for one in sensitive), len(sensitive)),
        patterns_false_alarms=Share(sum(one.form for one in harmless), len(harmless)),
        presidio_recall=_presidio(sensitive),
        presidio_false_alarms=_presidio(harmless),
    )


def _presidio(scored: Sequence[Scored]) -> Share:
    """How many Presidio found anything in, at its own operating point."""
    asked = [one.presidio for one in scored if one.presidio is not None]
    return Share(sum(score > 0 for score in asked), len(asked))
