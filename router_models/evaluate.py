"""How good a router is, on measured outcomes: RouteLLM's figures (Ong et al. 2024, arXiv 2406.18665), with intervals.

A router gives every query one number, higher = more need of the large model. With c the share of queries sent to it and
quality(c) the mean outcome:

    PGR(c) = (quality(c) - small) / (large - small)     APGR = area under PGR over c; random is 0.5
    CPT(x) = the smallest c with PGR(c) >= x, in percent

Ties in the score count by their mean. Intervals are percentile bootstraps over queries, 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 200
_SEED = 7


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def shown(self, digits: int = 3) -> str:
        """`0.601 [0.583, 0.619]`."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality against the share of queries sent to the large model: both `(n + 1,)`."""

    share: Floats
    quality: Floats
    small: float
    large: float

    @classmethod
    def of(cls, small: Floats, large: Floats, score: Floats) -> Curve:
        """The whole curve: queries sent one by one, the highest score first."""
        order = np.argsort(-score, kind="stable")
        gain, ranked = (large - small)[order], score[order]
        _, start, count = np.unique(-ranked, return_index=True, return_counts=True)
        gain = np.repeat(np.add.reduceat(gain, start) / count, count)
        quality = small.mean() + np.concatenate([[0.0], np.cumsum(gain)]) / len(small)
        return cls(np.arange(len(small) + 1) / len(small), quality, float(small.mean()), float(large.mean()))

    @property
    def recovered(self) -> Floats:
        """PGR at each share; not a number where the large model is no better."""
        gap = self.large - self.small
        return (self.quality - self.small) / gap if gap else np.full_like(self.quality, np.nan)

    @property
    def apgr(self) -> float:
        """Area under PGR."""
        pgr = self.recovered
        return float(((pgr[1:] + pgr[:-1]) / 2 * np.diff(self.share)).sum())

    def cpt(self, part: float) -> float:
        """The share of large calls, in percent, that recovers this part of the gap."""
        pgr = self.recovered
        hit = np.nonzero(pgr >= part)[0]
        if not len(hit):
            return float("nan")
        at = int(hit[0])
        if at == 0:
            return 100 * float(self.share[0])
        step = pgr[at] - pgr[at - 1]
        back = (part - pgr[at - 1]) / step if step > 0 else 1.0
        return 100 * float(self.share[at - 1] + back * (self.share[at] - self.share[at - 1]))


@dataclass(frozen=True, slots=True)
class Measured:
    """One router on one set."""

    rows: int
    apgr: Interval
    cpt50: Interval
    cpt80: Interval


def measured(
    small: Sequence[float], large: Sequence[float], score: Sequence[float], *, resamples: int = RESAMPLES
) -> Measured:
    """APGR and CPT of a score on outcomes of one small and one large model."""
    s, g, r = (np.asarray(values, np.float64) for values in (small, large, score))

    def figures(rows: npt.NDArray[np.int64]) -> tuple[float, float, float]:
        curve = Curve.of(s[rows], g[rows], r[rows])
        return curve.apgr, curve.cpt(0.5), curve.cpt(0.8)

    return Measured(len(s), *intervals(figures, len(s), resamples=resamples))


def intervals(
    figures: Callable[[npt.NDArray[np.int64]], Sequence[float]], count: int, *, resamples: int = RESAMPLES
) -> list[Interval]:
    """Each figure of the whole, with the spread that it has over resampled rows."""
    chance = np.random.default_rng(_SEED)
    point = figures(np.arange(count))
    drawn = np.array([figures(chance.integers(0, count, count)) for _ in range(resamples)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return [Interval(float(p), float(a), float(b)) for p, a, b in zip(point, low, high, strict=True)]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> Floats:
    x = np.asarray(values, np.float64)
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[inverse], np.float64)


def calibration_error(chance: Sequence[float], outcome: Sequence[float], *, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass; an outcome may be a share."""
    p, y = np.asarray(chance, np.float64), np.asarray(outcome, np.float64)
    order = np.argsort(p)
    return float(sum(len(b) / len(p) * abs(p[b].mean() - y[b].mean()) for b in np.array_split(order, bins) if len(b)))
