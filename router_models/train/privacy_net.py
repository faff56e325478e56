"""The network of the privacy model: trained with torch; written as ONNX by hand: the weights alone make the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from router_models.privacy_runtime import EMBEDDING, KINDS, LEVELS, NGRAM_BUCKETS, SHAPE, SPANS

WIDTH = 96
HIDDEN = 128
POOLED = 128
HEADS = 4
SCREEN = 16
FIRST_KERNEL = 5
SECOND_KERNEL = 3
WORD_LOST, GRAMS_LOST, MEANING_LOST = (
    0.05,
    0.3,
    0.15,
)  # shares of words that lose all, their n-grams, or their embedding while training


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of one step: the words they hold once each, and each text as rows of them (0 is padding)."""

    semantic: torch.Tensor  # (unique, EMBEDDING + 2)
    shape: torch.Tensor  # (unique, SHAPE)
    ngrams: torch.Tensor  # (unique, MAX_NGRAMS), 0 is none
    entity: torch.Tensor  # (unique,), 0 is none
    words: torch.Tensor  # (texts, longest)
    mask: torch.Tensor  # (texts, longest)


class Net(nn.Module):
    """Word vectors, two convolutions, a score for each word and for the text; and the screen: word vectors only."""

    def __init__(self, entities: int, dropout: float = 0.25) -> None:
        super().__init__()
        self.semantic = nn.Linear(EMBEDDING + 2, WIDTH, bias=False)
        self.shape = nn.Linear(SHAPE, WIDTH, bias=False)
        self.ngram = nn.Embedding(NGRAM_BUCKETS, WIDTH, padding_idx=0)
        self.entity = nn.Embedding(entities + 1, WIDTH, padding_idx=0)
        self.first = nn.Conv1d(WIDTH, HIDDEN, FIRST_KERNEL, padding=FIRST_KERNEL // 2)
        self.second = nn.Conv1d(HIDDEN, HIDDEN, SECOND_KERNEL, padding=SECOND_KERNEL - 1, dilation=2)
        self.attention = nn.Conv1d(HIDDEN, HEADS, 1)
        self.tagger = nn.Conv1d(HIDDEN, len(SPANS), 1)
        self.pooled = nn.Linear((2 + HEADS) * HIDDEN + WIDTH + len(SPANS), POOLED)
        self.out = nn.Linear(POOLED, 1 + len(LEVELS) + len(KINDS))
        self.screen_in = nn.Linear(2 * WIDTH, SCREEN)
        self.screen_out = nn.Linear(SCREEN, 1)
        self.drop_words = nn.Dropout(dropout)
        self.drop_hidden = nn.Dropout(dropout)
        nn.init.normal_(self.ngram.weight, std=0.05)
        nn.init.normal_(self.entity.weight, std=0.3)

    def vectors(self, batch: Batch) -> torch.Tensor:
        """One vector a unique word."""
        grams = self.ngram(batch.ngrams).sum(1) / (batch.ngrams > 0).sum(1, keepdim=True).clamp(min=1)
        grams, meaning = self._lost(grams, GRAMS_LOST), self._lost(self.semantic(batch.semantic), MEANING_LOST)
        return torch.where(
            batch.entity[:, None] > 0, self.entity(batch.entity), meaning + self.shape(batch.shape) + grams
        )

    def _lost(self, rows: torch.Tensor, share: float) -> torch.Tensor:
        """While training, some rows are zero, so that the others must do."""
        if not self.training:
            return rows
        return rows * (torch.rand(len(rows), 1) >= share) / (1 - share)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the texts (texts, 1 + levels + kinds), of the words (texts, longest, spans), of the screen."""
        plain = self.vectors(batch)
        words = self.drop_words(plain)[batch.words] * batch.mask[:, :, None]
        if self.training:
            words = words * (torch.rand(batch.words.shape) >= WORD_LOST)[:, :, None]
        x = torch.relu(words.transpose(1, 2))
        mask = batch.mask[:, None, :]
        absent = (1 - mask) * 1e4
        hidden = torch.relu(self.first(x)) * mask
        hidden = (torch.relu(self.second(self.drop_hidden(hidden))) + hidden) * mask
        tagged = self.tagger(hidden)
        count = mask.sum(2).clamp(min=1)
        attended = torch.softmax(self.attention(hidden) - absent, 2) @ hidden.transpose(1, 2)
        tags = (tagged - absent).amax(2)
        parts = [
            (hidden - absent).amax(2),
            hidden.sum(2) / count,
            x.sum(2) / count,
            torch.tanh(tags / 4),
            attended.flatten(1),
        ]
        pooled = torch.relu(self.pooled(torch.cat(parts, 1)))
        return self.out(self.drop_hidden(pooled)), tagged.transpose(1, 2), self._screened(plain.detach(), batch)

    def _screened(self, plain: torch.Tensor, batch: Batch) -> torch.Tensor:
        words = plain[batch.words]
        mask = batch.mask[:, :, None]
        highest = (words - (1 - mask) * 1e4).amax(1)
        mean = (words * mask).sum(1) / mask.sum(1).clamp(min=1)
        suspicion: torch.Tensor = self.screen_out(torch.relu(self.screen_in(torch.cat([highest, mean], 1))))
        return suspicion[:, 0]


def quantised(table: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """A table as int8 rows with a scale each."""
    scale = np.abs(table).max(axis=1) / 127.0
    scale = np.maximum(scale, 1e-8).astype(np.float16).astype(np.float32)
    scale[scale == 0] = np.float32(6e-8)
    return np.clip(np.rint(table / scale[:, None]), -127, 127).astype(np.int8), scale.astype(np.float16)


def as_onnx(net: Net, temperature: float, bias: float) -> bytes:
    """The part that runs on words: input `words` (1, n, WIDTH), outputs `document` and `tagged` as probabilities.

    `temperature` and `bias` calibrate the first score: P(the text must stay).
    """
    weights = {name: value.detach().numpy().astype(np.float32) for name, value in net.state_dict().items()}
    out_weight, out_bias = weights["out.weight"].copy(), weights["out.bias"].copy()
    out_weight[0] *= temperature
    out_bias[0] = out_bias[0] * temperature + bias
    constants = {
        "first_w": weights["first.weight"], "first_b": weights["first.bias"],
        "second_w": weights["second.weight"], "second_b": weights["second.bias"],
        "tagger_w": weights["tagger.weight"], "tagger_b": weights["tagger.bias"],
        "attention_w": weights["attention.weight"], "attention_b": weights["attention.bias"],
        "pooled_w": weights["pooled.weight"].T.copy(), "pooled_b": weights["pooled.bias"],
        "out_w": out_weight.T.copy(), "out_b": out_bias, "quarter": np.array(0.25, dtype=np.float32),
        "time": np.array([2], dtype=np.int64), "flat": np.array([1, HEADS * HIDDEN], dtype=np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["words"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Relu", ["turned"], ["x"]),
        helper.make_node("Conv", ["x", "first_w", "first_b"], ["c1"], pads=[FIRST_KERNEL // 2] * 2),
        helper.make_node("Relu", ["c1"], ["h1"]),
        helper.make_node("Conv", ["h1", "second_w", "second_b"], ["c2"], pads=[SECOND_KERNEL - 1] * 2, dilations=[2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Add", ["r2", "h1"], ["h"]),
        helper.make_node("Conv", ["h", "tagger_w", "tagger_b"], ["tags"]),
        helper.make_node("ReduceMax", ["h", "time"], ["highest"], keepdims=0),
        helper.make_node("ReduceMean", ["h", "time"], ["mean"], keepdims=0),
        helper.make_node("ReduceMean", ["x", "time"], ["bag"], keepdims=0),
        helper.make_node("ReduceMax", ["tags", "time"], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "quarter"], ["smaller"]),
        helper.make_node("Tanh", ["smaller"], ["toptags"]),
        helper.make_node("Conv", ["h", "attention_w", "attention_b"], ["looks"]),
        helper.make_node("Softmax", ["looks"], ["shares"], axis=2),
        helper.make_node("Transpose", ["h"], ["hturned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["shares", "hturned"], ["seen"]),
        helper.make_node("Reshape", ["seen", "flat"], ["attended"]),
        helper.make_node("Concat", ["highest", "mean", "bag", "toptags", "attended"], ["all"], axis=1),
        helper.make_node("Gemm", ["all", "pooled_w", "pooled_b"], ["p"]),
        helper.make_node("Relu", ["p"], ["pr"]),
        helper.make_node("Gemm", ["pr", "out_w", "out_b"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["document"]),
        helper.make_node("Sigmoid", ["tags"], ["tagprob"]),
        helper.make_node("Transpose", ["tagprob"], ["tagged"], perm=[0, 2, 1]),
    ]
    outputs = 1 + len(LEVELS) + len(KINDS)
    graph = helper.make_graph(
        nodes,
        "privacy",
        [helper.make_tensor_value_info("words", TensorProto.FLOAT, [1, "n", WIDTH])],
        [
            helper.make_tensor_value_info("document", TensorProto.FLOAT, [1, outputs]),
            helper.make_tensor_value_info("tagged", TensorProto.FLOAT, [1, "n", len(SPANS)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="cauce", opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
