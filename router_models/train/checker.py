"""Trains the answer checker: `train(out)` writes checker.onnx.

One thread, fixed seeds: the same data gives the same bytes on the same kind of machine.
    python -m router_models.train --data ../shared/data --only checker
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from torch import nn

from router_models import manifest
from router_models.checker_runtime import FILES, VERSION, PairReader, width
from router_models.encoder import Encoder
from router_models.train.checker_data import FOLDER, Pair, read_pairs
from router_models.train.watcher import Printed, Watcher

SEED: Final = 20261125
HIDDEN: Final = 32
MEMBERS: Final = 3
EPOCHS: Final = 30
FOLDS: Final = 6
_BATCH: Final = 256
_RATE: Final = 2e-3
_DECAY: Final = 0.3
_RANK_WEIGHT: Final = 1.0
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Net(nn.Module):
    """One member: a hidden layer over what a pair is read as. Gives a logit of P(acceptable), `(n,)`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)
        self.drop_in, self.drop = nn.Dropout(0.3), nn.Dropout(0.3)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.hidden(self.drop_in(pairs)))
        logits: torch.Tensor = self.out(self.drop(hidden))[:, 0]
        return logits


class Fitted:
    """An ensemble with what its inputs are normalised by."""

    def __init__(self, nets: Sequence[Net], centre: Floats, scale: Floats) -> None:
        self.nets, self.centre, self.scale = nets, centre, scale
        self.slope, self.offset = 1.0, 0.0

    def logits(self, inputs: Floats) -> Doubles:
        """The mean logit of each row, before calibration."""
        table = torch.from_numpy(normalised(inputs, self.centre, self.scale))
        with torch.no_grad():
            said = np.mean([net.eval()(table).numpy() for net in self.nets], axis=0)
        return np.asarray(said, np.float64)

    def onnx(self) -> bytes:
        """The ensemble as one graph of five nodes: `pair` (1, width) to `logit` (1, 1), calibrated."""
        weights = [{name: value.detach().numpy() for name, value in net.state_dict().items()} for net in self.nets]
        out = np.concatenate([one["out.weight"].T for one in weights]) * self.slope / len(weights)
        bias = np.mean([one["out.bias"] for one in weights]) * self.slope + self.offset
        constants = {
            "centre": self.centre[None],
            "scale": self.scale[None],
            "low": np.array(-4, np.float32),
            "high": np.array(4, np.float32),
            "hidden_w": np.concatenate([one["hidden.weight"].T for one in weights], 1),
            "hidden_b": np.concatenate([one["hidden.bias"] for one in weights])[None],
            "out_w": out.astype(np.float32),
            "out_b": np.array([[bias]], np.float32),
        }
        node = helper.make_node
        graph = helper.make_graph(
            [
                node("Sub", ["pair", "centre"], ["moved"]),
                node("Mul", ["moved", "scale"], ["scaled"]),
                node("Clip", ["scaled", "low", "high"], ["x"]),
                node("Gemm", ["x", "hidden_w", "hidden_b"], ["before"]),
                node("Relu", ["before"], ["h"]),
                node("Gemm", ["h", "out_w", "out_b"], ["logit"]),
            ],
            "checker",
            [helper.make_tensor_value_info("pair", TensorProto.FLOAT, [1, len(self.centre)])],
            [helper.make_tensor_value_info("logit", TensorProto.FLOAT, [1, 1])],
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, producer_name="cauce", opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def normalised(inputs: Floats, centre: Floats, scale: Floats) -> Floats:
    """What the network is given."""
    scaled: Floats = np.clip((inputs - centre) * scale, -4, 4).astype(np.float32)
    return scaled


def read_all(pairs: Sequence[Pair], reader: PairReader) -> Floats:
    """`(pairs, width)`."""
    return np.stack([reader(pair.question, pair.answer) for pair in pairs])


def fit(inputs: Floats, pairs: Sequence[Pair], *, epochs: int = EPOCHS) -> Fitted:
    """Train the members. Beside right and wrong it learns which of two answers to questions of one kind and language is
    the better, so that it gains nothing by telling kinds apart.
    """
    torch.set_num_threads(1)
    centre = inputs.mean(0)
    scale = (1 / np.maximum(inputs.std(0), 0.02)).astype(np.float32)
    table = torch.from_numpy(normalised(inputs, centre, scale))
    good = torch.tensor([float(pair.good) for pair in pairs])
    names = [f"{pair.source} {pair.group} {pair.language}" for pair in pairs]
    peers = torch.tensor([sorted(set(names)).index(name) for name in names])
    weight = _weights(pairs)
    nets = []
    for member in range(MEMBERS):
        torch.manual_seed(SEED + member)
        net = Net(inputs.shape[1])
        draw = np.random.default_rng(SEED + member)
        steps = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
        for _ in range(epochs):
            order = torch.from_numpy(draw.permutation(len(pairs)))
            for start in range(0, len(pairs), _BATCH):
                rows = order[start : start + _BATCH]
                loss = _loss(net(table[rows]), good[rows], peers[rows], weight[rows])
                steps.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                steps.step()
        nets.append(net.eval())
    return Fitted(nets, centre, scale)


def _weights(pairs: Sequence[Pair]) -> torch.Tensor:
    """Good and bad of each source and language weigh the same: a small model's Spanish is nearly always wrong."""
    names = [(pair.source, pair.language, pair.good) for pair in pairs]
    counts = {name: names.count(name) for name in set(names)}
    weight = torch.tensor([1 / counts[name] for name in names])
    return weight / weight.mean()


def _loss(said: torch.Tensor, good: torch.Tensor, peers: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    loss = (nn.functional.binary_cross_entropy_with_logits(said, good, reduction="none") * weight).mean()
    better = (peers[:, None] == peers[None]) & (good[:, None] > good[None])
    if bool(better.any()):
        loss = loss + _RANK_WEIGHT * nn.functional.softplus(-(said[:, None] - said[None])[better]).mean()
    return loss


def folds_of(pairs: Sequence[Pair]) -> npt.NDArray[np.int64]:
    """Which fold each pair is held out with: all pairs of a kind, and of a hand-written question, go together."""
    groups = sorted({pair.group for pair in pairs})
    place = {group: number % FOLDS for number, group in enumerate(groups)}
    return np.array([place[pair.group] for pair in pairs])


def held_out(inputs: Floats, pairs: Sequence[Pair], *, epochs: int = EPOCHS, watcher: Watcher | None = None) -> Doubles:
    """The logit that each pair gets from an ensemble that saw no question of its kind."""
    folds, said = folds_of(pairs), np.zeros(len(pairs))
    if watcher is not None:
        watcher.begins("held out", FOLDS)
    for fold in range(FOLDS):
        seen = np.nonzero(folds != fold)[0]
        if len(seen) < len(pairs):
            fitted = fit(inputs[seen], [pairs[int(row)] for row in seen], epochs=epochs)
            said[folds == fold] = fitted.logits(inputs[folds == fold])
        if watcher is not None:
            watcher.step()
    return said


def train(
    out: Path, *, answers: Path = FOLDER, artifacts: Path = manifest.FOLDER, epochs: int = EPOCHS,
    watcher: Watcher | None = None,
) -> None:  # fmt: skip
    """Train, calibrate on what was held out, and write checker.onnx into `out` with its entry in the manifest."""
    watcher = watcher or Printed()
    encoder = Encoder.load(artifacts)
    pairs = read_pairs(answers)
    inputs = read_all(pairs, PairReader(encoder))
    assert inputs.shape[1] == width(encoder)  # noqa: S101 - one width for training and the gateway
    logits = held_out(inputs, pairs, epochs=epochs, watcher=watcher)
    fitted = fit(inputs, pairs, epochs=epochs)
    fitted.slope, fitted.offset = calibrated(logits, pairs)
    out.mkdir(parents=True, exist_ok=True)
    (out / FILES[0]).write_bytes(fitted.onnx())
    manifest.record(out, FILES, version=VERSION)


def calibrated(logits: Doubles, pairs: Sequence[Pair]) -> tuple[float, float]:
    """Platt's slope and offset (1999), from held-out logits of real answers and hand-written ones."""
    real = np.array([pair.source in {"smollm2", "own"} for pair in pairs])
    good = np.array([pair.good for pair in pairs])
    model = LogisticRegression(C=100.0).fit(logits[real][:, None], good[real])
    return float(max(model.coef_[0, 0], 0.05)), float(model.intercept_[0])
