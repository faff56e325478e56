"""One gateway and one provider behind it, for every client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.provider import answer
from tests.running import Running, running
from tests.upstreams.loopback import Server
from tests.upstreams.threaded import served

_MODEL = "{{provider: openai-compatible, base_url: '{url}/v1', model: {model}, zone: premises, kind: {kind}{more}}}"


def config(url: str) -> str:
    """One model that answers, and one for each way of failing. No cache: the tests count calls."""
    sound = _MODEL.format(url=url, model="small-1", kind="slm", more=", modalities: [image]")
    failing = {
        name: _MODEL.format(url=url, model=f"{name}-1", kind="llm", more=", retries: {most: 0}, breaker: {failures: 0}")
        for name in ("busy", "down", "picky", "full")
    }
    lines = "\n".join(f"  {name}: {entry}" for name, entry in {"small": sound, **failing}.items())
    return f"models:\n{lines}\ncache: {{enabled: false}}\n"


@pytest.fixture(scope="package")
def provider() -> Iterator[Server]:
    with served(answer) as server:
        yield server


@pytest.fixture(scope="package")
def gateway(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("clients"), config(provider.url)) as started:
        yield started
