"""The console as one ASGI application: its pages, its files, and signing in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.console import audit, decisions, models, overview, playground, policies, spend
from gateway.console.access import COOKIE, PATH, Doorkeeper, Sessions, inside
from gateway.console.backend import Backend
from gateway.console.visit import House, Page, Visit, page
from gateway.telemetry.logs import fields
from gateway.wire.body import App

_log = logging.getLogger("cauce.console")
_STATIC: Final = Path(__file__).parent / "static"
# Where, the page, and how: `post` takes a form too, `change` is a form for admins, `only` takes nothing else.
_PAGES: Final[Sequence[tuple[str, Page, str]]] = (
    ("", overview.overview, ""),
    ("/", overview.overview, ""),
    ("/decisions", decisions.decisions, ""),
    ("/decisions/feed", decisions.feed, ""),
    ("/decisions/{request_id}", decisions.decision, ""),
    ("/playground", playground.playground, "post"),
    ("/policies", policies.policies, ""),
    ("/policies/draft", policies.draft, "change"),
    ("/policies/rollback", policies.rollback, "only change"),
    ("/policies/{revision}", policies.revision, ""),
    ("/spend", spend.spend, ""),
    ("/spend.csv", spend.spend_csv, ""),
    ("/models", models.models, ""),
    ("/keys", models.keys, ""),
    ("/audit", audit.audit, "post"),
    ("/audit/report", audit.audit_report, ""),
)


class _Files(StaticFiles):
    """Our style sheet and script; their address says which version they are, so a browser may keep them."""

    def file_response(self, *arguments: object, **named: object) -> Response:
        response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        response.headers["x-content-type-options"] = "nosniff"
        return response


def build_console(backend: Backend) -> App:
    """Everything under `/console`."""
    settings = backend.settings.console
    house = House(backend, Sessions(backend.keys, settings), Doorkeeper(backend.keys))
    routes: list[BaseRoute] = [Mount(f"{PATH}/static", _Files(directory=_STATIC))]
    for where, function, how in _PAGES:
        methods = ["POST"] if "only" in how else ["GET", "POST"] if how else ["GET"]
        routes.append(Route(PATH + where, page(function, house=house, change="change" in how), methods=methods))
    routes += [
        Route(f"{PATH}/sign-in", page(sign_in, house=house, signed_in=False), methods=["GET", "POST"]),
        Route(f"{PATH}/sign-out", page(sign_out, house=house), methods=["POST"]),
    ]

    async def lost(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500

        async def told(visit: Visit) -> Response:
            t = visit.t
            if status == 500:
                return visit.problem(500, t["fault"], t["fault_do"])
            return visit.problem(status, t["no_page"], t["no_page_do"])

        return await page(told, house=house, signed_in=False)(_as_read(request))

    console = Starlette(routes=routes, exception_handlers={HTTPException: lost, 500: lost})
    console.router.redirect_slashes = False  # it would send people to whatever name the request came under
    return console


def _as_read(request: Request) -> Request:
    """The same request as one that has no form: what went wrong is told, whatever was sent."""
    return Request({**request.scope, "method": "GET"}, request.receive)


async def sign_in(visit: Visit) -> Response:
    """With a key that was made for the console."""
    house, where = visit.house, inside(visit.form.get("next", visit.asked("next")))
    if visit.who is not None:
        return visit.go(where)
    if visit.request.method == "GET":
        return visit.render("sign_in.html", where=where, wrong=False, wait=0)
    address = visit.request.client.host if visit.request.client else ""
    if wait := house.doorkeeper.wait_s(address):
        response = visit.render("sign_in.html", 429, where=where, wrong=False, wait=wait)
        response.headers["retry-after"] = str(wait)
        return response
    key = house.doorkeeper.admit(visit.form.get("key", "").strip(), address)
    if key is None:
        _log.warning("a sign-in to the console was refused", extra=fields(address=address))
        return visit.render("sign_in.html", 401, where=where, wrong=True, wait=0)
    _log.info("signed in to the console", extra=fields(caller=key.id, role=key.role.value))
    response = visit.go(where)
    house.sessions.give(visit.request, response, key_id=key.id)
    return response


async def sign_out(visit: Visit) -> Response:
    """The session ends."""
    response = visit.go(f"{PATH}/sign-in")
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
    return response
