"""The router model as the gateway runs it: how hard a query is, what a larger model would add, what it is about.

    text > focus (what is asked, of a long text) > tokens > mean vectors, shape, hashed words > one small ONNX graph

The graph holds an ensemble of small networks; where they disagree the score is `low_confidence`. One thread.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import exp, sqrt, tanh
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from router_models.courtesy import plain
from router_models.encoder import Encoder, Floats, Ids
from router_models.features import SIZE, Features
from router_models.lexicon import LEXICON

VERSION: Final = "1"
FILES: Final = ("router.onnx", "router.json")
TASKS: Final = (
    "faq", "classify", "extract", "summarize", "translate", "rewrite",
    "recommend", "write", "code", "reason", "open_qa", "math",
)  # fmt: skip
DOMAINS: Final = ("telecom", "banking", "health", "retail", "learning", "general", "code", "law", "science")
HEAD_TOKENS: Final = 12  # the words that say what is wanted
BUCKETS: Final = 1 << 14
_MAX_GRAMS: Final = 256
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_LONG: Final = 1_800  # characters; of a longer text the paragraphs at its two ends are read
_END: Final = 800
_QUESTION: Final = 300
_GLANCE: Final = 200  # of what was pasted
_BEGINNING: Final = 120
_ASK_CLASSES: Final = (
    "write", "rewrite", "translate", "summarize", "classify", "extract", "reason", "plan", "recommend", "why", "fact",
    "amount",
)  # fmt: skip
_ASK_WORDS: Final = sorted({word for name in _ASK_CLASSES for word in LEXICON[name].split()})
_ASKING: Final = re.compile(rf"\b(?:{'|'.join(_ASK_WORDS)})\b")


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of a text. `slm_success` and `llm_success` are probabilities, `gain` is -1 to 1.

    `doubt` is the standard deviation of `gain` over the ensemble.
    """

    slm_success: float
    llm_success: float
    gain: float
    doubt: float
    tasks: tuple[float, ...]  # probabilities, in the order of `TASKS`
    domains: tuple[float, ...]  # of `DOMAINS`


def focus(text: str) -> str:
    """The part of a text that says what is asked: all of it, or the paragraph of a long one that asks, or both ends."""
    if len(text) <= _LONG:
        return text
    head, gap, after = text[:_END].partition("\n\n")
    before, other_gap, tail = text[-_END:].rpartition("\n\n")
    if not gap and not other_gap:
        return _ends(head, tail)
    first, last = _asks(head), _asks(tail)
    if first == last:  # a short paragraph is the question, a long one what it is about
        first, last = len(head) <= _QUESTION < len(tail), len(tail) <= _QUESTION < len(head)
    if first and not last:
        return f"{head}\n{after[:_GLANCE]}"
    if last and not first:
        return f"{tail}\n{before[-_GLANCE:]}"  # the question first, as it mostly stands
    return _ends(head, tail)


def _ends(head: str, tail: str) -> str:
    """Both ends, cut at a line where there is one."""
    cut = head.rfind("\n")
    head = head[:cut] if cut > _END // 3 else head
    cut = tail.find("\n")
    return f"{head}\n{tail[cut + 1 :] if -1 < cut < 2 * _END // 3 else tail}"


def _asks(block: str) -> bool:
    """Whether a paragraph asks for something: a question, or a word of asking near its beginning."""
    return "?" in block or _ASKING.search(block[:_BEGINNING].lower()) is not None


def grams(ids: Ids) -> npt.NDArray[np.int64]:
    """Hashed words and pairs of neighbouring words of a text: `(n,)` buckets, at least one; bucket 0 is none."""
    ids = ids[:_MAX_GRAMS]
    if not len(ids):
        return np.zeros(1, np.int64)
    single = ids.astype(np.uint64) + np.uint64(1)
    double = single[:-1] * np.uint64(1_000_003) + single[1:]
    mixed = np.concatenate((single, double)) * _MIX
    return ((mixed >> np.uint64(40)) % np.uint64(BUCKETS - 1)).astype(np.int64) + 1


@dataclass(frozen=True, slots=True)
class Inputs:
    """One text as the network takes it: `dense` (2 dim + SIZE,) and `grams` (n,)."""

    dense: Floats
    grams: npt.NDArray[np.int64]


class Reader:
    """Turns a text into the network's inputs; shared by training and the gateway."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._features = Features(encoder)
        self.width = 2 * encoder.dim + SIZE

    def __call__(self, text: str) -> Inputs:
        """The inputs of what is asked in a text, without courtesies."""
        text = plain(focus(text))
        tokens = self._encoder.encode(text)
        ids, encoder = tokens.ids, self._encoder
        dense = np.concatenate((encoder.mean(ids), encoder.mean(ids[:HEAD_TOKENS]), self._features(text, tokens)))
        return Inputs(dense, grams(ids))


class RouterModel:
    """The trained model. `read` takes a fraction of a millisecond and never raises for a text."""

    def __init__(self, net: bytes | str, reader: Reader, *, doubtful: float) -> None:
        import onnxruntime  # noqa: PLC0415 - only the process that scores pays for the import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(net, options, providers=["CPUExecutionProvider"])
        self._reader = reader
        self.doubtful = doubtful

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> RouterModel:
        """Read the artefacts that `router_models.train.router` wrote into `folder` (checked by the caller)."""
        card = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        return cls(str(folder / "router.onnx"), Reader(encoder), doubtful=float(card["doubtful"]))

    def read(self, text: str) -> Scores:
        """Score a text."""
        return self.score(self.inputs(text))

    def inputs(self, text: str) -> Inputs:
        """What the network sees of a text."""
        return self._reader(text)

    def score(self, inputs: Inputs) -> Scores:
        """Score what `inputs` gave."""
        (scores,) = self._session.run(None, {"dense": inputs.dense[None], "grams": inputs.grams})
        values: list[float] = scores[0].tolist()
        members = (len(values) - len(TASKS) - len(DOMAINS)) // 3
        gains = [tanh(value) for value in values[2 * members : 3 * members]]
        gain = sum(gains) / members
        return Scores(
            slm_success=_chance(sum(values[:members]) / members),
            llm_success=_chance(sum(values[members : 2 * members]) / members),
            gain=gain,
            doubt=sqrt(sum((one - gain) ** 2 for one in gains) / members),
            tasks=_chances(values[3 * members : 3 * members + len(TASKS)]),
            domains=_chances(values[3 * members + len(TASKS) :]),
        )


def _chance(logit: float) -> float:
    return 1 / (1 + exp(-logit)) if logit > -700 else 0.0  # beyond that a float overflows


def _chances(logits: list[float]) -> tuple[float, ...]:
    top = max(logits)
    parts = [exp(logit - top) for logit in logits]
    whole = sum(parts)
    return tuple(part / whole for part in parts)
