"""Providers that fail, each in its own way, all behind one loopback server: the first part of the path says which."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.upstreams.loopback import DONE, STREAM, Handler, Request, Wire, completion, delta, event, head, openai

HALF_ANSWER: Final = b'{"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assi'
FIRST: Final = delta("Hola")
_READ_S: Final = 0.2  # in which what was sent is read: a fault would take it along
_ERROR: Final = {"message": "the model is on fire", "type": "server_error", "code": None}


async def hangs(_request: Request, wire: Wire) -> None:
    await wire.hang()


async def resets(_request: Request, wire: Wire) -> None:
    wire.reset()


async def is_busy(_request: Request, wire: Wire) -> None:
    await wire.whole({"error": {**_ERROR, "code": "rate_limit_exceeded"}}, status=429, headers={"retry-after": "7"})


async def fails(_request: Request, wire: Wire) -> None:
    await wire.whole({"error": _ERROR}, status=500)


async def denies(_request: Request, wire: Wire) -> None:
    await wire.whole({"error": {**_ERROR, "code": "invalid_api_key"}}, status=401)


async def rejects(_request: Request, wire: Wire) -> None:
    error = {"message": "n must be 1", "type": "invalid_request_error", "param": "n", "code": None}
    await wire.whole({"error": error}, status=422)


async def errs_in_a_good_status(_request: Request, wire: Wire) -> None:
    await wire.whole({"error": _ERROR})


async def errs_in_its_first_event(request: Request, wire: Wire) -> None:
    if not request.body.get("stream"):
        return await wire.whole({"error": _ERROR})
    return await wire.events(event({"error": _ERROR}), DONE)


async def sends_a_page(_request: Request, wire: Wire) -> None:
    await wire.whole(b"<html>Welcome</html>", headers={"content-type": "text/html"})


async def sends_broken_json(request: Request, wire: Wire) -> None:
    if request.body.get("stream"):
        return await wire.events(b"data: " + HALF_ANSWER + b"\n\n")
    return await wire.whole(HALF_ANSWER)


async def sends_other_json(request: Request, wire: Wire) -> None:
    if request.body.get("stream"):
        return await wire.whole({"answer": 42})
    return await wire.whole({"answer": 42})


async def begins_and_resets(request: Request, wire: Wire) -> None:
    """After the headers, before the first byte of an answer."""
    await _begin(request, wire)
    await asyncio.sleep(_READ_S)
    wire.reset()


async def begins_and_hangs(request: Request, wire: Wire) -> None:
    await _begin(request, wire)
    await wire.hang()


async def sends_half_and_ends(request: Request, wire: Wire) -> None:
    if request.body.get("stream"):
        return await wire.events(b'data: {"choices": [')
    return await wire.whole(HALF_ANSWER)


async def sends_half_and_closes(request: Request, wire: Wire) -> None:
    await _begin(request, wire)
    await wire.chunk(b'data: {"choices": [' if request.body.get("stream") else HALF_ANSWER)
    wire.writer.close()


async def _begin(request: Request, wire: Wire) -> None:
    if request.body.get("stream"):
        return await wire.begin_stream()
    return await wire.send(head(200, {"content-type": "application/json", "transfer-encoding": "chunked"}))


# --- after the first byte -------------------------------------------------------------------------------------------


async def resets_in_the_middle(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    await asyncio.sleep(_READ_S)
    wire.reset()


async def hangs_in_the_middle(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    await wire.hang()


async def closes_in_the_middle_of_an_event(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    await wire.chunk(b'data: {"choices": [')
    wire.writer.close()


async def ends_in_the_middle_of_an_event(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    await wire.chunk(b'data: {"choices": [')
    await wire.end_stream()


async def ends_without_done(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    await wire.end_stream()


async def breaks_a_chunks_size(request: Request, wire: Wire) -> None:
    """What aiohttp neither takes for an error nor for an end."""
    await _first_piece(request, wire)
    await asyncio.sleep(_READ_S)
    await wire.send(b"zz\r\n" + FIRST + b"\r\n")
    await wire.hang()


async def errs_in_the_middle(request: Request, wire: Wire) -> None:
    if not request.body.get("stream"):
        return await wire.whole({"error": _ERROR})
    return await wire.events(FIRST, event({"error": _ERROR}), DONE)


async def never_ends(request: Request, wire: Wire) -> None:
    await _first_piece(request, wire)
    while True:
        await wire.chunk(FIRST if request.body.get("stream") else b" " * 1000)
        await asyncio.sleep(0.02)


async def floods(_request: Request, wire: Wire) -> None:
    await wire.begin_stream()
    while True:
        await wire.chunk(delta("Hola " * 10_000))


async def _first_piece(request: Request, wire: Wire) -> None:
    await _begin(request, wire)
    await wire.chunk(FIRST if request.body.get("stream") else HALF_ANSWER)


# --- sound, in its way ----------------------------------------------------------------------------------------------


async def counts_nothing(request: Request, wire: Wire) -> None:
    if request.body.get("stream"):
        return await wire.events(*(piece for piece in STREAM if b'"usage"' not in piece))
    answer = completion()
    del answer["usage"]
    return await wire.whole(answer)


# What each does to a whole answer and to a stream that has not begun: the status and code that a client gets.
BEFORE: Final[dict[str, tuple[Handler, int, str]]] = {
    "hangs": (hangs, 504, "upstream_timeout"),
    "resets": (resets, 502, "upstream_error"),
    "is-busy": (is_busy, 429, "upstream_overloaded"),
    "fails": (fails, 502, "upstream_error"),
    "denies": (denies, 502, "upstream_auth"),
    "errs-in-a-good-status": (errs_in_a_good_status, 502, "upstream_error"),
    "errs-in-its-first-event": (errs_in_its_first_event, 502, "upstream_error"),
    "sends-a-page": (sends_a_page, 502, "upstream_broken_answer"),
    "sends-broken-json": (sends_broken_json, 502, "upstream_broken_answer"),
    "sends-other-json": (sends_other_json, 502, "upstream_broken_answer"),
    "begins-and-resets": (begins_and_resets, 502, "upstream_broken_answer"),
    "begins-and-hangs": (begins_and_hangs, 504, "upstream_timeout"),
    "sends-half-and-ends": (sends_half_and_ends, 502, "upstream_broken_answer"),
    "sends-half-and-closes": (sends_half_and_closes, 502, "upstream_broken_answer"),
}
# What each does in the middle of an answer: the status and code of a whole one, the code at the end of a stream.
IN_THE_MIDDLE: Final[dict[str, tuple[Handler, int, str]]] = {
    "resets-in-the-middle": (resets_in_the_middle, 502, "upstream_broken_answer"),
    "hangs-in-the-middle": (hangs_in_the_middle, 504, "upstream_timeout"),
    "closes-in-the-middle-of-an-event": (closes_in_the_middle_of_an_event, 502, "upstream_broken_answer"),
    "ends-in-the-middle-of-an-event": (ends_in_the_middle_of_an_event, 502, "upstream_broken_answer"),
    "ends-without-done": (ends_without_done, 502, "upstream_broken_answer"),
    "breaks-a-chunks-size": (breaks_a_chunks_size, 504, "upstream_timeout"),
    "errs-in-the-middle": (errs_in_the_middle, 502, "upstream_error"),
    "never-ends": (never_ends, 504, "upstream_timeout"),
}
_HANDLERS: Final[dict[str, Handler]] = {
    **{name: handler for name, (handler, _, _) in (BEFORE | IN_THE_MIDDLE).items()},
    "rejects": rejects,
    "floods": floods,
    "counts-nothing": counts_nothing,
    "sound": openai,
}
FAULTY: Final = tuple(name for name in _HANDLERS if name not in {"floods", "sound"})


async def provider(request: Request, wire: Wire) -> None:
    """Answers as the provider that the path names."""
    if request.method == "GET":
        return await openai(request, wire)
    return await _HANDLERS[request.path.split("/")[1]](request, wire)
