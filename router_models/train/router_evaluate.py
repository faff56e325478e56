"""What `cauce router evaluate` measures: ours beside chance, length, word n-grams and the oracle, on sets never trained on."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from router_models.evaluate import Interval, Measured, calibration_error, intervals, measured, rank_correlation
from router_models.router_runtime import DOMAINS, TASKS, RouterModel, Scores
from router_models.train.router_data import LEFT_OUT, Row, read_outcomes

BENCHES: Final = ("bench_mmlu", "bench_gsm8k", "bench_mt_bench", "bench_mmlu_pro")
Ranking = Callable[[Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Bench:
    """Queries with the outcome of one small and one large model."""

    name: str
    texts: list[str]
    small: list[float]
    large: list[float]


def read_benches(folder: Path) -> list[Bench]:
    """The dev rows of the training set, and the four published benches."""
    dev = [row for row in read_outcomes(folder) if row.dev]
    benches = [Bench("dev", [row.text for row in dev], [row.slm for row in dev], [row.llm for row in dev])]
    for name in BENCHES:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        benches.append(
            Bench(
                name.removeprefix("bench_"),
                [row["text"] for row in rows],
                [row["weak_score"] for row in rows],
                [row["strong_score"] for row in rows],
            )
        )
    return benches


def rankings(model: RouterModel, folder: Path, names: Sequence[str]) -> dict[str, Ranking]:
    """The routers to compare, by name: `ours`, `random`, `length`, `tfidf` (needs scikit-learn)."""
    known: dict[str, Callable[[], Ranking]] = {
        "ours": lambda: lambda texts: [model.read(text).gain for text in texts],
        "random": lambda: lambda texts: np.random.default_rng(0).random(len(texts)).tolist(),
        "length": lambda: lambda texts: [len(text) for text in texts],
        "tfidf": lambda: _tfidf(folder),
    }
    return {name: known[name]() for name in names}


def _tfidf(folder: Path) -> Ranking:
    """Ridge on TF-IDF of words and word pairs, trained on the gain of the rows that ours is trained on."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - a training dependency
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    rows = [row for row in read_outcomes(folder) if not row.dev and row.source not in LEFT_OUT]
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), Ridge(alpha=2.0))
    pipeline.fit([row.text for row in rows], [row.llm - row.slm for row in rows])
    return lambda texts: pipeline.predict(texts).tolist()  # type: ignore[no-any-return]


def ranked(bench: Bench, ranking: Ranking, *, resamples: int) -> Measured:
    """One router on one bench."""
    return measured(bench.small, bench.large, list(ranking(bench.texts)), resamples=resamples)


def oracle(bench: Bench, *, resamples: int) -> Measured:
    """Who knows each outcome beforehand."""
    gains = [large - small for small, large in zip(bench.small, bench.large, strict=True)]
    return measured(bench.small, bench.large, gains, resamples=resamples)


@dataclass(frozen=True, slots=True)
class Parallel:
    """The same question in English and Spanish."""

    rows: int
    correlation: Interval
    shift: Interval


def read_parallel(folder: Path) -> list[tuple[str, str]]:
    """English and Spanish of each question of `parallel_xlingual`."""
    with gzip.open(folder / "parallel_xlingual.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(row["text_en"], row["text_es"]) for row in rows if row.get("text_en") and row.get("text_es")]


def parallel(model: RouterModel, pairs: Sequence[tuple[str, str]], *, resamples: int) -> Parallel:
    """Whether a question's gain depends on its language."""
    english, spanish = (np.array([model.read(text).gain for text in side]) for side in zip(*pairs, strict=True))

    def figures(rows: Any) -> tuple[float, float]:
        return rank_correlation(english[rows], spanish[rows]), float((spanish[rows] - english[rows]).mean())

    return Parallel(len(pairs), *intervals(figures, len(pairs), resamples=resamples))


@dataclass(frozen=True, slots=True)
class Meaning:
    """Task and domain on our own held-out queries of one language, and calibration against their grades."""

    language: str
    rows: int
    task: Interval
    domain: Interval
    calibration: float


def meanings(model: RouterModel, rows: Sequence[Row], *, resamples: int) -> list[Meaning]:
    """A line a language."""
    lines = []
    for language in sorted({row.lang for row in rows}):
        some = [row for row in rows if row.lang == language]
        said = [model.read(row.text) for row in some]
        right = np.array(
            [
                [_best(one.tasks) == row.task, _best(one.domains) == row.domain]
                for one, row in zip(said, some, strict=True)
            ]
        )
        task, domain = intervals(lambda chosen, right=right: right[chosen].mean(0), len(some), resamples=resamples)  # type: ignore[misc]
        error = calibration_error([one.slm_success for one in said], [row.slm for row in some])
        lines.append(Meaning(language, len(some), task, domain, error))
    return lines


def _best(chances: Sequence[float]) -> int:
    return chances.index(max(chances))


def confusions(model: RouterModel, rows: Sequence[Row]) -> dict[str, list[tuple[str, str, int]]]:
    """The most frequent mistakes: said instead of true, and how often."""
    counts: dict[str, dict[tuple[str, str], int]] = {"task": {}, "domain": {}}
    for row in rows:
        said: Scores = model.read(row.text)
        for kind, names, best, true in (
            ("task", TASKS, _best(said.tasks), row.task),
            ("domain", DOMAINS, _best(said.domains), row.domain),
        ):
            if best != true:
                key = (names[true], names[best])
                counts[kind][key] = counts[kind].get(key, 0) + 1
    return {
        kind: [(*key, n) for key, n in sorted(found.items(), key=lambda item: -item[1])[:8]]
        for kind, found in counts.items()
    }


def latency(model: RouterModel, *, runs: int = 300) -> list[tuple[int, float, float]]:
    """Tokens, and p50 and p99 of reading such a text, in milliseconds. A fresh text each time: nothing is remembered."""
    words = ("la factura de este mes trae un cargo que no reconozco y quiero saber de dónde sale "
             "please compare both plans for a family of four and tell me which one is cheaper").split()  # fmt: skip
    lines = []
    for tokens in (20, 200, 4000):
        times = []
        for run in range(runs):
            text = " ".join(words[(run * 7 + n) % len(words)] for n in range(tokens))
            started = time.perf_counter()
            model.read(text)
            times.append(1e3 * (time.perf_counter() - started))
        times.sort()
        lines.append((tokens, times[len(times) // 2], times[int(0.99 * len(times))]))
    return lines
