"""The console in a real Chromium: every page is accessible, keeps its own content policy, and fits a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.console.conftest import LONG, SECRET, Keyed, Tab, ask
from tests.entries import rows
from tests.running import Running

pytestmark = pytest.mark.needs("chromium")
PAGES = ["", "/decisions", "/playground", "/policies", "/policies/draft", "/spend", "/models", "/keys", "/audit"]
LOOKS: dict[str, dict[str, Any]] = {
    "light, English, wide": {"color_scheme": "light", "locale": "en-GB"},
    "dark, Spanish, a phone": {
        "color_scheme": "dark",
        "locale": "es-ES",
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
    },
}


def assert_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), page.url


def open_page(tab: Callable[..., Tab], gateway: Running, path: str = "", **how: Any) -> Page:
    page = tab(**how).page
    page.goto(f"{gateway.url}/console{path}")
    return page


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_and_fits_its_screen(opened: Running, tab: Callable[..., Tab], look: str) -> None:
    page = tab(**LOOKS[look]).page
    language = "es" if "Spanish" in look else "en"
    titles = set()
    for path in PAGES:
        page.goto(f"{opened.url}/console{path}")
        assert page.locator("html").get_attribute("lang") == language
        titles.add(page.title())
        assert_accessible(page)
        assert_fits(page)
    assert len(titles) == len(PAGES)


@pytest.mark.parametrize("look", LOOKS)
def test_what_the_pages_answer_with_is_accessible_too(opened: Running, tab: Callable[..., Tab], look: str) -> None:
    page = open_page(tab, opened, "/playground", **LOOKS[look])
    page.fill("#query", SECRET)
    page.click("button[value=run]")
    expect(page.locator(".answer")).to_be_visible()
    assert_accessible(page)
    assert_fits(page)
    page.click("a[href^='/console/decisions/req_']")
    expect(page.locator(".rules .matched")).to_contain_text("personal-stays")
    assert_accessible(page)
    assert_fits(page)
    page.goto(f"{opened.url}/console/policies/draft")
    page.fill("#text", page.input_value("#text").replace("default: cloud", "default: nowhere"))
    page.click("button[value=check]")
    expect(page.locator(".problems")).to_contain_text("nowhere")
    assert_accessible(page)
    page.goto(f"{opened.url}/console/audit")
    page.click("form[method=post] button:not(.quiet)")
    expect(page.locator(".alert.good")).to_be_visible()
    assert_accessible(page)


def test_the_sign_in_page_is_accessible_and_says_when_a_key_is_wrong(keyed: Keyed, tab: Callable[..., Tab]) -> None:
    opened_tab = tab()
    page = opened_tab.page
    page.goto(f"{keyed.gateway.url}/console/spend?by=model")
    assert_accessible(page)
    page.fill("#key", "ck-wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not open the console")
    assert_accessible(page)
    page.fill("#key", keyed.viewer)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/console/spend\?by=model$"))
    refusals = [one for one in opened_tab.complaints if "401" in one]  # Chromium remarks on each: this one was meant
    assert len(refusals) == 1
    opened_tab.complaints.remove(refusals[0])


def test_new_decisions_appear_while_the_page_is_open_and_never_their_text(
    opened: Running, tab: Callable[..., Tab]
) -> None:
    page = open_page(tab, opened, "/decisions")
    expect(page.locator("#live-status")).to_contain_text("Live")
    request_id = ask(opened, SECRET).headers["x-cauce-request-id"]
    row = page.locator("tr.fresh", has=page.locator(f"a[href='/console/decisions/{request_id}']"))
    expect(row).to_contain_text("personal-stays")
    expect(row).to_contain_text("premises")
    assert_accessible(page)
    assert "12345678Z" not in page.content()
    page.click("#pause")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#live-status")).to_contain_text("Paused")


def test_everything_but_the_live_rows_works_without_a_script(opened: Running, tab: Callable[..., Tab]) -> None:
    page = open_page(tab, opened, java_script_enabled=False)
    expect(page.locator("svg.chart")).to_be_visible()
    page.click("nav >> text=Decisions")
    page.select_option("select[name=data_class]", "personal")
    page.click("form.filters button")
    expect(page.locator("#decisions tbody tr").first).to_contain_text("personal-stays")
    assert page.locator("#decisions tbody tr .class-public").count() == 0
    page.click("nav >> text=Playground")
    page.fill("#query", LONG)
    page.click("button[value=preview]")
    expect(page.locator(".rules")).to_contain_text("personal-stays")
    expect(page.locator(".ladder")).to_contain_text("large")
    page.click("nav >> text=Policy")
    page.click("text=Change the policy")
    page.click("button[value=simulate]")
    expect(page.locator("h2", has_text="Simulation")).to_be_visible(timeout=60_000)


def test_the_console_can_be_used_with_the_keyboard_alone(opened: Running, tab: Callable[..., Tab]) -> None:
    page = open_page(tab, opened, "/playground")
    press = page.keyboard.press
    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    press("Tab")
    page.keyboard.type("What are your opening hours?")
    for _ in range(4):  # model, class, preview, run
        press("Tab")
    assert page.evaluate("document.activeElement.value") == "run"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press("Enter")
    expect(page.locator(".answer")).to_be_visible()


def test_the_language_is_chosen_in_the_page_and_stays_chosen(opened: Running, tab: Callable[..., Tab]) -> None:
    page = open_page(tab, opened, "/spend?by=model", locale="fr-FR")
    expect(page.locator("h1")).to_have_text("Spend and savings")
    page.click("text=Español")
    expect(page.locator("h1")).to_have_text("Gasto y ahorro")
    assert "by=model" in page.url
    page.click("nav >> text=Modelos")
    expect(page.locator("html")).to_have_attribute("lang", "es")


def test_a_query_that_is_run_is_a_request_like_any_other(opened: Running, tab: Callable[..., Tab]) -> None:
    page = open_page(tab, opened, "/playground")
    page.fill("#query", LONG)
    page.click("button[value=run]")
    expect(page.locator(".answer")).to_contain_text("fake model")
    link = page.get_attribute("a[href^='/console/decisions/req_']", "href") or ""
    (row,) = rows(opened, "SELECT * FROM entries WHERE request_id = ?", link.rsplit("/", 1)[-1])
    assert (row["outcome"], row["rule"], row["model"], row["caller"]) == ("ok", "default", "large", "anonymous")
    assert row["cost_nano_usd"] > 0
