"""Callers' keys: made here, shown once, kept only as a hash.

A key is 256 random bits, so a plain SHA-256 cannot be guessed back; the look-up goes by digest, whose timing tells
nothing of the key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.limits import Limits, limits_of, read_limits, set_limits
from gateway.ledger.tables import keys
from gateway.types import Caller, DataClass

_log = logging.getLogger("cauce.keys")
REFRESH_S = 2.0
_PREFIX = "ck-"


class Role(StrEnum):
    """What a key opens besides the API."""

    CALLER = "caller"  # nothing
    VIEWER = "viewer"  # the console, to look
    ADMIN = "admin"  # the console, to look and to change


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown, once, to whoever made it."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is kept. Times are microseconds of the epoch."""

    id: str
    caller: Caller
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    role: Role = Role.CALLER

    def valid(self, now_us: int) -> bool:
        """Whether it opens the gateway now."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def create_key(engine: Engine, caller: Caller, *, expires_us: int | None = None, role: Role = Role.CALLER) -> NewKey:
    """Make a key for a caller: its `id` is given here, and its own budgets and rates are put in force with it."""
    new = NewKey(f"key_{secrets.token_hex(6)}", _PREFIX + secrets.token_urlsafe(32))
    with engine.begin() as connection:
        connection.execute(
            insert(keys).values(
                id=new.id,
                hash=_hash(new.key),
                org=caller.org,
                team=caller.team,
                app=caller.app,
                tags=orjson.dumps(caller.tags).decode(),
                models=None if caller.models is None else orjson.dumps(sorted(caller.models)).decode(),
                data_class=int(caller.data),
                created_us=time.time_ns() // 1000,
                expires_us=expires_us,
                role=role.value,
            )
        )
        own = f"key:{new.id}"
        set_limits(
            connection,
            [
                *(dataclasses.replace(budget, scope=own) for budget in caller.budgets),
                *(dataclasses.replace(rate, scope=own) for rate in caller.rates),
            ],
        )
    return new


def revoke_key(engine: Engine, key_id: str) -> bool:
    """Revoke a key; false when there is none of that id that still opens anything."""
    with engine.begin() as connection:
        done = connection.execute(
            update(keys)
            .where(keys.c.id == key_id, keys.c.revoked_us.is_(None))
            .values(revoked_us=time.time_ns() // 1000)
        )
    return done.rowcount > 0


def id_of(engine: Engine, key: str) -> str | None:
    """The id of a key, valid or not; nothing when there is none."""
    with engine.connect() as connection:
        return connection.execute(select(keys.c.id).where(keys.c.hash == _hash(key))).scalar_one_or_none()


def list_keys(engine: Engine) -> list[StoredKey]:
    """Every key that was ever made, newest first."""
    return [stored for _, stored in _rows(engine)]


def _limited(stored: StoredKey, known: Mapping[str, Limits]) -> StoredKey:
    """The key with every limit that it stands under."""
    over = tuple(limits_of(stored.caller, known))
    if not over:
        return stored
    budgets = tuple(budget for limits in over for budget in limits.budgets)
    rates = tuple(rate for limits in over for rate in limits.rates)
    return dataclasses.replace(stored, caller=dataclasses.replace(stored.caller, budgets=budgets, rates=rates))


def _rows(engine: Engine) -> list[tuple[str, StoredKey]]:
    known = read_limits(engine)
    with engine.connect() as connection:
        rows = connection.execute(select(keys).order_by(keys.c.created_us.desc())).all()
    return [(row.hash, _limited(_stored(row), known)) for row in rows]


def _stored(row: Row[Any]) -> StoredKey:
    """A key as it is kept. One that cannot be read (a newer version's) opens nothing, and keeps none from closing."""
    try:
        caller = Caller(
            id=row.id,
            team=row.team,
            app=row.app,
            tags=tuple(orjson.loads(row.tags)),
            models=None if row.models is None else frozenset(orjson.loads(row.models)),
            data=DataClass(row.data_class),
            org=row.org,
        )
        return StoredKey(row.id, caller, row.created_us, row.expires_us, row.revoked_us, Role(row.role))
    except (ValueError, TypeError) as error:
        _log.error("the key %s cannot be read and opens nothing: %s", row.id, type(error).__name__)
        return StoredKey(row.id, Caller(row.id, row.team, row.app), row.created_us, row.expires_us, revoked_us=0)


class KeyRing:
    """The keys, with the limits over them, as the request path sees them: in memory, read again within two seconds.

    `required` is true as soon as one key exists, or when the gateway listens beyond loopback.
    """

    def __init__(self, engine: Engine, *, always: bool, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._always = always
        self._clock = clock
        self._by_hash: dict[str, StoredKey] = {}
        self.load()

    @property
    def required(self) -> bool:
        """Whether a request without a key is refused."""
        return self._always or bool(self._by_hash)

    @property
    def empty(self) -> bool:
        """Whether no key opens the gateway now."""
        now_us = int(self._clock() * 1e6)
        return not any(stored.valid(now_us) for stored in self._by_hash.values())

    def find(self, key: str) -> Caller | None:
        """The caller of a valid key, else nothing."""
        stored = self.stored(key)
        return None if stored is None else stored.caller

    def stored(self, key: str) -> StoredKey | None:
        """A valid key as it is kept, else nothing."""
        # Looking a digest up leaks at most digest bits, which nobody can aim: the key itself is never compared.
        return self._valid(self._by_hash.get(_hash(key)))

    def by_id(self, key_id: str) -> StoredKey | None:
        """The valid key of that id, else nothing: for whoever showed it before."""
        return self._valid(next((one for one in self._by_hash.values() if one.id == key_id), None))

    def _valid(self, stored: StoredKey | None) -> StoredKey | None:
        return stored if stored is not None and stored.valid(int(self._clock() * 1e6)) else None

    def load(self) -> None:
        """Read the keys; with the database away, the ones last read stay."""
        try:
            self._by_hash = dict(_rows(self._engine))
        except SQLAlchemyError as error:
            _log.error("keys could not be read, the last ones stay: %s", type(error).__name__)
