from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from gateway.policy.load import SHIPPED, parse_policy
from gateway.policy.schema import schema, schema_text
from gateway.policy.verifiers import CHECKS
from gateway.policy.vocabulary import DATA_KINDS, OPERATING_POINTS, SIGNALS
from gateway.signals.privacy import OPERATING_POINTS as SCAN_POINTS
from gateway.signals.taxonomy import Kind
from gateway.stages.verify import ASKING
from gateway.stages.verify import CHECKS as CHECKERS
from gateway.types import Signals

from .builders import DEFAULT_TEXT, with_rules


def accepts(text: str) -> bool:
    return jsonschema_rs.validator_for(schema()).is_valid(YAML(typ="safe", pure=True).load(text))


def test_the_shipped_schema_is_the_one_that_the_code_makes() -> None:
    written = (SHIPPED / "schema.json").read_bytes()
    assert written == schema_text(), "run: python -m gateway.policy.schema > policies/schema.json"


@pytest.mark.parametrize(
    "file", sorted(p for p in SHIPPED.glob("*.yaml") if not p.stem.endswith(".cases")), ids=lambda p: p.stem
)
def test_every_shipped_policy_fits_the_schema(file: Any) -> None:
    assert accepts(file.read_text())


@pytest.mark.parametrize(
    "when",
    [
        "{gain: '>= 0.35'}",
        "{gain: 0.5}",
        "{gain: ['< 0.1', '> 0.9']}",
        "{gain: '> 0.2, < 0.6'}",
        "{prompt_tokens: '> 1e3'}",
        "{data: '>= personal'}",
        "{data: [public, secret]}",
        "{task: [faq, '!= code']}",
        "{language: NO}",
        '{hour: "09:00-18:00"}',
        '{hour: "[9, 18)"}',
        "{hour: [8, 9]}",
        "{tools: true}",
        "{caller: {team: a, tags: [x, y]}}",
        "{any: [{task: faq}, {not: {json: true}}]}",
        "{}",
        "{budget_left: '< -5'}",
        "{data_kinds: [health, '!= dob']}",
    ],
)
def test_what_the_loader_reads_the_schema_accepts(when: str) -> None:
    text = with_rules(f"{{name: r, when: {when}, use: local}}")
    assert parse_policy(text).policy is not None
    assert accepts(text)


FOLLOWED = with_rules(
    "{name: r, when: {}, use: local, canary: {cloud: 0.25 %}, shadow: {to: llm@eu, share: 2%}, sticky: conversation}"
)
OVERLAID = (
    with_rules("{name: r, when: {}, use: local, shadow: llm, sticky: none}")
    + """
sticky: conversation
overlays:
  - {for: {team: [legal, 7], app: bot}, rules: [{name: o, when: {}, use: cloud}], default: local}
  - {for: {key: key_1}, guarantees: [{data: internal, stays: premises}]}
"""
)


@pytest.mark.parametrize("text", [FOLLOWED, OVERLAID])
def test_what_the_loader_reads_of_conversations_and_callers_the_schema_accepts(text: str) -> None:
    assert parse_policy(text).problems == ()
    assert accepts(text)


def test_a_policy_that_includes_another_needs_no_routes_and_no_default() -> None:
    assert accepts("version: 1\ninclude: base.yaml\n")
    assert not accepts("version: 1\nrules: []\n")


@pytest.mark.parametrize(
    "text",
    [
        DEFAULT_TEXT.replace("version: 1", "version: 2"),
        DEFAULT_TEXT.replace("default: small-first", ""),
        DEFAULT_TEXT.replace("stays: premises", "stays: home"),
        DEFAULT_TEXT.replace("verify:", "verfy:"),
        with_rules("{name: r, when: {gian: 1}, use: local}"),
        with_rules("{name: r, when: {gain: 7}, use: local}"),
        with_rules("{name: r, when: {gain: high}, use: local}"),
        with_rules("{name: r, when: {data: '>= personel'}, use: local}"),
        with_rules("{name: r, when: {tools: 'yes'}, use: local}"),
        with_rules("{name: r, when: {task: []}, use: local}"),
        with_rules("{name: default, when: {}, use: local}"),
        with_rules("{name: r, use: local}"),
        FOLLOWED.replace("0.25 %", "0.25"),
        FOLLOWED.replace("{cloud: 0.25 %}", "{}"),
        FOLLOWED.replace("to: llm@eu, ", ""),
        FOLLOWED.replace("share: 2%", "share: 2"),
        FOLLOWED.replace("sticky: conversation", "sticky: session"),
        FOLLOWED.replace("canary:", "cannary:"),
        FOLLOWED.replace("when: {}", "when: {draw: 0.5}"),
        OVERLAID.replace("app: bot", "tags: bot"),
        OVERLAID.replace("for: {key: key_1}, ", ""),
        OVERLAID.replace(", guarantees: [{data: internal, stays: premises}]", ""),
    ],
)
def test_what_the_schema_refuses_the_loader_refuses(text: str) -> None:
    assert not accepts(text)
    assert parse_policy(text).policy is None


def test_the_vocabulary_is_that_of_the_stages() -> None:
    assert set(DATA_KINDS) == {kind.value for kind in Kind}
    assert {name for name, kind in CHECKS.items() if not kind.asks} == set(CHECKERS)
    assert {name for name, kind in CHECKS.items() if kind.asks} == ASKING


def test_the_operating_points_are_those_of_the_scan() -> None:
    assert OPERATING_POINTS == SCAN_POINTS


def test_every_signal_of_the_vocabulary_is_one_that_requests_have() -> None:
    assert all(hasattr(Signals(), name) for name in SIGNALS)
