"""What holds at every door of a running gateway: the gate, the ledger, and errors in the shape of its own API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.types import DataClass
from tests.canaries import canary
from tests.entries import attempts, entry
from tests.running import Running, running
from tests.wire.asking import Reply, ask, the_refusal
from tests.witness import Witness, witnesses

HELLO = "What are your opening hours?"


def completion(text: str) -> dict[str, Any]:
    return {"prompt": text}


def message(text: str) -> dict[str, Any]:
    return {"max_tokens": 50, "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}


def response(text: str) -> dict[str, Any]:
    return {"input": text}


def embedding(text: str) -> dict[str, Any]:
    return {"input": [text]}


DOORS = {
    "/v1/completions": ("completions", completion),
    "/v1/messages": ("messages", message),
    "/v1/responses": ("responses", response),
    "/v1/embeddings": ("embeddings", embedding),
}
# Where a text can stand that has no place in a chat: it is read all the same.
LOST: dict[str, Callable[[str], dict[str, Any]]] = {
    "/v1/completions": lambda text: {"prompt": HELLO, "functions": [{"name": "f", "description": text}]},
    "/v1/messages": lambda text: {**message(HELLO), "container": text},
    "/v1/responses": lambda text: {"input": HELLO, "metadata": {"note": text}},
    "/v1/embeddings": lambda text: {"input": HELLO, "messages": [{"role": "user", "content": text}]},
}
CHATS = [path for path in DOORS if path != "/v1/embeddings"]
each_door = pytest.mark.parametrize("path", DOORS)


@dataclass
class Far:
    gateway: Running
    witness: Witness


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """All models are in the world, and personal data may not go there."""
    policy = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes: {far: {try: [llm]}}
default: far
"""
    with witnesses({"far": "good"}) as servers:
        url = f"http://127.0.0.1:{servers['far'].port}/v1"
        lines = [
            f"  {kind}-1: {{provider: openai-compatible, base_url: '{url}', model: m, zone: world, kind: {kind}}}"
            for kind in ("llm", "embedding")
        ]
        config = "\n".join(["discover: false", "models:", *lines])
        with running(tmp_path_factory.mktemp("far"), config, policy=policy) as gateway:
            yield Far(gateway, servers["far"])


def post(gateway: Running, path: str, body: object, **headers: str) -> Reply:
    return ask(gateway, json.dumps(body).encode(), headers, path=path)


def error_of(gateway: Running, path: str, reply: Reply, status: int, code: str) -> dict[str, Any]:
    """The reply is this error in the door's own shape, and the ledger has it."""
    if path != "/v1/messages":
        return the_refusal(gateway, reply, status, code)
    assert reply.status == status, reply.raw
    body = json.loads(reply.raw)
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["error"]["code"] == code
    assert reply.headers["request-id"] == reply.headers["x-cauce-request-id"] == body["request_id"]
    row = entry(gateway, body["request_id"])
    assert (row["outcome"], row["status"], row["code"]) == ("refused", status, code)
    error: dict[str, Any] = body["error"]
    return error


@each_door
@pytest.mark.parametrize("data", [DataClass.PERSONAL, DataClass.SPECIAL, DataClass.SECRET])
def test_a_text_that_must_stay_gets_503_and_reaches_nobody(far: Far, path: str, data: DataClass) -> None:
    secret = canary(data, 500 + 10 * data + list(DOORS).index(path))
    reply = post(far.gateway, path, DOORS[path][1](secret.text))
    error_of(far.gateway, path, reply, 503, "no_allowed_model")
    assert not secret.seen_in(bytes(far.witness.seen))
    assert not secret.seen_in(reply.raw)


@each_door
def test_so_does_one_in_a_field_that_has_no_place_in_a_chat(far: Far, path: str) -> None:
    secret = canary(DataClass.PERSONAL, 600 + list(DOORS).index(path))
    error_of(far.gateway, path, post(far.gateway, path, LOST[path](secret.text)), 503, "no_allowed_model")
    assert not secret.seen_in(bytes(far.witness.seen))


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_public_text_is_answered_and_its_entry_says_which_door_it_came_through(
    far: Far, path: str, streamed: bool
) -> None:
    name, body = DOORS[path]
    reply = post(far.gateway, path, {**body(f"{HELLO} {path} {streamed}"), "stream": streamed})
    assert reply.status == 200, reply.raw
    row = entry(far.gateway, reply.headers["x-cauce-request-id"])
    assert (row["endpoint"], row["outcome"], row["stream"], row["zone"]) == (name, "ok", int(streamed), "world")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (9, 3)
    assert len(attempts(far.gateway, row["request_id"])) == 1


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_is_kept_is_given_again_in_the_same_shape(far: Far, path: str, streamed: bool) -> None:
    body = {**DOORS[path][1](f"Keep this {path} {streamed}"), "stream": streamed}
    first, second = post(far.gateway, path, body), post(far.gateway, path, body)
    assert (first.headers["x-cauce-cache"], second.headers["x-cauce-cache"]) == ("miss", "hit")
    assert first.headers["content-type"] == second.headers["content-type"]
    ids = [reply.headers["x-cauce-request-id"].removeprefix("req_").encode() for reply in (first, second)]
    said = [_undated(reply.raw.replace(own, b"ID")) for reply, own in zip((first, second), ids, strict=True)]
    assert said[0] == said[1]


def _undated(raw: bytes) -> bytes:
    head, mark, rest = raw.partition(b'"created_at":')
    return head + mark + _undated(rest[10:]) if mark else head


@each_door
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5"])
def test_what_is_not_a_json_object_is_told_so_in_the_doors_own_shape(gateway: Running, path: str, body: bytes) -> None:
    code = "invalid_request_error" if body in {b"[]", b"5"} else "invalid_json"
    error_of(gateway, path, ask(gateway, body, path=path), 400, code)


@each_door
def test_a_request_without_its_text_is_told_which_field_is_missing(gateway: Running, path: str) -> None:
    field = {"/v1/completions": "prompt", "/v1/messages": "messages"}.get(path, "input")
    error = error_of(gateway, path, post(gateway, path, {"max_tokens": 5}), 400, "invalid_request_error")
    assert error["param"] == field


@each_door
@pytest.mark.parametrize("fields", [{"model": 5}, {"model": "nobody-has-it"}])
def test_a_wrong_model_is_told_so(gateway: Running, path: str, fields: dict[str, Any]) -> None:
    status, code = (400, "invalid_request_error") if fields["model"] == 5 else (404, "model_not_found")
    error = error_of(gateway, path, post(gateway, path, {**DOORS[path][1](HELLO), **fields}), status, code)
    assert error["param"] == "model"


@each_door
def test_another_method_is_told_so(gateway: Running, path: str) -> None:
    reply = ask(gateway, None, path=path, method="GET")
    assert reply.headers["allow"] == "POST"
    error_of(gateway, path, reply, 405, "method_not_allowed")


@each_door
@pytest.mark.parametrize("depth", [250, 1000])
def test_nesting_that_cannot_be_written_again_is_refused(gateway: Running, path: str, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    body = json.dumps(DOORS[path][1](HELLO)).encode()[:-1] + b', "tools": [{"input_schema": {"a": %s}}]}' % deep
    reply = ask(gateway, body, path=path)
    assert reply.status in {200, 400}
    assert (path, reply.status) != ("/v1/messages", 200)


@pytest.mark.parametrize("path", ["/v1/messages"])
def test_deep_arguments_of_an_earlier_call_are_refused(gateway: Running, path: str) -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    block = b'{"type": "tool_use", "id": "t", "name": "n", "input": %s}' % deep
    body = b'{"max_tokens": 5, "messages": [{"role": "assistant", "content": [%s]}]}' % block
    error_of(gateway, path, ask(gateway, body, path=path), 400, "invalid_request_error")


@each_door
def test_any_value_in_any_field_ends_in_a_reply(gateway: Running, path: str) -> None:
    names = (
        "tools", "tool_choice", "metadata", "stop", "stop_sequences", "text", "reasoning", "include", "system", "input",
        "instructions", "thinking", "output_config", "logprobs", "dimensions", "encoding_format",
        "a_field_of_next_year",
    )  # fmt: skip
    values: tuple[object, ...] = (
        None,
        True,
        -1,
        10**30,
        "x",
        [],
        {},
        [[]],
        [None],
        {"": None},
        {"type": 5},
        [{"type": 5}],
    )
    bodies = ({**DOORS[path][1](HELLO), name: value} for name in names for value in values)
    assert {post(gateway, path, body).status for body in bodies} <= {200, 400, 503}
