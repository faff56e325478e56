from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import openai
import orjson
import pytest

from gateway.sse import events, payload
from tests.entries import Row, attempts, entry, metric
from tests.faults.providers import BEFORE, FAULTY, FIRST, IN_THE_MIDDLE, provider
from tests.running import Running, free_port, running
from tests.upstreams.loopback import STREAM, completion
from tests.upstreams.threaded import served

Replies = dict[tuple[str, bool], Future[httpx.Response]]
QUICK = "{connect_s: 2, first_token_s: 2, idle_s: 1, total_s: 60}"
ONCE = "retries: {most: 0}, breaker: {failures: 0}"  # each fault by itself
# Where nothing else would end it: a whole answer may take its time to begin.
SHORT = {"hangs": "{first_token_s: 2, total_s: 2}", "never-ends": "{total_s: 2}"}


def config(port: int) -> str:
    def model(name: str, address: int, timeouts: str) -> str:
        return (
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{address}/{name}/v1', "
            f"model: served, zone: premises, kind: slm, timeouts: {timeouts}, {ONCE}}}\n"
        )

    models = "".join(model(name, port, SHORT.get(name, QUICK)) for name in FAULTY)
    models += model("refuses", free_port(), QUICK) + model("sound", port, "{}")
    return f"models:\n{models}cache: {{enabled: false}}\n"


def policy() -> str:
    routes = "".join(f"  {name}-then-sound: {{try: [{name}, sound]}}\n" for name in (*FAULTY, "refuses"))
    return f"version: 1\ndescription: faults\nroutes:\n  plain: {{try: [sound]}}\n{routes}rules: []\ndefault: plain\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("upstream-faults")
    with served(provider) as upstream, running(folder, config(upstream.port), policy=policy()) as gateway:
        yield gateway
        assert metric(gateway, "cauce_requests_in_flight") == 0
        assert metric(gateway, "cauce_crashes_total") == 0
        assert "Traceback" not in gateway.output


@pytest.fixture(scope="module")
def replies(gateway: Running) -> Iterator[Replies]:
    """The answer of each model and ladder, whole and streamed, asked a few at a time: most of it is waiting."""
    with ThreadPoolExecutor(8) as clients:
        yield {
            (model, stream): clients.submit(ask, gateway, model, stream=stream)
            for fault in (*FAULTY, "refuses")
            for model in (fault, f"{fault}-then-sound")
            for stream in (False, True)
        }


def ask(gateway: Running, model: str, *, stream: bool) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hola"}], "stream": stream}
    return httpx.post(f"{gateway.base_url}/chat/completions", json=body, timeout=30, trust_env=False)


def the_story(gateway: Running, reply: httpx.Response) -> tuple[Row, list[Row]]:
    request_id = reply.headers["x-request-id"]
    return entry(gateway, request_id), attempts(gateway, request_id)


def booked(calls: list[Row]) -> list[tuple[str, str]]:
    return [(call["model"], call["outcome"]) for call in calls]


Fault = tuple[str, int, str]  # a model, and the status and code that its fault ends in
BEFORE_ITS_BEGIN: list[Fault] = [
    ("refuses", 502, "upstream_unreachable"),
    *((name, status, code) for name, (_, status, code) in BEFORE.items()),
]
LATER: list[Fault] = [(name, status, code) for name, (_, status, code) in IN_THE_MIDDLE.items()]
CUT = {name: code for name, _, code in LATER}
# A whole answer may fail at any point, a stream until its first byte: nobody has seen anything of it yet.
UNSEEN = pytest.mark.parametrize(
    ("stream", "fault"),
    [(False, fault) for fault in BEFORE_ITS_BEGIN + LATER] + [(True, fault) for fault in BEFORE_ITS_BEGIN],
    ids=lambda value: value[0] if isinstance(value, tuple) else "streamed" if value else "whole",
)


@UNSEEN
def test_the_fault_of_an_only_upstream_is_a_clear_error(
    gateway: Running, replies: Replies, fault: Fault, stream: bool
) -> None:
    model, status, code = fault
    reply = replies[model, stream].result()

    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert error["code"] == code
    assert model in error["message"]
    assert error["request_id"] == reply.headers["x-request-id"]
    assert reply.headers.get("retry-after") == ("7" if model == "is-busy" else None)
    row, calls = the_story(gateway, reply)
    assert (row["outcome"], row["status"], row["code"]) == ("failed", status, code)
    assert booked(calls) == [(model, code)]
    assert calls[0]["duration_us"] > 0


@UNSEEN
def test_a_fault_that_nobody_has_seen_is_made_good_by_the_next_rung(
    gateway: Running, replies: Replies, fault: Fault, stream: bool
) -> None:
    model, status, code = fault
    reply = replies[f"{model}-then-sound", stream].result()

    assert reply.status_code == 200, (status, reply.content)
    if stream:
        assert texts(reply.content) == texts(b"".join(STREAM))
        assert reply.content.endswith(b"data: [DONE]\n\n")
    else:
        assert reply.json() == completion()
    assert reply.headers["x-cauce-escalated"] == "true"
    assert reply.headers["x-cauce-model"] == "sound"
    row, calls = the_story(gateway, reply)
    assert (row["outcome"], row["status"], row["code"]) == ("ok", 200, "")
    assert (row["model"], row["escalated"]) == ("sound", 1)
    assert booked(calls) == [(model, code), ("sound", "ok")]
    assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (9, 3, 4)


@pytest.mark.parametrize("ladder", ["{}", "{}-then-sound"])
@pytest.mark.parametrize(("fault", "code"), CUT.items())
def test_a_stream_that_breaks_after_its_first_byte_ends_in_an_error_event(
    gateway: Running, replies: Replies, fault: str, code: str, ladder: str
) -> None:
    reply = replies[ladder.format(fault), True].result()

    assert reply.status_code == 200
    assert reply.content.startswith(FIRST)
    *sent, last = events(reply.content)
    assert last.startswith(b"event: error\n")
    error = orjson.loads(payload(last))["error"]
    assert (error["code"], error["request_id"]) == (code, reply.headers["x-request-id"])
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert all(event == FIRST for event in sent)  # no half event, no error of the provider's
    assert b"[DONE]" not in reply.content  # not even as a word: there are clients that look for nothing else
    row, calls = the_story(gateway, reply)
    assert (row["outcome"], row["status"], row["code"]) == ("cut", 200, code)
    assert booked(calls) == [(fault, code)]
    assert (row["completion_tokens"], row["estimated"]) == (len(sent), 1)


@pytest.mark.parametrize("fault", CUT)
def test_openais_own_client_raises_when_a_stream_breaks(gateway: Running, fault: str) -> None:
    with openai_client(gateway) as client:
        stream = client.chat.completions.create(
            model=fault, messages=[{"role": "user", "content": "Hola"}], stream=True
        )
        with pytest.raises(openai.APIError) as raised:
            for chunk in stream:
                assert chunk.choices[0].delta.content == "Hola"
    assert raised.value.code == CUT[fault]
    assert raised.value.type == "upstream_error"


def test_openais_own_client_knows_a_busy_upstream_and_when_to_come_back(gateway: Running) -> None:
    with openai_client(gateway) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="is-busy", messages=[{"role": "user", "content": "Hola"}])
    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.code == "upstream_overloaded"
    assert raised.value.request_id is not None


@contextlib.contextmanager
def openai_client(gateway: Running) -> Iterator[openai.OpenAI]:
    with (
        httpx.Client(trust_env=False) as http,
        openai.OpenAI(base_url=gateway.base_url, api_key="none", max_retries=0, http_client=http) as client,
    ):
        yield client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ladder", ["rejects", "rejects-then-sound"])
def test_a_request_that_is_wrong_in_itself_is_told_so_at_once(
    gateway: Running, replies: Replies, ladder: str, stream: bool
) -> None:
    reply = replies[ladder, stream].result()
    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == "upstream_rejected"
    assert "n must be 1" in reply.json()["error"]["message"]
    row, calls = the_story(gateway, reply)
    assert (row["outcome"], row["status"], row["code"]) == ("refused", 422, "upstream_rejected")
    assert booked(calls) == [("rejects", "upstream_rejected")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_without_usage_is_sent_and_its_tokens_are_an_estimate(
    gateway: Running, replies: Replies, stream: bool
) -> None:
    reply = replies["counts-nothing", stream].result()
    assert reply.status_code == 200
    assert reply.content.endswith(b"data: [DONE]\n\n") is stream
    row, calls = the_story(gateway, reply)
    assert calls[0]["completion_tokens"] >= 3
    assert (calls[0]["estimated"], row["estimated"]) == (1, 1)


def texts(stream: bytes) -> list[str]:
    chunks = [orjson.loads(payload(event)) for event in events(stream) if b"[DONE]" not in event]
    return [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]]
