"""The history of the policies that were in force: what each said, since when, and whose file it was."""

from __future__ import annotations

import getpass
import logging
import os
import pwd
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.ledger.tables import policies

_log = logging.getLogger("cauce.policy")
_INCLUDED = "\n# --- included: "


@dataclass(frozen=True, slots=True)
class Revision:
    """One policy from the moment it came into force. `text` is the file, `whole_text`; `who` owned it."""

    since_us: int
    name: str
    revision: str
    who: str
    file: str
    text: str


def remember(  # noqa: PLR0913 - each named
    engine: Engine, *, name: str, revision: str, file: Path, included: Iterable[Path] = (), who: str = ""
) -> None:
    """Write down that this policy is in force, unless it is the newest of its name already. Never raises.

    `who` put it there; unless it is said, whoever owns the file.
    """
    try:
        text, who = whole_text(file, included), who or _owner(file)
        newest = history(engine, name, most=1)
        if newest and newest[0].revision == revision:
            return
        with engine.begin() as connection:
            connection.execute(
                insert(policies).values(
                    since_us=int(time.time() * 1e6),
                    name=name,
                    revision=revision,
                    who=who,
                    file=str(file.resolve()),
                    text=text,
                )
            )
    except (OSError, UnicodeDecodeError, SQLAlchemyError) as error:
        _log.error("the policy's history could not be written: %s", type(error).__name__)


def whole_text(file: Path, included: Iterable[Path]) -> str:
    """A policy's file, and after it, as remarks, what it includes: a difference there is a difference too."""
    text = file.read_text(encoding="utf-8-sig")
    for base in included:
        lines = base.read_text(encoding="utf-8-sig").splitlines()
        where = os.path.relpath(base, file.parent)
        text += "\n".join((f"{_INCLUDED}{where}", *(f"# {line}".rstrip() for line in lines)))
    return text


def own_text(text: str) -> str:
    """The file itself out of `whole_text`."""
    return text.partition(_INCLUDED)[0]


def history(engine: Engine, name: str, *, most: int = 100) -> list[Revision]:
    """The revisions of a policy, the newest first."""
    wanted = select(policies).where(policies.c.name == name).order_by(policies.c.since_us.desc()).limit(most)
    with engine.connect() as connection:
        return [Revision(**row._mapping) for row in connection.execute(wanted)]


def _owner(file: Path) -> str:
    """The name of whoever owns the file; their number where it has no name here, as in a container."""
    try:
        uid = file.stat().st_uid
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
    except OSError:
        return getpass.getuser()
