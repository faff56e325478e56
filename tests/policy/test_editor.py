"""What an editor shows of a policy: the YAML language server that editors run, with the schema that a policy names."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.policy.load import SHIPPED
from gateway.policy.vocabulary import CONVERSATION, DATA_KINDS, SIGNALS
from tests.policy.builders import DEFAULT_TEXT

NODE = Path(__file__).parent / "node"
SERVER = NODE / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
pytestmark = pytest.mark.needs("node", "npm")

COMMENT = "# yaml-language-server: $schema=schema.json\n"
SETTINGS = {"yaml": {"validate": True, "completion": True, "hover": True, "schemaStore": {"enable": False}}}
_MOST_S = 180.0  # a server that says nothing is ended, and the test with it
Message = dict[str, Any]


class Editor:
    """One end of the language server protocol over a pipe: enough to open files and ask for completions."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._number = 0
        uri = folder.as_uri()
        self.ask(
            "initialize", {"processId": None, "rootUri": uri, "capabilities": {"workspace": {"configuration": True}}}
        )
        self._send({"method": "initialized", "params": {}})

    def open(self, text: str) -> list[str]:
        """A new file in the folder; what is underlined in it."""
        self._number += 1
        uri = self._uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        published = self._until(
            lambda m: m.get("method") == "textDocument/publishDiagnostics" and m["params"]["uri"] == uri
        )
        return [diagnostic["message"] for diagnostic in published["params"]["diagnostics"]]

    def _uri(self) -> str:
        return (self._folder / f"policy-{self._number}.yaml").as_uri()

    def complete(self, text: str) -> set[str]:
        """What is offered at the place that `|` marks."""
        before, _, after = text.partition("|")
        self.open(before + after)
        position = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
        asked = {"textDocument": {"uri": self._uri()}, "position": position}
        offered = self.ask("textDocument/completion", asked)["result"]
        return {item["label"].strip('"') for item in offered["items"]}

    def ask(self, method: str, params: Message) -> Message:
        """A request and its answer."""
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        return self._until(lambda m: m.get("id") == number and "method" not in m)

    def _until(self, wanted: Callable[[Message], bool]) -> Message:
        while not wanted(message := self._receive()):
            if message.get("method") == "workspace/configuration":
                sections = [item.get("section") for item in message["params"]["items"]]
                self._send({"id": message["id"], "result": [SETTINGS.get(section) for section in sections]})
            elif "id" in message and "method" in message:
                self._send({"id": message["id"], "result": None})
        return message

    def _send(self, message: Message) -> None:
        assert self._process.stdin is not None
        body = orjson.dumps({"jsonrpc": "2.0", **message})
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> Message:
        assert self._process.stdout is not None
        size = 0
        while (line := self._process.stdout.readline().strip()) or not size:
            assert self._process.poll() is None, "the language server has ended"
            if line.lower().startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        message: Message = orjson.loads(self._process.stdout.read(size))
        return message


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    if not SERVER.exists():
        _install()
    folder = tmp_path_factory.mktemp("policies")
    shutil.copy(SHIPPED / "schema.json", folder)
    process = subprocess.Popen(
        ["node", str(SERVER), "--stdio"],
        cwd=folder, env={"PATH": os.environ["PATH"]}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    watchdog = threading.Timer(_MOST_S, process.kill)
    watchdog.start()
    try:
        yield Editor(process, folder)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def _install() -> None:
    command = ["npm", "ci", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    done = subprocess.run(command, cwd=NODE, capture_output=True, check=False, text=True, timeout=300)
    if done.returncode == 0:
        return
    reason = f"npm ci in tests/policy/node ended with {done.returncode}: {next(iter(done.stderr.splitlines()), '')}"
    if os.environ.get("CAUCE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


RULE = f"{COMMENT}version: 1\nroutes:\n  local: {{try: [slm]}}\nrules:\n  - name: r\n"


def test_a_good_policy_has_nothing_underlined(editor: Editor) -> None:
    assert editor.open(COMMENT + DEFAULT_TEXT) == []


@pytest.mark.parametrize("pack", sorted(p.name for p in SHIPPED.glob("*.yaml") if not p.stem.endswith(".cases")))
def test_no_shipped_policy_has_anything_underlined(editor: Editor, pack: str) -> None:
    assert editor.open((SHIPPED / pack).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gain:", "gian:", "gian"),
        ("verify:", "verfy:", "verfy"),
        ("use: cloud", "use: cloud, canry: {local: 5%}", "canry"),
        ("use: cloud", "use: cloud, canary: {local: 5}", "string"),
        ("stays: premises", "stays: home", "premises"),
        ("aliases:", "alases:", "alases"),
    ],
)
def test_a_slip_is_underlined(editor: Editor, old: str, new: str, said: str) -> None:
    found = editor.open(COMMENT + DEFAULT_TEXT.replace(old, new, 1))
    assert any(said in message for message in found), found


def test_the_names_of_signals_are_offered(editor: Editor) -> None:
    offered = editor.complete(f"{RULE}    when:\n      |\n    use: local\ndefault: local\n")
    assert set(SIGNALS) | {"any", "all", "not"} <= offered
    assert not offered & set(CONVERSATION)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{RULE}    when:\n      data: |\n", {"personal", ">= personal"}),
        (f"{RULE}    when:\n      data_kinds: |\n", set(DATA_KINDS)),
        (f"{RULE}    |\n", {"when", "use", "canary", "shadow", "sticky"}),
        (f"{RULE}    sticky: |\n", {"conversation", "none"}),
        (f"{COMMENT}|\n", {"version", "include", "routes", "overlays", "guarantees", "sticky"}),
        (f"{COMMENT}overlays:\n  - |\n", {"for", "rules", "default", "guarantees"}),
    ],
)
def test_what_may_stand_in_a_place_is_offered_there(editor: Editor, text: str, expected: set[str]) -> None:
    assert expected <= editor.complete(text)
