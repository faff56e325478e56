"""Asks a small model the questions of `checker_questions` and keeps what it answers.

    python -m router_models.train.checker_answers [FILE]

Greedy, so that another run gives the same on the same build of llama.cpp. A row holds question, answer, the mean
log-probability of its tokens, and whether it is right. 900 answers take about half an hour on one core.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import orjson
from rich.progress import track

from gateway.gate import Destination, Gate
from gateway.types import DataClass, Model, Zone
from gateway.upstreams.base import Call
from gateway.upstreams.embedded import EmbeddedUpstream
from gateway.upstreams.pool import Pool
from router_models.train.checker_questions import Known, is_right, questions

MODEL: Final = Model("small", "embedded", "smollm2-135m-instruct", Zone.PREMISES, "slm")
FILE: Final = Path(__file__).parents[1] / "data" / "answers" / "smollm2-135m.jsonl"
_MOST_TOKENS: Final = 64


async def _ask(upstream: EmbeddedUpstream, known: Known) -> dict[str, Any]:
    body = {
        "messages": [{"role": "user", "content": known.text}],
        "max_tokens": _MOST_TOKENS,
        "temperature": 0,
    }
    call = Call("req_checker", body, stream=False, logprobs=True)
    released = Gate().release(
        call, data=DataClass.PUBLIC, limit=Zone.PREMISES, destination=Destination(MODEL.id, MODEL.zone)
    )
    answer = await upstream.complete(released)
    return {
        "kind": known.kind,
        "lang": known.language,
        "question": known.text,
        "answer": answer.text.strip(),
        "finish": answer.finish_reason,
        "mean_logprob": round(answer.mean_logprob, 4) if answer.mean_logprob is not None else None,
        "right": is_right(known, answer.text),
    }


async def ask_all(file: Path) -> None:
    """Every question, one after another."""
    pool = Pool()
    upstream = EmbeddedUpstream(MODEL, pool)
    try:
        with file.open("wb") as out:
            for known in track(list(questions()), description="asking"):
                out.write(orjson.dumps(await _ask(upstream, known), option=orjson.OPT_APPEND_NEWLINE))
                out.flush()
    finally:
        await upstream.aclose()
        await pool.aclose()


if __name__ == "__main__":
    asyncio.run(ask_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE))
