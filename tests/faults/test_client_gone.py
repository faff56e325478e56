from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.entries import Row, attempts, count, eventually, metric, only_entry_after
from tests.faults.providers import FIRST, provider
from tests.running import Running, running
from tests.upstreams.loopback import Server
from tests.upstreams.threaded import served

MODELS = ("hangs", "fails", "begins-and-hangs", "hangs-in-the-middle", "never-ends", "floods", "sound")
POLICY = """
version: 1
routes:
  plain: {try: [sound]}
  second-hangs: {try: [fails, hangs]}
  checked: {try: [hangs-in-the-middle, sound], verify: [finish, language]}
  judged: {try: [sound, fails], verify: [{judge: hangs}], mode: buffered, verify_budget: {ms: 60000}}
  sampled:
    try: [sound, fails]
    verify: [{samples: {times: 2, model: hangs}}]
    mode: buffered
    verify_budget: {ms: 60000}
rules: []
default: plain
"""


def config(port: int) -> str:
    def model(name: str, path: str, more: str = "") -> str:
        return (
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{port}/{path}/v1', model: served, "
            f"zone: premises, kind: slm, retries: {{most: 0}}{more}}}\n"
        )

    models = "".join(model(name, name) for name in MODELS) + model("narrow", "hangs", ", max_in_flight: 1")
    return f"models:\n{models}cache: {{enabled: false}}\nlimits: {{unread_timeout_s: 0.7}}\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with served(provider) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("client-gone"), config(upstream.port), policy=POLICY) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _nothing_is_left(gateway: Running, upstream: Server) -> Iterator[None]:
    """Each upstream call is closed long before a timeout would do it, and no request stays behind."""
    yield
    eventually(lambda: upstream.busy == 0)
    eventually(lambda: metric(gateway, "cauce_requests_in_flight") == 0)
    assert metric(gateway, "cauce_crashes_total") == 0
    assert "Traceback" not in gateway.output


@contextlib.contextmanager
def a_client(gateway: Running, model: str, *, stream: bool = False) -> Iterator[socket.socket]:
    """A client that has asked, and leaves at the end of the block."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hola"}], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as wire:
        wire.sendall(head.encode() + body)
        yield wire


def read_until(wire: socket.socket, wanted: bytes) -> None:
    received = b""
    while wanted not in received:
        piece = wire.recv(65536)
        assert piece, received
        received += piece


def how(row: Row) -> tuple[str, int, str]:
    return row["outcome"], row["status"], row["code"]


def booked(gateway: Running, row: Row) -> list[tuple[str, str]]:
    return [(call["model"], call["outcome"]) for call in attempts(gateway, row["request_id"])]


@pytest.mark.parametrize("broken", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["hangs", "begins-and-hangs"])
def test_a_client_that_leaves_before_its_answer_ends_the_upstream_call(
    gateway: Running, upstream: Server, model: str, stream: bool, broken: bool
) -> None:
    before = count(gateway)
    with a_client(gateway, model, stream=stream) as wire:
        eventually(lambda: upstream.busy == 1)
        if broken:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: upstream.busy == 0)
    row = only_entry_after(gateway, before)
    assert how(row) == ("aborted", 499, "client_closed_request")
    assert booked(gateway, row) == [(model, "aborted")]
    (call,) = attempts(gateway, row["request_id"])
    assert call["duration_us"] > 0  # the time of a local model costs, also for nobody
    assert row["stream"] == int(stream)


@pytest.mark.parametrize("model", ["hangs-in-the-middle", "never-ends"])
def test_a_client_that_leaves_in_mid_stream_is_booked_with_what_it_received(
    gateway: Running, upstream: Server, model: str
) -> None:
    before = count(gateway)
    with a_client(gateway, model, stream=True) as wire:
        read_until(wire, FIRST)
    eventually(lambda: upstream.busy == 0)
    row = only_entry_after(gateway, before)
    assert how(row) == ("aborted", 200, "")
    assert booked(gateway, row) == [(model, "aborted")]
    assert row["estimated"] == 1
    assert row["completion_tokens"] >= 1 if model == "never-ends" else row["completion_tokens"] == 1


def test_a_client_that_stays_and_does_not_read_is_left(gateway: Running, upstream: Server) -> None:
    before = count(gateway)
    with a_client(gateway, "floods", stream=True):
        eventually(lambda: upstream.busy == 1)
        eventually(lambda: upstream.busy == 0)
    row = only_entry_after(gateway, before)
    assert how(row) == ("aborted", 200, "")
    assert row["completion_tokens"] > 1


def test_a_client_that_reads_slowly_is_not_left(gateway: Running, upstream: Server) -> None:
    with a_client(gateway, "floods", stream=True) as wire:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert wire.recv(1_000_000)
            time.sleep(0.05)
        assert upstream.busy == 1


def test_an_answer_that_was_held_back_when_its_client_left_was_used_all_the_same(
    gateway: Running, upstream: Server
) -> None:
    before = count(gateway)
    with a_client(gateway, "checked", stream=True):
        eventually(lambda: upstream.busy == 1)
        eventually(lambda: metric(gateway, "cauce_requests_in_flight") == 1)
        sound_request(gateway)  # by then the first piece of the other has long come
    row = only_entry_after(gateway, before + 1)
    assert how(row) == ("aborted", 499, "client_closed_request")
    assert booked(gateway, row) == [("hangs-in-the-middle", "aborted")]
    assert (row["completion_tokens"], row["estimated"]) == (1, 1)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_on_the_second_rung_is_booked_with_both(
    gateway: Running, upstream: Server, stream: bool
) -> None:
    before, asked = count(gateway), len(upstream.requests)
    with a_client(gateway, "second-hangs", stream=stream):
        eventually(lambda: len(upstream.requests) == asked + 2)
    row = only_entry_after(gateway, before)
    assert how(row) == ("aborted", 499, "client_closed_request")
    assert booked(gateway, row) == [("fails", "upstream_error"), ("hangs", "aborted")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("route", "calls"), [("judged", 1), ("sampled", 2)])
def test_a_client_that_leaves_while_others_are_asked_about_its_answer_leaves_none_of_them_behind(
    gateway: Running, upstream: Server, route: str, calls: int, stream: bool
) -> None:
    before, asked = count(gateway), len(upstream.requests)
    with a_client(gateway, route, stream=stream):
        eventually(lambda: len(upstream.requests) == asked + 1 + calls)
    row = only_entry_after(gateway, before)
    assert how(row) == ("aborted", 499, "client_closed_request")
    assert booked(gateway, row) == [("sound", "aborted" if stream else "ok"), *([("hangs", "aborted")] * calls)]
    assert attempts(gateway, row["request_id"])[0]["completion_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_the_queue_gives_its_place_up(gateway: Running, upstream: Server, stream: bool) -> None:
    before, asked = count(gateway), len(upstream.requests)
    with a_client(gateway, "narrow", stream=stream):
        eventually(lambda: upstream.busy == 1)
        with a_client(gateway, "narrow", stream=stream):
            eventually(lambda: metric(gateway, "cauce_requests_in_flight") == 2)
        row = only_entry_after(gateway, before)
        assert how(row) == ("aborted", 499, "client_closed_request")
        assert upstream.busy == 1  # the one that was there goes on
    eventually(lambda: upstream.busy == 0)
    assert len(upstream.requests) == asked + 1  # the one that waited was never asked
    with a_client(gateway, "narrow", stream=stream):
        eventually(lambda: upstream.busy == 1)  # the place is free


def test_many_clients_that_leave_leave_nothing_open(gateway: Running, upstream: Server) -> None:
    sound_request(gateway)
    before, files = count(gateway), open_files(gateway)
    for _ in range(3):
        with contextlib.ExitStack() as clients:
            for model in ("hangs", "never-ends", "hangs-in-the-middle", "narrow") * 4:
                clients.enter_context(a_client(gateway, model, stream=True))
            eventually(lambda: metric(gateway, "cauce_requests_in_flight") >= 13)
        eventually(lambda: upstream.busy == 0)
    eventually(lambda: count(gateway) == before + 48)
    eventually(lambda: open_files(gateway) <= files + 2)


def sound_request(gateway: Running) -> None:
    body = {"model": "sound", "messages": [{"role": "user", "content": "Hola"}]}
    assert httpx.post(f"{gateway.base_url}/chat/completions", json=body, trust_env=False).status_code == 200


def open_files(gateway: Running) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))
