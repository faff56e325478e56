from __future__ import annotations

import contextlib
import http.client
import socket
import time

import pytest

from tests.entries import count, entry, only_entry_after
from tests.running import Running
from tests.wire.asking import (
    CHAT,
    a_body,
    a_head,
    ask,
    assert_refused,
    connected,
    read,
    reply_on,
    the_error,
    the_refusal,
)

# --- sizes and times -------------------------------------------------------------------------------------------------


def test_a_body_of_50_mb_is_refused_and_its_client_reads_why(gateway: Running) -> None:
    the_refusal(gateway, ask(gateway, b"x" * 50_000_000), 413, "request_too_large")


def test_a_body_of_50_mb_in_chunks_is_refused_and_its_client_reads_why(gateway: Running) -> None:
    the_refusal(gateway, ask(gateway, (b"x" * 1_000_000 for _ in range(50))), 413, "request_too_large")


def test_a_client_that_asks_first_need_not_send_its_50_mb(gateway: Running) -> None:
    with connected(gateway) as wire:
        wire.sendall(a_head("expect: 100-continue", length=50_000_000))
        the_refusal(gateway, reply_on(wire), 413, "request_too_large")


def test_a_body_that_comes_too_slowly_is_refused(gateway: Running) -> None:
    with connected(gateway) as wire:
        wire.sendall(a_head(length=1000))
        wire.settimeout(0.1)
        for _ in range(100):
            wire.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                wire.recv(1, socket.MSG_PEEK)
                break
        wire.settimeout(20)
        the_refusal(gateway, reply_on(wire), 408, "request_timeout")


def test_half_a_body_is_not_waited_for_without_end(gateway: Running) -> None:
    with connected(gateway) as wire:
        wire.sendall(a_head(length=1000) + a_body())
        the_refusal(gateway, reply_on(wire), 408, "request_timeout")


def test_a_client_that_leaves_in_the_middle_of_its_body_is_in_the_ledger(gateway: Running) -> None:
    before = count(gateway)
    with connected(gateway) as wire:
        wire.sendall(a_head(length=1000) + a_body())
        time.sleep(0.05)
    row = only_entry_after(gateway, before)
    assert (row["outcome"], row["status"], row["code"]) == ("aborted", 499, "client_closed_request")


@pytest.mark.parametrize("pace", [b"", b"x-slow: y\r\n"], ids=["silent", "slow"])
def test_headers_that_do_not_end_are_not_waited_for_without_end(gateway: Running, pace: bytes) -> None:
    before = count(gateway)
    with connected(gateway) as wire:
        wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n")
        wire.settimeout(0.1)
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                wire.recv(1, socket.MSG_PEEK)
                break
            wire.sendall(pace)
        wire.settimeout(20)
        the_error(reply_on(wire), 408, "request_timeout")
    assert count(gateway) == before  # it never became a request


def test_huge_headers_are_refused_and_their_client_reads_why(gateway: Running) -> None:
    headers = {f"x-header-{number}": "x" * 10_000 for number in range(90)}
    the_error(ask(gateway, a_body(), headers), 400, "invalid_request_error")


# --- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_told_the_right_one(gateway: Running, method: str) -> None:
    reply = ask(gateway, None, method=method)
    the_refusal(gateway, reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


def test_a_wrong_method_without_a_body_in_its_reply_is_booked_too(gateway: Running) -> None:
    reply = ask(gateway, None, method="HEAD")
    assert reply.status == 405
    assert_refused(entry(gateway, reply.headers["x-request-id"]), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/nothing", 404, "not_found"),
        ("POST", "/chat/completions", 404, "not_found"),
        ("POST", f"{CHAT}/", 404, "not_found"),
        ("GET", "/v1/%00%ff%ed%a0%80", 404, "not_found"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_a_path_that_is_not_there_is_told_so(gateway: Running, method: str, path: str, status: int, code: str) -> None:
    before = count(gateway)
    the_error(ask(gateway, a_body(), method=method, path=path), status, code)
    assert count(gateway) == before  # it did not reach the API


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: many",),
        ("content-length: -1",),
        ("content-length: 5", "content-length: 6"),
        ("content-length: 5", "transfer-encoding: chunked"),
        ("content-length: 99999999999999999999999999",),
        ("transfer-encoding: nonsense",),
        ("a line without a colon",),
    ],
    ids=" and ".join,
)
def test_what_is_not_http_is_told_so(gateway: Running, headers: tuple[str, ...]) -> None:
    with connected(gateway) as wire:
        wire.sendall(a_head(*headers) + a_body())
        the_error(reply_on(wire), 400, "invalid_request_error")


@pytest.mark.parametrize("chunk", [b"zz\r\n{}\r\n", b"5\r\n{\r\n0\r\n\r\n"], ids=["size", "length"])
def test_a_broken_chunk_is_told_so_and_booked(gateway: Running, chunk: bytes) -> None:
    before = count(gateway)
    with connected(gateway) as wire:
        wire.sendall(a_head("transfer-encoding: chunked") + chunk)
        the_error(reply_on(wire), 400, "invalid_request_error")
    assert only_entry_after(gateway, before)["status"] in {400, 499}


def test_a_content_length_that_is_too_short_is_an_error_and_not_a_second_request(gateway: Running) -> None:
    before = count(gateway)
    with connected(gateway) as wire:
        wire.sendall(a_head(length=10) + a_body())
        assert reply_on(wire).status == 400
    assert only_entry_after(gateway, before)["status"] in {400, 499}


def test_a_refused_request_leaves_its_connection_usable(gateway: Running) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
        connection.request("POST", CHAT, b"nonsense")
        the_refusal(gateway, read(connection.getresponse()), 400, "invalid_json")
        first = connection.sock
        connection.request("POST", CHAT, a_body())
        assert read(connection.getresponse()).status == 200
        assert connection.sock is first
