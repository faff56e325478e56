"""`cauce serve`: run the gateway."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
import signal
import socket
from pathlib import Path

import click
import uvicorn

from gateway.app import Gateway, build_gateway, curl_line
from gateway.errors import ConfigError
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure, fields
from gateway.types import Model, Zone
from gateway.upstreams.discover import discover
from gateway.wire.protocol import BoundedProtocol

_log = logging.getLogger("cauce")


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy file; over the one in cauce.yaml.")
@click.option("--host", help="Address to listen on; anything but loopback needs a key first.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any that is free.")
def command(config: Path | None, policy: Path | None, host: str | None, port: int | None) -> None:
    """Run the gateway."""
    settings = load_settings(config)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=changes)
    configure(settings.log_level)
    with _bound(settings) as door:
        settings = settings.model_copy(update={"port": door.getsockname()[1]})
        models = configured_models(settings)
        gateway = build_gateway(settings, models, policy_path=policy)
        _greet(gateway, settings)
        run(gateway, settings, door)


def _bound(settings: Settings) -> socket.socket:
    """The address, taken before anything is promised there; raises `ConfigError`. Nobody is let in yet."""
    host = settings.host.strip("[]")
    door = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, settings.port))
    except OSError as error:
        door.close()
        hint = (
            "another program listens there; choose another port with --port"
            if error.errno == errno.EADDRINUSE
            else error
        )
        raise ConfigError(f"cannot listen on {settings.host}, port {settings.port}: {hint}") from error
    return door


def configured_models(settings: Settings) -> tuple[Model, ...]:
    """The models of cauce.yaml; without any, what this machine has: local servers, cloud keys, the embedded model."""
    if settings.models:
        return settings.catalogue()
    if not settings.discover:
        raise ConfigError("models: none are configured, and discover is off: name at least one model in cauce.yaml")
    return tuple(asyncio.run(discover(os.environ, own_port=settings.port)))


def _greet(gateway: Gateway, settings: Settings) -> None:
    parts = gateway.parts
    for model in parts.models.values():
        click.echo(f"  {model.kind}  {model.id}: {model.model} ({model.provider}, {model.zone.label})")
        if model.notice:
            click.echo(f"       {model.notice}")
    if all(model.zone is Zone.PREMISES for model in parts.models.values()):
        click.echo("  no model off the premises: the ladder is local. Set OPENAI_API_KEY, say, to add one.")
    policy = parts.policy.current()
    click.echo(f"  policy {policy.name}@{policy.revision}, followed in {parts.policy.file}")
    click.echo(
        f"\nCauce answers on http://{settings.host}:{settings.port}/v1 (console: http://{settings.host}:{settings.port}/console)"
    )
    click.echo(f"Try it:\n  {curl_line(settings.port)}\n")


def run(gateway: Gateway, settings: Settings, door: socket.socket) -> None:
    """Serve until told to stop; then finish what is in flight, for half a minute at the most."""
    limits = settings.limits
    clocks = {"header_timeout_s": limits.header_timeout_s, "unread_timeout_s": limits.unread_timeout_s}
    protocol = type("Protocol", (BoundedProtocol,), clocks)
    server = uvicorn.Server(
        uvicorn.Config(
            gateway,
            http=protocol,
            ws="none",
            loop="uvloop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=2048,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=30,
        )
    )
    _settle_memory()
    # uvicorn raises the signal again when it has stopped: a stop that went well ends with 0, not with the signal.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        server.run(sockets=[door])
    except KeyboardInterrupt:
        _log.info("stopped", extra=fields(port=settings.port))


def _settle_memory() -> None:
    """What was built at the start stays to the end: the collector need not look at it again, and what was only
    needed to build it goes back to the system (glibc keeps it otherwise, about 10 MB)."""
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
