"""Servers that some tests need, on loopback, in a folder of their own: Redis and Postgres."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.running import free_port

_START_S = 60.0


@dataclass
class Server:
    """One that answers; it can be ended and started again at the same port."""

    command: list[str]
    port: int
    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = _started(self.command, self.port)

    def crash(self) -> None:
        """End a Postgres at once, with every connection to it: whoever started it for us passes on no such signal."""
        folder = Path(self.command[self.command.index("-D") + 1])
        os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        self.process.wait(30)


def _started(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"{command[0]} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return process
        time.sleep(0.05)
    raise AssertionError(f"{command[0]} did not answer")


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """An empty Redis that forgets everything when it ends."""
    port = free_port()
    program = shutil.which("redis-server") or "redis-server"
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = Server(command, port, f"redis://127.0.0.1:{port}/0", _started(command, port))
    try:
        yield server
    finally:
        server.kill()


def postgres_programs() -> Path | None:
    """Debian keeps them beside the path, in a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    return Path(program).parent if program else None


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """A new cluster. It refuses to run as root, who hands it to `nobody`."""
    programs = postgres_programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="cauce-postgres-"))
    as_nobody: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
        as_nobody = ["runuser", "-u", "nobody", "--"]
    try:
        made = [str(programs / "initdb"), "-D", f"{folder}/data", "-U", "cauce", "--auth=trust", "-N", "-E", "UTF8"]
        subprocess.run([*as_nobody, *made], check=True, capture_output=True, cwd=folder)
        port = free_port()
        fast = [f"-c{name}" for name in ("fsync=off", "full_page_writes=off", "max_connections=50")]
        where = ["-D", f"{folder}/data", "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
        command = [*as_nobody, str(programs / "postgres"), *where, *fast]
        process = _started(command, port)
        server = Server(command, port, f"postgresql://cauce@127.0.0.1:{port}/postgres", process)
        asked = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "60"]
        try:
            end = time.monotonic() + _START_S
            while subprocess.run(asked, check=False).returncode:  # it listens before it is ready
                assert time.monotonic() < end, "postgres does not become ready"
                time.sleep(0.05)
            yield server
        finally:
            server.process.terminate()  # runuser passes it on
            server.process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
