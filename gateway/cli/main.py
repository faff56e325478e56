"""`cauce`: one module a command, loaded when it is asked for, so that `cauce --help` is quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

# Before numpy is imported: matrices of one query are small, and a thread for each core costs memory and time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from gateway import __version__
from gateway.errors import CauceError, ConfigError

# command: what `cauce --help` says of it. The module is `gateway.cli.COMMAND` and holds `command`.
COMMANDS = {
    "serve": "Run the gateway.",
    "explain": "Signals, rule, route and ladder for a query; no call is made.",
    "check": "Check policies: references, dead rules, proof of each guarantee, cases.",
    "simulate": "What a policy would have done with the requests of the past.",
    "policy": "What is in force and was: history, diff, apply, rollback.",
    "report": "What was spent and saved.",
    "prices": "What a token costs: list, diff, and price again what was booked.",
    "reconcile": "A provider's invoice against the ledger, differences explained.",
    "audit": "What class of data went where: verify, anchor, export, erase.",
    "keys": "Callers' keys and limits: create, list, revoke, limit, limits.",
    "models": "The models; `models pull NAME` fetches weights.",
    "router": "The router model: train, evaluate, calibrate.",
    "privacy": "Evaluate the privacy scan.",
}


class _Lazy(click.Group):
    """A group that imports a command when it is run, and shows our errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gateway.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"cauce: {error.message}", err=True)
            ctx.exit(2)
        except CauceError as error:
            click.echo(f"cauce: {error.message}", err=True)
            ctx.exit(1)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cauce")
def main() -> None:
    """Cauce: each query to the smallest model that answers it well; personal data only where it may go."""


if __name__ == "__main__":
    sys.exit(main())
