"""The answer checker as the gateway runs it: from a question and its answer to P(acceptable).

    question, answer > tokens > mean vectors of both, their product and difference, shape of both, overlap > a small net

It reads the same encoder and features as the router. What it can see is whether an answer fits its question: it holds
no facts, and a wrong number looks to it like a right one. One thread, a fraction of a millisecond.
"""

from __future__ import annotations

import re
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from router_models.encoder import Encoder, Floats, Ids
from router_models.features import SIZE, Features
from router_models.router_runtime import focus

VERSION: Final = "1"
FILES: Final = ("checker.onnx",)
OVERLAPS: Final = 10
_READ: Final = 4_000  # characters of an answer
_DIGITS: Final = re.compile(r"\d+")


def width(encoder: Encoder) -> int:
    """How many numbers an answer is read as."""
    return 4 * encoder.dim + 2 * SIZE + OVERLAPS


class PairReader:
    """Turns a question and an answer into the network's input; shared by training and the gateway."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._features = Features(encoder)

    def __call__(self, question: str, answer: str) -> Floats:
        """`(width,)`."""
        question, answer = focus(question), answer[:_READ]
        asked, given = self._encoder.encode(question), self._encoder.encode(answer)
        one, other = self._encoder.mean(asked.ids), self._encoder.mean(given.ids)
        return np.concatenate((
            one, other, one * other * len(one) ** 0.5, np.abs(one - other),
            self._features(question, asked), self._features(answer, given),
            _overlaps(question, answer, asked.ids, given.ids, float(one @ other)),
        ))  # fmt: skip


def _overlaps(question: str, answer: str, asked: Ids, given: Ids, cosine: float) -> Floats:
    """What the two have in common, and how the answer ends."""
    one, other = set(asked.tolist()), set(given.tolist())
    both = len(one & other)
    numbers, said = set(_DIGITS.findall(question)), set(_DIGITS.findall(answer))
    tail = answer.rstrip()[-1:]
    ratio = len(given) / max(len(asked), 1)
    return np.array(
        [
            cosine, both / max(len(one), 1), both / max(len(other), 1), min(ratio, 8) / 8,
            float(bool(numbers)), len(said - numbers) / max(len(said), 1), len(numbers & said) / max(len(numbers), 1),
            float(tail in ".!?:)»\"'" and bool(tail)), float(tail == "?"), len(other) / max(len(given), 1),
        ],
        np.float32,
    )  # fmt: skip


class AnswerChecker:
    """The trained model, from its bytes or its path (of which no copy stays in memory). Never raises for a text."""

    def __init__(self, net: bytes | str, encoder: Encoder) -> None:
        import onnxruntime  # noqa: PLC0415 - only a gateway whose policy lists the check pays for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(net, options, providers=["CPUExecutionProvider"])
        self._reader = PairReader(encoder)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> AnswerChecker:
        """Read the artefact that `router_models.train.checker` wrote into `folder` (checked by the caller)."""
        return cls(str(folder / FILES[0]), encoder)

    def chance(self, question: str, answer: str) -> float:
        """P(acceptable), 0 to 1."""
        (logit,) = self._session.run(None, {"pair": self._reader(question, answer)[None]})
        value = float(logit[0, 0])
        return 1 / (1 + exp(-value)) if value > -700 else 0.0
