"""The router's scores fitted to one small model: few outcomes do no harm, many help, and thresholds keep their goal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import ConfigError
from router_models import calibration, manifest
from router_models.calibrate import Columns, Goal, Outcome, bare, choose, compared, curve, fit, thresholds
from router_models.calibration import Calibration, Line, chance, logit
from router_models.encoder import Encoder
from router_models.router_runtime import Inputs, RouterModel

WORDS = ("tarifa", "router", "factura", "hipoteca", "seguro", "beca", "receta", "pedido", "viaje", "contrato")


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(manifest.FOLDER, Encoder.load())


def some(count: int, *, shift: float = 0.0, seed: int = 1, pairs: bool = True) -> list[Outcome]:
    """Outcomes of a small model whose log odds lie `shift` beside what the router says, and of a large one."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        said, gain = float(draw.uniform(0.05, 0.95)), float(draw.uniform(-0.1, 0.6))
        small = float(draw.random() < chance(logit(said) + shift))
        large = float(draw.random() < min(max(said + gain, 0.0), 1.0))
        rows.append(Outcome("es", bare(said, gain), None, small, large if pairs else None))
    return rows


# --- offset and slope -------------------------------------------------------------------------------------------------


def test_a_small_model_that_is_better_than_its_score_gets_an_offset() -> None:
    made = fit(some(300, shift=1.5), "gemma")
    assert made.slm_success.offset > 0.8
    assert (made.slm, made.outcomes) == ("gemma", 300)


def test_a_handful_of_outcomes_moves_the_scores_less_than_many() -> None:
    few, many = (fit(some(count, shift=2.0), "m").slm_success.offset for count in (5, 500))
    assert 0 < few < many


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_outcomes_that_are_all_alike_leave_sound_scores(outcome: float) -> None:
    rows = [dataclasses.replace(one, slm=outcome, llm=outcome) for one in some(40)]
    made = fit(rows, "m")
    said = made.scores(bare(0.5, 0.2), inputs_of_nothing())
    assert 0 < said.slm_success < 1
    assert -1 <= said.gain <= 1
    assert made.slm_success.slope > 0
    assert made.gain.slope > 0


def inputs_of_nothing() -> Inputs:
    return Inputs(np.zeros(0, np.float32), np.zeros(1, np.int64))


def test_no_calibration_turns_the_order_of_queries_round() -> None:
    rows = [dataclasses.replace(one, slm=1 - (one.slm or 0.0), llm=one.slm) for one in some(300)]
    made = fit(rows, "m")
    gains = [made.scores(bare(0.5, gain), inputs_of_nothing()).gain for gain in (0.0, 0.2, 0.4)]
    assert gains == sorted(gains)


def test_what_it_is_worth_is_measured_on_outcomes_that_it_was_not_fitted_on() -> None:
    found = compared(some(300, shift=1.5), "m", resamples=20)
    assert found.before.log_loss is not None
    assert found.after.log_loss is not None
    assert found.before.error is not None
    assert found.after.error is not None
    assert found.after.log_loss.value < found.before.log_loss.value
    assert found.after.error.value < found.before.error.value
    assert found.after.apgr == found.before.apgr  # offset and slope change no order


def test_where_each_query_went_to_one_model_the_gain_is_the_difference_of_both() -> None:
    rows = some(2_000, seed=3)
    split = [
        dataclasses.replace(one, llm=None) if n % 2 else dataclasses.replace(one, slm=None)
        for n, one in enumerate(rows)
    ]
    whole, parts = fit(rows, "m").gain, fit(split, "m").gain
    assert parts.offset == pytest.approx(whole.offset, abs=0.08)
    assert parts.slope == pytest.approx(whole.slope, abs=0.3)


# --- a head of its own domain -----------------------------------------------------------------------------------------


def of_words(model: RouterModel, count: int, hard: Sequence[str]) -> list[Outcome]:
    """Outcomes that hang on a word alone, which the shipped score knows nothing of."""
    draw = np.random.default_rng(4)
    rows = []
    for number in range(count):
        word = WORDS[number % len(WORDS)]
        inputs = model.inputs(f"¿Qué hago con {word} número {draw.integers(1000)}?")
        small = float(draw.random() < (0.2 if word in hard else 0.9))
        rows.append(Outcome("es", model.score(inputs), inputs, small, 0.95))
    return rows


@pytest.fixture(scope="module")
def taught(model: RouterModel) -> Calibration:
    return fit(of_words(model, 600, WORDS[:3]), "m")


def test_many_outcomes_of_one_domain_teach_what_is_hard_there(model: RouterModel, taught: Calibration) -> None:
    assert taught.head is not None
    texts = ([model.inputs(f"¿Qué hago con {word} número 5?") for word in some] for some in (WORDS[:3], WORDS[3:]))
    hard, easy = (np.mean([taught.scores(model.score(one), one).gain for one in side]) for side in texts)
    assert hard > easy + 0.3


def test_noise_teaches_no_head(model: RouterModel) -> None:
    draw = np.random.default_rng(5)
    rows = [
        dataclasses.replace(one, slm=float(draw.random() < 0.5), llm=float(draw.random() < 0.5))
        for one in of_words(model, 600, ())
    ]
    assert fit(rows, "m").head is None


def test_few_outcomes_have_no_head(model: RouterModel) -> None:
    assert fit(of_words(model, 200, WORDS[:3]), "m").head is None


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path, model: RouterModel, taught: Calibration) -> None:
    file = tmp_path / "calibration.json"
    calibration.write(file, {"m": taught, "other": Calibration("other", Line(0.5, 1.2), Line(-0.1, 0.9))})
    again = calibration.load(file, ["unknown", "m"])
    inputs = model.inputs("¿Qué hago con router número 7?")
    assert again.scores(model.score(inputs), inputs).gain == pytest.approx(
        taught.scores(model.score(inputs), inputs).gain, abs=1e-3
    )
    assert calibration.read(file)["other"].slm_success == Line(0.5, 1.2)


def test_a_calibration_for_other_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    calibration.write(file, {"m": Calibration("m")})
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "router": "0" * 16}))
    with pytest.raises(ConfigError, match=r"made for other router weights .*cauce router calibrate"):
        calibration.load(file, ["m"])


def test_a_calibration_of_no_model_here_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    calibration.write(file, {"gemma": Calibration("gemma")})
    with pytest.raises(ConfigError, match="holds gemma, and the small models here are phi"):
        calibration.load(file, ["phi"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 9, "router": "", "models": {}}', "\x00\x01"]
)
def test_a_broken_calibration_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"calibration\.json"):
        calibration.load(file, ["m"])


def test_a_calibration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        calibration.load(tmp_path / "none.json", ["m"])


@pytest.mark.parametrize("line", [{"offset": 0, "slope": -1}, {"offset": float("nan"), "slope": 1}, {"slope": 1}])
def test_numbers_that_would_turn_scores_round_are_refused(tmp_path: Path, line: dict[str, float]) -> None:
    file = tmp_path / "calibration.json"
    calibration.write(file, {"m": Calibration("m")})
    content = json.loads(file.read_text())
    content["models"]["m"]["gain"] = line
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="no calibration"):
        calibration.load(file, ["m"])


# --- thresholds -------------------------------------------------------------------------------------------------------


def columns(rows: Sequence[Outcome]) -> Columns:
    return Columns.of(rows)


def test_a_share_is_kept_with_its_bound() -> None:
    rows = columns(some(400))
    point = choose(curve(rows.gain, rows.slm, rows.llm), Goal("share", 0.3))
    assert point is not None
    assert point.share < point.share_bound <= 0.3
    assert point.share > 0.2
    assert point.share == np.mean(rows.gain >= point.threshold)


def test_fewer_outcomes_are_answered_with_more_caution() -> None:
    few, many = (columns(some(count)) for count in (60, 2_000))
    chosen = [choose(curve(rows.gain, rows.slm, rows.llm), Goal("share", 0.3)) for rows in (few, many)]
    assert chosen[0] is not None
    assert chosen[1] is not None
    assert chosen[0].share < chosen[1].share


def test_a_quality_loss_is_kept_with_its_bound() -> None:
    rows = columns(some(1_000))
    points = curve(rows.gain, rows.slm, rows.llm)
    tight, loose = (choose(points, Goal("loss", most)) for most in (0.02, 0.3))
    assert tight is not None
    assert loose is not None
    assert tight.loss <= tight.loss_bound <= 0.02
    assert tight.threshold < loose.threshold


def test_a_goal_that_nothing_keeps_sends_everything_or_nothing_to_the_large_model() -> None:
    rows = columns(some(40))
    points = curve(rows.gain, rows.slm, rows.llm)
    nothing, everything = choose(points, Goal("share", 0.0)), choose(points, Goal("loss", 0.0))
    assert nothing is not None
    assert everything is not None
    assert nothing.share == 0.0
    assert everything.share == 1.0


def test_a_language_with_outcomes_enough_has_its_own_threshold() -> None:
    spanish = some(200)
    english = [dataclasses.replace(one, language="en", scores=bare(0.5, one.scores.gain + 0.3)) for one in some(200)]
    french = [dataclasses.replace(one, language="fr") for one in some(10)]
    every = [*spanish, *english, *french]
    rows = columns(every)
    found = thresholds(rows.gain, rows.slm, rows.llm, [one.language for one in every], Goal("share", 0.3))
    values = {one.language: one.point.threshold for one in found if one.point}
    assert set(values) == {"en", "es", ""}
    assert values["en"] > values["es"] + 0.2
