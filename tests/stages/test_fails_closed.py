"""What the privacy scan could not read counts as what the policy names: by default it stays on the premises."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.cache.store import MemoryStore
from gateway.errors import NothingAllowed
from gateway.gate import Gate
from gateway.pipeline import Pipeline, Streamed
from gateway.policy.load import load_policy
from gateway.stages.classify import Classifier, Moment
from gateway.stages.recall import Recall
from gateway.types import DataClass, Detection, Difficulty, Exchange, Inbound, Part
from gateway.upstreams.fake import FakeUpstream
from tests.builders import LARGE, SMALL, an_exchange, an_inbound

POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes: {far-first: {try: [large, small]}, far-only: {try: [large]}}
rules: []
default: far-first
"""


class Scorer:
    def score(self, _parts: Sequence[Part]) -> Difficulty:
        return Difficulty(0.1, 0.9, "open_qa", "general")


class Scanner:
    """Finds nothing, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def scan(self, _parts: Sequence[Part]) -> Detection:
        if self.error is not None:
            raise self.error
        return Detection(DataClass.PUBLIC, 0.0)


class Recorder:
    async def record(self, _exchange: Exchange) -> None:
        pass


NEAR = dataclasses.replace(SMALL, modalities=frozenset({"text", "image"}))
FAR = dataclasses.replace(LARGE, modalities=frozenset({"text", "image"}))


class Case:
    """A pipeline with a model near and a model far, and what each was sent."""

    def __init__(
        self, folder: Path, *, error: Exception | None = None, language: str = "en", policy: str = POLICY
    ) -> None:
        file = folder / "policy.yaml"
        file.write_text(policy, encoding="utf-8")
        loaded = load_policy(file)
        self.near, self.far = FakeUpstream(NEAR), FakeUpstream(FAR)
        self.failures: list[BaseException] = []
        self.store = MemoryStore(max_bytes=1_000_000, ttl_s=60)
        gate = Gate()
        self.pipeline = Pipeline(
            classifier=Classifier(
                scorer=Scorer(),
                scanners={"balanced": Scanner(error)},
                language=lambda _text: language,
                max_scan_chars=1000,
                on_failure=self.failures.append,
            ),
            policy=lambda: loaded,
            models={NEAR.id: NEAR, FAR.id: FAR},
            upstreams={NEAR.id: self.near, FAR.id: self.far},
            gate=gate,
            recall=Recall(self.store, gate=gate),
            recorder=Recorder(),
            language=lambda _text: "en",
            moment=lambda _inbound: Moment(),
            heard=lambda _model, _error: None,
        )

    def ask(self, inbound: Inbound) -> Exchange:
        async def run() -> Exchange:
            exchange = an_exchange(inbound=inbound, signals=None, decision=None)
            reply = await self.pipeline.run(inbound, exchange)
            if isinstance(reply, Streamed):
                assert [chunk async for chunk in reply.chunks]
            return exchange

        return asyncio.run(run())


TOO_LONG = (Part("user", "x" * 600), Part("field", "y" * 600))
UNREAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a scan that raises": ({"error": ValueError("could not read 12345678Z")}, {}),
    "a scan that runs out of memory": ({"error": MemoryError()}, {}),
    "a text that is too long": ({}, {"text": "x" * 1001}),
    "texts that are too long together": ({}, {"parts": TOO_LONG}),
    "a part without text": ({}, {"opaque": ("image",)}),
    "a language that the model was not trained on": ({"language": "ru"}, {"text": "слово " * 20}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", UNREAD)
def test_what_could_not_be_read_goes_nowhere_beyond_the_premises(tmp_path: Path, what: str, stream: bool) -> None:
    made, asked = UNREAD[what]
    case = Case(tmp_path, **made)
    exchange = case.ask(an_inbound(body={"stream": stream}, **asked))
    assert exchange.signals is not None
    assert exchange.signals.data is DataClass.SPECIAL
    assert (len(case.near.seen), len(case.far.seen)) == (1, 0)
    assert len(case.store) == 0


@pytest.mark.parametrize("what", UNREAD)
def test_a_pinned_model_far_away_is_not_asked_either(tmp_path: Path, what: str) -> None:
    made, asked = UNREAD[what]
    case = Case(tmp_path, **made)
    with pytest.raises(NothingAllowed, match="stay inside premises"):
        case.ask(an_inbound(model="large", **asked))
    assert not case.far.seen


def test_what_could_be_read_goes_to_the_far_model_and_into_the_cache(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.ask(an_inbound())
    assert (len(case.near.seen), len(case.far.seen), len(case.store)) == (0, 1, 1)


def test_a_failed_scan_is_heard_of(tmp_path: Path) -> None:
    error = ValueError("could not read 12345678Z")
    case = Case(tmp_path, error=error)
    case.ask(an_inbound())
    assert case.failures == [error]


@pytest.mark.parametrize(("made", "asked"), [({}, {"opaque": ("image",)}), ({"error": ValueError()}, {})])
def test_the_policy_names_the_class_of_what_was_not_read(
    tmp_path: Path, made: dict[str, Any], asked: dict[str, Any]
) -> None:
    policy = POLICY + "privacy: {unreadable: public, failure: public}\n"
    case = Case(tmp_path, policy=policy, **made)
    case.ask(an_inbound(**asked))
    assert len(case.far.seen) == 1
