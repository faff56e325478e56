"""The figures of a router: by hand where they can be, by their laws where they cannot."""

from __future__ import annotations

import math
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from router_models.evaluate import Curve, Interval, calibration_error, intervals, measured, rank_correlation

SMALL = [0.0, 1.0, 0.0, 1.0]
LARGE = [1.0, 1.0, 0.0, 1.0]
GAIN = [1.0, 0.0, 0.0, 0.0]  # only the first question is worth a large model


def curve(small: list[float], large: list[float], score: list[float]) -> Curve:
    return Curve.of(*(np.asarray(values, np.float64) for values in (small, large, score)))


def apgr(score: list[float], small: list[float] = SMALL, large: list[float] = LARGE) -> float:
    return curve(small, large, score).apgr


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_who_knows_the_outcome_recovers_the_gap_with_the_first_call() -> None:
    known = curve(SMALL, LARGE, GAIN)
    assert known.recovered.tolist() == [0, 1, 1, 1, 1]
    assert known.apgr == 0.875  # a triangle of a quarter's width, then all of it
    assert known.cpt(0.5) == 12.5
    assert known.cpt(0.8) == pytest.approx(20.0)


def test_who_knows_it_and_sends_the_wrong_ones_first_recovers_it_with_the_last() -> None:
    wrong = curve(SMALL, LARGE, [-gain for gain in GAIN])
    assert wrong.recovered.tolist() == [0, 0, 0, 0, 1]
    assert wrong.apgr == 0.125
    assert wrong.cpt(0.5) == 87.5


def test_a_tie_is_chance() -> None:
    tied = curve(SMALL, LARGE, [7, 7, 7, 7])
    assert tied.recovered.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert tied.apgr == 0.5
    assert tied.cpt(0.5) == 50
    assert tied.cpt(0.8) == pytest.approx(80)


def test_a_tie_of_two_shares_what_it_gains() -> None:
    half = curve(SMALL, LARGE, [2, 2, 1, 1])
    assert half.recovered.tolist() == [0, 0.5, 1, 1, 1]
    assert half.apgr == 0.75


def test_the_oracle_beats_one_where_the_large_model_is_sometimes_worse() -> None:
    both = curve([0, 0, 1], [1, 1, 0], [1, 1, -1])
    assert both.recovered == pytest.approx([0, 1, 2, 1])
    assert both.apgr == pytest.approx(7 / 6)


def test_chance_is_a_half_in_the_mean() -> None:
    draw = np.random.default_rng(1)
    small = draw.integers(0, 2, 4000).astype(float).tolist()
    large = draw.integers(0, 2, 4000).clip(0, 1).astype(float)
    large = np.maximum(large, small).tolist()
    assert apgr(draw.random(4000).tolist(), small, large) == pytest.approx(0.5, abs=0.03)


def test_outcomes_may_be_marks_out_of_ten() -> None:
    assert apgr(GAIN, [10 * s for s in SMALL], [10 * s for s in LARGE]) == 0.875


def test_where_the_large_model_is_no_better_there_is_nothing_to_recover() -> None:
    even = curve([0, 1], [1, 0], [2, 1])
    assert math.isnan(even.apgr)
    assert math.isnan(even.cpt(0.5))


# --- by law -----------------------------------------------------------------------------------------------------------

OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]), st.integers(-5, 5).map(float)),
    min_size=2,
    max_size=40,
)


def split(rows: list[tuple[float, float, float]]) -> tuple[list[float], list[float], list[float]]:
    small, large, score = (list(values) for values in zip(*rows, strict=True))
    assume(abs(sum(large) - sum(small)) > 1e-6)
    return small, large, score


@settings(deadline=None)
@given(OUTCOMES)
def test_a_ranking_and_its_reverse_share_the_whole(rows: list[tuple[float, float, float]]) -> None:
    small, large, score = split(rows)
    assert apgr(score, small, large) + apgr([-one for one in score], small, large) == pytest.approx(1, abs=1e-6)


@settings(deadline=None)
@given(OUTCOMES)
def test_no_ranking_beats_the_oracle(rows: list[tuple[float, float, float]]) -> None:
    small, large, score = split(rows)
    assume(sum(large) > sum(small))
    gain = [b - a for a, b in zip(small, large, strict=True)]
    assert apgr(score, small, large) <= apgr(gain, small, large) + 1e-9


@settings(deadline=None)
@given(OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_and_the_scale_of_the_score_do_not_matter(
    rows: list[tuple[float, float, float]], chance: random.Random
) -> None:
    small, large, score = split(rows)
    whole = apgr(score, small, large)
    chance.shuffle(rows)
    small, large, score = split(rows)
    assert apgr([math.exp(one) for one in score], small, large) == pytest.approx(whole, abs=1e-6)


@settings(deadline=None)
@given(OUTCOMES)
def test_more_of_the_gap_takes_no_fewer_calls(rows: list[tuple[float, float, float]]) -> None:
    one = curve(*split(rows))
    parts = [one.cpt(part) for part in (0.2, 0.5, 0.8)]
    assert parts == sorted(parts)
    assert all(0 <= part <= 100 for part in parts)


# --- intervals, correlation, calibration ------------------------------------------------------------------------------


def test_an_interval_holds_its_figure_and_is_the_same_each_time() -> None:
    draw = np.random.default_rng(3)
    small = draw.integers(0, 2, 300).astype(float).tolist()
    large = np.maximum(draw.integers(0, 2, 300), small).astype(float).tolist()
    score = draw.random(300).tolist()
    first, again = (measured(small, large, score, resamples=60) for _ in range(2))
    assert first == again
    assert first.rows == 300
    for figure in (first.apgr, first.cpt50, first.cpt80):
        assert figure.low <= figure.value <= figure.high
    assert first.apgr.high - first.apgr.low < 0.4


def test_what_does_not_vary_has_no_width() -> None:
    def always(_rows: npt.NDArray[np.int64]) -> tuple[float]:
        return (0.25,)

    assert intervals(always, 10, resamples=5) == [Interval(0.25, 0.25, 0.25)]


def test_an_interval_reads_as_figure_and_bounds() -> None:
    assert Interval(0.6014, 0.58, 0.62).shown() == "0.601 [0.580, 0.620]"
    assert Interval(41.26, 40, 43.04).shown(1) == "41.3 [40.0, 43.0]"


def test_rank_correlation_looks_at_the_order_alone() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 3000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)  # the tie has rank 1.5 twice


def test_a_score_that_says_what_happens_has_no_calibration_error() -> None:
    assert calibration_error([0.5] * 4, [0, 1, 0, 1], bins=1) == 0
    assert calibration_error([0.2, 0.8], [0.2, 0.8], bins=2) == pytest.approx(0)


def test_calibration_error_is_the_mean_distance_of_a_bin() -> None:
    assert calibration_error([0.9] * 10, [0] * 10) == pytest.approx(0.9)
    # two bins: says 0.1 where 0.5 happens, and 0.9 where 0.9 does
    assert calibration_error([0.1, 0.1, 0.9, 0.9], [0, 1, 0.8, 1], bins=2) == pytest.approx(0.2)
