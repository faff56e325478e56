"""The gateway as users run it: `cauce serve` in a process of its own, on a free port, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_START_S = 120.0  # while a whole suite runs beside it


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Running:
    """A gateway that answers."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL is set to."""
        return f"{self.url}/v1"

    @property
    def output(self) -> str:
        """All that it has printed, log included."""
        return (self.folder / "output.log").read_text(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(40)


@contextlib.contextmanager
def running(
    folder: Path,
    config: str,
    *,
    policy: str | None = None,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Running]:
    """Run `cauce serve` with this cauce.yaml (and this policy, else the default one) until the block ends.

    The folder keeps cauce.db, so that a second gateway in it goes on where the first one ended. Keys of the surrounding
    environment are not passed on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cauce.yaml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", "cauce.yaml"]
    if policy is not None:
        (folder / "policy.yaml").write_text(policy, encoding="utf-8")
        command += ["--policy", "policy.yaml"]
    chosen = port or free_port()
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_proxy", "_PROXY"))}
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(
            [*command, "--port", str(chosen)], cwd=folder, env={**kept, **(environ or {})}, stdout=output, stderr=output
        )
    gateway = Running(chosen, folder, process)
    try:
        _wait(gateway)
        yield gateway
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(gateway: Running) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if gateway.process.poll() is not None:
            raise AssertionError(f"cauce serve ended with {gateway.process.returncode}:\n{gateway.output}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{gateway.url}/readyz", timeout=2).close()  # noqa: S310 - our own address
            return
        time.sleep(0.1)
    raise AssertionError(f"cauce serve did not answer in {_START_S:g} s:\n{gateway.output}")
