"""What a cascade saves beside a router, on measured outcomes: `make bench-cascade`.

    router   the queries that the router model ranks highest go to the large model, the others to the small one
    cascade  the small model answers, a second small model is asked too (`samples: {times: 1, model: ...}`), and only
             where the two disagree the large one is called
    both     the highest ranked go to the large model at once, the lowest are not checked, between them the cascade

The files hold outcomes and no answers, so whether two answers agree is known where one is right: two right ones agree,
a right and a wrong one do not. Two wrong ones may do either; `wrong agree` is the share of them that do, and each
figure is given for none, for 0.3 and for all of them. A checker that reads answers cannot be measured so; the last
table measures the trained one on our own stored answers. Cuts are chosen on one half of the queries and measured on the
other, both ways, for the router too. Of each pair the better model is the small one, which is the harder baseline.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.errors import ConfigError
from router_models import manifest
from router_models.checker_runtime import FILES as CHECKER
from router_models.encoder import Encoder
from router_models.router_runtime import FILES as ROUTER
from router_models.router_runtime import RouterModel
from router_models.train import page
from router_models.train.router_data import outcomes_folder

TARGET: Final = 0.95  # of the large model's quality
WRONG_AGREE: Final = (0.0, 0.3, 1.0)
RESAMPLES: Final = 100
LARGE: Final = {"gsm8k": "gpt-4o-2024-08-06", "mmlu_pro": "gpt-4o-2024-05-13"}
_RATIO: Final = 20  # a large call costs so many small ones: about GPT-4o against an 8B model where both are bought
_CUTS: Final = 26
_SEED: Final = 9
Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Way:
    """How queries were answered: quality, and large and small calls a query."""

    quality: float
    large: float
    small: float

    @property
    def cost(self) -> float:
        """In small calls."""
        return self.large * _RATIO + self.small


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One pair of small models and the large one on the same queries, all `(n,)`."""

    small: Doubles
    second: Doubles
    large: Doubles
    rank: Doubles  # the router's: higher, more need of the large model

    def rows(self, rows: Rows) -> Outcomes:
        """Some of them."""
        return Outcomes(self.small[rows], self.second[rows], self.large[rows], self.rank[rows])

    def ranked(self) -> Outcomes:
        """All of them, those that the router ranks highest first."""
        return self.rows(np.argsort(-self.rank, kind="stable"))

    def disagree(self, wrong_agree: float) -> Doubles:
        """How likely the two small models are to disagree on each query."""
        apart = np.abs(self.small - self.second)
        return apart + (1 - self.small) * (1 - self.second) * (1 - wrong_agree)


@dataclass(frozen=True, slots=True)
class Ways:
    """Many ways of answering the same queries: `(cuts,)` each."""

    quality: Doubles
    large: Doubles
    small: Doubles

    def at(self, number: int) -> Way:
        """One of them."""
        return Way(float(self.quality[number]), float(self.large[number]), float(self.small[number]))


def ways(outcomes: Outcomes, cuts: Doubles, wrong_agree: float) -> Ways:
    """Of each cut `(direct, unchecked)`: the share `direct` that ranks highest goes to the large model, the share
    `unchecked` that ranks lowest to the small one alone. The outcomes are in the router's order (`Outcomes.ranked`).
    """
    count = len(outcomes.small)
    at = np.rint(cuts[:, 0] * count).astype(np.int64)
    end = count - np.minimum(np.rint(cuts[:, 1] * count).astype(np.int64), count - at)
    apart = outcomes.disagree(wrong_agree)
    large, small, checked, called = (
        np.concatenate([[0.0], np.cumsum(values)])
        for values in (outcomes.large, outcomes.small, apart * outcomes.large + (1 - apart) * outcomes.small, apart)
    )
    quality = large[at] + checked[end] - checked[at] + small[count] - small[end]
    return Ways(quality / count, (at + called[end] - called[at]) / count, (2 * (end - at) + count - end) / count)


def way(outcomes: Outcomes, direct: float, unchecked: float, wrong_agree: float) -> Way:
    """The same of one cut."""
    return ways(outcomes, np.array([[direct, unchecked]]), wrong_agree).at(0)


def cheapest(outcomes: Outcomes, cuts: Doubles, wrong_agree: float) -> int:
    """The cut with the fewest large calls that keeps the target, the number of small ones deciding between equals; the
    one of best quality where none does.
    """
    found = ways(outcomes, cuts, wrong_agree)
    good = found.quality >= TARGET * outcomes.large.mean()
    if not good.any():
        return int(np.argmax(found.quality))
    return int(np.lexsort((found.small, np.where(good, found.large, np.inf)))[0])


_GRID: Final = np.linspace(0, 1, _CUTS).tolist()
CUTS: Final[dict[str, Doubles]] = {
    "router": np.array([(direct, 1.0) for direct in np.linspace(0, 1, 4 * _CUTS).tolist()]),
    "cascade": np.array([(0.0, 0.0)]),
    "both": np.array([(a, c) for a, c in itertools.product(_GRID, _GRID) if a + c <= 1]),
}


def measured(outcomes: Outcomes, kind: str, wrong_agree: float, halves: npt.NDArray[np.bool_]) -> Way:
    """Cuts of one half on the other, both ways."""
    found = []
    for chosen in (halves, ~halves):
        one, other = (outcomes.rows(np.nonzero(rows)[0]).ranked() for rows in (chosen, ~chosen))
        cut = cheapest(one, CUTS[kind], wrong_agree)
        found.append(ways(other, CUTS[kind][cut : cut + 1], wrong_agree).at(0))
    return Way(*(float(np.mean([getattr(one, name) for one in found])) for name in ("quality", "large", "small")))


# --- data -----------------------------------------------------------------------------------------------------------


def read_bench(data: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a bench file; raises `ConfigError` when it is not there."""
    file = outcomes_folder(data) / f"bench_{name}.jsonl.gz"
    if not file.is_file():
        raise ConfigError(f"{file.name} is missing", where=str(file))
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pairs_of(rows: Sequence[dict[str, Any]], rank: Doubles, large: str) -> dict[tuple[str, str], Outcomes]:
    """Every two small models, the better one first. The reach of a second opinion ends where it knows much less: a pair
    counts when the second is at most ten points behind.
    """
    scores = {name: np.array([float(row["slm_scores"][name]) for row in rows]) for name in rows[0]["slm_scores"]}
    top = np.array([float(row["llm_scores"][large]) for row in rows])
    found = {}
    for one, other in itertools.combinations(sorted(scores, key=lambda name: -scores[name].mean()), 2):
        if scores[one].mean() - scores[other].mean() <= 0.1 and scores[one].mean() < TARGET * top.mean():
            found[one, other] = Outcomes(scores[one], scores[other], top, rank)
    return found


def table_of(name: str, rows: Sequence[dict[str, Any]], rank: Doubles, *, resamples: int) -> tuple[str, str]:
    """A Markdown table, and a line that says what it comes to."""
    pairs = pairs_of(rows, rank, LARGE[name])
    draw = np.random.default_rng(_SEED)
    halves = draw.permutation(len(rows)) % 2 == 0
    lines = ["| wrong agree | way | quality of the large one's | large calls | small calls | cost | pairs |"]
    lines.append("|---|---|---|---|---|---|---|")
    reached: list[str] = []
    for wrong in WRONG_AGREE:
        ways = {kind: [measured(one, kind, wrong, halves) for one in pairs.values()] for kind in CUTS}
        for kind, found in ways.items():
            top = [way.quality / one.large.mean() for way, one in zip(found, pairs.values(), strict=True)]
            large, small, cost = (np.mean([getattr(w, f) for w in found]) for f in ("large", "small", "cost"))
            shown = f"{np.mean(top):.1%} | {large:.1%} | {small:.2f} | {cost:.2f} | {len(found)}"
            lines.append(f"| {wrong:g} | {kind} | {shown} |")
        saved = [1 - both.large / alone.large for both, alone in zip(ways["both"], ways["router"], strict=True)]
        low, high = _bootstrap(list(pairs.values()), halves, wrong, draw, resamples)
        reached.append(
            f"wrong agree {wrong:g}: {np.mean(saved):.0%} [{low:.0%}, {high:.0%}] fewer large calls with both than "
            f"with the router alone, at least 15 % fewer for {sum(one >= 0.15 for one in saved)} of {len(saved)} pairs"
        )
    return "\n".join(lines), "\n".join(f"- {line}" for line in reached)


def _bootstrap(
    pairs: Sequence[Outcomes], halves: npt.NDArray[np.bool_], wrong: float, draw: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """Of the mean saving over pairs: 95 %, over queries, each resample with cuts of its own."""
    sums = []
    for _ in range(resamples):
        rows = draw.integers(0, len(halves), len(halves))
        found = []
        for one in pairs:
            drawn = one.rows(rows)
            both, alone = (measured(drawn, kind, wrong, halves[rows]) for kind in ("both", "router"))
            found.append(1 - both.large / max(alone.large, 1e-9))
        sums.append(np.mean(found))
    low, high = np.percentile(sums, [2.5, 97.5])
    return float(low), float(high)


# --- the trained checker on our own stored answers ------------------------------------------------------------------


def checker_table(router: RouterModel) -> str:
    """Share of escalations that keeps the target when the large model is right on all: real answers of SmolLM2-135M."""
    from router_models.checker_runtime import PairReader  # noqa: PLC0415 - these need torch, the tables above do not
    from router_models.train.checker import held_out, read_all  # noqa: PLC0415
    from router_models.train.checker_data import read_pairs  # noqa: PLC0415

    pairs = read_pairs()
    logits = held_out(read_all(pairs, PairReader(Encoder.load())), pairs)
    real = np.array([pair.source == "smollm2" for pair in pairs])
    some = [pair for pair in pairs if pair.source == "smollm2"]
    good = np.array([float(pair.good) for pair in some])
    scores = {
        "router alone": np.array([router.read(pair.question).gain for pair in some]),
        "cascade: checker": -logits[real],
        "cascade: mean logprob": -np.array([-9.0 if p.mean_logprob is None else p.mean_logprob for p in some]),
    }
    ranked = {name: np.argsort(np.argsort(score)) / len(score) for name, score in scores.items()}
    scores["both: router and checker"] = ranked["router alone"] + ranked["cascade: checker"]
    scores["both: checker and mean logprob"] = ranked["cascade: checker"] + ranked["cascade: mean logprob"]
    scores["chance"] = np.random.default_rng(_SEED).random(len(good))
    lines = ["| way | large calls for 95 % | large calls for 80 % |", "|---|---|---|"]
    for name, score in scores.items():
        cells = [_shown(good, score, target) for target in (0.95, 0.8)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return f"{len(good)} answers, {good.mean():.0%} right.\n\n" + "\n".join(lines)


def _shown(good: Doubles, score: Doubles, target: float) -> str:
    draw = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(RESAMPLES):
        rows = draw.integers(0, len(good), len(good))
        drawn.append(_calls(good[rows], score[rows], target))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{_calls(good, score, target):.1%} [{low:.1%}, {high:.1%}]"


def _calls(good: Doubles, score: Doubles, target: float) -> float:
    """The share to send on, worst first, until so many answers are right."""
    order = np.argsort(-score, kind="stable")
    quality = good.mean() + np.concatenate([[0.0], np.cumsum((1 - good)[order])]) / len(good)
    return float(np.argmax(quality >= target)) / len(good)


def markdown(data: Path, *, resamples: int = RESAMPLES) -> str:
    """All tables."""
    router = RouterModel.load(manifest.FOLDER, Encoder.load())
    parts = []
    for name in LARGE:
        rows = read_bench(data, name)
        rank = np.array([router.read(row["text"]).gain for row in rows])
        table, said = table_of(name, rows, rank, resamples=resamples)
        parts.append(f"### {name}: {len(rows)} queries, {LARGE[name]}\n\n{table}\n\n{said}\n")
    made = ", ".join(f"{name} {manifest.sha256(manifest.FOLDER / name)[:12]}" for name in (ROUTER[0], CHECKER[0]))
    parts.append(
        f"### The checker, on stored answers of SmolLM2-135M\n\n{checker_table(router)}\n\nMeasured with {made}.\n"
    )
    return "\n".join(parts)


def main() -> None:
    """Measure, and print or write into the card."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="folder with routing/bench_gsm8k.jsonl.gz")
    arguments.add_argument("--card", type=Path, help="page to write the tables into, at `<!-- cascade -->`")
    arguments.add_argument("--resamples", type=int, default=RESAMPLES)
    chosen = arguments.parse_args()
    text = markdown(chosen.data, resamples=chosen.resamples)
    if chosen.card is not None:
        page.write(chosen.card, "cascade", text)
    print(text)


if __name__ == "__main__":
    main()
