"""IBM Cloud's tokens: watsonx takes no API key, but a token that IAM gives for it, good for an hour."""

from __future__ import annotations

import asyncio
import time
from typing import Final
from urllib.parse import urlencode

import orjson

from gateway.errors import UpstreamDenied
from gateway.types import Model
from gateway.upstreams.failures import broken
from gateway.upstreams.pool import TRANSPORT_ERRORS, Pool, read_whole, refused, translated

IAM_URL: Final = "https://iam.cloud.ibm.com/identity/token"
_EARLY_S: Final = 60.0  # before its end a token is asked for anew
_NOT_THIS_KEY: Final = frozenset({400, 401, 403})
_HEADERS: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


class IamToken:
    """The token of one model's key; those who come while it is fetched wait for the same one."""

    def __init__(self, model: Model, pool: Pool) -> None:
        self._model = model
        self._pool = pool
        self._url = model.options.get("iam_url", IAM_URL)
        self._lock = asyncio.Lock()
        self._token = ""
        self._good_until = 0.0

    async def get(self) -> str:
        """The token; raises `UpstreamError`."""
        if time.monotonic() >= self._good_until:
            async with self._lock:
                if time.monotonic() >= self._good_until:
                    await self._fetch()
        return self._token

    def forget(self) -> None:
        """The provider did not take it: ask for another before the next call."""
        self._good_until = 0.0

    async def _fetch(self) -> None:
        grant = "urn:ibm:params:oauth:grant-type:apikey"
        data = urlencode({"grant_type": grant, "apikey": self._model.api_key}).encode()
        name, connect_s = self._model.id, self._model.timeouts.connect_s
        try:
            async with asyncio.timeout(self._model.timeouts.first_token_s):
                response = await self._pool.post(self._url, data=data, headers=_HEADERS, connect_s=connect_s)
                try:
                    if response.status in _NOT_THIS_KEY:
                        raise UpstreamDenied(f"{name}: IBM Cloud does not take its api_key", upstream=name)
                    if response.status != 200:
                        raise await refused(self._model, response)
                    answer = orjson.loads(await read_whole(self._model, response))
                finally:
                    response.close()
            self._token, lives_s = str(answer["access_token"]), float(answer["expires_in"])
        except TRANSPORT_ERRORS as error:
            raise translated(self._model, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise broken(self._model, f"got something that is no token from {self._url}") from error
        self._good_until = time.monotonic() + lives_s - _EARLY_S
