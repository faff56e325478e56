"""What every adapter makes of a provider that fails: one of our errors, soon, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import (
    UpstreamBroken,
    UpstreamContext,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamFiltered,
    UpstreamMissing,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.sse import DONE
from gateway.types import Timeouts
from tests.running import free_port
from tests.upstreams.dialects import KEY, TEXT, WORDS, Dialect, Say
from tests.upstreams.loopback import Handler, Request, Wire, clean_run, event, released, serving
from tests.upstreams.speaking import (
    BOTH,
    DIALECTS,
    EVERY,
    LITELLMS_WARNING,
    ask,
    begun,
    sound,
    speaking,
    until_it_breaks,
    without_end,
)

pytestmark = [pytest.mark.usefixtures("at_home"), LITELLMS_WARNING]

ERRORS: dict[str, type[UpstreamError]] = {
    "denied": UpstreamDenied,
    "busy": UpstreamOverloaded,
    "failed": UpstreamFailed,
    "context": UpstreamContext,
    "filtered": UpstreamFiltered,
    "rejected": UpstreamRejected,
}
QUICK = Timeouts(connect_s=2.0, first_token_s=0.3, idle_s=0.3, total_s=0.6)


def refusing(dialect: Dialect, kind: str) -> Handler:
    refusal = dialect.refusals[kind]

    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(refusal.body, status=refusal.status, headers=refusal.headers)

    return handler


@BOTH
@pytest.mark.parametrize(
    ("dialect", "kind"),
    [(dialect, kind) for dialect in DIALECTS for kind in dialect.refusals],
    ids=lambda value: value if isinstance(value, str) else value.provider,
)
def test_an_error_of_the_provider_is_one_of_ours(dialect: Dialect, kind: str, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect, refusing(dialect, kind)) as (upstream, server):
            with pytest.raises(UpstreamError) as raised:
                await ask(upstream, stream=stream)
            error = raised.value
            assert type(error) is ERRORS[kind]
            assert error.message.startswith("small")
            assert error.upstream == "small"
            assert KEY not in error.message
            assert "litellm" not in error.message.lower()
            assert error.retry_after_s == (7.0 if kind == "busy" else None)
            assert (kind != "rejected") or "P" in error.message.upper().partition("TOP")[2][:2]
            assert len(server.requests) == 1

    clean_run(main())


# --- before the answer begins ----------------------------------------------------------------------------------------


async def resets(_request: Request, wire: Wire) -> None:
    wire.reset()


@EVERY
@BOTH
def test_a_provider_that_does_not_answer_in_time_is_left(dialect: Dialect, stream: bool) -> None:
    left = asyncio.Event()

    async def handler(_request: Request, wire: Wire) -> None:
        await wire.hang()
        left.set()

    async def main() -> None:
        async with speaking(dialect, handler, timeouts=QUICK) as (upstream, _server):
            with pytest.raises(UpstreamTimeout):
                await ask(upstream, stream=stream)
            await asyncio.wait_for(left.wait(), 5)

    clean_run(main())


@EVERY
@BOTH
def test_a_connection_that_is_reset_is_an_error_and_the_provider_is_not_asked_again(
    dialect: Dialect, stream: bool
) -> None:
    async def main() -> None:
        async with speaking(dialect, resets) as (upstream, server):
            with pytest.raises(UpstreamFailed, match="broke off"):
                await ask(upstream, stream=stream)
            assert len(server.requests) == 1

    clean_run(main())


@EVERY
@BOTH
def test_a_provider_that_is_not_there_is_unreachable(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect, base_url=f"http://127.0.0.1:{free_port()}") as (upstream, _server):
            with pytest.raises(UpstreamUnreachable):
                await ask(upstream, stream=stream)

    clean_run(main())


@EVERY
@BOTH
def test_a_redirect_is_not_followed(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with serving(sound(dialect)) as elsewhere:

            async def handler(request: Request, wire: Wire) -> None:
                await wire.whole(b"", status=307, headers={"location": elsewhere.url + request.path})

            async with speaking(dialect, handler) as (upstream, _server):
                with pytest.raises(UpstreamMissing):
                    await ask(upstream, stream=stream)
            assert elsewhere.connections == 0

    clean_run(main())


# --- an answer that is none ------------------------------------------------------------------------------------------

GARBAGE = {
    "a page": b"<html>Welcome</html>",
    "half of it": b'{"choices": [{"message": {"role": "assi',
    "another shape": b'{"answer": 42}',
    "a list": b"[]",
    "a text": b'"Hola"',
    "nothing": b"",
}


@EVERY
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_whole_answer_that_is_none_is_broken(dialect: Dialect, garbage: bytes) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await wire.whole(garbage)

    async def main() -> None:
        async with speaking(dialect, handler) as (upstream, server):
            with pytest.raises(UpstreamBroken) as raised:
                await ask(upstream)
            assert "Welcome" not in raised.value.message
            assert len(server.requests) == 1

    clean_run(main())


@EVERY
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_stream_of_something_else_is_broken(dialect: Dialect, garbage: bytes) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await dialect.begin(wire)
        if garbage:
            await wire.chunk(event(garbage.decode()) if dialect.provider != "bedrock" else garbage)
        await wire.end_stream()

    async def main() -> None:
        async with speaking(dialect, handler) as (upstream, _server):
            blocks, error = await until_it_breaks(upstream)
            assert isinstance(error, UpstreamBroken)
            assert DONE not in b"".join(blocks)

    clean_run(main())


# --- after it has begun ----------------------------------------------------------------------------------------------


async def ends(wire: Wire) -> None:
    await wire.end_stream()


async def closes(wire: Wire) -> None:
    wire.writer.close()


async def resets_now(wire: Wire) -> None:
    wire.reset()


async def hangs(wire: Wire) -> None:
    await wire.hang()


async def breaks_a_chunks_size(wire: Wire) -> None:
    await wire.send(b"zz\r\nmore\r\n")
    await wire.hang()


BREAKS = {
    "ends": (ends, UpstreamBroken),
    "closes": (closes, UpstreamBroken),
    "resets": (resets_now, UpstreamBroken),
    "hangs": (hangs, UpstreamTimeout),
    "breaks a chunk's size": (breaks_a_chunks_size, UpstreamTimeout),
}


@EVERY
@pytest.mark.parametrize("fault", BREAKS)
def test_a_stream_that_stops_half_way_is_an_error_and_never_done(dialect: Dialect, fault: str) -> None:
    then, expected = BREAKS[fault]
    timeouts = Timeouts(connect_s=2.0, first_token_s=5.0, idle_s=0.4, total_s=20.0)

    async def main() -> None:
        async with speaking(dialect, begun(dialect, then), timeouts=timeouts) as (upstream, _server):
            blocks, error = await until_it_breaks(upstream)
            assert type(error) is expected
            sent = b"".join(blocks)
            assert WORDS[0].encode() in sent
            assert b'"finish_reason":"' not in sent
            assert DONE not in sent

    clean_run(main())


@EVERY
def test_an_error_in_mid_stream_is_one_of_ours(dialect: Dialect) -> None:
    async def then(wire: Wire) -> None:
        await wire.chunk(dialect.trouble)
        await wire.end_stream()

    async def main() -> None:
        async with speaking(dialect, begun(dialect, then)) as (upstream, _server):
            blocks, error = await until_it_breaks(upstream)
            assert isinstance(error, UpstreamFailed | UpstreamOverloaded | UpstreamBroken)
            assert WORDS[0].encode() in b"".join(blocks)
            assert DONE not in b"".join(blocks)

    clean_run(main())


@EVERY
def test_a_stream_may_not_take_longer_than_the_whole_answer_may(dialect: Dialect) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await dialect.begin(wire)
        pieces = without_end(dialect)
        for piece in pieces:
            await wire.chunk(piece)
        while True:
            await asyncio.sleep(0.05)
            await wire.chunk(pieces[-1])

    async def main() -> None:
        async with speaking(dialect, handler, timeouts=QUICK) as (upstream, _server):
            _blocks, error = await until_it_breaks(upstream)
            assert isinstance(error, UpstreamTimeout)

    clean_run(main())


@EVERY
def test_closing_a_stream_closes_the_connection_and_frees_its_place(dialect: Dialect) -> None:
    left = asyncio.Event()

    async def handler(request: Request, wire: Wire) -> None:
        if left.is_set():
            await dialect.answer(request, wire, Say())
        else:
            await begun(dialect, hangs)(request, wire)
            left.set()

    async def main() -> None:
        async with speaking(dialect, handler, max_in_flight=1) as (upstream, _server):
            stream: Any = upstream.stream(released(upstream.model, stream=True))
            while WORDS[0].encode() not in await anext(stream):
                pass
            await stream.aclose()
            await asyncio.wait_for(left.wait(), 5)
            assert (await ask(upstream)).text == TEXT

    clean_run(main())


@EVERY
@BOTH
def test_a_caller_who_leaves_takes_the_call_along(dialect: Dialect, stream: bool) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def handler(_request: Request, wire: Wire) -> None:
        asked.set()
        await wire.hang()
        left.set()

    async def main() -> None:
        async with speaking(dialect, handler) as (upstream, _server):
            call = asyncio.create_task(ask(upstream, stream=stream))
            await asyncio.wait_for(asked.wait(), 5)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(left.wait(), 5)

    clean_run(main())
