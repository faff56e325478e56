"""OpenTelemetry traces: they say what the headers and the ledger say, hold no text, and are in no request's way."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes

from gateway.telemetry.trace import joined
from tests.entries import Row, attempts, entry, eventually, metric
from tests.running import Running, running
from tests.telemetry.receiver import Receiver, Seen, receiving
from tests.witness import ANSWER, Witness, witnesses

SERVER, CLIENT = 2, 3
TRACE_ID, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CANARY = "zarzaparrilla-7731"
MODELS = {
    "near": ("premises", "slm", "good"),
    "poor": ("premises", "slm", "poor"),
    "strict": ("premises", "slm", "strict"),
    "far": ("world", "llm", "good"),
    "failing": ("world", "llm", "fail"),
}
BEHAVIOURS = {name: how for name, (_, _, how) in MODELS.items()}
POLICY = """
version: 1
guarantees: [{data: personal, stays: premises}]
routes:
  plain: {try: [near]}
  climbing: {try: [poor, far], verify: [finish], cache: false}
  judged: {try: [near, far], verify: [{judge: strict}], cache: false}
  falling: {try: [failing, near], cache: false}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: plain}
  - {name: tools-copied, when: {tools: true}, use: falling, shadow: far}
default: plain
"""
TOOL = {"type": "function", "function": {"name": CANARY, "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Traced:
    """A gateway whose traces arrive somewhere, and its models' servers."""

    gateway: Running
    receiver: Receiver
    servers: Mapping[str, Witness]


def config(servers: Mapping[str, Witness], **telemetry: str) -> str:
    lines = ["discover: false", "baseline: far", "prices: prices.yaml", "telemetry:", "  audit_check_hours: 0"]
    lines += [*(f"  {name}: {value}" for name, value in telemetry.items()), "models:"]
    for name, (zone, kind, _) in MODELS.items():
        where = f"base_url: 'http://127.0.0.1:{servers[name].port}/v1'"
        lines.append(f"  {name}: {{provider: openai-compatible, {where}, model: m-{name}, zone: {zone}, kind: {kind}}}")
    return "\n".join(lines)


def prepared(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prices.yaml").write_text("far: {prompt: 2.0, completion: 8.0, from: 2020-01-01, source: contract}\n")
    return folder


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = prepared(tmp_path_factory.mktemp("traces"))
    with receiving() as receiver, witnesses(BEHAVIOURS) as servers:
        settings = config(servers, otlp_endpoint=receiver.url, otlp_authorization="${RECEIVERS_TOKEN}")
        with running(folder, settings, policy=POLICY, environ={"RECEIVERS_TOKEN": "Bearer of-the-receiver"}) as gateway:
            yield Traced(gateway, receiver, servers)


def ask(gateway: Running, body: Mapping[str, Any] | None = None, **headers: str) -> httpx.Response:
    asked = {"messages": [{"role": "user", "content": f"¿Qué es la {CANARY}?"}], **(body or {})}
    return httpx.post(f"{gateway.base_url}/chat/completions", json=asked, headers=headers, timeout=30)


def spans_of(traced: Traced, reply: httpx.Response, calls: int | None = None) -> tuple[Seen, list[Seen]]:
    """The spans of a request, when as many calls of it as the ledger has, or `calls`, have arrived."""
    request_id = reply.headers["x-cauce-request-id"]
    wanted = len(attempts(traced.gateway, request_id)) if calls is None else calls

    def arrived() -> bool:
        found = [span for span in traced.receiver.spans() if span.said.get("cauce.request_id") == request_id]
        return bool(found) and len(traced.receiver.of(request_id)[1]) >= wanted

    eventually(arrived, seconds=20)
    return traced.receiver.of(request_id)


KINDS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "whole": ({}, {"cache-control": "no-cache"}),
    "cached": ({}, {}),
    "streamed": ({"stream": True}, {"cache-control": "no-cache"}),
    "escalated": ({"model": "climbing"}, {}),
    "judged": ({"model": "judged"}, {}),
    "another model": ({"model": "falling"}, {}),
    "personal": ({"messages": [{"role": "user", "content": "Mi DNI es 12345678Z"}]}, {}),
    "failed": ({"model": "failing"}, {}),
    "not allowed": ({"model": "far"}, {"x-cauce-data-class": "personal"}),
    "unknown model": ({"model": CANARY}, {}),
    "no messages": ({"messages": CANARY}, {}),
    "no number": ({}, {"x-cauce-data-class": "none"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_the_headers_and_the_ledger_say_the_same(traced: Traced, kind: str) -> None:
    body, headers = KINDS[kind]
    if kind == "cached":
        ask(traced.gateway, body)
    reply = ask(traced.gateway, body, **headers)
    span, calls = spans_of(traced, reply)
    row, said = entry(traced.gateway, span.said["cauce.request_id"]), span.said

    assert in_the_ledger(row) == {name.removeprefix("cauce."): said.get(name) for name in OURS}
    assert in_headers(reply) == {name: text(said.get(f"cauce.{name}")) for name in in_headers(reply)}
    assert span.kind == SERVER
    assert span.name == "POST /v1/chat/completions"
    assert span.said["http.response.status_code"] == reply.status_code
    assert span.failed == (reply.status_code >= 500)
    assert said.get("error.type") == (row["code"] if reply.status_code >= 500 else None)
    assert [seen(call) for call in calls] == [
        (each["model"], each["upstream_model"], each["kind"], each["outcome"], each["cost_nano_usd"], each["zone"])
        for each in attempts(traced.gateway, row["request_id"])
    ]
    assert {call.trace_id for call in calls} <= {span.trace_id}
    assert all(call.kind == CLIENT and call.name == f"chat {call.said['gen_ai.request.model']}" for call in calls)


LABELS = ("rule", "route", "policy", "model", "zone", "data_class", "cache", "escalated", "outcome", "cost_nano_usd")
OURS = (*(f"cauce.{name}" for name in LABELS), "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")


def in_the_ledger(row: Row) -> dict[str, Any]:
    """An entry as attributes have it."""
    same = {name: row[name] or None for name in ("rule", "route", "model", "zone", "data_class", "cache", "outcome")}
    return {
        **same,
        "policy": f"{row['policy']}@{row['policy_revision']}" if row["policy"] else None,
        "escalated": bool(row["escalated"]),
        "cost_nano_usd": row["cost_nano_usd"],
        "gen_ai.usage.input_tokens": row["prompt_tokens"],
        "gen_ai.usage.output_tokens": row["completion_tokens"],
    }


def in_headers(reply: httpx.Response) -> dict[str, str]:
    """A reply's headers by the names of the attributes; a zone without a model is a bound, and no attribute."""
    given = {
        name: reply.headers.get(f"x-cauce-{name.replace('_', '-')}")
        for name in ("request_id", "rule", "route", "policy", "model", "data_class", "slm_success", "gain", "cache")
    }
    if "x-cauce-model" in reply.headers:
        given |= {name: reply.headers[f"x-cauce-{name}"] for name in ("zone", "escalated")}
    if (usd := reply.headers.get("x-cauce-cost-usd", "unknown")) != "unknown":
        given["cost_nano_usd"] = str(int(usd.replace(".", "")))
    return {name: value for name, value in given.items() if value is not None}


def text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def seen(call: Seen) -> tuple[Any, ...]:
    names = ("cauce.model", "gen_ai.request.model", "cauce.kind", "cauce.outcome", "cauce.cost_nano_usd", "cauce.zone")
    return tuple(call.said.get(name) for name in names)


def test_a_shadow_is_a_span_of_its_request_and_the_failed_call_before_it_is_marked(traced: Traced) -> None:
    reply = ask(traced.gateway, {"tools": [TOOL]})
    _, calls = spans_of(traced, reply, calls=4)
    kinds = [(call.said["cauce.model"], call.said["cauce.kind"], call.failed) for call in calls]
    assert kinds[0] == ("failing", "llm", True)
    assert ("near", "slm", False) in kinds
    assert ("far", "shadow", False) in kinds


def test_a_trace_goes_on_from_the_caller_and_to_the_models(traced: Traced) -> None:
    seen_before = len(traced.servers["near"].seen)
    header = f"00-{TRACE_ID}-{CALLERS_SPAN}-01"
    reply = ask(traced.gateway, {}, **{"traceparent": header, "cache-control": "no-cache"})
    span, (call,) = spans_of(traced, reply)
    assert (span.trace_id, span.parent_id) == (TRACE_ID, CALLERS_SPAN)
    assert (call.trace_id, call.parent_id) == (TRACE_ID, span.span_id)
    sent = bytes(traced.servers["near"].seen[seen_before:]).decode()
    (passed,) = re.findall(r"traceparent: (\S+)\r\n", sent, re.IGNORECASE)
    assert passed == f"00-{TRACE_ID}-{call.span_id}-01"


def test_a_caller_who_does_not_want_to_be_traced_is_not(traced: Traced) -> None:
    header = f"00-{TRACE_ID}-{CALLERS_SPAN}-00"
    unwanted = ask(traced.gateway, {}, **{"traceparent": header, "cache-control": "no-cache"})
    spans_of(traced, ask(traced.gateway))  # a later one has arrived
    ids = {span.said.get("cauce.request_id") for span in traced.receiver.spans()}
    assert unwanted.headers["x-cauce-request-id"] not in ids


def test_no_word_of_a_request_or_an_answer_is_in_a_trace(traced: Traced) -> None:
    hidden = {"user": CANARY, "metadata": {CANARY: CANARY}, "tools": [TOOL]}
    asked = {"tracestate": f"a={CANARY}", "x-cauce-tags": CANARY, "user-agent": CANARY}
    reply = ask(traced.gateway, hidden, **asked)
    assert ANSWER in reply.text
    spans_of(traced, reply)
    sent = b"".join(traced.receiver.bodies)
    for word in (CANARY, "12345678Z", *(part for part in ANSWER.split() if len(part) > 3)):
        assert word.encode() not in sent, word


def test_attributes_have_the_names_of_the_conventions(traced: Traced) -> None:
    spans_of(traced, ask(traced.gateway, {"stream": True}))
    conventions = (gen_ai_attributes, http_attributes, error_attributes, server_attributes)
    known = {value for module in conventions for name, value in vars(module).items() if name.isupper()}
    said = {name for span in traced.receiver.spans() for name in span.said}
    assert {name for name in said if not name.startswith("cauce.")} <= known
    assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"} <= said
    assert {span.resource["service.name"] for span in traced.receiver.spans()} == {"cauce"}


def test_the_receivers_token_goes_with_the_traces(traced: Traced) -> None:
    spans_of(traced, ask(traced.gateway))
    assert {headers["authorization"] for headers in traced.receiver.headers} == {"Bearer of-the-receiver"}


# --- without a receiver ----------------------------------------------------------------------------------------------


def test_no_variable_of_the_environment_sends_a_trace_anywhere(tmp_path: Path) -> None:
    with receiving() as receiver, witnesses(BEHAVIOURS) as servers:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url.removesuffix("/v1/traces"),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.url,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",  # the pages' framework has exporters of its own
        }
        header = f"00-{TRACE_ID}-{CALLERS_SPAN}-01"
        with running(prepared(tmp_path), config(servers), policy=POLICY, environ=environ) as gateway:
            assert ask(gateway, {}, traceparent=header).status_code == 200
            for page in ("/healthz", "/v1/models", "/console", "/v1/models/nobody"):
                httpx.get(f"{gateway.url}{page}")
            httpx.post(f"{gateway.base_url}/route", json={"messages": CANARY})
        assert not receiver.bodies  # the gateway has ended, and would have sent them
        assert f"traceparent: {header}".encode() in bytes(servers["near"].seen).lower()  # and the caller's goes on


def test_a_receiver_that_hangs_or_is_away_is_in_no_requests_way(tmp_path: Path) -> None:
    with (
        receiving(answers=False) as receiver,
        witnesses(BEHAVIOURS) as servers,
    ):
        settings = config(servers, otlp_endpoint=receiver.url)
        with running(prepared(tmp_path), settings, policy=POLICY) as gateway:
            statuses = {ask(gateway, {}, **{"cache-control": "no-cache"}).status_code for _ in range(20)}
            assert statuses == {200}
            assert metric(gateway, 'cauce_trace_spans_total{outcome="made"}') == 40
            assert metric(gateway, 'cauce_trace_spans_total{outcome="sent"}') == 0
            assert gateway.stop() == 0


def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text(
        "discover: false\ntelemetry: {otlp_endpoint: 'http://127.0.0.1:4318/v1/traces'}\n"
        "models: {near: {provider: fake, model: near, zone: premises, kind: slm}}\n"
    )
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; from gateway.cli.main import main; "
        "sys.argv = ['cauce', 'serve', '--port', '0']; main()"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "pip install 'cauce[otel]'" in done.stderr + done.stdout


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00-" + "0" * 32 + f"-{CALLERS_SPAN}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{CALLERS_SPAN}-01",
        f"ff-{TRACE_ID}-{CALLERS_SPAN}-01",
        f"00-{TRACE_ID}-{CALLERS_SPAN}",
        f"00-{TRACE_ID}-{CALLERS_SPAN}-01-more",
    ],
)
def test_a_header_that_has_not_its_form_begins_a_new_trace(value: str) -> None:
    trace = joined([(b"traceparent", value.encode())])
    assert trace is not None
    assert trace.trace_id != TRACE_ID
    assert not trace.parent_id


def test_a_header_sent_twice_begins_a_new_trace_and_a_share_of_none_begins_nothing() -> None:
    header = (b"traceparent", f"00-{TRACE_ID}-{CALLERS_SPAN}-01".encode())
    twice, once = joined([header, header]), joined([header], share=0.0)
    assert twice is not None
    assert not twice.parent_id
    assert once is not None  # the caller has decided
    assert once.parent_id == CALLERS_SPAN
    assert joined([], share=0.0) is None
