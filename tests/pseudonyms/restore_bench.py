"""Streams restored: exact however they are cut, and what it costs a chunk.

python -m tests.pseudonyms.restore_bench [--splits 10000]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import orjson

from gateway.pseudonyms.names import CODE_LETTERS, Names
from gateway.pseudonyms.restore import Restorer
from gateway.sse import events, payload
from gateway.upstreams.restoring import RestoredStream

_VALUES = 40  # of one request: as many as a long form has
_WORDS = (
    "the", "El", "person", "persona", "email", "id", "address", "ADDRESS", "carta", "card", "y", "de", "PERSON_",
    "\\_", "**", "`", "[", "]", ":", ",", ".", "ñ", "😀", "\n",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=10_000)
    splits = parser.parse_args().splits
    chance = random.Random(1)
    names = Names()
    kinds = ("PERSON", "ID", "EMAIL", "ADDRESS", "PHONE")
    values = {names.placeholder(kinds[n % 5], f"valor {n}"): f"Valor Número {n}" for n in range(_VALUES)}
    restorer = Restorer(values)
    wrong, took = 0, list[float]()
    for _ in range(splits):
        text = _text(chance, list(values))
        said = ""
        stream = RestoredStream(restorer)
        for piece in _cut(text, chance):
            chunk = {"id": "c", "object": "x", "choices": [{"index": 0, "delta": {"content": piece}}]}
            event = b"data: " + orjson.dumps(chunk) + b"\n\n"
            began = time.perf_counter()
            out = stream.feed(event)
            took.append(time.perf_counter() - began)
            said += _content(out)
        said += _content(stream.feed(b"data: [DONE]\n\n"))
        wrong += said != restorer.whole(text)
    milliseconds = sorted(1000 * seconds for seconds in took)
    p99 = milliseconds[int(0.99 * len(milliseconds))]
    print(f"{splits:,} random splits, {len(took):,} chunks, {wrong} not exact")
    median, most = statistics.median(milliseconds), milliseconds[-1]
    print(f"added a chunk: median {median:.3f} ms, p99 {p99:.3f} ms, most {most:.3f} ms")
    return 1 if wrong or p99 >= 1 else 0


def _text(chance: random.Random, placeholders: list[str]) -> str:
    pieces = []
    for _ in range(chance.randint(1, 40)):
        if chance.random() < 0.6:
            pieces.append(chance.choice(_WORDS))
            continue
        kind, _, code = chance.choice(placeholders).partition("_")
        if chance.random() < 0.1:
            code = "".join(chance.choice(CODE_LETTERS) for _ in range(4))  # nobody's
        form = kind + chance.choice(["_", "_", "_", "\\_", "-", " ", ""]) + code
        pieces.append(chance.choice([form, form.lower(), form.title(), f"**{form}**", form[: chance.randint(1, 9)]]))
    return chance.choice(["", " "]).join(pieces)


def _cut(text: str, chance: random.Random) -> list[str]:
    pieces = []
    while text:
        size = chance.choice([1, 1, 2, 3, 5, 8, 13])
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def _content(block: bytes) -> str:
    said = ""
    for event in events(block):
        if b"[DONE]" not in event:
            said += orjson.loads(payload(event))["choices"][0]["delta"].get("content", "")
    return said


if __name__ == "__main__":
    raise SystemExit(main())
