"""Server-sent events of chat completions, as bytes: alignment, relay, and the error event.

The relay touches no byte that it need not: a block of whole events goes out as it came, but for the usage that the
gateway asked for and the client did not. Only the few events that say something to us are parsed; the rest is looked at
with substring searches, which cost a tenth of a parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

from gateway.errors import CauceError
from gateway.types import Usage

MAX_EVENT_BYTES: Final = 4_000_000
_MOST_TOKENS: Final = 1 << 40
# Service tiers that have prices of their own; the standard one has many names, and none here.
_TIERS: Final = frozenset({"batch", "fast", "flex", "priority"})
DONE: Final = b"data: [DONE]\n\n"
# In JSON a quote inside a text is escaped, so a key with both its quotes can only be a field.
_TEXT: Final = re.compile(
    rb'(?:content|reasoning|refusal)"\s*:\s*"(?!")|"tool_calls"\s*:\s*\[|"function_call"\s*:\s*\{'
)
_TOOL_CALL: Final = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"([A-Za-z_]+)"')
_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null')
# Followed by nothing but flat fields and the event's end, so it is the chunk's own field and not one inside it.
_LAST_NULL_USAGE: Final = re.compile(rb',"usage":null(?=(?:,"[a-z_]+":(?:"[^"\\]*"|null|[0-9]+))*\}\n\n)')
_DONE: Final = re.compile(rb"(?:^|[\r\n])(data:[ \t]*\[DONE\])")
# Atomic: a lone CRLF must not be read as CR, LF.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")


class Aligner:
    """Bytes in any split to whole events: what `feed` returns ends with a blank line, or is empty."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The whole events that are there now; raises `ValueError` when one grows past `MAX_EVENT_BYTES`."""
        rest = self._rest
        if not rest and data.endswith(b"\n\n"):
            return data
        # A blank line may straddle what was there and what came: look a few bytes back, not through it all.
        start = max(0, len(rest) - 3)
        rest += data
        # \n\r\n is also how \r\n\r\n ends.
        end = max(_after(rest, mark, start) for mark in (b"\n\n", b"\r\r", b"\n\r\n"))
        block = bytes(rest[:end])
        del rest[:end]
        if len(rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event is larger than {MAX_EVENT_BYTES} bytes")
        return block

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._rest)


def _after(data: bytearray, mark: bytes, start: int) -> int:
    """Where the last `mark` ends, or 0."""
    found = data.rfind(mark, start)
    return 0 if found < 0 else found + len(mark)


def events(block: bytes) -> Iterator[bytes]:
    """The events of an aligned block, each with its blank line."""
    start = 0
    for end in _BLANK_LINE.finditer(block):
        yield block[start : end.end()]
        start = end.end()
    if start < len(block):
        yield block[start:]


def payload(event: bytes) -> bytes:
    """The data of one event: its `data:` lines, joined."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def has_done(block: bytes) -> bool:
    """Whether the block holds the end of the stream."""
    return b"[DONE]" in block and _DONE.search(block) is not None


class Relay:
    """One stream on its way to the client.

    `feed` takes aligned blocks and gives the bytes to forward; `[DONE]` is kept back in `done_bytes`, so that the
    ledger is written before it is sent. `usage` and `finish_reason` are what the provider said, once it has; `text`
    holds the first choice's answer, `collect_chars` of it or a little more, for the checks. `content_events` counts
    the events that brought something to read, `tool_calls` those that brought a piece of a tool call.
    """

    __slots__ = (
        "_chars",
        "_collect",
        "_include_usage",
        "_pieces",
        "content_events",
        "done",
        "done_bytes",
        "finish_reason",
        "tool_calls",
        "usage",
    )

    def __init__(self, *, include_usage: bool, collect_chars: int = 0) -> None:
        self._include_usage = include_usage
        self._collect = collect_chars
        self._pieces: list[str] = []
        self._chars = 0
        self.usage: Usage | None = None
        self.finish_reason = ""
        self.tool_calls = 0
        self.content_events = 0
        self.done = False
        self.done_bytes = DONE

    @property
    def text(self) -> str:
        """What was collected."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def feed(self, block: bytes) -> bytes:
        """The bytes to forward for this block, perhaps none."""
        if b"[DONE]" in block and (end := _DONE.search(block)) is not None:
            self.done = True
            self.done_bytes = block[end.start(1) :]
            block = block[: end.start(1)]
        # The two spellings that encoders use are counted as substrings; anything else is a pattern's work.
        found = block.count(b'content":"') - block.count(b'content":""')
        found = found or block.count(b'content": "') - block.count(b'content": ""')
        self.content_events += found or len(_TEXT.findall(block))
        if b'"tool_calls"' in block:
            self.tool_calls += len(_TOOL_CALL.findall(block))
        if b'"finish_reason":null' not in block or b'"finish_reason":"' in block:
            self._read_finish(block)
        if self._chars < self._collect:
            self._read_text(block)
        if b'"usage"' in block:
            block = self._take_usage(block)
        return block

    def _read_finish(self, block: bytes) -> None:
        if (finish := _FINISH.search(block)) is not None:
            self.finish_reason = finish[1].decode()

    def _take_usage(self, block: bytes) -> bytes:
        if not self._include_usage:
            block = _LAST_NULL_USAGE.sub(b"", block)
        if b'"usage"' not in block:
            return block
        return b"".join(map(self._usage_of, events(block)))

    def _usage_of(self, event: bytes) -> bytes:
        """Read an event's usage; the bytes to forward for it."""
        if b'"usage"' not in event:
            return event
        chunk = _parsed(event)
        if chunk is None or "usage" not in chunk:
            return event
        said = chunk["usage"]
        self.usage = read_usage(said, chunk.get("service_tier")) or self.usage
        if self._include_usage:
            return event
        if said is None and event.count(b'"usage"') == 1 and (cut := _NULL_USAGE.subn(b"", event))[1]:
            return cut[0]
        if said is not None and not chunk.get("choices"):
            return b""
        del chunk["usage"]
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _read_text(self, block: bytes) -> None:
        for event in events(block):
            choices = (_parsed(event) or {}).get("choices")
            for choice in choices if isinstance(choices, list) else ():
                content = _content(choice)
                self._pieces.append(content)
                self._chars += len(content)


def _content(choice: object) -> str:
    """The text that a chunk adds to the first choice."""
    if (
        not isinstance(choice, dict)
        or choice.get("index", 0) != 0
        or not isinstance(delta := choice.get("delta"), dict)
    ):
        return ""
    content = delta.get("content")
    return content if isinstance(content, str) else ""


def _parsed(event: bytes) -> dict[str, object] | None:
    try:
        chunk = orjson.loads(payload(event))
    except orjson.JSONDecodeError:
        return None
    return chunk if isinstance(chunk, dict) else None


def read_usage(usage: object, tier: object = None) -> Usage | None:
    """OpenAI's usage object, with what other providers add to it; nothing when it does not hold both counts.

    Anthropic's cache writes stand in it as LiteLLM translates them; `tier` is the answer's `service_tier`.
    """
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    of_prompt, of_completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    reasoning = _part(of_completion, "reasoning_tokens", _MOST_TOKENS)
    if reasoning and usage.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # some count it beside the completion (xAI), OpenAI inside it
    written = _part(of_prompt, "cache_creation_tokens", prompt)
    for_an_hour = of_prompt.get("cache_creation_token_details") if isinstance(of_prompt, dict) else None
    return Usage(
        prompt,
        completion,
        cached_tokens=_part(of_prompt, "cached_tokens", prompt),
        reasoning_tokens=None if reasoning is None else min(reasoning, completion),
        cache_write_tokens=_part(usage, "cache_creation_input_tokens", prompt) if written is None else written,
        cache_write_1h_tokens=_part(for_an_hour, "ephemeral_1h_input_tokens", prompt),
        prompt_audio_tokens=_part(of_prompt, "audio_tokens", prompt),
        completion_audio_tokens=_part(of_completion, "audio_tokens", completion),
        prompt_image_tokens=_part(of_prompt, "image_tokens", prompt),
        completion_image_tokens=_part(of_completion, "image_tokens", completion),
        tier=tier if isinstance(tier, str) and tier in _TIERS else "",
        estimated=usage.get("estimated") is True,  # counted by us (`upstreams/local_http.py`)
    )


def _count(value: object) -> int | None:
    """A number of tokens; nothing for what cannot be one, so that it is never billed."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def _part(details: object, name: str, whole: int) -> int | None:
    """The tokens of one kind, never more than the whole that they are part of; nothing when they are not reported."""
    found = _count(details.get(name)) if isinstance(details, dict) else None
    return None if found is None else min(found, whole)


def error_event(error: CauceError, request_id: str) -> bytes:
    """The event that ends a stream which broke: OpenAI's error object, and no `[DONE]` after it."""
    return b"event: error\ndata: " + orjson.dumps(error.as_object(request_id)) + b"\n\n"
