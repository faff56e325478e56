"""A light head for one domain: what its own outcomes add to the router's gain.

    gain += kernel ridge on the router's inputs and scores (128 landmarks) + a weight for each hashed word or pair

It is fitted to what is left of the measured gain under offset and slope, so that regularisation draws it to the shipped
score, and kept only where it does better than that score on folds that it was not fitted on. How strong the
regularisation is, cross-validation says. The landmarks make it cheap (Williams and Seeger 2001, the Nystroem method): a
text costs one product of a (128, inputs) matrix. Chosen on the rows of MMLU-Pro in route_train and by cross-validation
inside the draw of 1,500 outcomes of MMLU that `evaluate` fits on and does not score: linear ridge on the same inputs
gave an APGR of 0.64 there, hashed words alone 0.65, the kernel 0.68, kernel and words 0.70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router_models.features import SIZE
from router_models.router_runtime import BUCKETS, Inputs, Scores

ENOUGH: Final = 500  # paired outcomes, below which no head is fitted
MOST: Final = 3_000  # that are used: the fit takes the cube of their number
LANDMARKS: Final = 128
CLIP: Final = 4.0  # of a normalised input: one odd text must not weigh more than all others
_WIDTH: Final = 1.5  # of the kernel: 2 sigma^2, over inputs whose blocks have about length 1
_STRENGTHS: Final = (1.0, 3.0, 10.0, 30.0, 100.0)
_SEEN: Final = 2  # texts that a hashed word must stand in
_FOLDS: Final = 5
_SEED: Final = 20261125
_SCORES: Final = 3
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """What is added to the gain.

    `centre`, `scale` and `factor` are `(width,)`: inputs are moved, scaled, cut, and weighed by their block.
    `landmarks` is `(n, width)` and `alpha` `(n,)`; `words` is `(BUCKETS,)`. `lengths`, `(n,)`, are the landmarks' own
    squares, worked out once.
    """

    centre: Floats
    scale: Floats
    factor: Floats
    landmarks: Floats
    alpha: Floats
    words: Floats
    bias: float
    lengths: Floats

    @classmethod
    def of(cls, *, landmarks: Floats, **rest: Any) -> Head:
        """A head from its parts."""
        return cls(landmarks=landmarks, lengths=(landmarks**2).sum(1), **rest)

    def __call__(self, said: Scores, inputs: Inputs) -> float:
        """What is added to the gain of a text."""
        x = np.minimum(np.maximum((seen(said, inputs) - self.centre) * self.scale, -CLIP), CLIP) * self.factor
        away = self.lengths - 2 * (self.landmarks @ x) + x @ x
        near: Floats = np.exp(away * np.float32(-1 / _WIDTH))
        return self.bias + float(near @ self.alpha) + float(self.words[inputs.grams].sum()) / sqrt(len(inputs.grams))


def seen(said: Scores, inputs: Inputs) -> Floats:
    """What a head sees of a text beside its words: `(width,)`: the mean vector, its shape, the router's scores."""
    dim = (len(inputs.dense) - SIZE) // 2
    scores = np.array((said.gain, said.slm_success, said.llm_success), np.float32)
    return np.concatenate((inputs.dense[:dim], inputs.dense[2 * dim :], scores))


def fit_head(
    said: Sequence[Scores],
    inputs: Sequence[Inputs],
    gains: npt.NDArray[np.float64],
    measured: npt.NDArray[np.float64],
    *,
    always: bool = False,
) -> Head | None:
    """The head that brings `gains`, the calibrated ones, nearer to the `measured`, both `(n,)`.

    None where it is not better by more than its standard error on folds that it was not fitted on, unless `always`.
    """
    chance = np.random.default_rng(_SEED)
    rows = chance.permutation(len(said))[:MOST]
    table = _Table.of([said[row] for row in rows], [inputs[row] for row in rows])
    left = (measured - gains)[rows]
    fold = chance.permutation(len(rows)) % _FOLDS
    errors = {strength: np.empty(len(rows)) for strength in _STRENGTHS}
    for number in range(_FOLDS):
        known, unknown = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        space = _Space.of(table, known, chance)
        inside, outside = space.of_rows(table, known), space.of_rows(table, unknown)
        middle, mean = inside.mean(0), left[known].mean()
        gram, cross = (inside - middle) @ (inside - middle).T, (outside - middle) @ (inside - middle).T
        for strength in _STRENGTHS:
            added = cross @ np.linalg.solve(gram + strength * np.eye(len(known)), left[known] - mean) + mean
            errors[strength][unknown] = (left[unknown] - added) ** 2
    best = min(_STRENGTHS, key=lambda strength: float(errors[strength].mean()))
    better = left**2 - errors[best]
    if not always and better.mean() < better.std() / len(better) ** 0.5:
        return None
    every = np.arange(len(rows))
    space = _Space.of(table, every, chance)
    return space.head(space.of_rows(table, every), left, best)


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows as arrays: `seen` `(n, width)`, and each row's buckets."""

    seen: npt.NDArray[np.float64]
    grams: list[npt.NDArray[np.int64]]

    @classmethod
    def of(cls, said: Sequence[Scores], inputs: Sequence[Inputs]) -> _Table:
        """From rows."""
        stacked = np.stack([seen(*pair) for pair in zip(said, inputs, strict=True)])
        return cls(stacked.astype(np.float64), [one.grams for one in inputs])


@dataclass(frozen=True, slots=True)
class _Space:
    """The space in which the head is linear: what some rows taught of scales, landmarks and words."""

    centre: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]
    landmarks: npt.NDArray[np.float64]
    whitening: npt.NDArray[np.float64]  # (landmarks, landmarks)
    rarity: npt.NDArray[np.float64]  # (BUCKETS,): of each hashed word; 0 where it is not used
    places: npt.NDArray[np.int64]  # (BUCKETS,): its column, or that of no word
    used: int

    @classmethod
    def of(cls, table: _Table, rows: npt.NDArray[np.int64], chance: np.random.Generator) -> _Space:
        """From rows."""
        part = table.seen[rows]
        centre, scale = part.mean(0), 1 / (part.std(0) + 1e-3)
        dim = part.shape[1] - SIZE - _SCORES
        sizes = np.array((dim, SIZE, _SCORES))
        factor = np.repeat(1 / np.sqrt(sizes), sizes)
        x = np.clip((part - centre) * scale, -CLIP, CLIP) * factor
        landmarks = x[chance.permutation(len(x))[:LANDMARKS]]
        values, vectors = np.linalg.eigh(_kernel(landmarks, landmarks) + 1e-3 * np.eye(len(landmarks)))
        texts = np.zeros(BUCKETS)
        for row in rows:
            texts[np.unique(table.grams[row])] += 1
        rarity = np.where(texts >= _SEEN, np.log(len(rows) / np.maximum(texts, 1)), 0.0)
        lengths = [(rarity[table.grams[row]] ** 2).sum() / len(table.grams[row]) for row in rows]
        rarity /= max(float(np.mean(lengths)) ** 0.5, 1e-6)
        used = np.flatnonzero(rarity)
        places = np.full(BUCKETS, len(used))
        places[used] = np.arange(len(used))
        return cls(centre, scale, factor, landmarks, vectors / np.sqrt(values), rarity, places, len(used))

    def of_rows(self, table: _Table, rows: npt.NDArray[np.int64]) -> Floats:
        """Rows in the space: `(n, landmarks + words)`."""
        x = np.clip((table.seen[rows] - self.centre) * self.scale, -CLIP, CLIP) * self.factor
        words = np.zeros((len(rows), self.used + 1), np.float32)
        for number, row in enumerate(rows):
            grams = table.grams[row]
            np.add.at(words[number], self.places[grams], self.rarity[grams] / len(grams) ** 0.5)
        near = _kernel(x, self.landmarks) @ self.whitening
        return np.concatenate((near.astype(np.float32), words[:, :-1]), 1)

    def head(self, rows: Floats, left: npt.NDArray[np.float64], strength: float) -> Head:
        """The ridge of all rows as the gateway runs it."""
        middle, mean = rows.mean(0), float(left.mean())
        moved = (rows - middle).astype(np.float64)
        beta = moved.T @ np.linalg.solve(moved @ moved.T + strength * np.eye(len(rows)), left - mean)
        near = len(self.landmarks)
        words = np.zeros(BUCKETS)
        used = self.rarity > 0
        words[used] = beta[near:] * self.rarity[used]
        return Head.of(
            **{name: getattr(self, name).astype(np.float32) for name in ("centre", "scale", "factor", "landmarks")},
            alpha=(self.whitening @ beta[:near]).astype(np.float32),
            words=words.astype(np.float32),
            bias=mean - float(middle @ beta),
        )


def _kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.exp(-np.maximum(square, 0) / _WIDTH), np.float64)
