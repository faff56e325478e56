"""The networks of the router model: trained with torch, written as ONNX by hand, the same weights as the same bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from router_models.router_runtime import BUCKETS, DOMAINS, TASKS

HIDDEN = 64
MEANING_HIDDEN = 128
BAG = 24
_BAG_SCALE = 3.0
OUTCOMES = 3
Floats = npt.NDArray[np.float32]


class Net(nn.Module):
    """One member of the ensemble: two small networks that share nothing but their inputs.

    Outcomes are read from the mean vector and the shape alone: hashed words and the first words would tie them to one
    language and to the training questions. Task and domain are read from everything.
    Outputs `(n, 3 + tasks + domains)`: logits of slm_success and llm_success, gain before tanh, logits of tasks and of
    domains.
    """

    def __init__(self, dim: int, shape: int, *, drop_in: float = 0.1, drop_hidden: float = 0.3) -> None:
        super().__init__()
        self.dim = dim
        self.hidden = nn.Linear(dim + shape, HIDDEN)
        self.out = nn.Linear(HIDDEN, OUTCOMES)
        self.bag = nn.EmbeddingBag(BUCKETS, BAG, mode="mean")
        self.meaning_hidden = nn.Linear(2 * dim + shape + BAG, MEANING_HIDDEN)
        self.meaning_out = nn.Linear(MEANING_HIDDEN, len(TASKS) + len(DOMAINS))
        self.drop_in, self.drop_hidden = nn.Dropout(drop_in), nn.Dropout(drop_hidden)
        nn.init.normal_(self.bag.weight, std=0.1)

    def forward(self, dense: torch.Tensor, grams: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Scores of a batch; `dense` is mean, first words, shape; `grams` all texts' buckets, each from its offset."""
        plain = torch.cat([dense[:, : self.dim], dense[:, 2 * self.dim :]], 1)
        outcomes = self.out(self.drop_hidden(torch.relu(self.hidden(self.drop_in(plain)))))
        whole = torch.cat([dense, self.bag(grams, offsets) * _BAG_SCALE], 1)
        meaning = self.meaning_out(self.drop_hidden(torch.relu(self.meaning_hidden(self.drop_in(whole)))))
        return torch.cat([outcomes, meaning], 1)


def _weights(net: Net) -> dict[str, Floats]:
    return {name: value.detach().numpy().astype(np.float32) for name, value in net.state_dict().items()}


def as_onnx(members: Sequence[Net], centre: Floats, scale: Floats, *, temperature: float, bias: float) -> bytes:
    """The ensemble as one graph of few nodes: `dense` (1, width) and `grams` (n,) to `scores`.

    `scores` (1, 3 members + tasks + domains): the logits of slm_success of each member, then those of llm_success, then
    the gains before tanh, then the mean logits of tasks and domains. `temperature` and `bias` calibrate slm_success.
    """
    weights = [
        {name: value.detach().numpy().astype(np.float32) for name, value in net.state_dict().items()} for net in members
    ]
    width, dim, count = len(centre), members[0].dim, len(members)
    plain = np.r_[0:dim, 2 * dim : width]
    units = count * (HIDDEN + MEANING_HIDDEN)
    hidden = np.zeros((width, units), np.float32)
    spread = np.zeros((count * BAG, units), np.float32)
    out = np.zeros((units, OUTCOMES * count + len(TASKS) + len(DOMAINS)), np.float32)
    out_b = np.zeros(out.shape[1], np.float32)
    for number, one in enumerate(weights):
        first = slice(number * HIDDEN, (number + 1) * HIDDEN)
        start = count * HIDDEN + number * MEANING_HIDDEN
        second = slice(start, start + MEANING_HIDDEN)
        hidden[plain, first] = one["hidden.weight"].T
        hidden[:, second] = one["meaning_hidden.weight"][:, :width].T
        spread[number * BAG : (number + 1) * BAG, second] = one["meaning_hidden.weight"][:, width:].T * _BAG_SCALE
        for kind in range(OUTCOMES):
            factor, offset = (temperature, bias) if kind == 0 else (1.0, 0.0)
            out[first, kind * count + number] = one["out.weight"][kind] * factor
            out_b[kind * count + number] = one["out.bias"][kind] * factor + offset
        out[second, OUTCOMES * count :] = one["meaning_out.weight"].T / count
        out_b[OUTCOMES * count :] += one["meaning_out.bias"] / count
    constants: dict[str, npt.NDArray[np.generic]] = {
        "table": np.concatenate([one["bag.weight"] for one in weights], 1).astype(np.float16),
        "centre": centre[None], "scale": scale[None], "low": np.array(-4, np.float32), "high": np.array(4, np.float32),
        "hidden_w": hidden, "spread": spread, "out_w": out, "out_b": out_b[None], "zero": np.array([0], np.int64),
        "hidden_b": np.concatenate(
            [*(one["hidden.bias"] for one in weights), *(one["meaning_hidden.bias"] for one in weights)]
        )[None],
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "grams"], ["words16"]),
        node("Cast", ["words16"], ["words"], to=TensorProto.FLOAT),
        node("ReduceMean", ["words", "zero"], ["bag"], keepdims=1),
        node("Sub", ["dense", "centre"], ["moved"]),
        node("Mul", ["moved", "scale"], ["scaled"]),
        node("Clip", ["scaled", "low", "high"], ["x"]),
        node("Gemm", ["x", "hidden_w", "hidden_b"], ["of_dense"]),
        node("Gemm", ["bag", "spread", "of_dense"], ["before"]),
        node("Relu", ["before"], ["h"]),
        node("Gemm", ["h", "out_w", "out_b"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "router",
        [
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, [1, width]),
            helper.make_tensor_value_info("grams", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, out.shape[1]])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="cauce", opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
