"""What the tests of the adapters share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

_abroad: list[object] = []


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "::1"}:
            _abroad.append(address)
    elif event == "socket.getaddrinfo" and arguments[0] not in {None, "localhost", "127.0.0.1", "::1"}:
        _abroad.append(arguments[0])


@pytest.fixture(scope="session")
def _lookout() -> None:
    """An audit hook stays for good, so there is one for the session."""
    sys.addaudithook(_look)


@pytest.fixture
def at_home(_lookout: None, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing leaves loopback, and nothing is printed, by us or by the libraries that we use."""
    _abroad.clear()
    yield
    assert not _abroad
    assert capfd.readouterr() == ("", "")
