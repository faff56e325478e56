"""Who may see the console, and who may change something there.

A session is a signed cookie that holds a key's id, never the key, and the token that each form must repeat. The id is
looked up on every page: a revoked key loses the console within two seconds. Where no key is set up the API is open to
this machine, and so is the console; then only a loopback name is answered, or a page elsewhere could have its own name
point here and read along.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from cachetools import TTLCache
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from gateway.ledger.keys import KeyRing, Role, StoredKey
from gateway.settings import ConsoleSettings
from gateway.types import ANONYMOUS, Caller

COOKIE: Final = "cauce_console"
PATH: Final = "/console"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PROXIED: Final = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
_MOST_FAILURES: Final = 5
_WAIT_S: Final = 60.0
_MOST_ADDRESSES: Final = 4096


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever looks at a page. `csrf` must come back with each of their forms."""

    role: Role
    caller: Caller
    csrf: str
    signed_in: bool

    @property
    def may_change(self) -> bool:
        """Whether they may do more than look."""
        return self.role is Role.ADMIN


class Sessions:
    """Cookies to people and back."""

    def __init__(self, keys: KeyRing, settings: ConsoleSettings) -> None:
        self._keys = keys
        self._seconds = int(settings.session_hours * 3600)
        # Without a secret of the operator's, one of this process's: sessions end with it.
        self._signer = URLSafeTimedSerializer(settings.session_secret or secrets.token_urlsafe(32), salt="console")

    @property
    def open(self) -> bool:
        """Whether nobody needs to sign in: no key is set up, and only this machine can reach the gateway."""
        return not self._keys.required

    def who(self, request: Request) -> Who | None:
        """Who looks; nothing when they must sign in."""
        said = self._read(request)
        csrf = said.get("csrf", "")
        if self.open:
            return Who(Role.ADMIN, ANONYMOUS, csrf, signed_in=False)
        key = self._keys.by_id(said.get("id", "")) if csrf else None
        return None if key is None or key.role is Role.CALLER else Who(key.role, key.caller, csrf, signed_in=True)

    def csrf(self, request: Request) -> str:
        """The token of whoever looks, signed in or not; nothing when they have none yet."""
        return self._read(request).get("csrf", "")

    def give(self, request: Request, response: Response, *, key_id: str = "", csrf: str = "") -> None:
        """A session for whoever gets this response."""
        value = self._signer.dumps({"id": key_id, "csrf": csrf or secrets.token_urlsafe(24)})
        response.set_cookie(
            COOKIE,
            value if isinstance(value, str) else value.decode(),
            max_age=self._seconds,
            path=PATH,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def _read(self, request: Request) -> Mapping[str, str]:
        try:
            said = self._signer.loads(request.cookies.get(COOKIE, ""), max_age=self._seconds)
        except BadSignature:
            return {}
        return said if isinstance(said, dict) else {}


class Doorkeeper:
    """Looks at keys that people type in, and makes whoever types wrong ones wait.

    A key is 256 random bits and cannot be guessed; the wait keeps logs and processor free of those who try.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._failures: TTLCache[str, int] = TTLCache(maxsize=_MOST_ADDRESSES, ttl=_WAIT_S)

    def wait_s(self, address: str) -> int:
        """How long an address has to wait until it may try again, in seconds; 0: not at all."""
        return int(_WAIT_S) if self._failures.get(address, 0) >= _MOST_FAILURES else 0

    def admit(self, key: str, address: str) -> StoredKey | None:
        """The key as it is kept, if it opens the console. Looked up by digest: the time says nothing."""
        stored = self._keys.stored(key)
        if stored is None or stored.role is Role.CALLER:
            self._failures[address] = self._failures.get(address, 0) + 1
            return None
        self._failures.pop(address, None)
        return stored


def is_ours(request: Request, *, loopback_only: bool) -> bool:
    """Whether a request was made by our own page, or by hand, and under a name that is ours.

    `loopback_only`: nobody needs to sign in. What came through a proxy is of another machine then, whatever its name.
    """
    if loopback_only and not (_named(request) in _LOOPBACK and _PROXIED.isdisjoint(request.headers.keys())):
        return False
    if request.method in {"GET", "HEAD"}:
        return True
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


def _named(request: Request) -> str:
    """The name that a request came under, by its own word: `request.url` has the server's where that is no name."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def repeats(form: Mapping[str, str], csrf: str) -> bool:
    """Whether a form repeats the session's token."""
    return bool(csrf) and secrets.compare_digest(form.get("csrf", "").encode(), csrf.encode())


def inside(where: str) -> str:
    """A page of the console to go on to after signing in; the overview where another place was named."""
    known = where == PATH or (where.startswith(f"{PATH}/") and not set(where) & set("\\\r\n\t") and "//" not in where)
    return where if known else PATH
