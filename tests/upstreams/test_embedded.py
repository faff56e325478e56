"""The real model inside the product, behind a real gateway: its weights are fetched before the tests run."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.upstreams.weights import SMOLLM2, find
from tests.running import Running, running

ONCE = "retries: {most: 0}, breaker: {failures: 0}"  # each failure by itself
DEMO = f"{{provider: embedded, model: smollm2-135m-instruct, zone: premises, kind: slm, {ONCE}}}"
CONFIG = f"""
models:
  demo: {DEMO}
  lost: {{provider: embedded, model: nowhere/lost.gguf, zone: premises, kind: llm, {ONCE}}}
  broken: {{provider: embedded, model: broken.gguf, zone: premises, kind: llm, {ONCE}}}
cache: {{enabled: false}}
"""
FRANCE = "What is the capital of France?"
LONG: dict[str, Any] = {"max_tokens": 1500, "ignore_eos": True}  # far from its end whenever something happens to it


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    missing = ""
    if importlib.util.find_spec("xllamacpp") is None:
        missing = "xllamacpp is not installed: pip install 'cauce[embedded]'"
    elif find(SMOLLM2.name) is None:
        missing = f"the weights are not here: cauce models pull {SMOLLM2.name}"
    if missing and os.environ.get("CAUCE_REQUIRE_ALL") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="module")
def gateway(_weights: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "broken.gguf").write_bytes(b"GGUF, but only in its name" * 100)
    with running(folder, CONFIG) as started:
        yield started


def body(text: str = FRANCE, **changes: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 24, **changes}


def ask(gateway: Running, **changes: Any) -> httpx.Response:
    return httpx.post(f"{gateway.base_url}/chat/completions", json=body(**changes), timeout=60, trust_env=False)


def streaming(gateway: Running, **changes: Any) -> Any:
    """A streamed request; its lines are read by whoever opens it."""
    asked = body(stream=True, **changes)
    return httpx.stream("POST", f"{gateway.base_url}/chat/completions", json=asked, timeout=60, trust_env=False)


def text(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    said: str = reply.json()["choices"][0]["message"]["content"]
    return said


def error(reply: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = reply.json()["error"]
    return found


def workers(gateway: Running) -> list[int]:
    """The processes of its models."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = folder.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if parent == gateway.process.pid and b"embedded_worker" in command:
            found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait(until: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_it_names_the_capital_of_france_to_callers_who_set_nothing(gateway: Running) -> None:
    answers = [text(ask(gateway, seed=seed, max_tokens=10)) for seed in range(8)]
    assert sum("Paris" in answer for answer in answers) >= 7, answers


def test_a_stream_brings_the_same_answer_and_its_end(gateway: Running) -> None:
    with streaming(gateway, seed=1) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [orjson.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert len(pieces) > 3
    assert "".join(pieces) == text(ask(gateway, seed=1))


def test_a_callers_own_temperature_counts(gateway: Running) -> None:
    assert len({text(ask(gateway, temperature=0, seed=seed)) for seed in (1, 2, 3)}) == 1
    assert len({text(ask(gateway, temperature=1.8, top_p=1, seed=seed)) for seed in (1, 2, 3)}) == 3


def test_a_callers_own_system_message_counts(gateway: Running) -> None:
    def tokens(*messages: dict[str, str]) -> int:
        reply = ask(gateway, messages=list(messages), max_tokens=1)
        assert reply.status_code == 200, reply.text
        used: int = reply.json()["usage"]["prompt_tokens"]
        return used

    user = {"role": "user", "content": FRANCE}
    assert tokens({"role": "system", "content": "Short."}, user) < tokens(user)


def test_every_answer_says_that_it_is_a_demonstration(gateway: Running) -> None:
    reply = ask(gateway, max_tokens=1)
    assert reply.headers["x-cauce-notice"] == SMOLLM2.notice
    assert reply.headers["x-cauce-zone"] == "premises"
    assert SMOLLM2.notice in gateway.output


def test_it_is_not_asked_to_use_tools(gateway: Running) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    reply = ask(gateway, tools=[tool])
    assert (reply.status_code, error(reply)["code"]) == (503, "no_allowed_model")
    assert "demo: it does not take tools" in error(reply)["message"]


def test_weights_that_are_not_there_are_named_at_the_start_and_to_the_caller(gateway: Running) -> None:
    reply = ask(gateway, model="lost")
    assert (reply.status_code, error(reply)["code"]) == (502, "upstream_unreachable")
    assert "there is no file nowhere/lost.gguf: models.lost.model must be" in error(reply)["message"]
    wait(lambda: "there is no file nowhere/lost.gguf" in gateway.output)


def test_weights_that_cannot_be_loaded_are_an_upstream_error_with_the_reason(gateway: Running) -> None:
    for _ in range(3):  # at once, and while the next try is put off
        reply = ask(gateway, model="broken")
        assert reply.status_code in {502, 503}
        assert "llama.cpp could not load broken.gguf" in error(reply)["message"]
    assert reply.headers["retry-after"]
    assert text(ask(gateway, max_tokens=1))


def test_more_calls_than_it_can_take_wait_a_little_and_the_rest_are_told_when_to_come_back(gateway: Running) -> None:
    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(ask, gateway, max_tokens=20, ignore_eos=True) for _ in range(16)]
        replies = [future.result() for future in asked]
    served = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code == 503]
    assert len(served) + len(refused) == 16
    assert len(served) >= 2 + 4 * 2
    assert refused
    for reply in refused:
        assert error(reply)["code"] == "upstream_overloaded"
        assert reply.headers["retry-after"] == "1"


def test_when_its_process_is_killed_its_answers_fail_and_a_new_one_answers_the_next(gateway: Running) -> None:
    text(ask(gateway, max_tokens=1))
    (worker,) = workers(gateway)
    with ThreadPoolExecutor(1) as threads:
        whole: Future[httpx.Response] = threads.submit(ask, gateway, **LONG)
        with streaming(gateway, **LONG) as reply:
            lines = []
            for line in reply.iter_lines():
                lines.append(line)
                if len(lines) == 40:  # both are being answered by now
                    assert not whole.done()
                    os.kill(worker, signal.SIGKILL)
        broken_off = whole.result(20)
    assert reply.status_code == 200
    assert "data: [DONE]" not in lines
    assert "event: error" in lines
    streamed = orjson.loads(lines[lines.index("event: error") + 1].removeprefix("data: "))["error"]
    assert streamed["type"] == "upstream_error"
    assert broken_off.status_code in {502, 503}
    assert error(broken_off)["type"] == "upstream_error"
    assert set(error(broken_off)) == {"message", "type", "param", "code", "request_id"}

    assert text(ask(gateway, max_tokens=4))
    assert worker not in workers(gateway)
    assert len(workers(gateway)) == 1


def test_its_process_ends_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, f"models:\n  demo: {DEMO}\n") as gateway:
        text(ask(gateway, max_tokens=1))
        (worker,) = workers(gateway)
        gateway.stop(signal.SIGKILL)
        wait(lambda: not alive(worker))


def test_a_stop_of_the_whole_group_lets_an_answer_end_and_leaves_no_process(tmp_path: Path) -> None:
    with running(tmp_path, f"models:\n  demo: {DEMO}\n") as gateway:
        text(ask(gateway, max_tokens=1))
        (worker,) = workers(gateway)
        with streaming(gateway, max_tokens=150, ignore_eos=True) as reply:
            lines = reply.iter_lines()
            next(lines)
            os.kill(worker, signal.SIGTERM)
            gateway.process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert gateway.process.wait(20) == 0
        wait(lambda: not alive(worker))
