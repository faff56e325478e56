from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.signals.conversation import draw
from gateway.types import Part


def test_every_turn_of_a_conversation_has_the_same_lot() -> None:
    first = [Part("system", "It is 9:00"), Part("user", "hola")]
    later = [Part("system", "It is 9:05"), Part("user", "hola"), Part("assistant", "dime"), Part("user", "gracias")]
    assert draw("key_1", first) == draw("key_1", later)


def test_another_caller_or_another_first_question_has_a_lot_of_its_own() -> None:
    lots = {draw(caller, [Part("user", text)]) for caller in ("key_1", "key_2") for text in ("hola", "adiós")}
    assert len(lots) == 4


def test_the_lot_is_the_same_in_every_process() -> None:
    assert draw("key_1", [Part("user", "hola")]) == 0.5154


def test_lots_are_spread_evenly() -> None:
    tenths = Counter(int(draw("k", [Part("user", str(n))]) * 10) for n in range(10_000))
    assert set(tenths) == set(range(10))
    assert all(800 < count < 1_200 for count in tenths.values())


@given(st.text(max_size=80), st.lists(st.builds(Part, st.sampled_from(["user", "system"]), st.text()), max_size=3))
def test_any_text_has_a_lot_that_a_policy_can_name(caller: str, parts: list[Part]) -> None:
    lot = draw(caller, parts)
    assert 0 <= lot <= 0.9999
    assert round(lot * 10_000) == lot * 10_000 or abs(lot * 10_000 - round(lot * 10_000)) < 1e-9
