"""What only the adapter of LiteLLM must see to: that the library says no more, and goes no further, than it is told."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.errors import UpstreamBroken, UpstreamFailed, UpstreamRejected
from gateway.sse import DONE
from gateway.upstreams.pool import MAX_ANSWER_BYTES
from tests.upstreams.dialects import TEXT, WORDS, Dialect, Say, Watsonx
from tests.upstreams.loopback import Handler, Request, Wire, clean_run, event, head, read_all, released, serving
from tests.upstreams.speaking import BOTH, EVERY_TRANSLATED, LITELLMS_WARNING, ask, read_stream, sound, speaking
from tests.upstreams.translated import Anthropic, Bedrock, Gemini

pytestmark = [pytest.mark.usefixtures("at_home"), LITELLMS_WARNING]


@BOTH
def test_an_environment_variable_takes_no_text_to_another_place(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(sound(Bedrock())) as elsewhere:
            monkeypatch.setenv("AWS_BEDROCK_RUNTIME_ENDPOINT", elsewhere.url)
            async with speaking(Bedrock()) as (upstream, server):
                with pytest.raises(UpstreamFailed, match="set base_url"):
                    await ask(upstream, stream=stream)
                assert (elsewhere.connections, server.connections) == (0, 0)

    clean_run(main())


@BOTH
def test_a_base_url_may_end_in_v1_as_it_does_elsewhere(stream: bool) -> None:
    async def main() -> None:
        async with serving(sound(Anthropic())) as server:
            async with speaking(Anthropic(), base_url=f"{server.url}/v1") as (upstream, _unused):
                assert (await ask(upstream, stream=stream)).text == TEXT
            assert [request.path for request in server.requests] == ["/v1/messages"]

    clean_run(main())


# --- nothing made up -------------------------------------------------------------------------------------------------


def without_usage(dialect: Dialect) -> list[bytes]:
    if isinstance(dialect, Bedrock):
        *frames, end = dialect.pieces(Say())
        return [*frames, end[: int.from_bytes(end[:4])]]  # without the frame of the metadata
    if isinstance(dialect, Watsonx):
        return dialect.pieces(Say())[:-1]
    return [re.sub(rb',?"(?:usage|usageMetadata)":\{[^{}]*\}', b"", piece) for piece in dialect.pieces(Say())]


@EVERY_TRANSLATED
def test_usage_that_a_provider_does_not_say_is_not_made_up(dialect: Dialect) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        await dialect.begin(wire)
        for piece in without_usage(dialect):
            await wire.chunk(piece)
        await wire.end_stream()

    async def main() -> None:
        async with speaking(dialect, handler) as (upstream, _server):
            stream = await read_all(upstream, released(upstream.model, stream=True))
            assert WORDS[-1].encode() in stream
            assert b'"usage"' not in stream
            assert stream.endswith(DONE)

    clean_run(main())


@EVERY_TRANSLATED
@pytest.mark.parametrize("size", [1, 33])
def test_a_stream_is_the_same_however_it_is_cut(dialect: Dialect, size: int) -> None:
    async def handler(_request: Request, wire: Wire) -> None:
        sent = b"".join(dialect.pieces(Say("length")))
        await dialect.begin(wire)
        for start in range(0, len(sent), size):
            await wire.chunk(sent[start : start + size])
        await wire.end_stream()

    async def main() -> None:
        async with speaking(dialect, handler) as (upstream, _server):
            got = read_stream(await read_all(upstream, released(upstream.model, stream=True)))
            assert (got.text, got.finish) == (TEXT, "length")

    clean_run(main())


@EVERY_TRANSLATED
def test_the_cost_that_the_library_thinks_of_is_not_passed_on(dialect: Dialect) -> None:
    async def main() -> None:
        async with speaking(dialect) as (upstream, _server):
            call = released(upstream.model, stream=True)
            assert b"cost" not in await read_all(upstream, call)
            assert b"cost" not in (await upstream.complete(released(upstream.model))).body

    clean_run(main())


def test_a_prompt_that_gemini_blocks_ends_with_the_filter_as_its_reason() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": Gemini.usage, "responseId": "r1"}

    async def handler(request: Request, wire: Wire) -> None:
        if Gemini().streams(request):
            await wire.events(event(blocked))
        else:
            await wire.whole(blocked)

    async def main() -> None:
        async with speaking(Gemini(), handler) as (upstream, _server):
            assert (await ask(upstream)).finish == "content_filter"
            stream = await read_all(upstream, released(upstream.model, stream=True))
            assert b'"finish_reason":"content_filter"' in stream
            assert stream.endswith(DONE)

    clean_run(main())


# --- what cannot be asked, or read -----------------------------------------------------------------------------------


@EVERY_TRANSLATED
@BOTH
def test_a_conversation_that_cannot_be_translated_is_an_error_without_its_text(dialect: Dialect, stream: bool) -> None:
    odd = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"arguments": "Zarzuela"}}]}

    async def main() -> None:
        async with speaking(dialect) as (upstream, _server):
            try:
                got = await ask(upstream, stream=stream, messages=[{"role": "user", "content": "Hi"}, odd])
            except (UpstreamFailed, UpstreamRejected) as error:
                assert "Zarzuela" not in error.message
            else:
                assert got.text == TEXT  # some take it as it is

    clean_run(main())


def declaring(dialect: Dialect) -> Handler:
    async def handler(_request: Request, wire: Wire) -> None:
        length = str(MAX_ANSWER_BYTES + 1)
        await wire.send(head(200, {"content-type": dialect.stream_type, "content-length": length}))
        await wire.hang()

    return handler


@EVERY_TRANSLATED
@BOTH
def test_an_answer_over_the_limit_is_not_read(dialect: Dialect, stream: bool) -> None:
    async def main() -> None:
        async with speaking(dialect, declaring(dialect)) as (upstream, _server):
            with pytest.raises(UpstreamBroken, match="more than 64000 kB"):
                await ask(upstream, stream=stream)

    clean_run(main())


def test_a_call_that_waits_for_a_place_holds_no_connection() -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.05)
        await Anthropic().answer(request, wire, Say())

    async def main() -> None:
        async with speaking(Anthropic(), handler, max_in_flight=2) as (upstream, server):
            answers = await asyncio.gather(*(ask(upstream, stream=bool(n % 2)) for n in range(6)))
            assert {got.text for got in answers} == {TEXT}
            assert server.connections == 2

    clean_run(main())
