"""uvicorn's HTTP protocol with two limits that it lacks: headers that do not end in time, or not in size.

Both are answered in OpenAI's error shape and the connection is closed. Tied to uvicorn 0.54's `HttpToolsProtocol`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import BadRequest, BodyTimeout, CauceError
from gateway.wire.errors import error_body

_MAX_HEADER_BYTES = 64 * 1024
_REASONS = {400: b"Bad Request", 408: b"Request Timeout"}


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `header_timeout_s` is set by the composition root on a subclass."""

    header_timeout_s: float = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that never says anything is closed as an idle one."""
        self._in_headers = False
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.header_timeout_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock with the connection."""
        self._stop_clock()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are whole."""
        self._in_headers = False
        self._stop_clock()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Headers that came in one piece, as nearly all do, start no clock."""
        super().data_received(data)
        if not self._in_headers or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refuse(BadRequest(f"the headers are larger than {_MAX_HEADER_BYTES // 1024} kB"))
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is told so in the same shape as every other error."""
        self._refuse(BadRequest("this is not a valid HTTP request"))

    def _too_slow(self) -> None:
        self._refuse(BodyTimeout(f"the headers were not complete after {self.header_timeout_s:g} s"))

    def _refuse(self, error: CauceError) -> None:
        self._stop_clock()
        if self.transport.is_closing():
            return
        body = error_body(error, "")
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (error.status, _REASONS[error.status], len(body), body)
        )
        self.transport.close()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
