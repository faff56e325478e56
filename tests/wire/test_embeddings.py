from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gateway.embedding import choose
from gateway.errors import BadRequest, UnknownModel, UpstreamBroken
from gateway.types import DataClass, Model, Zone
from gateway.upstreams.openai_http import OpenAIUpstream, read_vectors
from gateway.upstreams.pool import Pool
from gateway.wire.embeddings import DOOR, to_chat
from tests.builders import LARGE, SMALL, some_signals
from tests.entries import attempts, entry
from tests.policy.builders import a_policy
from tests.running import Running, running
from tests.upstreams.loopback import Request, Server, Wire, a_model, clean_run, released, serving
from tests.upstreams.threaded import served
from tests.wire.asking import ask, the_error
from tests.wire.translating import read_of

ONE = Model("near", "static", "near", Zone.PREMISES, "embedding")
TWO = Model("far", "openai", "text-embedding-3-small", Zone.WORLD, "embedding")
VECTORS = [[0.5, -0.25], [1.0, 0.0]]


async def vectors(request: Request, wire: Wire) -> None:
    """A sound server, which knows nothing of base64."""
    if request.method == "GET":
        await wire.whole({"data": []})
        return
    given = request.body["input"]
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    data = [{"object": "embedding", "index": n, "embedding": VECTORS[n % 2]} for n in range(count)]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    await wire.whole({"object": "list", "model": request.body["model"], "data": data, "usage": usage})


@dataclass
class Set:
    gateway: Running
    server: Server


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Set]:
    with served(vectors) as server:
        config = f"""
discover: false
models:
  small: {{provider: fake, model: small-1, zone: premises, kind: slm}}
  table: {{provider: static, model: cauce-static-128, zone: premises, kind: embedding}}
  ours: {{provider: openai-compatible, base_url: '{server.url}/v1', model: bge-m3, zone: premises, kind: embedding,
          api_key: "${{CAUCE_TEST_KEY}}"}}
"""
        environ = {"CAUCE_TEST_KEY": "sk-upstream-secret"}
        with running(tmp_path_factory.mktemp("embeddings"), config, environ=environ) as gateway:
            yield Set(gateway, server)


def asked(gateway: Running, **body: Any) -> tuple[dict[str, Any], dict[str, str]]:
    reply = ask(gateway, json.dumps(body).encode(), path="/v1/embeddings")
    assert reply.status == 200, reply.raw
    answer: dict[str, Any] = json.loads(reply.raw)
    return answer, reply.headers


def test_the_built_in_table_answers_where_no_other_model_is_configured(gateway: Running) -> None:
    answer, headers = asked(gateway, input=["¿A qué hora abren?", "What time do you open?", "Un poema sobre el mar"])
    close, apart = (np.dot(answer["data"][0]["embedding"], answer["data"][n]["embedding"]) for n in (1, 2))
    assert close > apart
    assert [len(entry["embedding"]) for entry in answer["data"]] == [128] * 3
    assert (headers["x-cauce-model"], headers["x-cauce-zone"]) == ("cauce-static-128", "premises")
    assert "bag-of-words" in headers["x-cauce-notice"]
    row = entry(gateway, headers["x-cauce-request-id"])
    assert (row["endpoint"], row["route"], row["model"]) == ("embeddings", "embedding", "cauce-static-128")
    assert row["prompt_tokens"] == answer["usage"]["prompt_tokens"] > 0


def test_a_long_text_counts_to_its_end(gateway: Running) -> None:
    filler = "nada " * 8000
    one, _ = asked(gateway, input=f"{filler} gato {filler}")
    other, _ = asked(gateway, input=f"{filler} factura {filler}")
    assert one["data"][0]["embedding"] != other["data"][0]["embedding"]


def test_base64_holds_the_same_numbers(configured: Set) -> None:
    for model in ("table", "ours"):
        plain, _ = asked(configured.gateway, model=model, input="hola")
        packed, _ = asked(configured.gateway, model=model, input="hola", encoding_format="base64")
        numbers = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
        assert numbers.tolist() == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


def test_a_model_by_name_gets_the_batch_as_it_was_sent(configured: Set) -> None:
    answer, headers = asked(configured.gateway, model="ours", input=["a", "b", "c"], dimensions=2, user="u-1")
    assert [entry["embedding"] for entry in answer["data"]] == [VECTORS[0], VECTORS[1], VECTORS[0]]
    last = configured.server.requests[-1]
    assert last.path == "/v1/embeddings"
    assert last.body == {"model": "bge-m3", "input": ["a", "b", "c"], "dimensions": 2, "user": "u-1"}
    assert last.headers["authorization"] == "Bearer sk-upstream-secret"
    (call,) = attempts(configured.gateway, headers["x-cauce-request-id"])
    assert (call["kind"], call["prompt_tokens"], call["completion_tokens"]) == ("embedding", 7, 0)


def test_auto_is_always_the_same_model_because_vectors_of_two_cannot_be_compared() -> None:
    policy = a_policy()
    models = {model.id: model for model in (SMALL, TWO, ONE)}
    public = choose(some_signals(), policy=policy, models=models, requested="auto")
    assert public.ladder == ("far",)
    personal = choose(some_signals(data=DataClass.PERSONAL), policy=policy, models=models, requested="auto")
    assert personal.ladder == ()
    assert [skip.model for skip in personal.skipped] == ["far"]


def test_a_model_that_answers_chats_makes_no_embeddings_and_is_told_apart() -> None:
    models = {model.id: model for model in (SMALL, LARGE, ONE)}
    for name, said in (("small", "answers chats"), ("nobody", "no embedding model")):
        with pytest.raises(UnknownModel, match=said):
            choose(some_signals(), policy=a_policy(), models=models, requested=name)


def test_no_chat_goes_to_an_embedding_model(configured: Set) -> None:
    body = json.dumps({"model": "ours", "messages": [{"role": "user", "content": "hola"}]}).encode()
    the_error(ask(configured.gateway, body), 404, "model_not_found")


def test_the_built_in_table_has_its_own_dimensions_and_reads_no_tokens(configured: Set) -> None:
    for fields in ({"input": "hola", "dimensions": 64}, {"input": [1, 2, 3]}):
        body = json.dumps({"model": "table", **fields}).encode()
        the_error(ask(configured.gateway, body, path="/v1/embeddings"), 400, "upstream_rejected")


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_tokens_cannot_be_read_and_count_as_such(configured: Set, tokens: object) -> None:
    _, headers = asked(configured.gateway, model="ours", input=tokens)
    assert headers["x-cauce-data-class"] == "special"


@pytest.mark.parametrize(
    "fields",
    [{}, {"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": ["a", 1]}, {"input": {"a": 1}}, {"input": [[]]},
     {"input": ["a"] * 2049}, {"input": "a", "encoding_format": "hex"}, {"input": "a", "dimensions": 0},
     {"input": "a", "dimensions": "2"}],
    ids=lambda fields: json.dumps(fields)[:40],
)  # fmt: skip
def test_what_is_no_text_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        to_chat(fields)


@pytest.mark.parametrize("body", [{"input": "CANARY"}, {"input": ["a", "CANARY"]}, {"input": "a", "user": "CANARY"}])
def test_every_text_of_the_request_is_read(body: dict[str, Any]) -> None:
    assert "CANARY" in read_of(DOOR, body)


@pytest.mark.parametrize(
    "body",
    [[], {}, {"data": [{}]}, {"data": []}, {"data": [{"embedding": ["x"]}]}, {"data": [{"embedding": "no base64"}]},
     {"data": [{"embedding": [1.0]}, {"embedding": [1.0]}]}, {"data": 5}, {"data": [{"embedding": [1]}], "usage": 5}],
    ids=str,
)  # fmt: skip
def test_an_answer_without_a_vector_for_each_text_is_broken(body: Any) -> None:
    with pytest.raises(UpstreamBroken):
        read_vectors(a_model(), b"{}", body, "hola")


def test_an_upstream_that_does_not_say_what_it_used_is_not_billed_by_a_guess() -> None:
    answer = read_vectors(a_model(), b"{}", {"data": [{"embedding": [1.0]}]}, "hola")
    assert answer.usage is None


def test_the_adapter_asks_where_embeddings_are() -> None:
    async def main() -> None:
        async with serving(vectors) as server:
            pool = Pool()
            model = dataclasses.replace(a_model(server.url), kind="embedding")
            answer = await OpenAIUpstream(model, pool).embed(released(model, input=["a", "b"]))
            assert [entry["embedding"] for entry in json.loads(answer.body)["data"]] == VECTORS
            await pool.aclose()

    clean_run(main())
