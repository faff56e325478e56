from __future__ import annotations

import dataclasses

from gateway.cache.conversations import Conversations
from gateway.types import Caller, Inbound
from tests.builders import an_inbound

QUESTION, ANSWER = {"role": "user", "content": "hola"}, {"role": "assistant", "content": "dime"}
NEXT = {"role": "user", "content": "gracias"}


def asked(*messages: dict[str, str], caller: str = "key_1") -> Inbound:
    return an_inbound(body={"messages": list(messages)}, caller=Caller(caller))


def test_the_next_turn_of_a_held_conversation_is_held() -> None:
    conversations = Conversations()
    conversations.hold(asked(QUESTION), "hard")
    assert conversations.held_by(asked(QUESTION, ANSWER, NEXT)) == "hard"


def test_a_first_turn_is_held_by_nothing() -> None:
    conversations = Conversations()
    conversations.hold(asked(QUESTION), "hard")
    assert conversations.held_by(asked(QUESTION)) == ""


def test_another_conversation_or_caller_is_not_held() -> None:
    conversations = Conversations()
    conversations.hold(asked(QUESTION), "hard")
    assert conversations.held_by(asked(NEXT, ANSWER, NEXT)) == ""
    assert conversations.held_by(asked(QUESTION, ANSWER, NEXT, caller="key_2")) == ""
    assert conversations.held_by(asked(QUESTION, ANSWER, NEXT, ANSWER, NEXT)) == ""


def test_instructions_may_change_from_turn_to_turn() -> None:
    conversations = Conversations()
    conversations.hold(asked({"role": "system", "content": "It is 9:00"}, QUESTION), "hard")
    later = asked({"role": "system", "content": "It is 9:05"}, QUESTION, ANSWER, NEXT)
    assert conversations.held_by(later) == "hard"


def test_a_tools_result_goes_on_with_the_same_conversation() -> None:
    conversations = Conversations()
    conversations.hold(asked(QUESTION), "hard")
    assert conversations.held_by(asked(QUESTION, ANSWER, {"role": "tool", "content": "42"})) == "hard"


def test_a_conversation_is_forgotten_after_a_while_and_when_there_are_too_many() -> None:
    now = 0.0
    conversations = Conversations(most=2, ttl_s=60, clock=lambda: now)
    conversations.hold(asked(QUESTION), "hard")
    now = 59.0
    assert conversations.held_by(asked(QUESTION, ANSWER, NEXT)) == "hard"
    now = 61.0
    assert conversations.held_by(asked(QUESTION, ANSWER, NEXT)) == ""
    for caller in ("a", "b", "c"):
        conversations.hold(asked(QUESTION, caller=caller), "hard")
    held = [caller for caller in ("a", "b", "c") if conversations.held_by(asked(QUESTION, ANSWER, NEXT, caller=caller))]
    assert held == ["b", "c"]


def test_a_body_without_messages_is_no_conversation() -> None:
    conversations = Conversations()
    odd = dataclasses.replace(asked(), body={"prompt": "hola"})
    conversations.hold(odd, "hard")
    assert conversations.held_by(odd) == ""
