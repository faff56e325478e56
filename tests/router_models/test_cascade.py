"""`make bench-cascade`: what it counts. Its figures are in the card of the checker."""

from __future__ import annotations

import numpy as np
import pytest

from router_models.train import cascade
from router_models.train.cascade import Outcomes, measured, way

# The router ranks them in this order; one is right, zero is wrong.
SIX = Outcomes(
    small=np.array([0.0, 1, 1, 0, 1, 1]),
    second=np.array([1.0, 1, 0, 0, 1, 1]),
    large=np.array([1.0, 1, 1, 1, 1, 0]),
    rank=np.array([6.0, 5, 4, 3, 2, 1]),
)


@pytest.mark.parametrize(
    ("direct", "unchecked", "wrong_agree", "expected"),
    [
        (0, 1, 1, (4 / 6, 0, 1)),  # the small one alone
        (1, 0, 1, (5 / 6, 1, 0)),  # the large one alone
        (0, 0, 1, (5 / 6, 2 / 6, 2)),  # two disagree; two wrong ones agree and are believed
        (0, 0, 0, (1, 3 / 6, 2)),  # ... or do not, and are found out
        (1 / 6, 3 / 6, 1, (5 / 6, 2 / 6, 7 / 6)),
    ],
)
def test_calls_and_quality_are_those_of_who_was_asked(
    direct: float, unchecked: float, wrong_agree: float, expected: tuple[float, float, float]
) -> None:
    found = way(SIX, direct, unchecked, wrong_agree)
    assert (found.quality, found.large, found.small) == pytest.approx(expected)


def test_a_second_opinion_that_knows_spares_large_calls_and_one_that_repeats_does_not() -> None:
    draw = np.random.default_rng(1)
    count = 2_000
    small = (draw.random(count) < 0.7).astype(float)
    halves = draw.permutation(count) % 2 == 0
    large = np.ones(count)
    knows = Outcomes(small, np.ones(count), large, draw.random(count))
    repeats = Outcomes(small, small, large, draw.random(count))
    alone = measured(knows, "router", 1.0, halves)
    assert measured(knows, "both", 1.0, halves).large < 0.5 * alone.large
    assert measured(repeats, "both", 1.0, halves).large == pytest.approx(alone.large, abs=0.05)


def test_a_model_far_behind_gives_no_second_opinion_and_a_good_one_needs_no_large_one() -> None:
    rows = [
        {"slm_scores": {"best": 1.0, "good": n % 5 > 0, "fair": n % 4 > 0, "poor": n % 2}, "llm_scores": {"top": 1.0}}
        for n in range(100)
    ]
    assert list(cascade.pairs_of(rows, np.zeros(100), "top")) == [("good", "fair")]
