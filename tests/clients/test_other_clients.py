"""Clients that cannot live in one environment: each one's own features, against the running gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.environments import run_suite
from tests.running import Running
from tests.upstreams.loopback import Server


@pytest.mark.parametrize(
    ("name", "suite", "least"),
    [
        ("openai2", "openai_suite", 12),
        ("openai3", "openai_suite", 12),
        ("llamaindex", "llamaindex_suite", 5),
        ("agents", "agents_suite", 8),
    ],
)
def test_a_clients_own_features_work_through_the_gateway(
    gateway: Running, tmp_path: Path, name: str, suite: str, least: int
) -> None:
    ran = run_suite(name, suite, tmp_path, BASE_URL=gateway.base_url)
    assert not ran.failed, ran.output
    assert len(ran.passed) >= least


def test_all_of_langchains_standard_suite_that_passes_without_the_gateway_passes_through_it(
    gateway: Running, provider: Server, tmp_path: Path
) -> None:
    through = run_suite("langchain", "langchain_suite", tmp_path, BASE_URL=gateway.base_url, MODEL="small")
    direct = run_suite("langchain", "langchain_suite", tmp_path, BASE_URL=f"{provider.url}/v1", MODEL="small-1")
    assert direct.passed <= through.passed, f"{sorted(direct.passed - through.passed)}\n{through.output}"
    assert len(through.passed) >= 40, f"{sorted(direct.failed)}\n{direct.output}"
