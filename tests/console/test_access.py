"""Who gets into the console, and who may change something there."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.cli.serve import with_shared_sessions
from gateway.console.access import Sessions
from gateway.ledger.keys import KeyRing
from gateway.ledger.store import open_engine
from gateway.settings import Settings
from tests.console.conftest import CONFIG, POLICY, PRICES, Keyed, Person, cauce
from tests.entries import count, eventually
from tests.running import Running, running

PAGES = ["", "/decisions", "/decisions/feed", "/decisions/req_1", "/playground", "/policies", "/policies/draft",
         "/policies/abc", "/spend", "/spend.csv", "/models", "/keys", "/audit", "/audit/report"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_with_keys_set_up_no_page_is_shown_before_signing_in(keyed: Keyed, path: str) -> None:
    reply = keyed.person().see(path)
    assert reply.status_code == 303
    assert reply.headers["location"].startswith("/console/sign-in?next=%2Fconsole")
    assert reply.text == ""


@pytest.mark.parametrize("path", ["/playground", "/policies/draft", "/policies/rollback", "/audit", "/sign-out"])
def test_no_form_is_taken_before_signing_in(keyed: Keyed, path: str) -> None:
    person = keyed.person()
    reply = person.send(path, form="/sign-in", text="x", query="x", do="run")
    assert reply.status_code == 401
    assert "session has ended" in reply.text


def test_a_key_for_the_console_opens_it_and_an_applications_does_not(keyed: Keyed) -> None:
    for key, status in ((keyed.admin, 200), (keyed.viewer, 200), (keyed.caller, 303), ("", 303)):
        person = keyed.person()
        person.sign_in(key)
        assert person.see("").status_code == status
    assert "does not open the console" in keyed.person().sign_in(keyed.caller).text


def test_a_session_is_a_signed_cookie_that_no_script_and_no_other_site_gets_and_holds_no_key(keyed: Keyed) -> None:
    reply = keyed.person().sign_in(keyed.admin)
    cookie = reply.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= {part.strip() for part in cookie.split(";")}
    assert keyed.admin not in cookie
    forged = re.sub(r"cauce_console=.", "cauce_console=A", cookie).split(";")[0]
    seen = httpx.get(f"{keyed.gateway.url}/console", headers={"cookie": forged})
    assert seen.status_code == 303


def test_behind_tls_the_cookie_is_for_tls_alone(keyed: Keyed) -> None:
    page = keyed.person().see("/sign-in", **{"x-forwarded-proto": "https"})
    assert "Secure" in page.headers["set-cookie"]


def test_signing_out_ends_the_session(keyed: Keyed) -> None:
    person = keyed.person(keyed.viewer)
    person.send("/sign-out", form="/playground")
    assert person.see("").status_code == 303


def test_a_revoked_key_loses_the_console(keyed: Keyed) -> None:
    made = json.loads(cauce(keyed.gateway.folder, "keys", "create", "--role", "admin", "--json"))
    known = {"authorization": f"Bearer {made['key']}"}
    eventually(lambda: httpx.get(f"{keyed.gateway.base_url}/models", headers=known).status_code == 200)
    person = keyed.person(made["key"])
    cauce(keyed.gateway.folder, "keys", "revoke", made["id"])
    eventually(lambda: person.see("").status_code == 303)


def test_a_key_is_revoked_in_a_gateway_that_cannot_read_another_one(tmp_path: Path) -> None:
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    (tmp_path / "prices.yaml").write_text(PRICES)
    good, odd = (json.loads(cauce(tmp_path, "keys", "create", "--json")) for _ in range(2))
    known = {"authorization": f"Bearer {good['key']}"}
    with running(tmp_path, CONFIG, policy=POLICY) as gateway:
        assert httpx.get(f"{gateway.base_url}/models", headers=known).status_code == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "cauce.db")) as ledger:
            ledger.execute("UPDATE keys SET role = 'of a newer version' WHERE id = ?", (odd["id"],))
            ledger.commit()
        eventually(lambda: "cannot be read" in gateway.output)
        cauce(tmp_path, "keys", "revoke", good["id"])
        eventually(lambda: httpx.get(f"{gateway.base_url}/models", headers=known).status_code == 401)


def test_whoever_types_wrong_keys_has_to_wait_even_with_the_right_one(keyed: Keyed) -> None:
    person = Person(keyed.gateway)
    addressed = {"x-forwarded-for": "203.0.113.7"}
    statuses = [person.send("/sign-in", headers=addressed, key=f"ck-{n}").status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]
    waits = person.send("/sign-in", headers=addressed, key=keyed.admin)
    assert waits.status_code == 429
    assert int(waits.headers["retry-after"]) > 0
    assert keyed.person(keyed.admin).see("").status_code == 200  # from another address


def test_a_session_is_good_with_every_worker(tmp_path: Path) -> None:
    ring = KeyRing(open_engine(f"sqlite:///{tmp_path}/ledger.db"), always=False)
    settings = with_shared_sessions(Settings())
    one, other = (Sessions(ring, settings.console) for _ in range(2))
    alone = Sessions(ring, Settings().console)
    asked = Request({"type": "http", "scheme": "http", "path": "/console", "headers": [], "server": ("x", 1)})
    given = Response()
    one.give(asked, given, csrf="token")
    cookie = given.headers["set-cookie"].split(";")[0].encode()
    back = Request({"type": "http", "scheme": "http", "path": "/console", "headers": [(b"cookie", cookie)]})
    assert (one.csrf(back), other.csrf(back), alone.csrf(back)) == ("token", "token", "")
    assert with_shared_sessions(settings) is settings  # the operator's own, or the first


@pytest.mark.parametrize("where", ["https://evil.example", "//evil.example", "/console/\\evil", "/other", "/consolex"])
def test_signing_in_goes_on_to_no_other_place(keyed: Keyed, where: str) -> None:
    person = keyed.person()
    reply = person.send("/sign-in", form="/sign-in", key=keyed.viewer, next=where)
    assert reply.headers["location"] == "/console"


def test_a_viewer_looks_and_changes_nothing(keyed: Keyed) -> None:
    person, before = keyed.person(keyed.viewer), count(keyed.gateway)
    assert person.see("/policies").status_code == 200
    assert "Change the policy" not in person.see("/policies").text
    assert 'value="run"' not in person.see("/playground").text
    changed = POLICY.replace("Small first.", "Mine.")
    for path, fields in (
        ("/playground", {"query": "hello", "do": "run"}),
        ("/policies/draft", {"text": changed, "do": "apply"}),
        ("/policies/rollback", {"revision": "abc"}),
    ):
        reply = person.client.post(path, data={"csrf": person.csrf("/playground"), **fields})
        assert reply.status_code == 403
        assert "may look, not change" in reply.text
    assert (keyed.gateway.folder / "policy.yaml").read_text() == POLICY
    assert count(keyed.gateway) == before
    assert person.send("/playground", query="hello", do="preview").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_form_without_the_sessions_token_does_nothing(keyed: Keyed, token: str) -> None:
    person, before = keyed.person(keyed.admin), count(keyed.gateway)
    reply = person.client.post("/playground", data={"csrf": token, "query": "hello", "do": "run"})
    assert reply.status_code == 403
    assert "Nothing was done" in reply.text
    assert count(keyed.gateway) == before


def test_another_sessions_token_does_nothing(keyed: Keyed) -> None:
    person, other = keyed.person(keyed.admin), keyed.person(keyed.admin)
    token = other.csrf("/playground")
    assert person.client.post("/playground", data={"csrf": token, "query": "hello"}).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}]
)
def test_what_another_site_sends_does_nothing(opened: Running, headers: dict[str, str]) -> None:
    before = count(opened)
    reply = Person(opened).send("/playground", headers=headers, query="hello", do="run")
    assert reply.status_code == 403
    assert count(opened) == before


def test_an_open_console_answers_to_this_machines_names_alone(opened: Running) -> None:
    person = Person(opened)
    assert person.see("/keys", host=f"evil.example:{opened.port}").status_code == 403
    assert person.see("/keys", host=f"localhost:{opened.port}").status_code == 200


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"])
def test_an_open_console_answers_nobody_who_comes_through_a_proxy(opened: Running, keyed: Keyed, header: str) -> None:
    assert Person(opened).see("/keys", **{header: "203.0.113.7"}).status_code == 403
    assert keyed.person(keyed.viewer).see("/keys", **{header: "203.0.113.7"}).status_code == 200


def test_what_is_no_address_no_number_and_no_form_is_no_fault_of_ours(opened: Running) -> None:
    person = Person(opened)
    assert person.see("/keys", host="[").status_code == 403
    assert person.see("/keys", host="evil.example:").status_code == 403
    assert person.send("/playground", headers={"origin": "http://["}, query="hello").status_code == 403
    many = {"csrf": person.csrf("/playground"), **{f"field_{n}": "x" for n in range(200)}}
    assert person.client.post("/playground", data=many).status_code == 400
    assert person.see("/decisions?before=99999999999999999999-req_1").status_code == 200


def test_every_page_is_kept_from_frames_caches_and_foreign_content(opened: Running) -> None:
    for path in ("", "/nothing", "/sign-in"):
        headers = Person(opened).see(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in policy
