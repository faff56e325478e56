"""Trains the router model: `train(data, out)` writes router.onnx and router.json.

One thread, fixed seeds: the same data gives the same bytes on the same kind of machine.
    make router DATA=../shared/data
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gateway.errors import ConfigError
from router_models import manifest
from router_models.encoder import Encoder
from router_models.features import SIZE
from router_models.router_runtime import DOMAINS, FILES, TASKS, VERSION, Inputs, Reader, RouterModel
from router_models.train.router_data import (
    LEFT_OUT,
    OWN_QUERIES,
    PAIRS,
    Row,
    outcomes_folder,
    read_outcomes,
    read_pairs,
    read_queries,
    varied,
)
from router_models.train.router_net import Net, as_onnx
from router_models.train.teacher import FILE as MEANINGS
from router_models.train.teacher import read_taught
from router_models.train.watcher import Printed, Watcher

SEED = 20261125
MEMBERS = 4
EPOCHS = 16
VARIANTS = 4  # of each row, typed otherwise
BATCH = 256
RATE = 3e-3
DECAY = 0.05
GAIN_WEIGHT, RANK_WEIGHT, SAME_WEIGHT = 3.0, 0.3, 2.0
MEANING_EPOCHS, MEANING_BATCH = 8, 128
LABELLED_TIMES, TAUGHT_WEIGHT = 3, 0.5  # a query labelled by hand counts six times one that the teacher labelled
_RANK_STEP = 0.2
_SAME_BATCH = 64
_DOUBTFUL_SHARE = 0.05  # of the training texts: those on which the members agree least
_MEAN_SCALE = 5.6  # a unit vector of 128 numbers to a standard deviation of a half
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Table:
    """Many texts as the network takes them."""

    dense: torch.Tensor
    grams: list[npt.NDArray[np.int64]]

    @classmethod
    def of(cls, inputs: Sequence[Inputs], centre: Floats, scale: Floats) -> Table:
        """Inputs, normalised."""
        dense = np.clip((np.stack([one.dense for one in inputs]) - centre) * scale, -4, 4)
        return cls(torch.from_numpy(dense.astype(np.float32)), [one.grams for one in inputs])

    def batch(self, rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Dense inputs, buckets and offsets of some rows."""
        chosen = [self.grams[row] for row in rows]
        offsets = np.cumsum([0, *(len(one) for one in chosen)])[:-1]
        return self.dense[torch.from_numpy(rows)], torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(offsets)


@dataclass(frozen=True, slots=True)
class Targets:
    """What the network should say of each row."""

    slm: torch.Tensor
    llm: torch.Tensor
    gain: torch.Tensor
    weight: torch.Tensor
    source: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Targets:
        """From rows."""
        sources = sorted({row.source for row in rows})
        return cls(
            slm=torch.tensor([row.slm for row in rows]),
            llm=torch.tensor([row.llm for row in rows]),
            gain=torch.tensor([row.llm - row.slm for row in rows]),
            weight=torch.tensor([row.weight for row in rows]),
            source=torch.tensor([sources.index(row.source) for row in rows]),
        )


def loss_of(said: torch.Tensor, targets: Targets, rows: torch.Tensor) -> torch.Tensor:
    """Outcomes, gain, and its order inside a source."""
    binary = nn.functional.binary_cross_entropy_with_logits
    weight, gain = targets.weight[rows], targets.gain[rows]
    loss = (
        (
            binary(said[:, 0], targets.slm[rows], reduction="none")
            + binary(said[:, 1], targets.llm[rows], reduction="none")
        )
        * weight
    ).mean()
    loss = loss + GAIN_WEIGHT * ((torch.tanh(said[:, 2]) - gain) ** 2 * weight).mean()
    source = targets.source[rows]
    above = (source[:, None] == source[None]) & (gain[:, None] > gain[None] + _RANK_STEP)
    if bool(above.any()):
        apart = (said[:, 2][:, None] - said[:, 2][None]) * 4
        ordered = nn.functional.softplus(-apart) * above * (gain[:, None] - gain[None])
        loss = loss + RANK_WEIGHT * ordered.sum() / above.sum()
    return loss


def fit(
    rows: Sequence[Row], tables: Sequence[Table], same: tuple[Table, Table] | None, *, seed: int, watcher: Watcher
) -> Net:
    """Train one member's outcomes on rows, a variant of each in each table. `same` are texts and their translations."""
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    targets = Targets.of(rows)
    count = len(rows)
    net = Net((tables[0].dense.shape[1] - SIZE) // 2, SIZE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * (count // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    net.train()
    for epoch in range(EPOCHS):
        order, table, total = chance.permutation(count), tables[epoch % len(tables)], 0.0
        for start in range(0, count, BATCH):
            chosen = order[start : start + BATCH]
            loss = loss_of(net(*table.batch(chosen)), targets, torch.from_numpy(chosen))
            if same is not None:
                pick = chance.integers(0, len(same[0].grams), _SAME_BATCH)
                loss = loss + SAME_WEIGHT * ((net(*same[0].batch(pick)) - net(*same[1].batch(pick)))[:, :3] ** 2).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        watcher.step(f"loss {total / (count // BATCH + 1):.4f}")
    return net


@dataclass(frozen=True, slots=True)
class Meanings:
    """Texts with task and domain: those labelled by hand, a variant in each table, then the taught."""

    tables: Sequence[Table]
    chances: torch.Tensor  # (texts, tasks + domains)
    labelled: int


def learn_meanings(net: Net, meanings: Meanings, *, seed: int, watcher: Watcher) -> None:
    """Train one member's task and domain, which share nothing with its outcomes."""
    chance = np.random.default_rng(seed)
    count, labelled = len(meanings.chances), meanings.labelled
    every = np.concatenate([np.tile(np.arange(labelled), LABELLED_TIMES), np.arange(labelled, count)])
    parameters = [p for name, p in net.named_parameters() if name.startswith(("bag", "meaning"))]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = MEANING_EPOCHS * (len(every) // MEANING_BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    net.train()
    for epoch in range(MEANING_EPOCHS):
        order, table, total = chance.permutation(every), meanings.tables[epoch % len(meanings.tables)], 0.0
        for start in range(0, len(order), MEANING_BATCH):
            chosen = order[start : start + MEANING_BATCH]
            said, wanted = net(*table.batch(chosen))[:, 3:], meanings.chances[torch.from_numpy(chosen)]
            tasks = -(wanted[:, : len(TASKS)] * torch.log_softmax(said[:, : len(TASKS)], 1)).sum(1)
            domains = -(wanted[:, len(TASKS) :] * torch.log_softmax(said[:, len(TASKS) :], 1)).sum(1)
            weight = torch.from_numpy(np.where(chosen < labelled, 1.0, TAUGHT_WEIGHT).astype(np.float32))
            loss = ((tasks + domains) * weight).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        watcher.step(f"loss {total / (len(order) // MEANING_BATCH + 1):.4f}")
    net.eval()


def train(  # noqa: PLR0913 - each by its name
    data: Path,
    out: Path,
    *,
    queries: Path = OWN_QUERIES,
    pairs: Path = PAIRS,
    meanings: Path | None = MEANINGS,
    watcher: Watcher | None = None,
) -> None:
    """Train on the outcomes in `data` and on our own queries, and write the artefacts into `out`.

    `meanings` is what the teacher said of texts without labels (`teacher.py`); without it, task and domain are learnt
    from the labelled queries alone.
    """
    watcher = watcher or Printed()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    encoder = Encoder.load(out if (out / "table.npy").exists() else manifest.FOLDER)
    outcomes = [row for row in read_outcomes(outcomes_folder(data)) if row.source not in LEFT_OUT]
    own = read_queries(queries)
    dev = [row for row in outcomes if row.dev]
    if not dev or len(dev) == len(outcomes):
        raise ConfigError("needs rows of split `train` and rows of split `dev`", where=str(outcomes_folder(data)))
    taught = read_taught(data, meanings) if meanings else []
    members, centre, scale = fit_all(
        [*outcomes, *own], read_pairs(pairs), Reader(encoder), taught=taught, watcher=watcher
    )
    watcher.begins("calibrating", 1)
    out.mkdir(parents=True, exist_ok=True)
    write(out, members, centre, scale, temperature=1.0, bias=0.0, doubtful=1.0)
    model = RouterModel.load(out, encoder)
    held = [*dev, *(row for row in own if row.dev)]
    said = [model.read(row.text) for row in held]
    temperature, bias = calibrated([scores.slm_success for scores in said], [row.slm for row in held])
    doubts = sorted(scores.doubt for scores in said)
    write(
        out,
        members,
        centre,
        scale,
        temperature=temperature,
        bias=bias,
        doubtful=doubts[int((1 - _DOUBTFUL_SHARE) * len(doubts))],
    )
    watcher.step()


def fit_all(  # noqa: PLR0913 - each by its name
    rows: Sequence[Row],
    pairs: dict[str, str],
    reader: Reader,
    *,
    watcher: Watcher,
    taught: Sequence[tuple[str, Floats]] = (),
    members: int = MEMBERS,
) -> tuple[list[Net], Floats, Floats]:
    """An ensemble trained on the rows that are not dev; with the normalisation of its dense inputs."""
    chance = random.Random(SEED)
    kept = [row for row in rows if not row.dev]
    translated = [(row, replace(row, text=pairs[row.id], lang="es")) for row in kept if row.id in pairs]
    kept += [spanish for _, spanish in translated]
    filler = [row.text for row in kept if not row.outcome and 40 < len(row.text) < 400]
    watcher.begins(f"reading {len(kept)} texts, {VARIANTS} variants of each", VARIANTS)
    variants: list[list[Inputs]] = []
    for number in range(VARIANTS):
        variants.append([reader((varied(row, chance, filler) if number else row).text) for row in kept])
        watcher.step()
    centre, scale = _normal(variants[0], reader.width)
    tables = [Table.of(one, centre, scale) for one in variants]
    same = None
    if translated:
        same = tuple(
            Table.of([reader(row.text) for row in side], centre, scale) for side in zip(*translated, strict=True)
        )
    own = [number for number, row in enumerate(kept) if not row.outcome]
    new = [reader(text) for text, _ in taught]
    meanings = Meanings(
        tables=[Table.of([*(one[number] for number in own), *new], centre, scale) for one in variants],
        chances=torch.from_numpy(
            np.stack([*(_certain(kept[number]) for number in own), *(said for _, said in taught)])
        ),
        labelled=len(own),
    )
    nets = []
    for number in range(members):
        watcher.begins(f"training member {number + 1} of {members}", EPOCHS + MEANING_EPOCHS)
        nets.append(fit(kept, tables, same, seed=SEED + number, watcher=watcher))  # type: ignore[arg-type]
        learn_meanings(nets[-1], meanings, seed=SEED + number, watcher=watcher)
    return nets, centre, scale


def _certain(row: Row) -> Floats:
    """A label as chances."""
    chances = np.zeros(len(TASKS) + len(DOMAINS), np.float32)
    chances[row.task] = chances[len(TASKS) + row.domain] = 1
    return chances


def _normal(inputs: Sequence[Inputs], width: int) -> tuple[Floats, Floats]:
    """What to take away from each dense input and what to multiply it by: mean vectors keep their direction."""
    shapes = np.stack([one.dense[-SIZE:] for one in inputs])
    centre, scale = np.zeros(width, np.float32), np.full(width, _MEAN_SCALE, np.float32)
    centre[-SIZE:], scale[-SIZE:] = shapes.mean(0), 1 / (shapes.std(0) + 1e-3)
    return centre, scale


def calibrated(said: Sequence[float], outcomes: Sequence[float]) -> tuple[float, float]:
    """Slope and offset of the logit that fit outcomes best (Platt 1999), by Newton's method."""
    chance = np.clip(np.asarray(said, np.float64), 1e-6, 1 - 1e-6)
    x = np.stack([np.log(chance / (1 - chance)), np.ones(len(chance))], 1)
    y, beta = np.asarray(outcomes, np.float64), np.array([1.0, 0.0])
    for _ in range(25):
        p = 1 / (1 + np.exp(-x @ beta))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        beta = beta + np.linalg.solve(hessian, x.T @ (y - p))
    return float(beta[0]), float(beta[1])


def write(  # noqa: PLR0913 - one parameter a number that is written
    out: Path,
    members: Sequence[Net],
    centre: Floats,
    scale: Floats,
    *,
    temperature: float,
    bias: float,
    doubtful: float,
) -> None:
    """Write the artefacts and record them in the manifest."""
    (out / "router.onnx").write_bytes(as_onnx(members, centre, scale, temperature=temperature, bias=bias))
    card = {"doubtful": round(doubtful, 5), "members": len(members), "version": VERSION}
    (out / "router.json").write_text(json.dumps(card, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    manifest.record(out, FILES, version=VERSION)
