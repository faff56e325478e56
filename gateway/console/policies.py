"""The policy: what it says, whether it holds, what it would have done, what was in force; and how to change it.

A change takes the same way as on the command line (`policy/apply.py`): proved first, written whole or not at all. The
page shows the check and the difference before there is a button to apply it.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from gateway.console import reading
from gateway.console.access import PATH
from gateway.console.apart import apart
from gateway.console.computing import Draft, tried
from gateway.console.visit import Visit
from gateway.ledger.policies import Revision, history, own_text, remember, whole_text
from gateway.ledger.report import Period
from gateway.policy.apply import NotApplied, is_shipped, put_in_force
from gateway.policy.load import parse_policy
from gateway.policy.rules import Policy
from gateway.policy.trace import said_condition
from gateway.telemetry.logs import fields

_log = logging.getLogger("cauce.console")
PERIODS: Final = {"24h": 24, "7d": 168, "30d": 720, "90d": 2160}
_MOST_REVISIONS: Final = 50
_FOLLOWS_S: Final = 5.0  # a running gateway follows its file within two seconds
_DONE: Final = frozenset({"applied", "rolled_back", "waiting"})


async def policies(visit: Visit) -> Response:
    """The policy in force with its rules and guarantees, its file with line numbers, and its history."""
    live = visit.backend.policy
    policy = live.current()
    text, revisions = await visit.read(_kept, visit)
    done = visit.asked("done")
    return visit.render(
        "policies.html",
        policy=policy,
        rules=[(rule, said_condition(rule.when, visit.language)) for rule in policy.rules],
        file=str(live.file),
        lines=text.splitlines(),
        revisions=revisions,
        refusal=live.refusal,
        shipped=is_shipped(live.file),
        done=done if done in _DONE else "",
    )


def _kept(visit: Visit) -> tuple[str, list[Revision]]:
    """The file as it stands, with what it includes, and the revisions that were in force."""
    live = visit.backend.policy
    included = [Path(name) for name in live.current().files[1:]]
    try:
        text = whole_text(live.file, included)
    except (OSError, UnicodeDecodeError):
        text = ""
    return text, history(visit.backend.ledger.engine, live.current().name, most=_MOST_REVISIONS)


async def revision(visit: Visit) -> Response:
    """One revision: its text, and what changed since, up to the file as it is."""
    name = visit.request.path_params["revision"]
    text, revisions = await visit.read(_kept, visit)
    found = next((one for one in revisions if one.revision == name), None)
    if found is None:
        return visit.problem(404, visit.t["no_revision"], visit.t["no_revision_do"])
    policy = visit.backend.policy.current()
    return visit.render(
        "revision.html",
        revision=found,
        lines=found.text.splitlines(),
        difference=difference(found.text, text, found.revision, visit.backend.policy.file.name),
        in_force=found.revision == policy.revision,
        current=policy.revision,
    )


async def draft(visit: Visit) -> Response:
    """A change in the making: check it, simulate it, see the difference, and then apply it."""
    live, form = visit.backend.policy, visit.form
    in_force, _ = await visit.read(_kept, visit)
    in_force = own_text(in_force)
    text = form.get("text", in_force)
    since = form.get("since", "7d") if form.get("since") in PERIODS else "7d"
    based_on = form.get("based_on", live.current().revision)
    values: dict[str, Any] = {"report": None, "simulation": None, "difference": []}
    if do := form.get("do", ""):
        if based_on != live.current().revision:
            return visit.problem(409, visit.t["changed_meanwhile"], visit.t["changed_meanwhile_do"])
        if do == "apply":
            return await _apply(visit, text, str(live.file))
        report, simulation = await _tried(visit, text, PERIODS[since] if do == "simulate" else None)
        changes = difference(in_force, text, based_on, "draft")
        values = {"report": report, "simulation": simulation, "difference": changes}
    return visit.render(
        "draft.html",
        text=text,
        since=since,
        periods=PERIODS,
        based_on=based_on,
        file=str(live.file),
        shipped=is_shipped(live.file),
        **values,
    )


async def rollback(visit: Visit) -> Response:
    """Back to an earlier revision, as long as it still holds."""
    _, revisions = await visit.read(_kept, visit)
    found = next((one for one in revisions if one.revision == visit.form.get("revision")), None)
    if found is None:
        return visit.problem(404, visit.t["no_revision"], visit.t["no_revision_do"])
    if visit.form.get("based_on") != visit.backend.policy.current().revision:
        return visit.problem(409, visit.t["changed_meanwhile"], visit.t["changed_meanwhile_do"])
    title = f"revision {found.revision}"
    return await _apply(visit, own_text(found.text), title, revision=found.revision, done="rolled_back")


async def _apply(visit: Visit, text: str, title: str, *, revision: str = "", done: str = "applied") -> Response:
    backend = visit.backend
    live, before = backend.policy, backend.policy.current().revision
    try:
        await visit.read(put_in_force, text, live.file, models=backend.models, title=title, revision=revision)
    except NotApplied as error:
        return visit.problem(422, visit.t["not_applied"], str(error))
    who = visit.who.caller.id if visit.who else ""
    _log.warning("a policy was written from the console", extra=fields(by=who, file=str(live.file), before=before))
    wanted = parse_policy(text, name=live.file.stem, file=str(live.file), path=live.file)
    if (policy := wanted.policy) is not None and policy.revision != before:
        included = tuple(wanted.files[1:])
        await visit.read(
            remember, backend.ledger.engine, name=policy.name, revision=policy.revision, file=live.file,
            included=included, who=who,
        )  # fmt: skip
        done = done if await _followed(live.current, policy.revision) else "waiting"
    return visit.go(f"{PATH}/policies?done={done}")


async def _followed(current: Callable[[], Policy], revision: str) -> bool:
    """Whether the gateway has taken the file up, within the time that it needs."""
    for _ in range(int(_FOLLOWS_S / 0.1)):
        if current().revision == revision:
            return True
        await asyncio.sleep(0.1)
    return False


def difference(before: str, after: str, named: str, then: str) -> list[str]:
    """What changed, line by line; nothing where nothing did."""
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), named, then, lineterm=""))


async def _tried(visit: Visit, text: str, hours: int | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What the check says of a draft; and, with `hours`, what it would have done with the requests of as many."""
    backend = visit.backend
    given = Draft(text, backend.policy.file, dict(backend.models), backend.settings, backend.prices, visit.language)
    period = None if hours is None else Period(start_us=reading.now_us() - hours * reading.HOUR_US)
    return await apart(tried, given, functools.partial(backend.classifier, backend.settings), period)
