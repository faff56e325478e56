"""What stands for personal values, where, and when a request stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.pseudonyms.names import Pseudonyms
from gateway.pseudonyms.restore import Restorer
from gateway.stages.pseudonymise import RAISED, STILL, TOO_MANY, UNPLACED, Pseudonymiser, masked_request
from gateway.types import Caller, DataClass, Detection, Finding, Inbound, Masked, Part, Signals, Zone
from gateway.wire.chat import read_texts
from tests.builders import LARGE, SMALL, a_decision, an_inbound

NAMES = "|".join(
    [
        "Ana Ruiz(?: Gil)?",
        r"Jos(?:é|\\u00e9) Peña",
        r'Luis \\?"Lucho\\?" Vega',
        r"C/ Mayor 3(?:\n|\\n)28001 Madrid",
        "nómina",
    ]
)
FOUND = re.compile(rf"(?P<identity>{NAMES})|(?P<ID_DNI>\d{{8}}[A-Z])|(?P<health>diabetes)|(?P<CARD>4111 1111)")


def findings(parts: Sequence[Part]) -> tuple[Finding, ...]:
    found = []
    for number, part in enumerate(parts):
        for match in FOUND.finditer(part.text):
            kind = match.lastgroup or ""
            data = DataClass.SPECIAL if kind == "health" else DataClass.PERSONAL
            label = "model" if kind in {"identity", "health"} else kind
            kind = "identity" if kind != "health" else kind
            found.append(Finding(kind, label, data, number, match.start(), match.end()))
    return tuple(found)


def detect(inbound: Inbound, _language: str = "es") -> Detection:
    found = findings(inbound.parts)
    told = any("mi hermana" in part.text for part in inbound.parts)
    data = max([DataClass.PERSONAL if told else DataClass.PUBLIC, *(one.data for one in found)])
    return Detection(data, 1.0, findings=found)


PSEUDONYMISER = Pseudonymiser(Pseudonyms(), read=read_texts)


def asked(*messages: dict[str, Any], **fields: Any) -> Inbound:
    body = {"messages": list(messages), **fields}
    parts, opaque = read_texts(body)
    return an_inbound(body=body, parts=parts, opaque=opaque, caller=Caller(id="key_1"))


def mask(inbound: Inbound) -> Masked | str:
    detection = detect(inbound)
    return PSEUDONYMISER.mask(inbound, Signals(data=detection.data, findings=detection.findings), detect)


def masked(inbound: Inbound) -> tuple[Masked, str]:
    made = mask(inbound)
    assert isinstance(made, Masked), made
    return made, orjson.dumps(made.body).decode()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def test_a_value_is_replaced_wherever_it_stands_and_always_by_the_same() -> None:
    function = {"name": "ficha_12345678Z", "arguments": '{"q": "Ana Ruiz"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    made, sent = masked(
        asked(
            {"role": "system", "content": "Atiendes a Ana Ruiz."},
            user("El DNI de Ana  Ruiz, que es Ana, es 12345678Z."),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": json.dumps({"Ana Ruiz": "12345678Z"})},
            {"role": "user", "name": "12345678Z", "content": [{"type": "text", "text": "¿Y ANA RUIZ?"}]},
            metadata={"Ana Ruiz": "x"},
            user="12345678Z",
        )
    )
    assert not re.search(r"ana|ruiz|\d{8}", sent, re.IGNORECASE)
    assert set(made.counts) == {"PERSON", "ID"}
    assert len(made.values) == 3  # the name, the first name alone, the number
    assert Restorer(made.values).whole(made.body["messages"][1]["content"]) == (  # type: ignore[index]
        "El DNI de Ana Ruiz, que es Ana, es 12345678Z."
    )


@pytest.mark.parametrize(
    "text", ['Soy Luis "Lucho" Vega.', "Vivo en C/ Mayor 3\n28001 Madrid.", "Soy José Peña.", "Ana Ruiz Gil y Ana Ruiz"]
)
def test_what_json_escapes_is_left_outside_the_placeholders(text: str) -> None:
    for inbound in (
        asked(user(text)),
        asked(user(json.dumps({"q": text}, ensure_ascii=False))),
        asked(user("Hola"), metadata={"n": text}),
    ):
        made, _ = masked(inbound)
        assert not any(char in value for value in made.values.values() for char in '"\\\n')
        back = Restorer(made.values).whole(orjson.dumps(made.body).decode())
        assert json.loads(back) == inbound.body


def test_a_value_in_escapes_is_the_same_value() -> None:
    escaped = {"role": "tool", "tool_call_id": "call_1", "content": '{"n": "Jos\\u00e9 Peña"}'}
    made, sent = masked(asked(user("Soy José Peña."), escaped))
    full = [value for value in made.values.values() if value == "José Peña"]
    assert len(full) == 1
    assert "Peña" not in sent


def test_the_last_word_is_the_second_scans() -> None:
    assert mask(asked(user("Ana Ruiz es mi hermana."))) == STILL


@pytest.mark.parametrize(
    ("inbound", "why"),
    [
        (asked(user("mi hermana está sola")), UNPLACED),  # personal by what it tells
        (asked(user("Mi nómina es baja, Ana Ruiz.")), UNPLACED),  # a word that is no value
        (asked(user("Ana Ruiz tiene diabetes.")), STILL),
        (asked(user("Hola"), x_id=41111111), UNPLACED),  # a number without quotes has no place for a word
        (asked(user(" ".join(f"{n:08d}Z" for n in range(300)))), TOO_MANY),
        (asked(user("Hola"), metadata={"Ana Ruiz": 1, "ana ruiz": 2, "ANA RUIZ": 3}), UNPLACED),  # keys would be one
    ],
)
def test_what_cannot_be_done_wholly_is_not_done(inbound: Inbound, why: str) -> None:
    assert mask(inbound) == why


def test_a_class_that_somebody_set_is_not_taken_back() -> None:
    inbound = an_inbound("Soy Ana Ruiz.", data=DataClass.PERSONAL)
    detection = detect(inbound)
    assert PSEUDONYMISER.mask(inbound, Signals(findings=detection.findings), detect) == RAISED


def test_a_second_scan_that_fails_counts_as_personal_whatever_the_policy_calls_a_failure() -> None:
    inbound = asked(user("Soy Ana Ruiz."))
    failed = Detection(DataClass.PUBLIC, 0.0, findings=(Finding("unreadable", "scan_failed", DataClass.PUBLIC),))
    signals = Signals(findings=detect(inbound).findings)
    assert PSEUDONYMISER.mask(inbound, signals, lambda _inbound, _language: failed) == STILL


def test_overlapping_findings_are_one_value_and_numbers_are_taken_whole() -> None:
    inbound = asked(user("Con la 4111 1111 1111 1111, 1.450 euros"))
    text = inbound.parts[0].text
    card, amount = text.index("4111"), text.index("450")
    found = (
        Finding("dob", "model", DataClass.PERSONAL, 0, card - 3, card + 14, 0.6),
        Finding("financial", "CARD", DataClass.PERSONAL, 0, card, card + 19, 0.99),
        Finding("financial", "model", DataClass.PERSONAL, 0, amount, amount + 3, 0.6),
    )
    quiet = Detection(DataClass.PUBLIC, 0.0)
    made = PSEUDONYMISER.mask(inbound, Signals(findings=found), lambda _inbound, _language: quiet)
    assert isinstance(made, Masked)
    assert sorted(made.values.values()) == ["1.450", "la 4111 1111 1111 1111"]
    assert set(made.counts) == {"AMOUNT", "CARD"}


def test_without_placeholders_the_ladder_keeps_to_the_ceiling() -> None:
    decision = a_decision("large", "small", ceiling=Zone.PREMISES, masked=Zone.WORLD)
    models = {"large": LARGE, "small": SMALL}
    inbound = an_inbound()
    same, left = masked_request(STILL, inbound, decision, models)
    assert (same, left.ladder, left.masked) == (inbound, ("small",), None)
    assert [skip.model for skip in left.skipped] == ["large"]
    assert "still personal" in left.skipped[0].reason


def test_no_representation_of_a_request_shows_its_values() -> None:
    inbound = asked(user("Soy Ana Ruiz."))
    made, _ = masked(inbound)
    assert "Ruiz" not in repr(made)
