"""`POST /v1/feedback`: a caller scores its own answers; no text is kept, and an erasure takes the score away."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CauceError
from gateway.ledger.feedback import outcomes
from gateway.ledger.report import Period
from gateway.ledger.store import open_engine
from gateway.wire.feedback import read_feedback
from tests.running import Running, running
from tests.wire.asking import Reply, a_body, ask

CONFIG = """
discover: false
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  large: {provider: fake, model: large-1, zone: world, kind: llm}
"""


def cauce(folder: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *arguments], cwd=folder, capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, Any], dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("feedback")
    (folder / "cauce.yaml").write_text(CONFIG)
    one, two = (cauce(folder, "keys", "create", "--team", name, "--app", "bot", "--json") for name in ("a", "b"))
    with running(folder, CONFIG) as gateway:
        yield gateway, one, two


def asked(gateway: Running, key: dict[str, Any], model: str = "small") -> str:
    reply = ask(gateway, a_body(model=model), {"authorization": f"Bearer {key['key']}"})
    assert reply.status == 200, reply.raw
    return reply.headers["x-cauce-request-id"]


def feed(gateway: Running, key: dict[str, Any], **body: object) -> Reply:
    raw = json.dumps(body).encode()
    return ask(gateway, raw, {"authorization": f"Bearer {key['key']}"}, path="/v1/feedback")


def kept(gateway: Running) -> dict[str, tuple[object, ...]]:
    with sqlite3.connect(gateway.folder / "cauce.db") as database:
        return {row[0]: row for row in database.execute("SELECT * FROM feedback")}


def test_a_score_is_kept_for_the_callers_own_request(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    gateway, one, _ = keys
    request_id = asked(gateway, one)
    reply = feed(gateway, one, request_id=request_id, score=0.25)
    assert (reply.status, json.loads(reply.raw)) == (200, {"request_id": request_id, "score": 0.25})
    assert feed(gateway, one, request_id=request_id, accepted=True).status == 200
    assert kept(gateway)[request_id][3] == 1.0  # the last word counts


def test_a_comment_is_not_kept_and_the_caller_is_told(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    gateway, one, _ = keys
    request_id = asked(gateway, one)
    reply = feed(gateway, one, request_id=request_id, accepted=False, comment="zanahoria indiscreta")
    assert json.loads(reply.raw)["comment"] == "not kept: the ledger holds no text"
    for file in (gateway.folder / "cauce.db", gateway.folder / "cauce.db-wal", gateway.folder / "output.log"):
        assert not file.exists() or b"zanahoria" not in file.read_bytes()


def test_another_callers_request_is_as_unknown_as_none(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    gateway, one, two = keys
    request_id = asked(gateway, one)
    for key, named in ((two, request_id), (one, "req_nothing")):
        reply = feed(gateway, key, request_id=named, score=1)
        assert (reply.status, json.loads(reply.raw)["error"]["code"]) == (404, "request_not_found")
    assert request_id not in kept(gateway)


def test_without_a_key_nobody_scores(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    reply = ask(keys[0], b"{}", {}, path="/v1/feedback")
    assert reply.status == 401


def test_scores_are_outcomes_of_the_model_that_answered(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    gateway, one, _ = keys
    engine = open_engine(f"sqlite:///{gateway.folder / 'cauce.db'}")
    before = len(list(outcomes(engine, "small", Period())))
    feed(gateway, one, request_id=asked(gateway, one, "small"), score=0.5)
    feed(gateway, one, request_id=asked(gateway, one, "large"), score=0.75)
    found = list(outcomes(engine, "small", Period()))
    assert len(found) == before + 2
    assert (None, 0.75) in [(row.slm, row.llm) for row in found]
    assert (0.5, None) in [(row.slm, row.llm) for row in found]
    assert all(0 < row.slm_success < 1 and row.language for row in found)
    engine.dispose()


def test_an_erasure_takes_the_scores_away(keys: tuple[Running, dict[str, Any], dict[str, Any]]) -> None:
    gateway, one, two = keys
    mine, others = asked(gateway, two), asked(gateway, one)
    feed(gateway, two, request_id=mine, score=1)
    feed(gateway, one, request_id=others, score=1)
    cauce(gateway.folder, "audit", "erase", "--caller", two["id"], "--yes", "--json")
    assert mine not in kept(gateway)
    assert others in kept(gateway)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "request_id"),
        ({"request_id": 7, "score": 1}, "request_id"),
        ({"request_id": "x" * 500, "score": 1}, "request_id"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "r", "score": 1, "accepted": True}, "score"),
        ({"request_id": "r", "score": 2}, "score"),
        ({"request_id": "r", "score": True}, "score"),
        ({"request_id": "r", "score": "1"}, "score"),
        ({"request_id": "r", "accepted": 1}, "accepted"),
        ({"request_id": "r", "score": 1, "comment": 3}, "comment"),
        ({"request_id": "r", "score": 1, "stars": 5}, "stars"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, object], param: str) -> None:
    with pytest.raises(CauceError) as caught:
        read_feedback(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b'{"request_id": "r", "score": NaN}'])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(CauceError) as caught:
        read_feedback(raw)
    assert caught.value.status == 400
