"""Clients in environments of their own (`make clients`): their suites run there, by their own pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Ran:
    """What a suite's tests came to, by name, and what it printed."""

    passed: frozenset[str]
    failed: frozenset[str]
    output: str


def python_of(name: str) -> Path:
    """The interpreter of an environment; without it the test is skipped, or fails where nothing may be."""
    python = Path(sys.prefix) / "clients" / name / "bin" / "python"
    if not python.exists():
        reason = f"the environment of the client {name} is not there: make clients"
        if os.environ.get("CAUCE_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


def run_suite(name: str, suite: str, folder: Path, **environ: str) -> Ran:
    """Run `suites/SUITE.py` in the environment NAME."""
    report = folder / f"{suite}.xml"
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        str(python_of(name)), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"),
        "--noconftest", f"--rootdir={SUITES}", f"--junitxml={report}",
        *(["--asyncio-mode=auto"] if name == "langchain" else []), str(SUITES / f"{suite}.py"),
    ]  # fmt: skip
    kept = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env={**kept, **environ}, capture_output=True, check=False, text=True, timeout=300
    )
    assert report.exists(), done.stdout + done.stderr
    passed, failed = set(), set()
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314 - written by the line above
        case_name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        results = {child.tag for child in case}
        if results & {"failure", "error"}:
            failed.add(case_name)
        elif "skipped" not in results:
            passed.add(case_name)
    return Ran(frozenset(passed), frozenset(failed), done.stdout[-6000:])
