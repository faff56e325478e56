"""The catalogue: facts with a day and sources; each row can be configured as it says, and is then answered."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from gateway.catalogue import FILE, Entry, catalogue, example, limits
from gateway.cli.main import main
from gateway.settings import load_settings
from tests.running import Running, running
from tests.upstreams.dialects import TEXT, Dialect, OpenAI, Say, Watsonx
from tests.upstreams.loopback import Request, Server, Wire
from tests.upstreams.threaded import served
from tests.upstreams.translated import Anthropic, Bedrock, Gemini

ROWS = tuple(catalogue().entries.values())
ASKED = {
    "gemma-3-1b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b", "granite-3.3-8b", "phi-4", "phi-4-mini",
    "phi-4-multimodal", "ministral-3b-2410", "ministral-8b-2410", "pixtral-12b", "qwq-32b", "qwen2.5-7b", "gpt-4.1",
    "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gemini-2.5-pro", "gemini-2.5-flash", "claude-3.7-sonnet",
    "claude-3.5-haiku", "llama-4-scout", "llama-4-maverick", "llama-3.1-405b", "deepseek-r1", "qwen2.5-max", "grok-3",
}  # fmt: skip
SPOKEN: dict[str, type[Dialect]] = {"anthropic": Anthropic, "gemini": Gemini, "bedrock": Bedrock, "watsonx": Watsonx}


def test_the_models_of_the_white_paper_and_what_replaced_each_are_there() -> None:
    entries = catalogue().entries
    assert set(entries) >= ASKED
    for row in ROWS:
        assert row.status in {"current", "superseded", "retired"}, row.id
        assert (row.status == "retired") == (row.retired is not None), row.id
        assert (row.status == "current") == (row.successor == ""), row.id
        assert not row.successor or row.successor in entries, row.id


def test_every_fact_has_a_day_and_a_source_that_is_named() -> None:
    known = catalogue()
    assert known.dated <= dt.datetime.now(dt.UTC).date()
    for row in ROWS:
        assert row.source in known.sources, row.id
        assert row.price is None or row.price.source in known.sources, row.id
        assert row.price is None or row.price.at in row.names, row.id
        assert row.energy is None or row.energy.active_low <= row.energy.active_high <= row.energy.total, row.id


def test_no_name_stands_in_two_rows() -> None:
    seen: dict[tuple[str, str], str] = {}
    for row in ROWS:
        for place, name in row.names.items():
            assert seen.setdefault((place, name), row.id) == row.id


def test_the_file_repeats_no_row() -> None:
    ids = re.findall(r"^  ([\w.-]+): \{family", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(ids) == sorted({row.id for row in ROWS})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("gemma3:4b", "gemma-3-4b"),
        ("gemma3:4b-it-q4_K_M", "gemma-3-4b"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("eu.anthropic.claude-sonnet-5", "claude-sonnet-5"),
        ("qwen/qwen2.5-7b-instruct", "qwen2.5-7b"),
        ("gemini-2.5-flash-lite", None),
        ("gpt-4", None),
        ("a-model-of-our-own", None),
        ("", None),
    ],
)
def test_a_model_is_found_by_what_its_provider_calls_it_and_never_by_its_bigger_sister(
    name: str, row: str | None
) -> None:
    found = catalogue().find(name)
    assert (found and found.id) == row


def test_a_configured_model_takes_the_limits_of_its_row_unless_it_says_its_own(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text(
        "models:\n"
        "  row: {provider: ollama, model: 'gemma3:4b', zone: premises, kind: slm}\n"
        "  own: {provider: ollama, model: 'gemma3:4b', zone: premises, kind: slm, context_tokens: 4096, tools: true, "
        "modalities: [text]}\n"
        "  new: {provider: ollama, model: 'ours:7b', zone: premises, kind: slm}\n"
    )
    row, own, new = load_settings(tmp_path / "cauce.yaml").catalogue()
    assert (row.context_tokens, row.modalities, row.tools) == (131_072, frozenset({"text", "image"}), False)
    assert (own.context_tokens, own.modalities, own.tools) == (4_096, frozenset({"text"}), True)
    assert (new.context_tokens, new.modalities, new.tools) == (None, frozenset({"text"}), True)
    assert limits("").tools is True


# --- each row, as the wire format of its provider has it --------------------------------------------------------------


def spoken(row: Entry) -> Dialect:
    configured = example(row)
    dialect = SPOKEN.get(configured["provider"], OpenAI)
    head = {**getattr(dialect, "head", {}), "model": configured["model"]}
    made: Dialect = type(dialect.__name__, (dialect,), {"model_name": configured["model"], "head": head})()
    return made


def asked_for(request: Request) -> str:
    body = request.body
    if isinstance(name := body.get("model") or body.get("model_id"), str):
        return name
    return re.split(r"/models?/", request.path.replace("%3A", ":").replace("%2F", "/"))[1]


SERVED = {example(row)["model"]: spoken(row) for row in ROWS if example(row)["provider"] != "embedded"}


async def answer(request: Request, wire: Wire) -> None:
    asked = asked_for(request)
    name = max((known for known in SERVED if asked.startswith(known)), key=len)
    await SERVED[name].answer(request, wire, Say())


@pytest.fixture(scope="module")
def provider() -> Iterator[Server]:
    with served(answer) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(provider: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("catalogue")
    models: dict[str, Any] = {}
    environ = {"WATSONX_TOKEN": "token", "CAUCE_ANY": "sk-any"}
    for row in ROWS:
        entry = example(row)
        if entry["provider"] == "embedded":
            continue
        suffix = {"gemini": "/v1beta"}.get(entry["provider"], "" if entry["provider"] in SPOKEN else "/v1")
        entry |= {"base_url": provider.url + suffix}
        if entry["provider"] == "watsonx":  # a token at hand: IBM's sign-in has a test of its own
            entry |= {"options": {"project_id": "project-1", "token": "${WATSONX_TOKEN}"}}
            entry.pop("api_key")
        for reference in re.findall(r"\$\{(\w+)\}", str(entry)):
            environ.setdefault(reference, "sk-any")
        models[f"row-{row.id}"] = entry
    with (folder / "models.yaml").open("w") as file:
        YAML().dump({"models": models, "cache": {"enabled": False}}, file)
    with running(folder, (folder / "models.yaml").read_text(), environ=environ) as started:
        yield started


@pytest.fixture(scope="module")
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False) as http,
        openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0, timeout=60, http_client=http) as made,
    ):
        yield made


@pytest.mark.parametrize("row", [row for row in ROWS if "embedded" not in row.names], ids=lambda row: row.id)
def test_a_request_routed_to_a_row_configured_as_it_says_is_answered(row: Entry, client: openai.OpenAI) -> None:
    said = client.chat.completions.with_raw_response.create(
        model=f"row-{row.id}", messages=[{"role": "user", "content": "¿qué tal?"}]
    )
    assert said.parse().choices[0].message.content == TEXT
    assert said.headers["x-cauce-model"] == f"row-{row.id}"


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_lists_every_row_with_day_and_sources_as_json() -> None:
    said = orjson.loads(CliRunner().invoke(main, ["models", "catalogue", "--json"]).output)
    assert {row["id"] for row in said["models"]} == set(catalogue().entries)
    assert said["dated"] == str(catalogue().dated)
    retired = next(row for row in said["models"] if row["id"] == "grok-3")
    assert (retired["retired"], retired["successor"]) == ("2026-05-15", "grok-4.3")


def test_a_family_is_shown_with_how_to_configure_it(tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["models", "catalogue", "--family", "granite 3.3"]).output
    line = re.search(r"cauce.yaml: (granite.*)", said)
    assert line is not None
    (tmp_path / "cauce.yaml").write_text(f"models:\n  {line[1]}\n")
    (model,) = load_settings(tmp_path / "cauce.yaml", environ=os.environ).catalogue()
    assert (model.model, model.context_tokens) == ("granite3.3:8b", 131_072)
    assert "superseded" in said and "granite-4.0-h-small" in said


def test_an_unknown_family_is_answered_with_those_that_there_are() -> None:
    result = CliRunner().invoke(main, ["models", "catalogue", "--family", "gemma 9"])
    assert result.exit_code == 2
    assert "Gemma 3" in str(result.output) + str(result.exception)
