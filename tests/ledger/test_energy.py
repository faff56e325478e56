from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from ecologits.tracers.utils import llm_impacts
from ecologits.utils.range_value import RangeValue
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.ledger.energy import NONE_USED, NOT_KNOWN, Footprint
from gateway.ledger.grid import Grid, Mix, load_grid
from gateway.ledger.power import Measured, Stated, power
from gateway.types import Attempt, EnergyFacts, Model, Zone
from tests.builders import LARGE, SMALL, an_attempt

CLAUDE = Model("claude", "anthropic", "claude-sonnet-4-5", Zone.WORLD, "llm")
LLAMA = Model("llama", "openai-compatible", "llama", Zone.EU, "llm", energy=EnergyFacts(active_b=8.0, country="ESP"))
PHI = Model("phi", "openai-compatible", "Phi-4", Zone.EU, "llm")
ODD = Model("odd", "openai-compatible", "something", Zone.EU, "llm")


def a_footprint(*own: Mix, watts: float = 65.0, country: str = "") -> Footprint:
    grid = Grid({"ESP": own} if own else None)
    return Footprint(
        models=[LARGE, CLAUDE, LLAMA, PHI, ODD], grid=grid, power=Stated(watts), idle_watts=15.0, country=country
    )


def ends(value: RangeValue | float) -> tuple[float, float]:
    return (value.min, value.max) if isinstance(value, RangeValue) else (value, value)


@pytest.mark.parametrize("model", [LARGE, CLAUDE], ids=["of parts, with a speed", "by an alias"])
@settings(deadline=None, max_examples=40)
@given(tokens=st.integers(0, 20_000), seconds=st.floats(0.01, 300))
def test_a_cloud_calls_energy_is_what_ecologits_says(model: Model, tokens: int, seconds: float) -> None:
    said = llm_impacts(model.provider, model.model, tokens, seconds)
    impact = a_footprint().of(an_attempt(model, 10, tokens, seconds=seconds))
    assert said.energy is not None
    assert said.gwp is not None
    expected = [*(kwh * 1e9 for kwh in ends(said.energy.value)), *(kg * 1e9 for kg in ends(said.gwp.value))]
    assert dataclasses.astuple(impact) == tuple(pytest.approx(each, abs=1, rel=1e-9) for each in expected)


def test_a_range_is_as_wide_as_what_is_known_of_the_model() -> None:
    impact = a_footprint().of(an_attempt(LARGE, 10, 100))
    assert impact.energy_low_uwh is not None
    assert impact.energy_high_uwh is not None
    assert impact.energy_low_uwh < impact.energy_high_uwh


def test_the_operator_may_know_a_models_size_and_country() -> None:
    own = Mix(0.1, dt.date(2026, 1, 1), "REE")
    spain, world = (a_footprint(*mixes).of(an_attempt(LLAMA, 10, 100)) for mixes in ([own], []))
    assert spain.energy_low_uwh == world.energy_low_uwh
    assert spain.co2e_low_ug is not None
    assert world.co2e_low_ug is not None
    assert spain.co2e_low_ug < world.co2e_low_ug


def test_a_model_that_ecologits_does_not_know_has_the_size_that_our_catalogue_says() -> None:
    assert a_footprint().of(an_attempt(PHI, 10, 100)).energy_low_uwh is not None


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (an_attempt(ODD), NOT_KNOWN),
        (an_attempt(LARGE, usage=None, outcome="upstream_timeout"), NOT_KNOWN),
        (an_attempt(LARGE, usage=None, outcome="upstream_unreachable"), NONE_USED),
    ],
)
def test_what_nobody_knows_is_unknown_and_not_zero(attempt: Attempt, expected: object) -> None:
    assert a_footprint().of(attempt) == expected


def test_a_local_call_uses_seconds_times_watts_from_what_it_added_to_all_that_was_drawn() -> None:
    impact = a_footprint().of(an_attempt(SMALL, seconds=36.0))  # a hundredth of an hour at 50 to 65 W
    assert (impact.energy_low_uwh, impact.energy_high_uwh, impact.co2e_low_ug) == (500_000, 650_000, None)


def test_a_local_calls_co2e_is_that_of_the_machines_grid() -> None:
    impact = a_footprint(Mix(0.1, dt.date(2026, 1, 1), "REE"), country="ESP").of(an_attempt(SMALL, seconds=36.0))
    assert (impact.co2e_low_ug, impact.co2e_high_ug) == (50_000, 65_000)


def test_the_grid_mix_of_the_day_counts_and_the_seed_before_it() -> None:
    grid = Grid({"ESP": (Mix(0.1, dt.date(2026, 1, 1), "REE"), Mix(0.05, dt.date(2026, 6, 1), "REE"))})
    assert [grid.kg_per_kwh("ESP", dt.date(2026, month, 2)) for month in (3, 7)] == [0.1, 0.05]
    seed = grid.mix("ESP", dt.date(2025, 1, 1))
    assert seed is not None
    assert seed.source.startswith("ecologits ")
    assert grid.kg_per_kwh("XXX", dt.date(2026, 1, 2)) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ESP:\n  - {g_per_kwh: x, from: 2026-01-01}\n", ":2:6: ESP.g_per_kwh"),
        ("ESP: {g_per_kwh: 1}\n", ":1:1: ESP.from"),
        ("Spain: {g_per_kwh: 1, from: 2026-01-01}\n", ":1:1: Spain"),
        ("ESP: 3\n", ":1:1: ESP: expected"),
    ],
)
def test_a_wrong_file_of_mixes_is_refused_at_its_place(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_grid(file)
    assert f"{file}{place}" in str(caught.value)


def a_counter(folder: Path, microjoules: int) -> Path:
    zone = folder / "intel-rapl:0"
    zone.mkdir(exist_ok=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("100000000\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


def test_measured_watts_stand_over_stated_ones_and_survive_a_counter_that_wraps(tmp_path: Path) -> None:
    counter, now = a_counter(tmp_path, 90_000_000), [0.0]
    meter = Measured([counter], 65.0, clock=lambda: now[0])
    assert meter.watts() == 65.0
    for seconds, microjoules, watts in ((2.0, 96_000_000, 3.0), (3.0, 1_000_000, 5.0)):
        now[0] = seconds
        a_counter(tmp_path, microjoules)
        assert meter.watts() == watts


def test_a_machine_that_measures_nothing_draws_what_was_stated(tmp_path: Path) -> None:
    assert power(stated=65.0, measure=True, folder=tmp_path).watts() == 65.0
    a_counter(tmp_path, 5)
    assert isinstance(power(stated=65.0, measure=True, folder=tmp_path), Measured)
    assert isinstance(power(stated=65.0, measure=False, folder=tmp_path), Stated)
