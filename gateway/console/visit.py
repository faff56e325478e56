"""One look at a page: who looks, in which language, and what their form says; and the pages' way out.

Every page is answered by `page(...)`, so that each is signed in to, refuses forms that are not its own, says the same
of what goes wrong, and leaves with the same headers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.access import PATH, Doorkeeper, Sessions, Who, is_ours, repeats
from gateway.console.apart import TooLong
from gateway.console.backend import Backend
from gateway.console.figures import Figures
from gateway.console.words import Language, words
from gateway.errors import BadRequest, CauceError
from gateway.wire.body import ClientGone, content_length, read_body
from gateway.wire.language import named_language

T = TypeVar("T")
_log = logging.getLogger("cauce.console")
_STATIC: Final = Path(__file__).parent / "static"
_LANGUAGE_COOKIE: Final = "cauce_language"
_YEAR_S: Final = 31_536_000
_MAX_FORM_BYTES: Final = 2_000_000
_FORM_TIMEOUT_S: Final = 15.0
_MOST_FIELDS: Final = 100
_READERS: Final = 3  # queries at once: the ledger's own thread must get its turn
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_PAGES: Final = Environment(
    loader=PackageLoader("gateway.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def asset(name: str) -> str:
    """The address of a file of ours; it changes with what the file says, so that a browser may keep it."""
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{PATH}/static/{name}?v={digest}"


_ASSETS: Final = {name: asset(name) for name in ("console.css", "console.js", "cauce.svg")}


@dataclass(frozen=True, slots=True)
class House:
    """What all visits share."""

    backend: Backend
    sessions: Sessions
    doorkeeper: Doorkeeper
    watching: set[object] = field(default_factory=set)  # pages that follow the decisions
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READERS))


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a person, with everything that a page is made from."""

    request: Request
    house: House
    language: Language
    figures: Figures
    who: Who | None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """The gateway that is looked at."""
        return self.house.backend

    @property
    def t(self) -> Mapping[str, str]:
        """The words of the page's language."""
        return words(self.language)

    async def read(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """What a query finds, in a thread, a few at once: the loop that serves requests never waits for it."""
        async with self.house.readers:
            return await asyncio.to_thread(function, *arguments, **named)

    def asked(self, name: str, otherwise: str = "") -> str:
        """A value of the address."""
        return self.request.query_params.get(name, otherwise)

    def link(self, **changes: str) -> str:
        """This address with other values; one that is empty is left out."""
        values = {**dict(self.request.query_params), **changes}
        values.pop("lang", None) if "lang" not in changes else None
        said = urlencode({name: value for name, value in values.items() if value})
        return self.request.url.path + (f"?{said}" if said else "")

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page, with the session that its forms need."""
        sessions = self.house.sessions
        csrf = sessions.csrf(self.request)
        fresh = not csrf
        if fresh:
            csrf = secrets.token_urlsafe(24)
        body = _PAGES.get_template(template).render(
            **values,
            v=self,
            t=self.t,
            f=self.figures,
            who=self.who,
            csrf=csrf,
            assets=_ASSETS,
            language=self.language,
            other="es" if self.language == "en" else "en",
            here=self.request.url.path,
            open=sessions.open,
        )
        response = HTMLResponse(body, status)
        if fresh:
            sessions.give(self.request, response, csrf=csrf)
        return response

    def go(self, where: str) -> Response:
        """On to another page, after a form."""
        return RedirectResponse(where, 303)

    def problem(self, status: int, title: str, message: str) -> Response:
        """A page that says what went wrong and what to do."""
        return self.render("problem.html", status, title=title, message=message)


Page = Callable[[Visit], Awaitable[Response]]


def page(
    function: Page, *, house: House, change: bool = False, signed_in: bool = True
) -> Callable[[Request], Awaitable[Response]]:
    """A page as the server calls it. `change`: its forms are for admins; `signed_in`: not for everyone."""

    async def answer(request: Request) -> Response:
        visit = _visit(request, house)
        if not is_ours(request, loopback_only=house.sessions.open):
            response = visit.problem(403, visit.t["foreign"], visit.t["foreign_do"])
        elif signed_in and visit.who is None:
            response = _sign_in_first(visit)
        else:
            response = await _answer(function, visit, change=change)
        return _leaves(response, visit)

    return answer


async def _answer(function: Page, visit: Visit, *, change: bool) -> Response:
    t = visit.t
    try:
        return (
            await _answer_form(function, visit, change=change)
            if visit.request.method == "POST"
            else await function(visit)
        )
    except ClientGone:
        return Response(status_code=499)  # nobody reads it
    except CauceError as error:
        return visit.problem(error.status, t["went_wrong"], error.message)
    except TooLong as error:
        return visit.problem(503, t["too_long"], str(error))
    except SQLAlchemyError as error:
        _log.error("a page could not read the ledger: %s", type(error).__name__)
        return visit.problem(503, t["ledger_away"], t["ledger_away_do"])


async def _answer_form(function: Page, visit: Visit, *, change: bool) -> Response:
    """The page, once its form is known to be one of ours, from somebody who may send it."""
    t, form = visit.t, await _form(visit.request)
    if not repeats(form, visit.house.sessions.csrf(visit.request)):
        return visit.problem(403, t["stale"], t["stale_do"])
    if change and not (visit.who and visit.who.may_change):
        return visit.problem(403, t["viewers_only_look"], t["viewers_only_look_do"])
    return await function(dataclasses.replace(visit, form=form))


def _visit(request: Request, house: House) -> Visit:
    language = _language(request, house.backend.settings.language)
    figures = Figures(language, ZoneInfo(house.backend.settings.time_zone))
    return Visit(request, house, language, figures, house.sessions.who(request))


def _language(request: Request, otherwise: Language) -> Language:
    """What the reader chose here, else what their browser says, else what the operator has set."""
    for named in (request.query_params.get("lang"), request.cookies.get(_LANGUAGE_COOKIE)):
        if named == "es":
            return "es"
        if named == "en":
            return "en"
    return named_language(request.headers.get("accept-language", ""), otherwise)


def _sign_in_first(visit: Visit) -> Response:
    if visit.request.method == "GET":
        return visit.go(f"{PATH}/sign-in?{urlencode({'next': visit.link()})}")
    return visit.problem(401, visit.t["sign_in"], visit.t["signed_out"])


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; raises `CauceError` for one that is too large or too slow."""
    raw = await read_body(
        request.receive,
        content_length=content_length((request.headers.get("content-length") or "").encode() or None),
        max_bytes=_MAX_FORM_BYTES,
        timeout_s=_FORM_TIMEOUT_S,
    )
    try:
        found = parse_qs(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise BadRequest(f"a form of this page has fewer than {_MOST_FIELDS} fields") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in found.items()}


def _leaves(response: Response, visit: Visit) -> Response:
    """With the headers that every page has, and the language that was chosen."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("content-language", visit.language)
    if visit.request.query_params.get("lang") == visit.language:
        response.set_cookie(
            _LANGUAGE_COOKIE, visit.language, max_age=_YEAR_S, path=PATH, httponly=True, samesite="strict",
            secure=visit.request.url.scheme == "https",
        )  # fmt: skip
    return response
