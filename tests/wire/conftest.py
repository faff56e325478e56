"""A gateway that soon loses patience, for all that is sent to it badly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.entries import metric
from tests.running import Running, running
from tests.wire.asking import a_body, ask

CONFIG = """
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
limits: {body_timeout_s: 1, header_timeout_s: 1}
"""


@pytest.fixture(scope="package")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("impatient"), CONFIG) as gateway:
        yield gateway


@pytest.fixture
def gateway(impatient: Running) -> Iterator[Running]:
    """The same, and whatever the test sends, it goes on answering and has no fault of its own."""
    yield impatient
    assert ask(impatient, a_body()).status == 200
    assert metric(impatient, "cauce_crashes_total") == 0
    assert "Traceback" not in impatient.output
