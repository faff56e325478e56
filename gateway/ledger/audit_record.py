"""What is kept of a request for the data-protection officer, and how one record seals the one before it.

Labels, counts, places and times; never a text. The caller stands in a record as a token, and whose token it is in a
table beside it (`audit_callers`): the token is a digest over the name and a salt, so that a name cannot be changed
unseen, and an erasure can take name and salt away without breaking the chain.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

# What a record is of; `telemetry/audit.py` has the other events.
START: Final = "start"
REQUEST: Final = "request"
ERASURE: Final = "erasure"
ERASED: Final = "erased"  # what stands where a caller's name stood
FIRST: Final = ""  # what the first record of a chain has for a previous hash


class Who(NamedTuple):
    """Who asked: the key's id, with whose it is."""

    caller: str
    team: str
    app: str


@dataclass(frozen=True, slots=True)
class Record:
    """One thing to remember. `event` is start, request, shadow, refusal, policy or erasure; times are UTC."""

    event: str
    time_us: int
    request_id: str = ""
    who: Who | None = None
    data_class: str = ""
    kinds: str = "[]"  # a JSON list
    labels: str = "{}"  # JSON: how often each recogniser found something
    unread: str = ""  # why the scan could not read all of it: scan_failed, oversize, image, ...
    rule: str = ""
    policy: str = ""
    policy_revision: str = ""
    destinations: str = "[]"  # JSON: each model that the text was released to, with zone, processor, how it ended
    transform: str = ""
    outcome: str = ""
    code: str = ""
    detail: str = "{}"  # JSON, by event: heads of other chains, what was erased, what a policy guarantees


@dataclass(frozen=True, slots=True)
class Link:
    """A record in its chain, as it is stored: place, fields, the hash before and its own."""

    writer: str
    seq: int
    time_us: int
    event: str
    request_id: str
    caller: str  # a token
    data_class: str
    kinds: str
    labels: str
    unread: str
    rule: str
    policy: str
    policy_revision: str
    destinations: str
    transform: str
    outcome: str
    code: str
    detail: str
    previous: str
    hash: str


_NAMES: Final = tuple(field.name for field in dataclasses.fields(Link))[:-1]
_SORTED: Final = sorted((name, place) for place, name in enumerate(_NAMES))


def sealed(record: Record, *, writer: str, seq: int, token: str, previous: str) -> tuple[Any, ...]:
    """The values of a `Link`, in order."""
    values = (
        writer,
        seq,
        record.time_us,
        record.event,
        record.request_id,
        token,
        record.data_class,
        record.kinds,
        record.labels,
        record.unread,
        record.rule,
        record.policy,
        record.policy_revision,
        record.destinations,
        record.transform,
        record.outcome,
        record.code,
        record.detail,
        previous,
    )
    return (*values, digest(values))


def digest(values: Sequence[Any]) -> str:
    """SHA-256 over a record and the hash before it: JSON, names sorted, no spaces, empty texts left out.

    What is empty is left out so that a column that comes later does not change what older records say.
    """
    named = {name: value for name, place in _SORTED if (value := values[place]) != ""}
    return hashlib.sha256(orjson.dumps(named)).hexdigest()


def new_salt() -> str:
    """What makes a token unlike any other of the same name."""
    return secrets.token_hex(16)


def token_of(salt: str, who: Who) -> str:
    """What stands for a caller in the records."""
    return hashlib.sha256(orjson.dumps([salt, *who])).hexdigest()[:32]


def subject_of(caller: str) -> str:
    """What stands for an erased caller in the proof of it: whoever knows the id can make it again, nobody else."""
    return hashlib.sha256(caller.encode("utf-8", "surrogateescape")).hexdigest()
