"""A sentence written as a name, as a function's or a file's, is read as the sentence that it is."""

from __future__ import annotations

import pytest

from gateway.signals.privacy import PrivacyScanner, examine
from gateway.types import DataClass, Part
from router_models import manifest


@pytest.fixture(scope="module")
def scanner() -> PrivacyScanner:
    return PrivacyScanner.load(manifest.FOLDER)


@pytest.mark.parametrize(
    "name",
    [
        "llevo_5_dias_con_ansiedad_y_tomo_sertralina",
        "llevo-5-dias-con-ansiedad-y-tomo-sertralina.pdf",
        "i_was_diagnosed_with_bipolar_disorder_last_year",
    ],
)
def test_a_health_statement_in_a_name_is_special(name: str, scanner: PrivacyScanner) -> None:
    assert scanner.scan([Part("tools", name)]).data is DataClass.SPECIAL


@pytest.mark.parametrize(
    "name",
    ["get_current_weather_by_city_name", "550e8400-e29b-41d4-a716-446655440000", "max_output_tokens_per_request"],
)
def test_an_ordinary_name_stays_what_it_is(name: str, scanner: PrivacyScanner) -> None:
    assert scanner.scan([Part("tools", name)]).data is DataClass.PUBLIC


def test_a_short_name_is_not_read_twice() -> None:
    assert examine("get_current_weather").decoded == []


def test_a_run_of_letters_however_long_is_looked_at_once() -> None:
    """Quadratic work on it would take hours, not a moment."""
    assert examine("a" * 400_000 + " - b").decoded == []
