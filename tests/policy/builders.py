"""Policies for tests: the smallest valid one, and models to hold it against."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from gateway.policy.load import Loaded, parse_policy
from gateway.policy.rules import Policy
from gateway.types import Model, Zone

SMALL = Model("small", "fake", "small-1", Zone.PREMISES, "slm")
EURO = Model("euro", "openai-compatible", "mistral-small", Zone.EU, "slm")
LARGE = Model("large", "openai", "gpt-4.1", Zone.WORLD, "llm")
VECTORS = Model("vectors", "openai", "text-embedding-3", Zone.WORLD, "embedding")

DEFAULT_TEXT = """
version: 1
guarantees:
  - {data: personal, stays: premises}
routes:
  local: {try: [slm]}
  small-first: {try: [slm, llm], verify: [finish, {confidence: 0.6}]}
  cloud: {try: [llm, slm]}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: local}
  - {name: hard, when: {gain: ">= 0.35"}, use: cloud}
  - {name: easy-faq, when: {task: [faq, classify], slm_success: ">= 0.8"}, use: local}
default: small-first
aliases: {gpt-4o: auto, fast: local, big: large}
"""


def catalogue(*models: Model) -> Mapping[str, Model]:
    """Models by name, in order."""
    return {model.id: model for model in models or (SMALL, LARGE)}


def loaded(text: str = DEFAULT_TEXT) -> Loaded:
    """A text that is expected to be a valid policy."""
    result = parse_policy(textwrap.dedent(text), name="test", file="test.yaml")
    assert result.policy is not None, "\n".join(map(str, result.problems))
    return result


def a_policy(text: str = DEFAULT_TEXT) -> Policy:
    """The policy of a valid text."""
    policy = loaded(text).policy
    assert policy is not None
    return policy


def with_rules(rules: str, *, default: str = "local", guarantees: str = "[{data: personal, stays: premises}]") -> str:
    """A policy text with these rules, given as YAML flow items a line."""
    lines = "\n".join(f"  - {line.strip()}" for line in rules.strip().splitlines())
    return f"""
version: 1
guarantees: {guarantees}
routes:
  local: {{try: [slm]}}
  cloud: {{try: [llm, slm]}}
rules:
{lines}
default: {default}
"""
