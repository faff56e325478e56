"""A conversation, once personal, stays so, also when its client sends less of it than there was."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.signals.remembered import Remembered
from gateway.types import Caller, DataClass, Finding, Inbound
from gateway.wire.chat import read_texts
from tests.builders import an_inbound

U1, A1 = ("user", "Mi vecina Ana Ruiz, 12345678Z, está preocupada."), ("assistant", "Cuéntame qué le pasa, por favor.")
U2, A2 = ("user", "Que no encuentra trabajo de lo suyo desde el verano."), ("assistant", "Vaya, lo siento mucho.")
U3, A3 = ("user", "¿Y qué le digo?"), ("assistant", "Que no está sola en esto.")
U4 = ("user", "Gracias")
DNI = Finding("identity", "ID_DNI", DataClass.PERSONAL, 0, 21, 30)
SPECIAL, PERSONAL, PUBLIC = DataClass.SPECIAL, DataClass.PERSONAL, DataClass.PUBLIC


def said(*turns: tuple[str, str], caller: str = "key_1", **body: Any) -> Inbound:
    whole = {"messages": [{"role": role, "content": text} for role, text in turns], **body}
    parts, _ = read_texts(whole)
    return an_inbound(body=whole, parts=parts, caller=Caller(id=caller))


class Kept(Remembered):
    """What a gateway does with each request: recall, then note."""

    def ask(self, inbound: Inbound, found: DataClass = PUBLIC, *findings: Finding) -> DataClass:
        before = self.recall(inbound)
        data = max(found, before)
        self.note(inbound, data, findings, before)
        return data


@pytest.mark.parametrize("window", [(U2, A2, U3), (A1, U2, A2), (U2,), (("system", "Sé breve."), U2, A2, U3)])
def test_a_window_of_its_later_turns_is_as_personal_as_the_whole(window: tuple[tuple[str, str], ...]) -> None:
    kept = Kept()
    assert kept.ask(said(U1), PERSONAL, DNI) is PERSONAL
    assert kept.ask(said(U1, A1, U2), SPECIAL, DNI) is SPECIAL
    assert kept.ask(said(*window)) is SPECIAL


def test_a_window_that_moves_on_never_loses_it() -> None:
    kept = Kept()
    kept.ask(said(U1, A1, U2), PERSONAL, DNI)
    turns = [A1, U2]
    for number in range(20):
        turns += [("assistant", f"Respuesta número {number}, más o menos."), ("user", f"¿Y entonces, la {number}?")]
        assert kept.ask(said(*turns[-4:])) is PERSONAL


def test_an_id_stands_for_a_conversation() -> None:
    kept = Kept()
    kept.ask(said(U1, metadata={"conversation_id": "c-1"}), PERSONAL, DNI)
    assert kept.recall(said(U4, metadata={"conversation_id": "c-1"})) is PERSONAL
    assert kept.recall(said(U4, metadata={"conversation_id": "c-2"})) is PUBLIC
    assert kept.recall(said(U4, metadata={"conversation_id": "c-1"}, caller="key_2")) is PUBLIC


def test_another_conversation_of_the_caller_and_another_caller_are_not_raised() -> None:
    kept = Kept()
    hello, how = (
        ("user", "Hola, buenas, quería hacerte una consulta."),
        ("assistant", "Claro, ¿en qué puedo ayudar?"),
    )
    kept.ask(said(hello, how, U1), PERSONAL, Finding("identity", "ID_DNI", PERSONAL, 2, 21, 30))
    assert kept.recall(said(hello, how, ("user", "¿A qué hora abrís?"))) is PUBLIC  # what came before was not personal
    assert kept.recall(said(U4)) is PUBLIC
    assert kept.recall(said(hello, how, U1, caller="key_2")) is PUBLIC


def test_a_scan_that_failed_says_nothing_of_the_conversation() -> None:
    kept = Kept()
    kept.ask(said(U2), SPECIAL, Finding("unreadable", "scan_failed", SPECIAL))
    assert kept.recall(said(U2)) is PUBLIC
    kept.ask(said(U2), SPECIAL, Finding("unreadable", "image", SPECIAL))
    assert kept.recall(said(U2)) is SPECIAL


def test_a_class_that_the_caller_set_is_kept_from_what_was_asked_on() -> None:
    kept = Kept()
    kept.ask(said(U2), PERSONAL)
    assert kept.recall(said(U2, A2, U3)) is PERSONAL


def test_it_is_forgotten_in_time_and_bounded_and_holds_no_text() -> None:
    now = [0.0]
    kept = Kept(most=10, ttl_s=100, clock=lambda: now[0])
    kept.ask(said(U1, A1, U2), PERSONAL, DNI)
    now[0] = 90.0
    assert kept.ask(said(U2, A2, U3)) is PERSONAL  # which renews it
    now[0] = 180.0
    assert kept.recall(said(U2)) is PERSONAL
    now[0] = 300.0
    assert kept.recall(said(U2)) is PUBLIC
    for number in range(50):
        kept.ask(said(("user", f"{number} {U1[1]}")), PERSONAL, DNI)
    assert len(kept) == 10
    assert "Ana" not in repr(vars(kept))
    kept.clear()
    assert not len(kept)
