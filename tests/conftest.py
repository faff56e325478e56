"""What the tests share: programs that some of them need, and the running gateway."""

from __future__ import annotations

import os
import shutil

import pytest

_SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
# With this set, as CI does, a test whose program is missing fails instead of being skipped.
_REQUIRE_ALL = os.environ.get("CAUCE_REQUIRE_ALL") == "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        missing = [program for program in marker.args if shutil.which(program, path=_SBIN) is None]
        if missing and _REQUIRE_ALL:
            pytest.fail(f"{', '.join(missing)} must be installed: CAUCE_REQUIRE_ALL is set")
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed")
