"""`cauce serve`: run the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
from pathlib import Path

import click

from gateway.app import build_gateway, curl_line
from gateway.cli.serving import run, run_workers
from gateway.errors import ConfigError
from gateway.ledger.store import open_engine
from gateway.life import Gateway
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure
from gateway.types import Model, Zone
from gateway.upstreams.discover import discover


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--policy", type=click.Path(path_type=Path), help="Policy file; over the one in cauce.yaml.")
@click.option("--host", help="Address to listen on; anything but loopback needs a key first.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any that is free.")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes that share the port; SIGHUP replaces them in turn."
)
def command(config: Path | None, policy: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the gateway."""
    settings = load_settings(config)
    given = {"host": host, "port": port, "workers": workers}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = settings.model_copy(update=changes)
    configure(settings.log_level)
    _no_core_dumps()
    with _bound(settings) as door:
        settings = settings.model_copy(update={"port": door.getsockname()[1]})
        models = configured_models(settings)
        if settings.workers > 1:
            open_engine(settings.ledger).dispose()  # its schema is made once, before there are several
            door.set_inheritable(True)
            _where(settings)
            run_workers(with_shared_sessions(settings), models, policy, door)
            return
        gateway = build_gateway(settings, models, policy_path=policy)
        _greet(gateway, settings)
        run(gateway, settings, door)


def with_shared_sessions(settings: Settings) -> Settings:
    """The same, with a secret that all workers sign sessions of the console with, where the operator gave none."""
    if settings.console.session_secret:
        return settings
    console = settings.console.model_copy(update={"session_secret": secrets.token_urlsafe(32)})
    return settings.model_copy(update={"console": console})


def _no_core_dumps() -> None:
    """A process that crashes leaves no picture of its memory, which holds texts and keys. Workers inherit it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


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
    _where(settings)


def _where(settings: Settings) -> None:
    if settings.workers > 1:
        click.echo(f"  {settings.workers} processes; SIGHUP replaces them one by one")
    click.echo(
        f"\nCauce answers on http://{settings.host}:{settings.port}/v1 (console: http://{settings.host}:{settings.port}/console)"
    )
    click.echo(f"Try it:\n  {curl_line(settings.port)}\n")
