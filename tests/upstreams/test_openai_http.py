"""What only the raw adapter does: bytes as they came, fields as they are, and old connections that turn out closed."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import uvloop

from gateway.errors import (
    UpstreamBroken,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamMissing,
    UpstreamOverloaded,
)
from gateway.sse import MAX_EVENT_BYTES
from gateway.upstreams.base import Upstream
from gateway.upstreams.pool import MAX_ANSWER_BYTES, Deadline, Pool
from tests.running import free_port
from tests.upstreams.dialects import TEXT, OpenAI, Say
from tests.upstreams.loopback import (
    STREAM,
    Handler,
    Request,
    Wire,
    clean_run,
    completion,
    delta,
    event,
    head,
    openai,
    read_all,
    released,
    serving,
)
from tests.upstreams.speaking import BOTH, ask, speaking

pytestmark = pytest.mark.usefixtures("at_home")
CHAT, SAY = OpenAI(), Say()


# --- bytes -----------------------------------------------------------------------------------------------------------

LINES = b"".join(STREAM)
STREAMS = {
    "as OpenAI sends it": LINES,
    "CRLF": LINES.replace(b"\n", b"\r\n"),
    "CR": LINES.replace(b"\n", b"\r"),
    "comments": b": keep-alive\n\n" + LINES.replace(b"data: [", b": almost there\ndata: ["),
    "names and numbers": LINES.replace(b"data: {", b"event: chunk\nid: 7\nretry: 10\ndata: {"),
    "no space after the colon": LINES.replace(b"data: ", b"data:"),
    "spaced JSON": LINES.replace(b'":', b'" : '),
    "data in two lines": LINES.replace(b',"choices"', b'\ndata: ,"choices"'),
    "a byte order mark": b"\xef\xbb\xbf" + LINES,
    "what is no JSON": b"data: warming up\n\n" + LINES,
    "fields that nobody knows": event({"choices": [], "x_new": {"a": [1, 2.50, None]}}) + LINES,
    "escapes": delta("\u2028 \U0001f600 \" \\ [DONE] data: [DONE]") + LINES,
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_relayed_byte_for_byte_however_it_is_cut(stream: bytes, size: int) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await CHAT.begin(wire)
        for start in range(0, len(stream), size):
            await wire.chunk(stream[start : start + size])
        await wire.end_stream()

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            assert await read_all(upstream, released(upstream.model, stream=True)) == stream

    clean_run(main())


def test_a_whole_answer_is_relayed_byte_for_byte() -> None:
    sent = orjson.dumps(completion(x_new={"a": [1, 2.5]}), option=orjson.OPT_INDENT_2) + b"\n\n"

    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(sent)

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            assert (await upstream.complete(released(upstream.model))).body == sent

    clean_run(main())


def test_log_probabilities_that_only_the_gateway_asked_for_are_taken_out_again() -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        answer = completion()
        answer["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1}]}
        await wire.whole(answer)

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, server):
            answer = await upstream.complete(released(upstream.model, logprobs=True))
            assert server.requests[0].body["logprobs"] is True
            assert answer.mean_logprob == -0.75
            assert b"logprobs" not in answer.body

    clean_run(main())


# --- what is asked ---------------------------------------------------------------------------------------------------


@BOTH
def test_a_body_goes_out_with_what_nobody_here_knows_and_with_the_upstreams_own_model(stream: bool) -> None:
    body: dict[str, Any] = {"x_new": {"deep": [1, 2.5, None]}, "top_p": 0.5, "stream_options": {"x_more": 1}}

    async def main() -> None:
        async with speaking(CHAT) as (upstream, server):
            await ask(upstream, stream=stream, **body)
            sent = server.requests[0].body
            assert sent.pop("messages") == [{"role": "user", "content": "Hi"}]
            usage = {"include_usage": True} if stream else {}
            expected = {**body, "model": "served-name", "stream_options": {"x_more": 1, **usage}}
            assert sent == (expected | {"stream": True} if stream else expected)

    clean_run(main())


def test_a_request_has_no_headers_but_our_own_and_keeps_no_cookie() -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(completion(), headers={"set-cookie": "session=1; Path=/"})

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, server):
            await ask(upstream)
            await ask(upstream)
            for request in server.requests:
                assert set(request.headers) == {
                    "host", "accept", "accept-encoding", "authorization", "content-length", "content-type",
                    "user-agent", "x-request-id",
                }  # fmt: skip
                assert request.headers["x-request-id"] == "req_0123"
                assert request.headers["accept-encoding"] == "identity"

    clean_run(main())


# --- connections -----------------------------------------------------------------------------------------------------


@BOTH
def test_kept_connections_that_turn_out_closed_cost_one_more_try_however_many_there_are(stream: bool) -> None:
    """As when a server has been started anew: each connection serves one request and is reset at the second."""
    everyone = asyncio.Barrier(4)

    async def handler(request: Request, wire: Wire) -> None:
        if wire.reader in used:
            return wire.reset()
        used.append(wire.reader)
        if len(used) <= 4:
            await everyone.wait()
        return await CHAT.answer(request, wire, SAY)

    used: list[asyncio.StreamReader] = []

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, server):
            await asyncio.gather(*(ask(upstream) for _ in range(4)))
            assert server.connections == 4
            assert (await ask(upstream, stream=stream)).text == TEXT
            assert (server.connections, len(server.requests)) == (5, 6)

    clean_run(main())


@pytest.mark.parametrize("ends", [True, False], ids=["late", "never"])
def test_a_stream_is_over_with_done_whenever_its_connection_ends(ends: bool) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await CHAT.begin(wire)
        await wire.chunk(LINES)
        if ends:
            await asyncio.sleep(0.05)
            await wire.end_stream()
        else:
            await wire.hang()

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, server):
            for _ in range(2):
                assert await read_all(upstream, released(upstream.model, stream=True)) == LINES
                await asyncio.sleep(0.2)
            assert server.connections == (1 if ends else 2)

    clean_run(main())


# --- too much --------------------------------------------------------------------------------------------------------


async def declares_too_much(_request: Request, wire: Wire) -> None:
    length = str(MAX_ANSWER_BYTES + 1)
    await wire.send(head(200, {"content-type": "application/json", "content-length": length}) + b"{")
    await wire.hang()


async def sends_too_much(_request: Request, wire: Wire) -> None:
    await wire.send(head(200, {"content-type": "application/json", "transfer-encoding": "chunked"}))
    for _ in range(MAX_ANSWER_BYTES // 1_000_000 + 1):
        await wire.chunk(b" " * 1_000_000)
    await wire.hang()


@pytest.mark.parametrize("handler", [declares_too_much, sends_too_much])
def test_an_answer_over_the_limit_is_not_read_to_its_end(handler: Handler) -> None:
    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            with pytest.raises(UpstreamBroken, match="more than 64000 kB"):
                await ask(upstream)

    clean_run(main())


def test_an_event_over_the_limit_breaks_its_stream() -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await CHAT.begin(wire)
        await wire.chunk(STREAM[0])
        for _ in range(MAX_EVENT_BYTES // 500_000 + 2):
            await wire.chunk(b"x" * 500_000)
        await wire.hang()

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            with pytest.raises(UpstreamBroken, match="larger than"):
                await ask(upstream, stream=True)

    clean_run(main())


# --- errors in other people's shapes ---------------------------------------------------------------------------------

SHAPES: dict[str, tuple[int, object, type[UpstreamError], str]] = {
    "a text": (400, {"error": "top_p is too high"}, UpstreamError, "top_p is too high"),
    "FastAPI's": (422, {"detail": [{"loc": ["body", "n"]}]}, UpstreamError, "no reason given"),
    "TGI's busy": (429, {"error": "Model is overloaded", "error_type": "overloaded"}, UpstreamOverloaded, "overloaded"),
    "a code that is no text": (400, {"error": {"message": "Odd", "code": {"a": 1}}}, UpstreamError, "Odd"),
    "a code that is a number": (500, {"error": {"message": "Odd", "code": 500}}, UpstreamFailed, "Odd"),
    "a page": (502, b"<html>Bad gateway</html>", UpstreamFailed, "no reason given"),
    "a page for no key": (401, b"<html>Sign in</html>", UpstreamDenied, "check its api_key"),
    "the wrong path": (404, b"404 page not found", UpstreamMissing, "it usually ends in /v1"),
    "too much of it": (500, b" " * 100_000 + b"{}", UpstreamFailed, "no reason given"),
    "nothing": (503, b"", UpstreamOverloaded, "no reason given"),
}


@BOTH
@pytest.mark.parametrize(("status", "body", "kind", "said"), SHAPES.values(), ids=SHAPES)
def test_an_error_in_any_shape_is_one_of_ours(
    status: int, body: object, kind: type[UpstreamError], said: str, stream: bool
) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(body, status=status)

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            with pytest.raises(kind, match=said):
                await ask(upstream, stream=stream)

    clean_run(main())


# --- health ----------------------------------------------------------------------------------------------------------


async def health_of(upstream: Upstream) -> tuple[bool, str]:
    health = await upstream.health()
    return health.ready, health.detail


@pytest.mark.parametrize(
    ("status", "ready", "detail"),
    [(200, True, ""), (404, True, ""), (401, False, "check its api_key"), (500, False, "(status 500)")],
)
def test_health_is_what_the_server_says(status: int, ready: bool, detail: str) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        assert request.path == "/v1/models"
        await (openai(request, wire) if status == 200 else wire.whole(b"", status=status))

    async def main() -> None:
        async with speaking(CHAT, handler) as (upstream, _server):
            found = await health_of(upstream)
            assert found[0] is ready
            assert detail in found[1]

    clean_run(main())


def test_a_server_that_is_not_there_is_not_ready_and_the_reason_says_where_it_should_be() -> None:
    address = f"http://127.0.0.1:{free_port()}/v1"

    async def main() -> None:
        async with speaking(CHAT, base_url=address) as (upstream, _server):
            assert await health_of(upstream) == (False, f"small cannot be reached at {address}: is it running?")

    clean_run(main())


def test_a_limit_that_is_over_now_can_be_moved_like_any_other() -> None:
    async def main() -> None:
        loop, pool = asyncio.get_running_loop(), Pool()
        async with serving(openai) as server, pool.session().get(server.url) as response:
            deadline = Deadline(response, end=loop.time())
            deadline.within(5)  # for uvloop this is now, and no timer
            deadline.within(5)
            await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                await response.content.readany()
        await pool.aclose()

    uvloop.run(main())
