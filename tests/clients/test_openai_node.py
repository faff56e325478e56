"""OpenAI's own Node client against the gateway: `node/client.mjs` runs once, and says what it got."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.clients.provider import ARGUMENTS, TEXT
from tests.running import Running
from tests.upstreams.loopback import USAGE, Server

NODE = Path(__file__).parent / "node"
pytestmark = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def said(gateway: Running) -> dict[str, Any]:
    return script(gateway, "client.mjs")


def script(gateway: Running, name: str) -> dict[str, Any]:
    """What a script printed."""
    if not (NODE / "node_modules" / "openai").is_dir():
        _install()
    environ = {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": gateway.base_url, "OPENAI_API_KEY": "not-needed"}
    done = subprocess.run(
        ["node", name], cwd=NODE, env=environ, capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed: dict[str, Any] = orjson.loads(done.stdout)
    return printed


def _install() -> None:
    command = ["npm", "ci", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    done = subprocess.run(command, cwd=NODE, capture_output=True, check=False, text=True, timeout=300)
    if done.returncode == 0:
        return
    why = next(iter(done.stderr.splitlines()), "no reason given")
    reason = f"npm ci in tests/clients/node ended with {done.returncode}: {why}"
    if os.environ.get("CAUCE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def test_an_application_changes_its_base_url_and_nothing_else(said: dict[str, Any]) -> None:
    assert said["whole"] == {"text": TEXT, "total_tokens": USAGE["total_tokens"]}


def test_a_stream_brings_its_usage_only_when_it_was_asked_for(said: dict[str, Any]) -> None:
    assert said["streamed"] == {"text": TEXT, "usages": []}
    assert said["streamedWithUsage"] == {"text": TEXT, "usages": [USAGE["total_tokens"]]}


def test_a_tool_is_called_whole_and_streamed_and_its_result_goes_back(said: dict[str, Any]) -> None:
    assert said["tool"] == {"arguments": ARGUMENTS, "answer": "The tool says: Sunny"}
    assert said["streamedTool"] == ARGUMENTS


def test_an_answer_in_a_schema_is_json(said: dict[str, Any]) -> None:
    assert said["schema"] == {"dish": "tortilla", "people": 4}


def test_fields_that_nobody_here_knows_reach_the_provider(said: dict[str, Any], provider: Server) -> None:
    assert said["unknownField"] == "chat.completion"
    bodies = [request.body for request in provider.requests if request.method == "POST"]
    assert [body["a_field_of_next_year"] for body in bodies if "a_field_of_next_year" in body][-1] == {"deep": [1]}


def test_the_headers_say_what_happened(said: dict[str, Any]) -> None:
    cauce = dict(said["headers"]["cauce"])
    assert cauce["x-cauce-model"] == "small"
    assert cauce["x-cauce-request-id"] == said["headers"]["request_id"]


def test_models_are_listed_and_found_by_name(said: dict[str, Any]) -> None:
    assert said["models"] == {
        "ids": ["auto", "small", "busy", "down", "picky", "full", "cauce-static-128"],
        "one": "small",
    }


@pytest.mark.parametrize("how", ["", " streamed"])
def test_an_error_is_the_exception_that_the_client_has_for_it(said: dict[str, Any], how: str) -> None:
    errors = said["errors"]
    assert errors[f"gpt-99{how}"] == ["NotFoundError", 404, "model_not_found", True]
    assert errors[f"busy{how}"] == ["RateLimitError", 429, "upstream_overloaded", True]
    assert errors[f"down{how}"] == ["InternalServerError", 502, "upstream_error", True]
    assert errors[f"picky{how}"] == ["BadRequestError", 400, "upstream_rejected", True]
    assert errors[f"full{how}"] == ["BadRequestError", 400, "context_length_exceeded", True]
