"""Trains the privacy model: `train(data, out)` writes privacy.npz, privacy.onnx, privacy.json and privacy-names.txt.

One thread, fixed seeds: the same data gives the same bytes on the same kind of machine.
    make router DATA=../shared/data
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gateway.signals.privacy import ENTITIES, SURE, examine
from router_models import manifest
from router_models.encoder import Encoder
from router_models.privacy_runtime import (
    EMBEDDING,
    FILES,
    KINDS,
    LEVELS,
    MAX_NGRAMS,
    SHAPE,
    SPANS,
    VERSION,
    PrivacyModel,
    ngrams,
    read_names,
    semantic_rows,
    shape,
    split_words,
)
from router_models.train.files import save_npz
from router_models.train.privacy_data import (
    NOT_TRAINED_ON,
    SHARES,
    NamePool,
    Row,
    augmented,
    combined,
    read_own,
    read_public,
    read_queries,
)
from router_models.train.privacy_net import Batch, Net, as_onnx, quantised
from router_models.train.privacy_teacher import read_taught

SEED = 20261124
EPOCHS = 13
BATCH = 48
MAX_WORDS = 224
RATE = 2.5e-3
COMBINED = 0.12
COMMON_WORDS = 12000
_DATA = Path(__file__).resolve().parent.parent / "data"
OWN_MESSAGES = _DATA / "privacy"
QUERIES, JUDGED = _DATA / "queries", _DATA / "privacy-queries.jsonl"
NAMES = _DATA / "privacy-names.txt"


@dataclass(frozen=True, slots=True)
class Example:
    """A row as the network takes it."""

    words: npt.NDArray[np.int32]
    tags: npt.NDArray[np.float32]  # (words, SPANS)
    tag_mask: npt.NDArray[np.float32]  # (SPANS,)
    label: float  # -1: not scored
    level: int  # -1: not known
    kinds: npt.NDArray[np.float32]
    kinds_known: float
    weight: float


class Vocabulary:
    """Every word met so far, with what the first layer needs of it."""

    def __init__(self, names: dict[str, int], encoder: Encoder) -> None:
        self._names, self._encoder = names, encoder
        self.numbers: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self._fresh: list[str] = ["\x00"]
        self.numbers["\x00"] = 0
        self.semantic = np.zeros((0, EMBEDDING + 2), dtype=np.float32)
        self.shape = np.zeros((0, SHAPE), dtype=np.float32)
        self.ngrams = np.zeros((0, MAX_NGRAMS), dtype=np.int32)
        self.entity = np.zeros(0, dtype=np.int64)

    def ids(self, words: Sequence[str]) -> npt.NDArray[np.int32]:
        """Numbers of the words, new ones where they are new."""
        self.counts.update(words)
        for word in words:
            if word not in self.numbers:
                self.numbers[word] = len(self.numbers)
                self._fresh.append(word)
        return np.array([self.numbers[word] for word in words], dtype=np.int32)

    def settle(self) -> None:
        """Make the features of the words that are new since the last call."""
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        plain = [word for word in fresh if word[0] != "\x00"]
        semantic = np.zeros((len(fresh), EMBEDDING + 2), dtype=np.float32)
        shapes = np.zeros((len(fresh), SHAPE), dtype=np.float32)
        grams = np.zeros((len(fresh), MAX_NGRAMS), dtype=np.int32)
        entity = np.zeros(len(fresh), dtype=np.int64)
        rows = [number for number, word in enumerate(fresh) if word[0] != "\x00"]
        semantic[rows] = semantic_rows(plain, self._encoder)
        for row, word in zip(rows, plain, strict=True):
            shapes[row] = shape(word, self._names)
            hashed = ngrams(word)
            grams[row, : len(hashed)] = hashed
        for row, word in enumerate(fresh):
            if word[0] == "\x00" and len(word) > 1:
                entity[row] = 1 + ENTITIES.index(word[1:])
        self.semantic = np.concatenate([self.semantic, semantic])
        self.shape = np.concatenate([self.shape, shapes])
        self.ngrams = np.concatenate([self.ngrams, grams])
        self.entity = np.concatenate([self.entity, entity])


def as_example(row: Row, vocabulary: Vocabulary) -> Example | None:
    """A row as words and targets; None when no word is left."""
    seen = examine(row.text)
    words = split_words(seen.normal.text, seen.entities)
    count = min(len(words.names), MAX_WORDS)
    if not count:
        return None
    tags = np.zeros((count, len(SPANS)), dtype=np.float32)
    if row.spans:
        origins = [seen.normal.origin(a, b) for a, b in words.places()[:count]]
        for start, end, label in row.spans:
            column = SPANS.index(label)
            for number, (a, b) in enumerate(origins):
                if a < end and b > start:
                    tags[number, column] = 1
    mask = np.array([label in row.marked for label in SPANS], dtype=np.float32)
    mask = np.maximum(mask, tags.max(axis=0))
    kinds = np.array([kind in (row.kinds or ()) for kind in KINDS], dtype=np.float32)
    return Example(
        words=vocabulary.ids(words.names[:count]),
        tags=tags,
        tag_mask=mask,
        label=-1.0 if row.label is None else float(row.label),
        level=-1 if row.level is None else row.level,
        kinds=kinds,
        kinds_known=float(row.kinds is not None),
        weight=row.weight,
    )


def batches(
    examples: Sequence[Example], vocabulary: Vocabulary, chance: random.Random | None
) -> Iterator[tuple[Batch, list[int]]]:
    """Texts of like length together; in random order when `chance` is given."""
    order = list(range(len(examples)))
    if chance:
        chance.shuffle(order)
        chunks = [order[i : i + BATCH * 40] for i in range(0, len(order), BATCH * 40)]
        order = [number for chunk in chunks for number in sorted(chunk, key=lambda n: len(examples[n].words))]
    groups = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    if chance:
        chance.shuffle(groups)
    for group in groups:
        longest = max(len(examples[number].words) for number in group)
        padded = np.zeros((len(group), longest), dtype=np.int64)
        mask = np.zeros((len(group), longest), dtype=np.float32)
        for row, number in enumerate(group):
            words = examples[number].words
            padded[row, : len(words)] = words
            mask[row, : len(words)] = 1
        unique, inverse = np.unique(padded, return_inverse=True)
        yield (
            Batch(
                semantic=torch.from_numpy(vocabulary.semantic[unique]),
                shape=torch.from_numpy(vocabulary.shape[unique]),
                ngrams=torch.from_numpy(vocabulary.ngrams[unique].astype(np.int64)),
                entity=torch.from_numpy(vocabulary.entity[unique]),
                words=torch.from_numpy(inverse.reshape(padded.shape)),
                mask=torch.from_numpy(mask),
            ),
            group,
        )


def loss_of(net: Net, batch: Batch, chosen: Sequence[Example]) -> torch.Tensor:
    """Stay, level, kinds and the words' classes together; what is not known of a row does not count."""
    document, tagged, screened = net(batch)
    weight = torch.tensor([example.weight for example in chosen])
    label = torch.tensor([example.label for example in chosen])
    level = torch.tensor([example.level for example in chosen])
    kinds = torch.from_numpy(np.stack([example.kinds for example in chosen]))
    kinds_known = torch.tensor([example.kinds_known for example in chosen]) * weight
    tags = torch.zeros(tagged.shape)
    for row, example in enumerate(chosen):
        tags[row, : len(example.words)] = torch.from_numpy(example.tags)
    tag_mask = torch.from_numpy(np.stack([example.tag_mask for example in chosen])) * weight[:, None].clamp(max=1.5)
    known = (label >= 0).float() * weight
    binary = nn.functional.binary_cross_entropy_with_logits
    smooth = label.clamp(min=0) * 0.96 + 0.02
    stay = (binary(document[:, 0], smooth, reduction="none") * known).sum() / known.sum().clamp(min=1)
    graded = (level >= 0).float() * weight
    levels = nn.functional.cross_entropy(document[:, 1 : 1 + len(LEVELS)], level.clamp(min=0), reduction="none")
    of_level = (levels * graded).sum() / graded.sum().clamp(min=1)
    of_kinds = (
        binary(document[:, 1 + len(LEVELS) :], kinds, reduction="none").mean(1) * kinds_known
    ).sum() / kinds_known.sum().clamp(min=1)
    cells = batch.mask[:, :, None] * tag_mask[:, None, :]
    of_words = (binary(tagged, tags, reduction="none", pos_weight=torch.tensor(2.0)) * cells).sum() / cells.sum().clamp(
        min=1
    )
    of_screen = (binary(screened, smooth, reduction="none") * known).sum() / known.sum().clamp(min=1)
    return stay + 0.3 * of_screen + 0.4 * of_level + 1.0 * of_kinds + 2.0 * of_words


def fit(
    rows: Sequence[Row],
    vocabulary: Vocabulary,
    pool: NamePool,
    *,
    epochs: int = EPOCHS,
    say: Callable[[str], None] = print,
) -> Net:
    """Train on rows. Each epoch sees another variant of each."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    chance = random.Random(SEED)
    net = Net(len(ENTITIES))
    groups = [
        {"params": [p for n, p in net.named_parameters() if n == "ngram.weight"], "weight_decay": 0.05},
        {"params": [p for n, p in net.named_parameters() if n != "ngram.weight"], "weight_decay": 0.02},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    steps = epochs * (
        int(1.02 * sum(SHARES.get(row.source, 1) for row in rows)) // BATCH + 1
    )  # shares are drawn: some room
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, pct_start=0.15)
    for epoch in range(epochs):
        examples = []
        for row in rows:
            if chance.random() >= SHARES.get(row.source, 1):
                continue
            variant = augmented(row, pool, chance)
            if chance.random() < COMBINED:
                variant = combined(variant, augmented(chance.choice(rows), pool, chance), chance)
            example = as_example(variant, vocabulary)
            if example is not None:
                examples.append(example)
        vocabulary.settle()
        net.train()
        total, done = 0.0, 0
        for batch, group in batches(examples, vocabulary, chance):
            loss = loss_of(net, batch, [examples[number] for number in group])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if schedule.last_epoch < steps:
                schedule.step()
            total += float(loss.detach())
            done += 1
        say(f"epoch {epoch + 1}/{epochs}: loss {total / max(1, done):.4f}")
    net.eval()
    return net


def scores(net: Net, rows: Sequence[Row], vocabulary: Vocabulary) -> npt.NDArray[np.float32]:
    """Logits of the texts as they are."""
    examples = [as_example(row, vocabulary) for row in rows]
    vocabulary.settle()
    out = np.full((len(rows), 1 + len(LEVELS) + len(KINDS)), -20.0, dtype=np.float32)
    kept = [number for number, example in enumerate(examples) if example is not None]
    present = [example for example in examples if example is not None]
    with torch.no_grad():
        for batch, group in batches(present, vocabulary, None):
            out[[kept[number] for number in group]] = net(batch)[0].numpy()
    return out


# ---- export and operating points -------------------------------------------------------------------------------------

FALSE_ALARMS = {"balanced": 0.02, "strict": 0.05}


def export(net: Net, vocabulary: Vocabulary, out: Path, bias: float, points: dict[str, dict[str, float]]) -> None:
    """Write the artefacts."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().numpy().astype(np.float32) for name, value in net.state_dict().items()}
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, table in (("semantic", weights["semantic.weight"].T.copy()), ("ngram", weights["ngram.weight"])):
        arrays[name], arrays[f"{name}_scale"] = quantised(table)
    arrays["shape"] = weights["shape.weight"].T.astype(np.float16)
    arrays["entity"] = weights["entity.weight"][1:].astype(np.float16)
    arrays["screen_in"], arrays["screen_bias"] = (
        weights["screen_in.weight"].T.astype(np.float16),
        weights["screen_in.bias"].astype(np.float16),
    )
    arrays["screen_out"] = weights["screen_out.weight"][0].astype(np.float16)
    save_npz(out / "privacy.npz", arrays)
    (out / "privacy.onnx").write_bytes(as_onnx(net, 1.0, bias))
    common = [
        word
        for word, _ in sorted(vocabulary.counts.items(), key=lambda item: (-item[1], item[0]))
        if word[0] != "\x00" and word.isalpha()
    ]
    card = {"common": sorted(common[:COMMON_WORDS]), "entities": list(ENTITIES), "points": points, "version": VERSION}
    (out / "privacy.json").write_text(
        json.dumps(card, ensure_ascii=False, sort_keys=True, indent=0) + "\n", encoding="utf-8"
    )
    if NAMES.resolve() != (out / "privacy-names.txt").resolve():
        shutil.copyfile(NAMES, out / "privacy-names.txt")
    manifest.record(out, FILES, version=VERSION)


def train(data: Path, out: Path) -> None:
    """Train on `data/privacy` and our own messages, choose the operating points on dev, write everything into `out`."""
    names = read_names(NAMES)
    own = read_own(OWN_MESSAGES)
    public = read_public(data / "privacy", "train")
    queries = read_queries(QUERIES, JUDGED)
    encoder = Encoder.load(out if (out / "table.npy").exists() else manifest.FOLDER)
    taught = read_taught(data, encoder)
    rows = [row for row in [*public, *own["train"], *queries, *taught] if row.source not in NOT_TRAINED_ON]
    vocabulary = Vocabulary(names, encoder)
    net = fit(rows, vocabulary, NamePool.of(names))
    dev = [row for row in read_public(data / "privacy", "dev") if row.label is not None]
    with tempfile.TemporaryDirectory() as folder:
        export(
            net,
            vocabulary,
            Path(folder),
            0.0,
            {name: {"threshold": 0.5, "recall": 0.0, "false_alarms": 0.0} for name in FALSE_ALARMS},
        )
        model = PrivacyModel.load(Path(folder), encoder)
        cuts = operating_points(dev, model)
    export(
        net,
        vocabulary,
        out,
        -cuts["balanced"][0],
        {name: _point(cut, cuts["balanced"][0]) for name, cut in cuts.items()},
    )


def operating_points(dev: Sequence[Row], model: PrivacyModel) -> dict[str, tuple[float, float, float]]:
    """For each point: the cut of the model's logit, recall and false alarms on dev, identifiers included."""
    logits, always, labels = [], [], []
    for row in dev:
        seen = examine(row.text)
        stay = min(max(1e-7, *(model.read(text, entities).stay for text, entities in seen.readings)), 1 - 1e-7)
        logits.append(np.log(stay / (1 - stay)))
        always.append(any(one.data >= 2 and one.score >= SURE for one in seen.found))
        labels.append(row.label == 1)
    score, held, sensitive = np.array(logits), np.array(always), np.array(labels)
    cuts = {}
    for name, rate in FALSE_ALARMS.items():
        harmless = np.sort(np.where(held, np.inf, score)[~sensitive])[::-1]
        cut = float(harmless[int(rate * len(harmless))])
        stays = held | (score > cut)
        cuts[name] = (cut, float(stays[sensitive].mean()), float(stays[~sensitive].mean()))
    return cuts


def _point(cut: tuple[float, float, float], zero: float) -> dict[str, float]:
    """An operating point in the calibrated score, where the balanced one is 0.5."""
    return {
        "threshold": round(float(1 / (1 + np.exp(zero - cut[0]))), 4),
        "recall": round(cut[1], 4),
        "false_alarms": round(cut[2], 4),
    }
