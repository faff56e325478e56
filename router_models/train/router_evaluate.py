"""What `cauce router evaluate` measures of scores: ours beside chance, length, word n-grams and the oracle."""

from __future__ import annotations

import gzip
import importlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateway.errors import ConfigError
from router_models.evaluate import Interval, Measured, calibration_error, intervals, measured, rank_correlation
from router_models.router_runtime import DOMAINS, TASKS, RouterModel, Scores
from router_models.train.router_data import LEFT_OUT, Row, read_outcomes

BENCHES: Final = ("bench_mmlu", "bench_gsm8k", "bench_mt_bench", "bench_mmlu_pro")
Ranking = Callable[[Sequence[str]], Sequence[float] | None]  # None: it has no score for some of the texts
LITELLM: Final = "litellm.router_strategy.complexity_router.complexity_router"


@dataclass(frozen=True, slots=True)
class Bench:
    """Queries with the outcome of one small and one large model."""

    name: str
    texts: list[str]
    small: list[float]
    large: list[float]


def read_benches(folder: Path) -> list[Bench]:
    """The dev rows of the training set, and those of the four published benches that are there."""
    dev = [row for row in read_outcomes(folder) if row.dev]
    benches = (
        [Bench("dev", [row.text for row in dev], [row.slm for row in dev], [row.llm for row in dev])] if dev else []
    )
    for name in BENCHES:
        if not (folder / f"{name}.jsonl.gz").is_file():
            continue
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
    """The routers to compare, by name: `ours`, `random`, `length`, `tfidf` (needs scikit-learn), `litellm`."""
    known: dict[str, Callable[[], Ranking]] = {
        "ours": lambda: lambda texts: [model.read(text).gain for text in texts],
        "random": lambda: lambda texts: np.random.default_rng(0).random(len(texts)).tolist(),
        "length": lambda: lambda texts: [len(text) for text in texts],
        "tfidf": lambda: _tfidf(folder),
        "litellm": _litellm,
    }
    return {name: known[name]() for name in names}


def _litellm() -> Ranking:
    """LiteLLM's rule-based complexity router with its defaults: by tier, and inside a tier by score."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks the network
    module = importlib.import_module(LITELLM)
    router = module.ComplexityRouter("router", None, {})
    tiers = list(module.ComplexityTier)

    def rank(texts: Sequence[str]) -> Sequence[float]:
        said = [router.classify(text) for text in texts]
        return [10.0 * tiers.index(tier) + float(score) for tier, score, _ in said]

    return rank


def read_scores(file: Path) -> Ranking:
    """Another router's scores: JSON lines of `{"text", "score"}`, higher = more need of the large model."""
    scores: dict[str, float] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file)) from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None:
                scores[row["text"]] = float(row["score"])
        except (ValueError, KeyError, TypeError) as error:
            said = 'a line is {"text": "...", "score": 0.7}'
            raise ConfigError(f"{said}: {error!r}", where=f"{file}:{number}") from error
    return lambda texts: [scores[text] for text in texts] if all(text in scores for text in texts) else None


def _tfidf(folder: Path) -> Ranking:
    """Ridge on TF-IDF of words and word pairs, trained on the gain of the rows that ours is trained on."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - a training dependency
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415

    rows = [row for row in read_outcomes(folder) if not row.dev and row.source not in LEFT_OUT]
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), Ridge(alpha=2.0))
    pipeline.fit([row.text for row in rows], [row.llm - row.slm for row in rows])
    return lambda texts: pipeline.predict(texts).tolist()


def ranked(bench: Bench, ranking: Ranking, *, resamples: int) -> Measured | None:
    """One router on one bench; None where it has no score for some of its queries."""
    scores = ranking(bench.texts)
    return None if scores is None else measured(bench.small, bench.large, list(scores), resamples=resamples)


def oracle(bench: Bench, *, resamples: int) -> Measured:
    """Who knows each outcome beforehand."""
    gains = [large - small for small, large in zip(bench.small, bench.large, strict=True)]
    return measured(bench.small, bench.large, gains, resamples=resamples)


@dataclass(frozen=True, slots=True)
class Parallel:
    """The same question in English and Spanish: how the two gains go together, and the mean of Spanish - English."""

    source: str
    rows: int
    correlation: Interval
    shift: Interval


def read_parallel(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """English and Spanish of each question of `parallel_xlingual`, by source."""
    found: dict[str, list[tuple[str, str]]] = {}
    file = folder / "parallel_xlingual.jsonl.gz"
    if not file.is_file():
        return found
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row.get("text_en") and row.get("text_es"):
                found.setdefault(row["source"], []).append((row["text_en"], row["text_es"]))
    return found


def parallel(model: RouterModel, source: str, pairs: Sequence[tuple[str, str]], *, resamples: int) -> Parallel:
    """Whether a question's gain depends on its language."""
    english, spanish = (np.array([model.read(text).gain for text in side]) for side in zip(*pairs, strict=True))

    def figures(rows: Any) -> tuple[float, float]:
        return rank_correlation(english[rows], spanish[rows]), float((spanish[rows] - english[rows]).mean())

    return Parallel(source, len(pairs), *intervals(figures, len(pairs), resamples=resamples))


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


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error of `slm_success` against measured outcomes."""

    name: str
    rows: int
    said: float
    measured: float
    error: float


def calibrations(model: RouterModel, rows: Sequence[Row]) -> list[Calibration]:
    """On dev rows of the sources that were trained on, which calibration was fitted on, and of those left out."""
    parts = {
        "sources trained on": [row for row in rows if row.source not in LEFT_OUT],
        "sources left out": [row for row in rows if row.source in LEFT_OUT],
    }
    lines = []
    for name, some in parts.items():
        if some:
            said, real = [model.read(row.text).slm_success for row in some], [row.slm for row in some]
            error = calibration_error(said, real)
            lines.append(Calibration(name, len(some), float(np.mean(said)), float(np.mean(real)), error))
    return lines


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
