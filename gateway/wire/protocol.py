"""uvicorn's HTTP protocol with three limits that it lacks.

Headers that do not end in time, or not in size, are answered in OpenAI's error shape, and the connection is closed. A
client that does not read its answer is left: it would hold an upstream call without end. Tied to uvicorn 0.54's
`HttpToolsProtocol`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import BadRequest, BodyTimeout, CauceError
from gateway.settings import LimitSettings
from gateway.telemetry.logs import fields
from gateway.wire.endpoint import new_request_id
from gateway.wire.errors import error_body

_log = logging.getLogger("cauce.request")
_MAX_HEADER_BYTES = 64 * 1024
_LINGER_S: Final = 2.0
_LEAVE_S: Final = 0.5  # for a request that is on its way when the gateway stops
_REASONS = {400: b"Bad Request", 408: b"Request Timeout"}


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Its times are those of `limits`, which the server's configuration brings along."""

    def __init__(self, config: Any, *more: Any, **named: Any) -> None:
        super().__init__(config, *more, **named)
        limits: LimitSettings = config.limits
        self.header_timeout_s = limits.header_timeout_s
        self.unread_timeout_s = limits.unread_timeout_s
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that never says anything is closed as an idle one."""
        self._in_headers = False
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.header_timeout_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clocks with the connection."""
        self._stop_clock()
        self._stop_waiting()
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
        if self._leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Headers that came in one piece, as nearly all do, start no clock."""
        if self._refused:
            return
        super().data_received(data)
        if not self._in_headers or self._refused or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refuse(BadRequest(f"the headers are larger than {_MAX_HEADER_BYTES // 1024} kB"))
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def shutdown(self) -> None:
        """The gateway stops. A client that is about to ask on a kept connection still may, for a moment: it would have
        no answer otherwise, and could not know whether it was heard."""
        self._leaving = True
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self._in_headers:
            self.loop.call_later(_LEAVE_S, self._leave)
        else:
            super().shutdown()

    def _leave(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered, or not at all."""
        super().pause_writing()
        self._stop_waiting()
        self._unread = self.loop.call_later(self.unread_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads."""
        self._stop_waiting()
        super().resume_writing()

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP is told so in the same shape as every other error."""
        self._refuse(BadRequest("this is not a valid HTTP request"))

    def _too_slow(self) -> None:
        self._refuse(BodyTimeout(f"the headers were not complete after {self.header_timeout_s:g} s"))

    def _refuse(self, error: CauceError) -> None:
        """Answer, then close: at once over a request in flight, else when what is still being sent has been read."""
        self._stop_clock()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        request_id = new_request_id()
        _log.info("refused before it was a request", extra=fields(request_id=request_id, code=error.code))
        body = error_body(error, request_id)
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\n" % (
            error.status,
            _REASONS[error.status],
        )
        ids = b"x-request-id: %b\r\nx-cauce-request-id: %b\r\n" % (request_id.encode(), request_id.encode())
        self.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head, ids, len(body), body))
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write_eof()
            self.timeout_keep_alive_task = self.loop.call_later(_LINGER_S, self.timeout_keep_alive_handler)
        else:
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
