"""One browser and two gateways for all tests of the console: an open one, and one that asks for a key."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.entries import count, eventually
from tests.running import Running, running

CONFIG = """
discover: false
prices: prices.yaml
baseline: large
models:
  small: {provider: fake, model: small-1, zone: premises, kind: slm}
  large: {provider: fake, model: large-1, zone: world, kind: llm}
"""
PRICES = "large: {prompt: 2.0, cached: 0.5, completion: 8.0, from: 2020-01-01, source: contract}\n"
POLICY = """version: 1
description: Small first.
guarantees:
  - {data: personal, stays: premises}
routes:
  local: {try: [slm], cache: false}
  cloud: {try: [llm, slm], cache: false}
rules:
  - {name: personal-stays, when: {data: ">= personal"}, use: local}
  - {name: short, when: {prompt_tokens: "< 40"}, use: local}
default: cloud
"""
SECRET = "Mi DNI es 12345678Z, ¿cuándo abren?"
LONG = "Explain, with every detail, how the law of large numbers is proved and what it has to do with insurance. " * 4


def cauce(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "gateway.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True, timeout=60).stdout


def ask(gateway: Running, text: str, key: str = "", **body: Any) -> httpx.Response:
    """One request of an application; its entry is in the ledger when this returns."""
    before = count(gateway)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    asked = {"messages": [{"role": "user", "content": text}], **body}
    reply = httpx.post(f"{gateway.base_url}/chat/completions", json=asked, headers=headers, timeout=30)
    eventually(lambda: count(gateway) > before)
    return reply


@dataclass
class Keyed:
    """A gateway with keys: an admin's, a viewer's, and an application's."""

    gateway: Running
    admin: str
    viewer: str
    caller: str
    admin_id: str

    def person(self, key: str = "") -> Person:
        """Somebody with a browser of their own, signed in with a key."""
        person = Person(self.gateway)
        if key:
            person.sign_in(key)
        return person


class Person:
    """Whoever uses the console without a browser: keeps cookies, sends the forms that it is shown."""

    def __init__(self, gateway: Running) -> None:
        self.gateway = gateway
        no_wait = httpx.Limits(max_keepalive_connections=0)  # nothing stays open when it is dropped
        self.client = httpx.Client(base_url=f"{gateway.url}/console", timeout=60, limits=no_wait)

    def see(self, path: str, **headers: str) -> httpx.Response:
        """A page."""
        return self.client.get(path, headers=headers)

    def csrf(self, path: str) -> str:
        """The token of a page's forms."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.see(path).text)
        assert found, f"{path} has no form"
        return found[1]

    def send(self, path: str, form: str = "", headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        """A form, with the token of the page that it is on."""
        return self.client.post(path, data={"csrf": self.csrf(form or path), **fields}, headers=headers or {})

    def sign_in(self, key: str) -> httpx.Response:
        """With a key."""
        return self.send("/sign-in", key=key)


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without keys, with some requests in its ledger."""
    folder = tmp_path_factory.mktemp("opened")
    (folder / "prices.yaml").write_text(PRICES)
    with running(folder, CONFIG, policy=POLICY) as gateway:
        for n in range(3):
            ask(gateway, f"What are your opening hours on day {n}?")
        ask(gateway, LONG)
        ask(gateway, LONG, stream=True)
        ask(gateway, SECRET)
        ask(gateway, "hello", model="no-such-model")
        yield gateway


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """With keys, and a policy beside its cases that may be changed."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "cauce.yaml").write_text(CONFIG)
    (folder / "prices.yaml").write_text(PRICES)
    made = {
        role: json.loads(cauce(folder, "keys", "create", "--team", f"{role}s", "--role", role, "--json"))
        for role in ("admin", "viewer", "caller")
    }
    with running(folder, CONFIG, policy=POLICY) as gateway:
        admin, viewer, caller = (made[role]["key"] for role in ("admin", "viewer", "caller"))
        yield Keyed(gateway, admin, viewer, caller, made["admin"]["id"])


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window. It ends with this folder: while it runs, no other test may run a loop."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A page in the browser, and everything that it complained of: scripts, styles, policies, missing files."""

    page: Page
    complaints: list[str]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """What opens a tab; none of them may have had a complaint at the end."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def open_tab(**how: Any) -> Tab:
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 900}, **how})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page, complaints = context.new_page(), list[str]()
        page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        tabs.append(Tab(page, complaints))
        return tabs[-1]

    yield open_tab
    found = [complaint for one in tabs for complaint in one.complaints]
    for context in contexts:
        context.close()
    assert found == []
