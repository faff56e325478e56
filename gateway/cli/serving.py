"""The processes of `cauce serve`: one, or several on one listening socket under uvicorn's supervisor.

SIGTERM ends it in order: no new connections, `connection: close` on what is answered from now on, streams to their end
within `limits.shutdown_s`, the ledger flushed, exit 0. With several processes SIGHUP replaces them one by one: the
parent holds the socket, so a connection that nobody has taken yet waits for the next process.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from gateway.app import build_gateway
from gateway.errors import ConfigError
from gateway.life import Gateway
from gateway.settings import Settings
from gateway.telemetry.logs import configure, fields
from gateway.telemetry.metrics import SHARED_FOLDER
from gateway.types import Model
from gateway.wire.protocol import BoundedProtocol

_START_S = 120  # a worker loads its models before it answers, on a busy machine slowly
# Python's 700 would look several times a request, and find nothing: requests leave few cycles behind.
_COLLECT_AFTER = (20_000, 10, 10)
_log = logging.getLogger("cauce")


class _Config(uvicorn.Config):
    """uvicorn's, with the limits that the protocol reads."""

    def __init__(self, app: Any, settings: Settings, **more: Any) -> None:
        self.limits = settings.limits
        super().__init__(
            app,
            http=BoundedProtocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=2048,
            timeout_keep_alive=75,
            timeout_worker_healthcheck=_START_S,
            timeout_graceful_shutdown=max(1, round(settings.limits.shutdown_s)),
            **more,
        )


def run(gateway: Gateway, settings: Settings, door: socket.socket) -> None:
    """Serve in this process until told to stop."""
    server = uvicorn.Server(_Config(gateway, settings))
    _settle_memory()
    # uvicorn raises the signal again when it has stopped: a stop that went well ends with 0, not with the signal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        server.run(sockets=[door])
    except KeyboardInterrupt:
        _log.info("stopped", extra=fields(port=settings.port))


def run_workers(settings: Settings, models: tuple[Model, ...], policy: Path | None, door: socket.socket) -> None:
    """Serve in `workers` processes until told to stop; one that dies is replaced. Raises `ConfigError`.

    Their metrics meet in a folder, as prometheus_client has it for several processes.
    """
    build = functools.partial(_worker, settings, models, policy)
    with tempfile.TemporaryDirectory(prefix="cauce-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder  # read by prometheus_client in the workers, when it is imported
        supervisor = Multiprocess(_Config(build, settings, factory=True, workers=settings.workers), [door])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise ConfigError("the worker processes could not start; the line above says why")


def _worker(settings: Settings, models: tuple[Model, ...], policy: Path | None) -> Gateway:
    """The gateway of one worker; ends the process, and with it the supervisor, when it cannot be built."""
    configure(settings.log_level)
    try:
        gateway = build_gateway(settings, models, policy_path=policy)
    except ConfigError as error:
        click.echo(f"cauce: {error.message}", err=True)
        sys.exit(STARTUP_FAILURE)
    _settle_memory()
    return gateway


def _settle_memory() -> None:
    """What was built at the start stays to the end: the collector need not look at it again, and what was only
    needed to build it goes back to the system (glibc keeps it otherwise, about 10 MB)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
