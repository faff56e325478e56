"""Changing the policy from the console: the same check as on the command line, and nothing by halves."""

from __future__ import annotations

import pytest

from tests.console.conftest import POLICY, Keyed, Person
from tests.entries import rows
from tests.running import Running

CHANGED = POLICY.replace('"< 40"', '"< 41"')


@pytest.fixture
def admin(keyed: Keyed) -> Person:
    return keyed.person(keyed.admin)


def based_on(person: Person) -> str:
    page = person.see("/policies/draft").text
    return page.split('name="based_on" value="')[1].split('"')[0]


def send(person: Person, text: str, do: str, **fields: str) -> str:
    fields.setdefault("based_on", based_on(person))
    return person.client.post(
        "/policies/draft", data={"csrf": person.csrf("/policies/draft"), "text": text, "do": do, **fields},
        follow_redirects=True,
    ).text  # fmt: skip


def test_the_policy_is_shown_with_its_rules_and_line_numbers(opened: Running) -> None:
    page = Person(opened).see("/policies").text
    assert '<li id="L1"><code>version: 1</code></li>' in page
    assert "data &gt;= personal" in page
    assert "los datos de clase personal" in Person(opened).see("/policies?lang=es").text


def test_a_draft_that_is_refused_says_where_and_cannot_be_applied(admin: Person, keyed: Keyed) -> None:
    page = send(admin, POLICY.replace("use: local", "use: nowhere", 1), "check")
    assert "Line 9:62" in page
    assert "nowhere" in page
    assert 'value="apply"' not in page
    applied = send(admin, POLICY.replace("use: local", "use: nowhere", 1), "apply")
    assert "was not put in force" in applied
    assert (keyed.gateway.folder / "policy.yaml").read_text() == POLICY


def test_a_draft_that_breaks_a_guarantee_is_refused_with_a_counter_example(admin: Person) -> None:
    loose = POLICY.replace(
        "  - {name: personal-stays", "  - {name: loose, when: {hour: '>= 0'}, use: cloud}\n  - {name: personal-stays"
    )
    page = send(admin, loose, "check")
    assert "broken" in page
    assert "data: personal" in page


def test_the_check_runs_the_cases_beside_the_file(admin: Person, keyed: Keyed) -> None:
    cases = keyed.gateway.folder / "policy.cases.yaml"
    cases.write_text("- note: hours\n  text: When do you open?\n  expect: {rule: personal-stays}\n")
    try:
        page = send(admin, CHANGED, "check")
    finally:
        cases.unlink()
    assert "1 fail" in page
    assert "hours" in page


def test_a_draft_that_holds_is_applied_followed_and_in_the_history_with_whoever_did_it(
    admin: Person, keyed: Keyed
) -> None:
    before = based_on(admin)
    checked = send(admin, CHANGED, "check")
    assert "It holds" in checked
    assert "+  - {name: short" in checked
    assert 'value="apply"' in checked
    assert "The new policy is in force" in send(admin, CHANGED, "apply")
    after = based_on(admin)
    assert after != before
    newest = rows(keyed.gateway, "SELECT * FROM policies ORDER BY since_us DESC")[0]
    assert (newest["revision"], newest["who"], newest["text"]) == (after, keyed.admin_id, CHANGED)
    # And back.
    page = admin.see(f"/policies/{before}").text
    assert f"Go back to {before}" in page
    stale = admin.send("/policies/rollback", form=f"/policies/{before}", revision=before, based_on=before)
    assert stale.status_code == 409
    back = admin.send("/policies/rollback", form=f"/policies/{before}", revision=before, based_on=after)
    assert back.headers["location"].endswith("done=rolled_back")
    assert (keyed.gateway.folder / "policy.yaml").read_text() == POLICY
    assert based_on(admin) == before


def test_a_draft_of_a_policy_that_was_changed_meanwhile_is_not_applied(admin: Person, keyed: Keyed) -> None:
    page = send(admin, CHANGED, "apply", based_on="0123456789ab")
    assert "changed meanwhile" in page
    assert (keyed.gateway.folder / "policy.yaml").read_text() == POLICY


def test_a_simulation_says_what_would_move_and_what_it_would_cost(opened: Running) -> None:
    page = send(Person(opened), POLICY.replace("default: cloud", "default: local"), "simulate", since="24h")
    assert "What would move" in page
    assert "default → large" in page
    assert "default → small" in page
    assert "−$" in page  # it would cost less
