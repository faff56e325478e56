"""What was decided and why: a list that follows the gateway, and a page for each request. Never a text of one."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from gateway.console import reading
from gateway.console.access import PATH
from gateway.console.visit import Visit
from gateway.errors import CauceError
from gateway.ledger.policies import history, own_text
from gateway.policy.decide import decide
from gateway.policy.load import parse_policy
from gateway.policy.rules import Policy
from gateway.policy.signal_values import from_values
from gateway.policy.trace import explained
from gateway.policy.vocabulary import EVERY

_LOOK_S: Final = 2.0
_MOST_AT_ONCE: Final = 20
_MOST_READERS: Final = 20
_CURSOR: Final = re.compile(r"(\d{1,18})-([\w.-]{1,80})")


async def decisions(visit: Visit) -> Response:
    """The last requests, with filters and older pages; a script adds new ones while the page is open."""
    filters = _filters(visit)
    match = _CURSOR.fullmatch(visit.asked("before"))
    before = (int(match[1]), match[2]) if match else None
    engine = visit.backend.ledger.engine
    rows = await visit.read(reading.decisions, engine, filters, before=before, most=reading.PAGE + 1)
    shown, more = rows[: reading.PAGE], len(rows) > reading.PAGE
    policy = visit.backend.policy.current()
    return visit.render(
        "decisions.html",
        rows=shown,
        older=f"{shown[-1]['time_us']}-{shown[-1]['request_id']}" if more else "",
        paged=before is not None,
        filters=filters,
        choices={
            "outcome": ["ok", "cached", "refused", "failed", "cut", "aborted"],
            "data_class": ["public", "internal", "personal", "special", "secret"],
            "zone": ["premises", "eu", "world"],
            "model": list(visit.backend.models),
            "rule": [*(rule.name for rule in policy.rules), "default", "pinned"],
        },
        feed=f"{PATH}/decisions/feed?{visit.request.url.query}" if before is None else "",
    )


def _filters(visit: Visit) -> dict[str, str]:
    return {name: value for name in reading.FILTERS if (value := visit.asked(name)[:200])}


async def feed(visit: Visit) -> Response:
    """New requests as they come, as server-sent events: the same figures as in the list, written for people."""
    if len(visit.house.watching) >= _MOST_READERS:
        return Response(status_code=503, headers={"retry-after": "60"})
    return EventSourceResponse(_events(visit), ping=15, headers={"cache-control": "no-store"})


async def _events(visit: Visit) -> AsyncIterator[dict[str, str]]:
    me, engine, filters = object(), visit.backend.ledger.engine, _filters(visit)
    seen: deque[str] = deque(maxlen=10 * reading.PAGE)
    visit.house.watching.add(me)
    try:
        first = True
        while visit.house.sessions.who(visit.request) is not None:  # a key that is revoked meanwhile sees no more
            rows = await visit.read(reading.decisions, engine, filters)
            new = [row for row in rows if row["request_id"] not in seen]
            seen.extend(row["request_id"] for row in new)
            for row in reversed(new[:_MOST_AT_ONCE] if not first else []):
                yield {"event": "decision", "id": row["request_id"], "data": orjson.dumps(_said(visit, row)).decode()}
            if first:
                yield {"event": "ready", "data": "{}"}
            first = False
            await asyncio.sleep(_LOOK_S)
    finally:
        visit.house.watching.discard(me)


def _said(visit: Visit, row: Mapping[str, Any]) -> dict[str, str]:
    """A row as its cells say it: the script of the page only puts texts where they belong."""
    f, t = visit.figures, visit.t
    return {
        "request_id": row["request_id"],
        "link": f"{PATH}/decisions/{row['request_id']}",
        "time": f.moment(row["time_us"]).strftime("%H:%M:%S"),
        "date": f.day(row["time_us"]),
        "who": row["team"] or row["caller"],
        "data_class": row["data_class"],
        "data_class_said": t.get(f"class_{row['data_class']}", "–"),
        "task": row["task"] or "–",
        "rule": row["rule"] or "–",
        "model": row["model"] or "–",
        "zone": row["zone"],
        "zone_said": t.get(f"zone_{row['zone']}", "–"),
        "outcome": row["outcome"],
        "outcome_said": t.get(f"outcome_{row['outcome']}", row["outcome"]),
        "note": " · ".join(note_of(row, t)),
        "cost": f.money(row["cost_nano_usd"]),
        "duration": f.seconds(row["duration_us"]),
    }


def note_of(row: Mapping[str, Any], t: Mapping[str, str]) -> list[str]:
    """What is worth a word beside the outcome."""
    notes = [t["escalated"]] if row["escalated"] else []
    notes += [row["code"]] if row["code"] else []
    return notes


async def decision(visit: Visit) -> Response:
    """One request: what the policy saw, which rules were tried, whom it asked, what it cost."""
    request_id = visit.request.path_params["request_id"]
    engine = visit.backend.ledger.engine
    found = await visit.read(reading.one, engine, request_id)
    if found is None:
        return visit.problem(404, visit.t["no_request"], visit.t["no_request_do"])
    entry, calls = found
    signals = orjson.loads(entry["signals"])
    why, missing = await visit.read(_why, visit, entry, signals)
    return visit.render("decision.html", e=entry, calls=calls, signals=signals, why=why, missing=missing)


def _why(visit: Visit, entry: Mapping[str, Any], stored: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The decision made again, as it was made then: the same signals under the same revision of the policy."""
    t = visit.t
    if not entry["policy"] or "slm_success" not in stored:
        return None, t["why_never_decided"]
    policy = _as_it_was(visit, entry)
    if policy is None:
        return None, t["why_no_policy"].format(revision=entry["policy_revision"])
    caller = {"key": entry["caller"], "team": entry["team"], "app": entry["app"], "tags": stored.get("tags", [])}
    known = {name: stored[name] for name in EVERY if name in stored and name not in {"difficulty", "caller"}}
    try:
        signals = from_values({**known, "caller": caller})
        requested = str(stored.get("requested") or "auto")
        made = decide(signals, policy=policy, models=visit.backend.models, requested=requested)
    except CauceError as error:
        return None, t["why_not_again"].format(why=error.message)
    told = explained(
        signals,
        made,
        policy=policy,
        models=visit.backend.models,
        requested=requested,
        language=visit.language,
    )
    told["same"] = made.rule == entry["rule"] and made.route.name == entry["route"]
    return told, ""


def _as_it_was(visit: Visit, entry: Mapping[str, Any]) -> Policy | None:
    """The policy that decided; nothing when its text is not in the history, or says something else by now."""
    current = visit.backend.policy.current()
    if (current.name, current.revision) == (entry["policy"], entry["policy_revision"]):
        return current
    for revision in history(visit.backend.ledger.engine, entry["policy"]):
        if revision.revision == entry["policy_revision"]:
            file = visit.backend.policy.file
            policy = parse_policy(own_text(revision.text), name=revision.name, file=revision.revision, path=file).policy
            return policy if policy is not None and policy.revision == revision.revision else None
    return None
