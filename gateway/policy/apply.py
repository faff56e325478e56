"""Put a policy's text in the place of the one in force: proved first, written whole or not at all.

For `cauce policy apply`, `rollback` and the console. A running gateway follows the file (`live.py`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway.policy.check import prove
from gateway.policy.load import SHIPPED, parse_policy
from gateway.types import Model


class NotApplied(Exception):
    """A policy that was not put in force, and why; the one in force is as it was."""


def put_in_force(text: str, file: Path, *, models: Mapping[str, Model] | None, title: str, revision: str = "") -> None:
    """Write a policy's text over a file once it is proved; raises `NotApplied`.

    With a `revision`, only as long as the text still says that: what it includes may have changed.
    """
    if is_shipped(file):
        raise NotApplied(
            f"{file} came with the gateway and an update would overwrite it: copy it, and name the copy in cauce.yaml"
        )
    loaded = parse_policy(text, name=file.stem, file=title, path=file)
    problems = loaded.problems
    if loaded.policy is not None:
        problems = prove(loaded, models).errors
    if problems:
        raise NotApplied("refused:\n" + "\n".join(map(str, problems)))
    if revision and len(loaded.files) > 1 and loaded.policy is not None and loaded.policy.revision != revision:
        included = ", ".join(map(str, loaded.files[1:]))
        raise NotApplied(
            f"{title} says something else by now: {included} was changed since. Put that back first "
            f"(`cauce policy show {revision}` has its text), or apply a new policy"
        )
    try:
        _write(text, file)
    except OSError as error:
        raise NotApplied(
            f"{file} cannot be written: {error.strerror or error}. Change it where it comes from"
        ) from error


def is_shipped(file: Path) -> bool:
    """Whether a file came with the installed gateway."""
    return file.resolve().parent == SHIPPED.resolve() and "site-packages" in str(SHIPPED)


def _write(text: str, file: Path) -> None:
    descriptor, scratch = tempfile.mkstemp(dir=file.parent, prefix=".cauce-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        if file.exists():
            shutil.copymode(file, scratch)
        Path(scratch).replace(file.resolve())  # a link stays one
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
