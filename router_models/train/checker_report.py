"""How good the answer checker is, beside the length of the answer and the model's own probabilities.

    python -m router_models.train.checker_report [--card router_models/cards/checker.md]

Every pair is scored by an ensemble that saw no question of its kind (`checker.held_out`), so the figures are of another
source than the training's; the shipped weights are of all pairs. Intervals: 95 %, bootstrap over questions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from router_models import manifest
from router_models.checker_runtime import FILES, PairReader
from router_models.encoder import Encoder
from router_models.evaluate import Interval
from router_models.train import page
from router_models.train.checker import held_out, read_all
from router_models.train.checker_data import Pair, read_pairs

RESAMPLES: Final = 400
_SEED: Final = 3
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def auc(score: Doubles, good: Bools) -> float:
    """P(a good answer scores higher than a bad one), ties a half; not a number without both."""
    positives = int(good.sum())
    negatives = len(good) - positives
    if not positives or not negatives:
        return float("nan")
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[where]
    return float((ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def within(score: Doubles, good: Bools, groups: npt.NDArray[np.int64]) -> float:
    """AUC among answers to questions of one kind and language, weighted by the pairs to tell apart: what is left when
    telling hard kinds from easy ones earns nothing.
    """
    total = weight = 0.0
    for group in np.unique(groups):
        rows = groups == group
        pairs = float(good[rows].sum() * (~good[rows]).sum())
        if pairs:
            total += pairs * auc(score[rows], good[rows])
            weight += pairs
    return total / weight if weight else float("nan")


@dataclass(frozen=True, slots=True)
class _Auc:
    """The AUC of some rows; within their groups where there are any."""

    score: Doubles
    good: Bools
    groups: npt.NDArray[np.int64] | None = None

    def __call__(self, rows: npt.NDArray[np.int64]) -> float:
        if self.groups is None:
            return auc(self.score[rows], self.good[rows])
        return within(self.score[rows], self.good[rows], self.groups[rows])


def interval(
    measure: Callable[[npt.NDArray[np.int64]], float], questions: Sequence[str], resamples: int = RESAMPLES
) -> Interval:
    """A measure of some rows, with its interval over resampled questions."""
    draw = np.random.default_rng(_SEED)
    names, where = np.unique(np.array(questions), return_inverse=True)
    rows = [np.nonzero(where == number)[0] for number in range(len(names))]
    drawn = [
        measure(np.concatenate([rows[number] for number in draw.integers(0, len(names), len(names))]))
        for _ in range(resamples)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(measure(np.arange(len(questions))), float(low), float(high))


def figures(pairs: Sequence[Pair], logits: Doubles, *, resamples: int = RESAMPLES) -> list[tuple[str, ...]]:
    """Rows of the card's table: a source, its size, and the two AUCs of each scorer."""
    rows: list[tuple[str, ...]] = []
    for source, language in (("smollm2", ""), ("smollm2", "en"), ("smollm2", "es"), ("own", ""), ("broken", "")):
        alike = {source, "own"} if source == "broken" else {source}
        chosen = [
            number
            for number, pair in enumerate(pairs)
            if pair.source in alike
            and (not language or pair.language == language)
            and not (source == "broken" and pair.source == "own" and not pair.good)
        ]
        some = [pairs[number] for number in chosen]
        good = np.array([pair.good for pair in some])
        scores = {
            "checker": logits[chosen],
            "shorter is better": -np.array([float(len(pair.answer)) for pair in some]),
        }
        if source == "smollm2":
            scores["mean logprob"] = np.array([-9.0 if p.mean_logprob is None else p.mean_logprob for p in some])
        groups = np.unique([f"{pair.group} {pair.language}" for pair in some], return_inverse=True)[1]
        asked = [pair.question for pair in some]
        for name, score in scores.items():
            whole = interval(_Auc(score, good), asked, resamples)
            inner = interval(_Auc(score, good, groups), asked, resamples)
            share = f"{good.mean():.0%}"
            rows.append((f"{source} {language}".strip(), name, str(len(some)), share, whole.shown(), inner.shown()))
    return rows


def markdown(pairs: Sequence[Pair], logits: Doubles, *, resamples: int = RESAMPLES) -> str:
    """The card's figures."""
    header = ("answers", "score", "n", "good", "AUC", "AUC within a kind and language")
    lines = [header, ("---",) * len(header), *figures(pairs, logits, resamples=resamples)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nOf checker.onnx {manifest.sha256(manifest.FOLDER / FILES[0])[:12]}.\n"


def main() -> None:
    """Measure, and print or write into the card."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--card", type=Path, help="page to write the table into, at `<!-- figures -->`")
    arguments.add_argument("--resamples", type=int, default=RESAMPLES)
    chosen = arguments.parse_args()
    pairs = read_pairs()
    logits = held_out(read_all(pairs, PairReader(Encoder.load())), pairs)
    text = markdown(pairs, logits, resamples=chosen.resamples)
    if chosen.card is not None:
        page.write(chosen.card, "figures", text)
    print(text, end="")


if __name__ == "__main__":
    main()
