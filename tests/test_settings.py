"""A wrong cauce.yaml is refused with where it is wrong and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import load_settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1\nmodls: {}\n", "cauce.yaml:2:1: modls: there is no such setting; did you mean 'models'?"),
        ("limits: {max_flight: 3}\n", "limits.max_flight: there is no such setting; REFERENCE.md lists the settings"),
        ("models: {a: {provider: fake, model: x, zone: moon, kind: slm}}\n", "models.a.zone: Input should be"),
        ("models: {a: {provider: fake, model: x, zone: eu, kind: slm, api_key: sk-1}}\n", "literal secret"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "cauce.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_settings(file, environ={})
    assert said in str(refused.value)
