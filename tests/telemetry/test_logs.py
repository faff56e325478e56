from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from gateway.telemetry.logs import JsonLines, fields

CANARY = "llevo 31 días con ansiedad, 12345678Z"


def line(
    name: str, message: str, *args: object, error: BaseException | None = None, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    record = logging.getLogger(name).makeRecord(
        name, logging.ERROR, "lib.py", 7, message, args, (type(error), error, None) if error else None, "read", extra
    )
    written = JsonLines().format(record)
    assert "\n" not in written
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def choke() -> None:
    error = ValueError(CANARY)
    error.add_note(CANARY)
    raise error from KeyError(CANARY)


def test_a_line_is_one_json_object_with_its_fields() -> None:
    said = line("cauce.request", "%s of %d", "ok", 2, extra=fields(model="small", milliseconds=3))
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "error", "logger": "cauce.request", "message": "ok of 2", "model": "small", "milliseconds": 3
    }  # fmt: skip


def test_an_exception_is_its_type_and_places_never_its_message() -> None:
    with pytest.raises(ValueError) as caught:
        choke()
    said = line("cauce", "a request ended in a fault", error=caught.value)
    assert said["error"] == "ValueError"
    assert said["at"][-1].endswith(" choke")
    assert CANARY not in json.dumps(said, ensure_ascii=False)


@pytest.mark.parametrize(
    "name", ["asyncio", "aiohttp.client", "sqlalchemy.pool", "LiteLLM", "py.warnings", "root", "causes"]
)
def test_a_librarys_message_is_not_repeated_but_its_place_is(name: str) -> None:
    said = line(name, f"could not send {CANARY}: %s", CANARY)
    assert CANARY not in json.dumps(said, ensure_ascii=False)
    assert said["logger"] == name
    assert said["from"] == "lib.py:7 read"


PROCESS = f"""
import asyncio, gc, logging, sys, threading, warnings
from gateway.telemetry.logs import configure

configure("info")
text = {CANARY!r}

class Odd:
    def __del__(self):
        raise ValueError(text)

def fail():
    raise ValueError(text)

async def nobody_asks():
    async def fails():
        raise ValueError(text)
    task = asyncio.ensure_future(fails())
    await asyncio.sleep(0)
    del task
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
    gc.collect()

warnings.warn(text)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Odd()
asyncio.run(nobody_asks())
logging.getLogger("httpx").error("%s", text)
logging.getLogger("cauce").error("two %s %s", text)
logging.getLogger("cauce").info("\\ud800")
fail()
"""


def test_whatever_happens_in_a_process_its_log_is_json_lines_without_content() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    lines = [json.loads(written) for written in done.stderr.splitlines()]
    assert CANARY not in done.stderr + done.stdout
    assert "12345678Z" not in done.stderr + done.stdout
    assert [said.get("error") for said in lines].count("ValueError") == 5
    assert {"py.warnings", "asyncio", "httpx", "cauce"} == {said["logger"] for said in lines}
    assert done.returncode == 1
