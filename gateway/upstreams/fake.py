"""The fake beside the seam: answers from a script, in process. Tests, the demo and `provider: fake` use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import orjson

from gateway.errors import UpstreamError
from gateway.gate import Released
from gateway.sse import DONE
from gateway.types import Answer, Model, Usage
from gateway.upstreams.base import Call, Health

_TEXT = "This is the fake model: it answers every question with this sentence."
_CREATED = 1_700_000_000


class FakeUpstream:
    """Gives the scripted answers in turn, then the last one again. An error in the script is raised.

    In a streamed call a text goes out word by word; an error that follows a text with `...` at its end breaks that
    stream. `seen` holds every call, as it was released.
    """

    def __init__(self, model: Model, script: Sequence[str | Answer | UpstreamError] = (_TEXT,)) -> None:
        self.model = model
        self._script = list(script)
        self.seen: list[Released[Call]] = []

    def _next(self) -> str | Answer | UpstreamError:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    async def complete(self, call: Released[Call]) -> Answer:
        """The next answer of the script."""
        self.seen.append(call)
        step = self._next()
        if isinstance(step, UpstreamError):
            raise step
        return step if isinstance(step, Answer) else an_answer(step, self.model.model)

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        """The next answer of the script, word by word."""
        self.seen.append(call)
        step = self._next()
        if isinstance(step, UpstreamError):
            raise step
        text = step.text if isinstance(step, Answer) else step
        words = text.split(" ")
        for number, word in enumerate(words):
            delta = {"role": "assistant", "content": word} if number == 0 else {"content": f" {word}"}
            yield _event(self.model.model, delta)
        if text.endswith("...") and isinstance(self._script[0], UpstreamError):
            broken = self._next()
            assert isinstance(broken, UpstreamError)  # noqa: S101 - tells the type checker what the line above has seen
            raise broken
        yield _event(self.model.model, {}, finish="stop")
        yield _event(self.model.model, None, usage=_usage_object(len(words)))
        yield DONE

    async def health(self) -> Health:
        """Always there."""
        return Health(ready=True)

    async def aclose(self) -> None:
        """Holds nothing."""


def an_answer(
    text: str, model: str = "fake", *, finish_reason: str = "stop", mean_logprob: float | None = None
) -> Answer:
    """A whole answer in the chat-completion shape; a token a word."""
    usage = _usage_object(len(text.split(" ")))
    body = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": usage,
    }
    counted = Usage(usage["prompt_tokens"], usage["completion_tokens"])
    return Answer(orjson.dumps(body), text, finish_reason, counted, mean_logprob=mean_logprob)


def _usage_object(completion_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": completion_tokens, "total_tokens": 10 + completion_tokens}


def _event(
    model: str, delta: dict[str, str] | None, *, finish: str | None = None, usage: dict[str, int] | None = None
) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk: dict[str, object] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "choices": choices,
    }
    if usage is not None:
        chunk["usage"] = usage
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
