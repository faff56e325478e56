"""The OpenAPI document describes the gateway that runs: schemathesis asks what it allows, and what it forbids."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.wire.openapi import document
from tests.clients.environments import python_of
from tests.entries import metric
from tests.running import Running, running

CONFIG = "models:\n  small: {provider: fake, model: small-1, zone: premises, kind: slm}\n"
EXAMPLES = "10"  # of each operation


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("openapi"), CONFIG) as started:
        yield started


def test_no_request_that_the_document_allows_or_forbids_gets_an_answer_that_it_does_not_describe(
    gateway: Running, tmp_path: Path
) -> None:
    command = [
        str(python_of("schemathesis").parent / "schemathesis"), "run", f"{gateway.url}/openapi.json",
        "--max-examples", EXAMPLES, "--seed", "1", "--generation-deterministic", "--phases", "examples,fuzzing",
        "--checks", "status_code_conformance,content_type_conformance,response_schema_conformance",
        "--request-timeout", "20", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    kept = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, check=False, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert metric(gateway, "cauce_crashes_total") == 0
    assert "Traceback" not in gateway.output


def test_every_path_of_the_request_path_is_described() -> None:
    paths = document()["paths"]
    for path in ("chat/completions", "completions", "responses", "messages", "embeddings", "route"):
        assert "post" in paths[f"/v1/{path}"]
