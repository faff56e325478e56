"""The networks of the router model: trained with torch, written as one ONNX graph by hand, so that the bytes depend on the weights alone."""

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
BAG = 24
_BAG_SCALE = 3.0
OUT = 3 + len(TASKS) + len(DOMAINS)
Floats = npt.NDArray[np.float32]


class Net(nn.Module):
    """One member of the ensemble: dense inputs and the mean of hashed words to scores.

    Outputs `(n, OUT)`: logits of slm_success and llm_success, gain before tanh, logits of tasks and of domains.
    """

    def __init__(self, width: int, *, drop_in: float = 0.1, drop_hidden: float = 0.3) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, BAG, mode="mean")
        self.hidden = nn.Linear(width + BAG, HIDDEN)
        self.out = nn.Linear(HIDDEN, OUT)
        self.drop_in, self.drop_hidden = nn.Dropout(drop_in), nn.Dropout(drop_hidden)
        nn.init.normal_(self.bag.weight, std=0.1)

    def forward(self, dense: torch.Tensor, grams: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Scores of a batch; `grams` are the buckets of all texts, `offsets` where each text's begin."""
        x = torch.cat([dense, self.bag(grams, offsets) * _BAG_SCALE], 1)
        return self.out(self.drop_hidden(torch.relu(self.hidden(self.drop_in(x)))))  # type: ignore[no-any-return]


def as_onnx(members: Sequence[Net], centre: Floats, scale: Floats, *, temperature: float, bias: float) -> bytes:
    """The ensemble as one graph: `dense` (1, width) and `grams` (n,) to `scores` (4 + tasks + domains,).

    `temperature` and `bias` calibrate the logit of slm_success.
    """
    weights = [{name: value.detach().numpy().astype(np.float32) for name, value in net.state_dict().items()} for net in members]
    width, count = len(centre), len(members)
    spread = np.zeros((count * BAG, count * HIDDEN), np.float32)
    for number, one in enumerate(weights):
        spread[number * BAG : (number + 1) * BAG, number * HIDDEN : (number + 1) * HIDDEN] = one["hidden.weight"][:, width:].T * _BAG_SCALE
    out_w = np.stack([one["out.weight"].T for one in weights])
    out_b = np.stack([one["out.bias"][None] for one in weights])
    out_w[:, :, 0] *= temperature
    out_b[:, :, 0] = out_b[:, :, 0] * temperature + bias
    constants: dict[str, npt.NDArray[np.generic]] = {
        "table": np.concatenate([one["bag.weight"] for one in weights], 1).astype(np.float16),
        "centre": centre[None], "scale": scale[None], "low": np.array(-4, np.float32), "high": np.array(4, np.float32),
        "hidden_w": np.concatenate([one["hidden.weight"][:, :width].T for one in weights], 1),
        "hidden_b": np.concatenate([one["hidden.bias"] for one in weights])[None],
        "spread": spread, "out_w": out_w, "out_b": out_b,
        "members": np.array([count, 1, HIDDEN], np.int64), "zero": np.array([0], np.int64), "both": np.array([0, 1], np.int64),
        "sizes": np.array([1, 1, 1, len(TASKS), len(DOMAINS)], np.int64),
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
        node("MatMul", ["bag", "spread"], ["of_words"]),
        node("Add", ["of_dense", "of_words"], ["before"]),
        node("Relu", ["before"], ["h"]),
        node("Reshape", ["h", "members"], ["each"]),
        node("MatMul", ["each", "out_w"], ["o"]),
        node("Add", ["o", "out_b"], ["logits"]),
        node("Split", ["logits", "sizes"], ["slm_l", "llm_l", "gain_l", "task_l", "domain_l"], axis=2),
        node("Tanh", ["gain_l"], ["gains"]),
        *(node("ReduceMean", [name, "both"], [f"{name}_mean"], keepdims=0) for name in ("slm_l", "llm_l", "gains", "task_l", "domain_l")),
        node("Mul", ["gains", "gains"], ["squares"]),
        node("ReduceMean", ["squares", "both"], ["square"], keepdims=0),
        node("Mul", ["gains_mean", "gains_mean"], ["mean_square"]),
        node("Sub", ["square", "mean_square"], ["variance"]),
        node("Abs", ["variance"], ["spread_out"]),
        node("Sqrt", ["spread_out"], ["doubt"]),
        node("Sigmoid", ["slm_l_mean"], ["slm"]),
        node("Sigmoid", ["llm_l_mean"], ["llm"]),
        node("Softmax", ["task_l_mean"], ["tasks"], axis=0),
        node("Softmax", ["domain_l_mean"], ["domains"], axis=0),
        node("Concat", ["slm", "llm", "gains_mean", "doubt", "tasks", "domains"], ["scores"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "router",
        [
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, [1, width]),
            helper.make_tensor_value_info("grams", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4 + len(TASKS) + len(DOMAINS)])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="cauce", opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
