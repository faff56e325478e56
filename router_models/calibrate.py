"""Fits the router to one deployed small model, and finds the threshold on the gain that a goal asks for.

Few outcomes must do no harm. Offset and slope are a posterior: a prior that the shipped score is right, moved as far as
the outcomes carry it (`fit`). What comes of it is measured on folds that it was not fitted on (`compared`). A threshold
is chosen by its bound, not by its estimate (`choose`). numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from router_models.calibration import Calibration, Line, today
from router_models.domain_head import ENOUGH, Head, fit_head
from router_models.evaluate import Curve, Interval, calibration_error, intervals
from router_models.router_runtime import Inputs, Scores

FEWEST: Final = 30  # outcomes of the small model: with fewer, a goal's bound says nothing
FEWEST_OF_LANGUAGE: Final = 50  # for a threshold of its own
# How far the shipped scores may be off for another small model, as standard deviations of the prior.
_SUCCESS_PRIOR: Final = ((0.0, 1.5), (1.0, 0.5))  # offset and slope, of the logit
_GAIN_PRIOR: Final = ((0.0, 0.3), (1.0, 0.5))
_LEAST_SLOPE: Final = 0.1  # the order of queries never turns round
_FOLDS: Final = 5
_SEED: Final = 20261125
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query with the router's scores, and how well each model answered it: 0 to 1, nothing where it was not asked."""

    language: str
    scores: Scores
    inputs: Inputs | None  # nothing where the text is not kept: outcomes of the ledger
    slm: float | None
    llm: float | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Outcomes as arrays; not a number where there is none."""

    said: Floats  # slm_success
    gain: Floats
    slm: Floats
    llm: Floats

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Columns:
        """From rows."""

        def column(values: Sequence[float | None]) -> Floats:
            return np.array([np.nan if value is None else value for value in values], np.float64)

        return cls(
            column([one.scores.slm_success for one in outcomes]),
            column([one.scores.gain for one in outcomes]),
            column([one.slm for one in outcomes]),
            column([one.llm for one in outcomes]),
        )

    @property
    def paired(self) -> npt.NDArray[np.bool_]:
        """The rows on which both models were scored."""
        return ~np.isnan(self.slm) & ~np.isnan(self.llm)


# ---- fitting ---------------------------------------------------------------------------------------------------------


def fit(outcomes: Sequence[Outcome], slm: str, *, with_head: bool | None = None) -> Calibration:
    """The calibration of a small model.

    `with_head` fits a head too; None: where there are outcomes enough for one and it proves itself (`domain_head.py`).
    """
    columns = Columns.of(outcomes)
    made = Calibration(
        slm,
        slm_success=_success_line(columns),
        gain=_gain_line(columns),
        outcomes=int((~np.isnan(columns.slm)).sum()),
        day=today(),
    )
    head = _head(outcomes, columns, made.gain, with_head)
    return replace(made, head=head)


def _head(outcomes: Sequence[Outcome], columns: Columns, line: Line, wanted: bool | None) -> Head | None:
    rows = [number for number in np.flatnonzero(columns.paired).tolist() if outcomes[number].inputs is not None]
    if wanted is False or len(rows) < ENOUGH:
        return None
    inputs = [one for number in rows if (one := outcomes[number].inputs) is not None]
    said = [outcomes[number].scores for number in rows]
    gains = line.offset + line.slope * columns.gain[rows]
    return fit_head(said, inputs, gains, columns.llm[rows] - columns.slm[rows], always=bool(wanted))


def _success_line(columns: Columns) -> Line:
    """Posterior mode of offset and slope of the logit (Platt 1999, with a prior), by Newton's method."""
    there = ~np.isnan(columns.slm)
    p = np.clip(columns.said[there], 1e-6, 1 - 1e-6)
    x, y = np.stack([np.ones(len(p)), np.log(p / (1 - p))], 1), columns.slm[there]
    centre, spread = np.array(_SUCCESS_PRIOR).T
    precision = np.diag(1 / spread**2)
    beta = centre.copy()
    for _ in range(30):
        said = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        hessian = (x * (said * (1 - said))[:, None]).T @ x + precision
        step = np.linalg.solve(hessian, x.T @ (y - said) - precision @ (beta - centre))
        beta = beta + step
        if float(np.abs(step).max()) < 1e-8:
            break
    return Line(float(beta[0]), max(float(beta[1]), _LEAST_SLOPE))


def _gain_line(columns: Columns) -> Line:
    """Posterior mean of offset and slope of the gain.

    From the rows that both models answered. Where most have one of the two, as those of a ledger: from the difference
    of what each model's outcomes say at a given gain; what else the policy chose the model by is left out of it.
    """
    centre, spread = np.array(_GAIN_PRIOR).T
    both = columns.paired
    one_sided = min(int((~np.isnan(columns.slm)).sum()), int((~np.isnan(columns.llm)).sum()))
    if both.sum() >= one_sided / 2:
        found = [_regression(columns.gain[both], (columns.llm - columns.slm)[both])]
    else:
        found = []
        for values, sign in ((columns.llm, 1.0), (columns.slm, -1.0)):
            there = ~np.isnan(values)
            mean, covariance = _regression(columns.gain[there], values[there])
            found.append((sign * mean, covariance))
    mean = np.sum([one for one, _ in found], axis=0)
    precision = np.linalg.inv(np.sum([covariance for _, covariance in found], axis=0))
    prior = np.diag(1 / spread**2)
    beta = np.linalg.solve(precision + prior, precision @ mean + prior @ centre)
    return Line(float(beta[0]), max(float(beta[1]), _LEAST_SLOPE))


def _regression(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Offset and slope with their covariance; few rows, or rows that are all alike, leave it as wide as it is."""
    design = np.stack([np.ones(len(x)), x], 1)
    gram = design.T @ design + np.diag([1e-3, 1e-3])
    beta = np.linalg.solve(gram, design.T @ y)
    left = y - design @ beta
    variance = max((float(left @ left) + 4 * 0.25) / (len(y) + 4), 1e-4)  # as if four rows of a coin had been seen too
    return beta, np.asarray(variance * np.linalg.inv(gram), np.float64)


# ---- what it is worth ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quality:
    """How good scores are on outcomes, each with its interval; None where there are no outcomes to tell."""

    log_loss: Interval | None
    error: Interval | None  # expected calibration error of slm_success
    apgr: Interval | None


@dataclass(frozen=True, slots=True)
class Compared:
    """The shipped scores and the calibrated ones, both on outcomes that they were not fitted on."""

    before: Quality
    after: Quality
    gains: Floats  # calibrated, each by a fit that did not see it
    chances: Floats


def compared(outcomes: Sequence[Outcome], slm: str, *, with_head: bool | None = None, resamples: int = 500) -> Compared:
    """Cross-validated: each fold's outcomes are scored by a calibration of the others.

    Offset and slope of the gain are those of all outcomes: they change no order, and lines that differ from fold to
    fold would shuffle the folds into each other.
    """
    line = _gain_line(Columns.of(outcomes))
    fold = np.random.default_rng(_SEED).permutation(len(outcomes)) % _FOLDS
    chances, gains = np.empty(len(outcomes)), np.empty(len(outcomes))
    for number in range(_FOLDS):
        made = fit([one for one, k in zip(outcomes, fold, strict=True) if k != number], slm, with_head=with_head)
        for place in np.flatnonzero(fold == number).tolist():
            said = calibrated(replace(made, gain=line), outcomes[place])
            chances[place], gains[place] = said.slm_success, said.gain
    columns = Columns.of(outcomes)
    return Compared(
        _quality(columns, columns.said, columns.gain, resamples),
        _quality(columns, chances, gains, resamples),
        gains,
        chances,
    )


def calibrated(made: Calibration, outcome: Outcome) -> Scores:
    """An outcome's scores under a calibration; without its text, those of offset and slope."""
    if outcome.inputs is None:
        made = replace(made, head=None)
    return made.scores(outcome.scores, outcome.inputs or _NO_INPUTS)


_NO_INPUTS: Final = Inputs(np.zeros(0, np.float32), np.zeros(1, np.int64))


def _quality(columns: Columns, chances: Floats, gains: Floats, resamples: int) -> Quality:
    there, both = np.flatnonzero(~np.isnan(columns.slm)), np.flatnonzero(columns.paired)

    def of_success(rows: npt.NDArray[np.int64]) -> tuple[float, float]:
        p, y = np.clip(chances[there][rows], 1e-6, 1 - 1e-6), columns.slm[there][rows]
        error = calibration_error(p.tolist(), y.tolist(), bins=10)
        return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()), error

    def of_order(rows: npt.NDArray[np.int64]) -> tuple[float]:
        chosen = both[rows]
        return (Curve.of(columns.slm[chosen], columns.llm[chosen], gains[chosen]).apgr,)

    loss, error = intervals(of_success, len(there), resamples=resamples) if len(there) else (None, None)
    apgr = intervals(of_order, len(both), resamples=resamples)[0] if len(both) >= FEWEST else None
    return Quality(loss, error, apgr)


# ---- thresholds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold must hold: at most this share of large calls, or at most this loss of quality; parts of 1."""

    kind: str  # share, loss
    most: float


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold on the gain does: the share of large calls, the quality, and what is lost against the large
    model alone, as a part of its quality. Bounds are one-sided, 95 %.
    """

    threshold: float
    share: float
    share_bound: float
    quality: float
    loss: float
    loss_bound: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """The threshold of one language, or of all others (`language` empty). `point` is None where no threshold holds."""

    language: str
    rows: int
    point: Point | None


_STEPS: Final = 101
_BOUND_RESAMPLES: Final = 1000
_NEVER: Final = 1.0  # no gain reaches it: the large model is asked for nothing


def curve(gains: Floats, slm: Floats, llm: Floats) -> list[Point]:
    """Thresholds from sending everything to the large model to sending nothing, at equal shares."""
    there = ~np.isnan(slm) & ~np.isnan(llm)
    ranked = np.sort(gains)
    cuts = [-1.0, *np.unique(np.quantile(ranked, np.linspace(0, 1, _STEPS)[1:-1])).tolist(), _NEVER]
    cuts = sorted({round(cut, 3) for cut in cuts})
    share = np.array([(gains >= cut).mean() for cut in cuts])
    upper = _share_bound(share, len(gains))
    if not there.any():
        nothing = float("nan")
        return [
            Point(c, float(s), float(u), nothing, nothing, nothing) for c, s, u in zip(cuts, share, upper, strict=True)
        ]
    small = np.array([gains[there] < cut for cut in cuts])
    s, g = slm[there], llm[there]
    loss = (small * (g - s)).mean(1) / max(float(g.mean()), 1e-9)
    # One made-up query that would be lost: resampled, it makes the bound of a loss that was not seen yet 3 in n.
    lost: Floats = np.concatenate((small * (g - s), small.any(1, keepdims=True)), 1).astype(np.float64)
    count = len(s)
    counts = (
        np.random.default_rng(_SEED)
        .multinomial(count, np.full(count + 1, 1 / (count + 1)), _BOUND_RESAMPLES)
        .astype(np.float64)
    )
    drawn = (lost @ counts.T) / np.maximum(counts[:, :-1] @ g, 1e-9)
    bound = np.quantile(drawn, 0.95, axis=1)
    quality = np.where(small, s, g).mean(1)
    return [Point(*map(float, values)) for values in zip(cuts, share, upper, quality, loss, bound, strict=True)]


def _share_bound(share: Floats, count: int) -> Floats:
    """Upper bound of a share (Wilson 1927), one-sided, 95 %."""
    z = 1.645
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.asarray(middle + half, np.float64)


def choose(points: Sequence[Point], goal: Goal) -> Point | None:
    """The threshold that keeps a goal with 95 % confidence, or None.

    A share: the lowest threshold whose bound keeps it. A loss: from the threshold that loses nothing upwards, the last
    before the bound first fails: tested in a fixed order, the many thresholds cost no confidence (Angelopoulos et al.
    2021, arXiv 2110.01052).
    """
    if goal.kind == "share":
        return next((point for point in points if point.share_bound <= goal.most), points[-1])
    best = None
    for point in points:
        if not point.loss_bound <= goal.most:
            break
        best = point
    return best


def thresholds(gains: Floats, slm: Floats, llm: Floats, languages: Sequence[str], goal: Goal) -> list[Chosen]:
    """A threshold for each language with outcomes enough, and one for all others, from all outcomes."""
    named = np.array(languages)
    measured = np.ones(len(named), bool) if goal.kind == "share" else ~np.isnan(slm) & ~np.isnan(llm)
    chosen = []
    for language in sorted(set(languages)):
        rows = named == language
        if (rows & measured).sum() >= FEWEST_OF_LANGUAGE and language and len(set(languages)) > 1:
            points = curve(gains[rows], slm[rows], llm[rows])
            chosen.append(Chosen(language, int((rows & measured).sum()), choose(points, goal)))
    chosen.append(Chosen("", int(measured.sum()), choose(curve(gains, slm, llm), goal)))
    return chosen


def bare(slm_success: float, gain: float) -> Scores:
    """Scores of which only these two are known."""
    return Scores(slm_success, float("nan"), gain, 0.0, (), ())
