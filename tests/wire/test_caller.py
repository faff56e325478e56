from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.errors import BadKey, BadRequest, MissingKey
from gateway.types import ANONYMOUS, Caller, DataClass
from gateway.wire.caller import cost_tags, find_caller, raised_class
from tests.builders import a_caller


@dataclass(frozen=True)
class FakeKeys:
    required: bool = True

    def find(self, key: str) -> Caller | None:
        return a_caller() if key == "ck-right" else None


@pytest.mark.parametrize(
    "headers",
    [{b"authorization": b"Bearer ck-right"}, {b"authorization": b"bearer  ck-right "}, {b"x-api-key": b"ck-right"}],
)
def test_a_key_names_its_caller(headers: dict[bytes, bytes]) -> None:
    assert find_caller(headers, FakeKeys()) == a_caller()


@pytest.mark.parametrize("headers", [{}, {b"authorization": b""}, {b"authorization": b"Basic eDp5"}])
def test_no_key_is_told_how_to_send_one(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(MissingKey, match="Authorization: Bearer"):
        find_caller(headers, FakeKeys())


def test_a_wrong_key_is_refused_without_being_quoted() -> None:
    with pytest.raises(BadKey) as caught:
        find_caller({b"authorization": b"Bearer ck-wrong\xff"}, FakeKeys())
    assert "ck-wrong" not in str(caught.value)


def test_without_keys_any_client_is_anonymous() -> None:
    assert find_caller({b"authorization": b"Bearer anything"}, FakeKeys(required=False)) is ANONYMOUS


def test_a_header_raises_the_class_and_never_lowers_it() -> None:
    careful = a_caller(data=DataClass.PERSONAL)
    assert raised_class({b"x-cauce-data-class": b"Special"}, careful) is DataClass.SPECIAL
    assert raised_class({b"x-cauce-data-class": b"public"}, careful) is DataClass.PERSONAL
    assert raised_class({}, careful) is DataClass.PERSONAL


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(BadRequest, match="public, internal, personal, special, secret"):
        raised_class({b"x-cauce-data-class": b"top-secret"}, ANONYMOUS)


def test_tags_of_key_and_header_are_joined_once() -> None:
    assert cost_tags({b"x-cauce-tags": b"b, a,b"}, a_caller(tags=("a",))) == ("a", "b")


@pytest.mark.parametrize("value", [b"a b", b"x" * 65, b"\xff", b",".join(b"t%d" % n for n in range(17))])
def test_what_cannot_be_a_tag_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="x-cauce-tags"):
        cost_tags({b"x-cauce-tags": value}, ANONYMOUS)
