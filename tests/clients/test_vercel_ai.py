"""Vercel's `ai` SDK against the gateway: `node/vercel.mjs` runs once, and says what it got."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.provider import TEXT
from tests.clients.test_openai_node import script
from tests.running import Running
from tests.upstreams.loopback import USAGE

pytestmark = pytest.mark.needs("node", "npm")


@pytest.fixture(scope="module")
def said(gateway: Running) -> dict[str, Any]:
    return script(gateway, "vercel.mjs")


def test_a_text_comes_whole_and_streamed_with_its_usage(said: dict[str, Any]) -> None:
    assert said["whole"] == {"text": TEXT, "total": USAGE["total_tokens"], "finish": "stop"}
    assert said["streamed"] == {"text": TEXT, "total": USAGE["total_tokens"]}


def test_its_loop_calls_a_tool_and_gets_the_answer(said: dict[str, Any]) -> None:
    assert said["tool"] == said["streamedTool"] == {"text": "The tool says: Sunny in Madrid", "steps": 2}


def test_an_object_has_its_schema(said: dict[str, Any]) -> None:
    assert said["object"] == {"dish": "tortilla", "people": 4}


def test_an_image_goes_through_and_a_text_becomes_a_vector(said: dict[str, Any]) -> None:
    assert said["image"] == "I see text, image_url"
    assert said["embedding"] == 128


def test_an_error_is_the_sdks_own_and_says_whether_to_try_again(said: dict[str, Any]) -> None:
    assert said["error"] == ["AI_APICallError", 429, True]
