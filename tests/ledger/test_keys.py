from __future__ import annotations

import pytest
from sqlalchemy import Engine, select, update

from gateway.ledger.keys import KeyRing, Role, create_key, list_keys, revoke_key
from gateway.ledger.tables import keys
from gateway.types import Caller, DataClass
from tests.builders import a_caller


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


def test_a_key_opens_and_says_whose_it_is(engine: Engine) -> None:
    caller = a_caller(tags=("x",), models=frozenset({"auto"}), data=DataClass.INTERNAL)
    new = create_key(engine, caller)
    found = KeyRing(engine, always=False).find(new.key)
    assert found == Caller(new.id, "billing", "bot", ("x",), frozenset({"auto"}), DataClass.INTERNAL)


def test_the_key_itself_is_stored_nowhere(engine: Engine) -> None:
    new = create_key(engine, a_caller())
    with engine.connect() as connection:
        assert new.key not in str(connection.execute(select(keys)).all())
        assert new.key[3:] not in str(connection.execute(select(keys)).all())


@pytest.mark.parametrize("key", ["", "ck-wrong", "ck-\udcff", "x" * 100_000])
def test_any_other_key_opens_nothing(engine: Engine, key: str) -> None:
    create_key(engine, a_caller())
    assert KeyRing(engine, always=False).find(key) is None


def test_a_revoked_key_opens_nothing_after_the_next_reading(engine: Engine) -> None:
    new = create_key(engine, a_caller())
    ring = KeyRing(engine, always=False)
    assert revoke_key(engine, new.id)
    assert not revoke_key(engine, new.id)
    ring.load()
    assert ring.find(new.key) is None
    assert ring.required


def test_an_expired_key_opens_nothing(engine: Engine) -> None:
    new = create_key(engine, a_caller(), expires_us=1_000_000)
    assert KeyRing(engine, always=False, clock=lambda: 0.9).find(new.key) is not None
    assert KeyRing(engine, always=False, clock=lambda: 1.1).find(new.key) is None


def test_without_any_key_none_is_asked_for_on_loopback(engine: Engine) -> None:
    assert not KeyRing(engine, always=False).required
    assert KeyRing(engine, always=True).required
    create_key(engine, a_caller())
    assert KeyRing(engine, always=False).required


def test_the_list_shows_the_newest_first(engine: Engine) -> None:
    first, second = create_key(engine, a_caller(app="a")), create_key(engine, a_caller(app="b"))
    assert [stored.id for stored in list_keys(engine)] == [second.id, first.id]


def test_a_key_opens_no_console_unless_it_was_made_for_it(engine: Engine) -> None:
    made = {role: create_key(engine, a_caller(), role=role) for role in Role}
    plain = create_key(engine, a_caller())
    ring = KeyRing(engine, always=False)
    assert {role: one.role for role, new in made.items() if (one := ring.stored(new.key))} == {r: r for r in Role}
    assert (found := ring.stored(plain.key)) is not None
    assert found.role is Role.CALLER


def test_whoever_showed_a_key_is_known_by_its_id_until_it_is_revoked(engine: Engine) -> None:
    new = create_key(engine, a_caller(), role=Role.ADMIN)
    ring = KeyRing(engine, always=False)
    assert (found := ring.by_id(new.id)) is not None
    assert found.role is Role.ADMIN
    revoke_key(engine, new.id)
    ring.load()
    assert ring.by_id(new.id) is None
    assert ring.stored(new.key) is None


def test_a_key_that_cannot_be_read_opens_nothing_and_keeps_no_other_from_being_revoked(engine: Engine) -> None:
    good, odd = (create_key(engine, a_caller()) for _ in range(2))
    ring = KeyRing(engine, always=False)
    with engine.begin() as connection:
        connection.execute(update(keys).where(keys.c.id == odd.id).values(role="auditor"))
    assert revoke_key(engine, good.id)
    ring.load()
    assert (ring.find(good.key), ring.find(odd.key), ring.required) == (None, None, True)
