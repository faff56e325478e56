"""Loopback servers in a thread with an event loop of its own: for tests that talk to a gateway in another process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.upstreams.loopback import Handler, Server, serving


@contextlib.contextmanager
def served(handler: Handler) -> Iterator[Server]:
    """A server that answers with this handler while the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="upstream")
    thread.start()
    server = serving(handler)
    try:
        running = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        try:
            yield running
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
