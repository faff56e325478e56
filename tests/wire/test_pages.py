"""Everything but the request path: models, route, health, metrics, console; with and without keys."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from tests.running import Running, running
from tests.wire.asking import Reply, a_body, ask, the_error

CONFIG = """
language: es
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  team/large: {provider: fake, model: large-1, zone: world, kind: llm}
"""
DNI = "Mi DNI es 12345678Z, ¿cuándo abren?"


class Keyed:
    """A gateway with keys, a model off the premises, and Spanish for whoever says nothing."""

    def __init__(self, gateway: Running, key: str, narrow: str) -> None:
        self.gateway = gateway
        self.bearer = {"authorization": f"Bearer {key}"}
        self.narrow = {"authorization": f"Bearer {narrow}"}

    def get(self, path: str, **headers: str) -> Reply:
        return ask(self.gateway, None, {**self.bearer, **headers}, method="GET", path=path)


def cauce(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", *arguments],
        cwd=folder, capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip


def a_key(folder: Path, *options: str) -> str:
    made = cauce(folder, "keys", "create", "--team", "billing", "--app", "bot", *options, "--json")
    key: str = json.loads(made.stdout)["key"]
    return key


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "cauce.yaml").write_text(CONFIG)
    key, narrow = a_key(folder), a_key(folder, "--models", "small")
    with running(folder, CONFIG) as gateway:
        yield Keyed(gateway, key, narrow)


def get(gateway: Running, path: str, **headers: str) -> Reply:
    return ask(gateway, None, headers, method="GET", path=path)


def parsed(reply: Reply, status: int = 200) -> Any:
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json"), reply.raw
    return json.loads(reply.raw)


def route(gateway: Running, headers: dict[str, str] | None = None, **body: object) -> Any:
    return parsed(ask(gateway, a_body(**body), headers, path="/v1/route"))


# --- models -----------------------------------------------------------------------------------------------------------


def test_the_models_are_those_configured_auto_and_the_built_in_embedding(keyed: Keyed) -> None:
    listed = parsed(keyed.get("/v1/models"))
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["auto", "small", "team/large", "cauce-static-128"]
    assert {model["object"] for model in listed["data"]} == {"model"}
    assert listed["data"][2]["cauce"] == {"zone": "world", "kind": "llm", "model": "large-1"}


@pytest.mark.parametrize("name", ["auto", "small", "team/large", "team%2Flarge"])
def test_each_model_is_found_under_its_name(keyed: Keyed, name: str) -> None:
    assert parsed(keyed.get(f"/v1/models/{name}"))["id"] == name.replace("%2F", "/")


def test_a_name_that_is_no_model_is_not_found(keyed: Keyed) -> None:
    error = the_error(keyed.get(f"/v1/models/{'x' * 5000}"), 404, "model_not_found")
    assert "small, team/large" in error["message"]
    assert len(error["message"]) < 300


# --- route ------------------------------------------------------------------------------------------------------------


def test_route_says_where_a_request_would_go_and_calls_nothing(gateway: Running) -> None:
    answer = route(gateway)
    assert answer["decision"]["ladder"] == ["small"]
    assert answer["decision"]["policy"] == "default"
    assert answer["requested"] == "auto"
    assert 0 <= answer["signals"]["slm_success"] <= 1
    assert all(set(step) == {"rule", "matched", "why"} for step in answer["tried"])


def test_route_explains_in_the_readers_language(gateway: Running) -> None:
    def whys(accept: str) -> str:
        return " ".join(step["why"] for step in route(gateway, {"accept-language": accept})["tried"])

    assert "la regla pide" in whys("es-ES,es;q=0.9,en;q=0.5")
    assert "la regla pide" in whys("fr, es")
    assert "the rule asks for" in whys("en-GB")
    assert "the rule asks for" in whys("fr")


def test_route_speaks_the_configured_language_to_whoever_names_none(keyed: Keyed) -> None:
    assert "la regla pide" in route(keyed.gateway, keyed.bearer)["tried"][0]["why"]


def test_route_names_what_was_found_and_repeats_no_text(keyed: Keyed) -> None:
    messages = [{"role": "user", "content": DNI}]
    reply = ask(keyed.gateway, a_body(messages=messages), keyed.bearer, path="/v1/route")
    answer = parsed(reply)
    assert answer["signals"]["data"] == "personal"
    assert (answer["decision"]["rule"], answer["decision"]["zone"]) == ("personal-stays", "premises")
    assert "ID_DNI" in {finding["label"] for finding in answer["findings"]}
    assert b"12345678Z" not in reply.raw


def test_route_pins_the_model_that_was_asked_for(keyed: Keyed) -> None:
    answer = route(keyed.gateway, keyed.bearer, model="team/large")
    assert (answer["requested"], answer["decision"]["ladder"]) == ("team/large", ["team/large"])
    the_error(ask(keyed.gateway, a_body(model="gpt-99"), keyed.bearer, path="/v1/route"), 404, "model_not_found")


def test_route_shows_a_key_nothing_of_the_models_that_it_is_not_for(keyed: Keyed) -> None:
    assert route(keyed.gateway, keyed.narrow, model="small")["decision"]["ladder"] == ["small"]
    refused = ask(keyed.gateway, a_body(model="team/large"), keyed.narrow, path="/v1/route")
    the_error(refused, 403, "model_not_allowed")


def test_without_a_model_off_the_premises_the_start_and_route_say_so(gateway: Running, keyed: Keyed) -> None:
    assert "no model off the premises: the ladder is local" in gateway.output
    assert route(gateway)["notes"] == ["no model off the premises is configured: every ladder is local"]
    assert "fuera de las instalaciones" in route(gateway, {"accept-language": "es"})["notes"][0]
    assert "no model off the premises" not in keyed.gateway.output
    assert route(keyed.gateway, keyed.bearer)["notes"] == []


@pytest.mark.parametrize(("body", "code"), [(b"{", "invalid_json"), (b"{}", "invalid_request_error")])
def test_route_refuses_what_the_chat_refuses(gateway: Running, body: bytes, code: str) -> None:
    the_error(ask(gateway, body, path="/v1/route"), 400, code)


# --- for operations ---------------------------------------------------------------------------------------------------


def test_health_is_the_processs_and_readiness_that_of_its_parts(keyed: Keyed) -> None:
    assert parsed(get(keyed.gateway, "/healthz")) == {"status": "ok", "version": __version__}
    ready = parsed(get(keyed.gateway, "/readyz"))
    assert ready["status"] == "ready"
    assert ready["models"] == {"small": "premises", "team/large": "world", "cauce-static-128": "premises"}
    assert ready["policy"].startswith("default@")
    assert ready["cloud"] == "up"


def test_metrics_are_prometheus_text_and_count_what_was_answered(keyed: Keyed) -> None:
    def answered() -> float:
        reply = get(keyed.gateway, "/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(reply.raw.decode())}
        return sum(
            sample.value
            for sample in families["cauce_requests"].samples
            if sample.name.endswith("_total") and sample.labels["outcome"] == "ok"
        )

    before = answered()
    assert ask(keyed.gateway, a_body(), {**keyed.bearer, "cache-control": "no-cache"}).status == 200
    assert answered() == before + 1


# --- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models"), ("GET", "/v1/models/small"), ("POST", "/v1/route")]
)
def test_with_keys_set_up_nothing_under_v1_is_shown_without_one(keyed: Keyed, method: str, path: str) -> None:
    body = a_body() if method == "POST" else None
    the_error(ask(keyed.gateway, body, method=method, path=path), 401, "missing_api_key")
    wrong = {"authorization": "Bearer ck-wrong"}
    the_error(ask(keyed.gateway, body, wrong, method=method, path=path), 401, "invalid_api_key")
    assert ask(keyed.gateway, body, keyed.bearer, method=method, path=path).status == 200


def test_beyond_loopback_nothing_starts_before_there_is_a_key_and_the_line_that_makes_one_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    refused = cauce(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - it must not
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    mending = refused.stderr.strip().splitlines()[-1].split()
    assert mending[:3] == ["cauce", "keys", "create"]
    assert cauce(tmp_path, *mending[1:]).returncode == 0
    # With a key it gets as far as the address, which is taken.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        second = cauce(tmp_path, "serve", "--host", "0.0.0.0", "--port", port)  # noqa: S104 - it does not
    assert second.returncode == 2
    assert f"cannot listen on 0.0.0.0, port {port}: another program listens there" in second.stderr


def test_an_address_that_is_taken_is_said_before_anything_is_promised(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cauce(tmp_path, "serve", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"cauce: cannot listen on 127.0.0.1, port {port}: another program listens there")
    assert "Cauce answers on" not in done.stdout


# --- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/chat/completions", "/v1/chat/completions/"])
def test_a_path_that_is_not_there_is_an_error_in_openais_shape(gateway: Running, path: str) -> None:
    assert "/v1/chat/completions" in the_error(get(gateway, path), 404, "not_found")["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", "GET"),
        ("GET", "/v1/route", "POST"),
        ("DELETE", "/metrics", "GET"),
    ],
)
def test_a_wrong_method_is_an_error_in_openais_shape_that_names_the_right_one(
    gateway: Running, method: str, path: str, allowed: str
) -> None:
    reply = ask(gateway, None, method=method, path=path)
    the_error(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == allowed
