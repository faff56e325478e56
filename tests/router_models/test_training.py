"""Training the router model on a little invented data. Needs torch, which `make router` installs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import ConfigError
from router_models import manifest
from router_models.encoder import Encoder
from router_models.router_runtime import FILES, TASKS, VERSION, Reader, RouterModel
from tests.router_models.small_data import outcomes, pairs, queries, write_folder, write_lines

torch = pytest.importorskip("torch", reason="torch is not installed: `make router` installs it")

from router_models.train import router  # noqa: E402 - imports torch
from router_models.train.router_data import LEFT_OUT, read_outcomes, read_pairs, read_queries  # noqa: E402


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.parts: list[list[object]] = []

    def begins(self, what: str, steps: int) -> None:
        self.parts.append([what, steps, 0])

    def step(self, said: str = "") -> None:
        self.parts[-1][2] = int(str(self.parts[-1][2])) + 1


def trained(data: Path, out: Path, watcher: Heard | None = None) -> tuple[bytes, ...]:
    """The bytes of the artefacts."""
    queries, pairs = data / "queries", data / "pairs"
    router.train(data, out, queries=queries, pairs=pairs, meanings=None, watcher=watcher or Heard())
    return tuple((out / name).read_bytes() for name in FILES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[bytes, ...], Heard]:
    """One training, for all the tests that look at it."""
    out, heard = tmp_path_factory.mktemp("out") / "artefacts", Heard()
    return out, trained(data, out, heard), heard


def test_the_same_data_gives_the_same_bytes(
    data: Path, first: tuple[Path, tuple[bytes, ...], Heard], tmp_path: Path
) -> None:
    assert trained(data, tmp_path / "again") == first[1]


def test_what_is_held_out_changes_no_byte(first: tuple[Path, tuple[bytes, ...], Heard], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    left_out = [{**row, "id": f"left-{n}", "source": sorted(LEFT_OUT)[n % 2]} for n, row in enumerate(outcomes())]
    write_lines(folder / "routing" / "route_train.jsonl.gz", [*outcomes(), *left_out])
    write_lines(folder / "queries" / "test-es.jsonl", queries(grade=4))
    assert trained(folder, tmp_path / "out") == first[1]


def test_other_grades_give_another_model(first: tuple[Path, tuple[bytes, ...], Heard], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    write_lines(folder / "queries" / "es-a-01.jsonl", queries(grade=3))
    assert trained(folder, tmp_path / "out")[0] != first[1][0]


def test_what_was_trained_is_recorded_and_loads(first: tuple[Path, tuple[bytes, ...], Heard]) -> None:
    out = first[0]
    manifest.verify(out, FILES, version=VERSION)
    scores = RouterModel.load(out, Encoder.load()).read("¿Qué es la factura?")
    assert 0 < scores.slm_success < 1
    assert json.loads((out / "router.json").read_text())["members"] == router.MEMBERS


def test_the_watcher_hears_of_every_part_and_every_step(first: tuple[Path, tuple[bytes, ...], Heard]) -> None:
    parts = first[2].parts
    assert len(parts) == 2 + router.MEMBERS
    assert [done for _, _, done in parts] == [steps for _, steps, _ in parts]


def test_the_graph_says_what_the_networks_say(data: Path, tmp_path: Path) -> None:
    encoder = Encoder.load()
    reader = Reader(encoder)
    rows = [*read_outcomes(data / "routing"), *read_queries(data / "queries")]
    nets, centre, scale = router.fit_all(rows, read_pairs(data / "pairs"), reader, watcher=Heard(), members=2)
    router.write(tmp_path, nets, centre, scale, temperature=1.5, bias=-0.25, doubtful=0.1)
    model = RouterModel.load(tmp_path, encoder)
    for text in ("¿Qué es un préstamo?", "Write a long essay about the court", "x" * 3_000):
        table = router.Table.of([reader(text)], centre, scale)
        with torch.no_grad():
            said = np.stack([net(*table.batch(np.array([0]))).numpy()[0] for net in nets])
        scores = model.read(text)
        success = 1 / (1 + np.exp(-(1.5 * said[:, 0].mean() - 0.25)))
        assert scores.slm_success == pytest.approx(success, abs=2e-3)  # the table of words is stored in half precision
        assert scores.gain == pytest.approx(np.tanh(said[:, 2]).mean(), abs=2e-3)
        tasks = said[:, 3 : 3 + len(TASKS)].mean(0)
        assert scores.tasks == pytest.approx(tuple(np.exp(tasks) / np.exp(tasks).sum()), abs=5e-3)


def test_calibration_finds_the_slope_and_offset_that_were_put_in() -> None:
    draw = np.random.default_rng(5)
    logits = draw.normal(size=4_000)
    real = (draw.random(4_000) < 1 / (1 + np.exp(-(2 * logits - 1)))).astype(float).tolist()
    slope, offset = router.calibrated((1 / (1 + np.exp(-logits))).tolist(), real)
    assert slope == pytest.approx(2, abs=0.15)
    assert offset == pytest.approx(-1, abs=0.15)


def test_a_translation_goes_with_the_question_that_it_is_of(data: Path) -> None:
    assert read_pairs(data / "pairs") == {row["id"]: row["es"] for row in pairs()}


@pytest.mark.parametrize("split", ["train", "dev"])
def test_data_of_one_split_alone_is_refused(split: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_lines(folder / "routing" / "route_train.jsonl.gz", ({**row, "split": split} for row in outcomes()))
    with pytest.raises(ConfigError, match="`train` and rows of split `dev`"):
        trained(folder, tmp_path / "out")


def test_a_folder_without_outcomes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"route_train\.jsonl\.gz is missing"):
        trained(tmp_path, tmp_path / "out")
