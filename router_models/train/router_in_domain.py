"""What outcomes of its own domain add: the fit of `cauce router calibrate` on rows of a bench, scored on the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from router_models.calibrate import Outcome, fit
from router_models.evaluate import Measured, measured
from router_models.router_runtime import RouterModel
from router_models.train.router_evaluate import Bench

OUTCOMES: Final = 1_500
BENCHES: Final = ("mmlu", "mmlu_pro")
_LEAST_LEFT: Final = 2_000  # rows to score on
_SEED: Final = 0  # the draw that the head was chosen on: none of it is scored


@dataclass(frozen=True, slots=True)
class InDomain:
    """One bench without the rows that were fitted on: the shipped scores, length, and the calibrated scores."""

    name: str
    fitted: int
    rows: int
    head: bool
    shipped: Measured
    length: Measured
    calibrated: Measured


def in_domain(model: RouterModel, bench: Bench, *, resamples: int) -> InDomain | None:
    """None where a bench has too few rows. Which rows are fitted on is drawn once, by a fixed seed."""
    if bench.name not in BENCHES or len(bench.texts) < OUTCOMES + _LEAST_LEFT:
        return None
    inputs = [model.inputs(text) for text in bench.texts]
    rows = [
        Outcome("en", model.score(one), one, small, large)
        for one, small, large in zip(inputs, bench.small, bench.large, strict=True)
    ]
    order = np.random.default_rng(_SEED).permutation(len(rows)).tolist()
    made = fit([rows[number] for number in order[:OUTCOMES]], "bench")
    left = order[OUTCOMES:]
    small, large = [bench.small[number] for number in left], [bench.large[number] for number in left]
    scores = {
        "shipped": [rows[number].scores.gain for number in left],
        "length": [float(len(bench.texts[number])) for number in left],
        "calibrated": [made.scores(rows[number].scores, inputs[number]).gain for number in left],
    }
    figures = {name: measured(small, large, some, resamples=resamples) for name, some in scores.items()}
    return InDomain(bench.name, OUTCOMES, len(left), made.head is not None, **figures)
