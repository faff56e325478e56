"""A gateway that runs notices by itself when the audit was changed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.entries import eventually
from tests.running import Running, running

CONFIG = """
discover: false
telemetry: {audit_check_hours: 0.0003}
models: {near: {provider: fake, model: near, zone: premises, kind: slm}}
"""


def problems(gateway: Running) -> float:
    families = text_string_to_metric_families(httpx.get(f"{gateway.url}/metrics").text)
    return next(family.samples[0].value for family in families if family.name == "cauce_audit_problems")


def test_an_audit_that_was_changed_is_a_metric_within_one_check(tmp_path: Path) -> None:
    with running(tmp_path, CONFIG) as gateway:
        asked = {"messages": [{"role": "user", "content": "Mi DNI es 12345678Z"}]}
        httpx.post(f"{gateway.base_url}/chat/completions", json=asked, timeout=30)
        eventually(lambda: problems(gateway) == 0, seconds=30)  # -1 until it is checked
        with sqlite3.connect(tmp_path / "cauce.db", timeout=10) as ledger:
            assert ledger.execute("UPDATE audit SET data_class = 'public' WHERE data_class = 'personal'").rowcount == 1
        eventually(lambda: problems(gateway) > 0, seconds=30)
        assert "the audit's chain is not whole" in gateway.output
