from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pseudonyms.names import Names, Pseudonyms, TooMany, like_placeholders
from gateway.pseudonyms.restore import Pieces, Restorer
from gateway.sse import events, payload
from gateway.upstreams.restoring import RestoredStream

VALUES = {
    "PERSON_TQVX": "Ana Ruiz Gil",
    "EMAIL_BCDF": "ana@ruiz.es",
    "ID_GHJK": "12345678Z",
    "PERSON_LMNP": "Íñigo Peña",
}
RESTORER = Restorer(VALUES)
FORMS = [
    "PERSON_TQVX", "person_tqvx", "Person_Tqvx", r"PERSON\_TQVX", "PERSON-TQVX", "Person TQVX", "PERSONTQVX",
    "**EMAIL_BCDF**", "`ID_GHJK`", "[PERSON_LMNP](mailto:EMAIL_BCDF)", "PERSON_LMNP's", "_PERSON_TQVX_",
]  # fmt: skip
NOISE = st.text(st.sampled_from('PERSONTQVXEMAIL_ID-\\ bcdfghjk[]*áñ€😀\n"{}'), max_size=24) | st.text(max_size=12)
TEXTS = st.lists(st.sampled_from(FORMS) | NOISE, max_size=8).map("".join)


def cut(text: str, at: Sequence[int]) -> list[str]:
    places = [0, *sorted(place % (len(text) + 1) for place in at), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


@pytest.mark.parametrize("form", FORMS)
def test_a_placeholder_is_known_however_a_model_writes_it(form: str) -> None:
    said = RESTORER.whole(f"Hola {form}, qué tal.")
    assert any(value in said for value in VALUES.values())
    assert not re.search("TQVX|BCDF|GHJK|LMNP", said, re.IGNORECASE)


@pytest.mark.parametrize(
    "said", ["PERSON_1", "[PERSON_1]", "PERSON_TQVW", "ID_TQVX", "EMAIL_TQVX", "PERSON_GHJK", "TQVX"]
)
def test_what_was_not_minted_for_this_request_stands_as_it_is(said: str) -> None:
    assert RESTORER.whole(f"Hola {said}.") == f"Hola {said}."


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, at=st.lists(st.integers(0, 500), max_size=20))
def test_pieces_cut_anywhere_join_to_the_whole(text: str, at: list[int]) -> None:
    pieces = Pieces(RESTORER)
    fed = [pieces.feed(piece) for piece in cut(text, at)]
    assert "".join(fed) + pieces.flush() == RESTORER.whole(text)


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"


def joined(stream: bytes) -> dict[tuple[Any, ...], str]:
    """What a client puts together of a stream."""
    said: dict[tuple[Any, ...], str] = {}
    for event in events(stream):
        if b"[DONE]" in event:
            continue
        for choice in json.loads(payload(event))["choices"]:
            delta, index = choice["delta"], choice["index"]
            for name in ("content", "reasoning_content", "refusal"):
                said[index, name] = said.get((index, name), "") + (delta.get(name) or "")
            for call in delta.get("tool_calls", []):
                place = index, "arguments", call["index"]
                said[place] = said.get(place, "") + call["function"].get("arguments", "")
    return {place: text for place, text in said.items() if text}


DONE = b"data: [DONE]\n\n"


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=2),
    at=st.lists(st.integers(0, 500), max_size=12),
    finishes=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_stream_split_anywhere_restores_like_the_whole(
    texts: list[tuple[str, str]], at: list[int], finishes: bool, seed: int
) -> None:
    chance = random.Random(seed)
    sent: list[bytes] = []
    queues: list[list[bytes]] = []
    for index, (content, arguments) in enumerate(texts):
        called = json.dumps({"q": arguments})
        pieces = [chunk({"content": piece}, index=index) for piece in cut(content, at)]
        pieces += [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, index=index)
            for piece in cut(called, at)
        ]
        queues.append([*pieces, *([chunk({}, "stop", index)] if finishes else [])])
    while any(queues):  # choices come mixed
        sent.append(chance.choice([queue for queue in queues if queue]).pop(0))
    stream = RestoredStream(RESTORER)
    blocks = [b"".join(sent[n : n + 3]) for n in range(0, len(sent), 3)]
    got = joined(b"".join(stream.feed(block) for block in [*blocks, DONE]))
    for index, (content, arguments) in enumerate(texts):
        assert got.get((index, "content"), "") == RESTORER.whole(content)
        called = json.dumps({"q": arguments})
        assert got[index, "arguments", 0] == RESTORER.whole(called)
        assert json.loads(got[index, "arguments", 0])  # whatever was put in, it is JSON still


def test_a_tools_name_comes_whole_and_restored() -> None:
    stream = RestoredStream(RESTORER)
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "ficha_ID_GHJK_p", "arguments": ""}}
    first = json.loads(payload(stream.feed(chunk({"tool_calls": [call]}))))
    assert first["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "ficha_12345678Z_p"


def test_what_is_held_back_comes_with_the_end_of_its_choice() -> None:
    stream = RestoredStream(RESTORER)
    assert joined(stream.feed(chunk({"content": "Es PERSON_T"}))) == {(0, "content"): "Es "}
    assert joined(stream.feed(chunk({}, "length"))) == {(0, "content"): "PERSON_T"}
    assert stream.feed(DONE) == DONE


def test_events_that_are_no_chunks_pass_as_they_came() -> None:
    stream = RestoredStream(RESTORER)
    odd = b": keep-alive\n\ndata: {not json\n\ndata: 3\n\n"
    assert stream.feed(odd) == odd


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_value_keeps_its_placeholder_and_no_two_share_one() -> None:
    names = Names()
    first = names.placeholder("PERSON", "Ana Ruiz")
    assert names.placeholder("PERSON", "ANA  ruiz") == first
    assert names.placeholder("ID", "12.345.678-Z") == names.placeholder("ID", "12345678Z")
    assert len({names.placeholder("PERSON", f"P {n}") for n in range(500)}) == 500


def test_a_placeholder_that_the_request_itself_says_is_not_used() -> None:
    names = Names()
    first = names.placeholder("PERSON", "Ana Ruiz")
    said = frozenset(like_placeholders(f"quién es {first.lower()}?"))
    second = names.placeholder("PERSON", "Ana Ruiz", avoid=said)
    assert second != first
    assert names.placeholder("PERSON", "Ana Ruiz") == second


def test_a_table_is_bounded() -> None:
    names = Names()
    with pytest.raises(TooMany):
        for number in range(2000):
            names.placeholder("PERSON", f"P {number}")


def test_tables_are_their_conversations_own_and_are_forgotten_in_time() -> None:
    now = [0.0]
    kept = Pseudonyms(ttl_s=100, clock=lambda: now[0])

    def said(caller: str, first: str) -> str:
        names = kept.of(caller, first)
        placeholder = names.placeholder("PERSON", "Ana Ruiz")
        kept.keep(caller, first, names)
        return placeholder

    mine = said("a", "Hola")
    now[0] = 90.0
    assert said("a", "Hola") == mine
    now[0] = 180.0  # each turn renews it
    assert said("a", "Hola") == mine
    assert len({mine, said("b", "Hola"), said("a", "Buenas")}) == 3
    now[0] = 300.0
    assert said("a", "Hola") != mine
    kept.clear()
    assert not len(kept)


def test_what_all_conversations_keep_is_bounded() -> None:
    kept = Pseudonyms(most_values=100)
    for number in range(200):
        names = kept.of("a", str(number))
        names.placeholder("PERSON", "Ana")
        kept.keep("a", str(number), names)
    assert len(kept) <= 50
