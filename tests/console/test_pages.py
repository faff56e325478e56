"""What the pages say, held against the ledger."""

from __future__ import annotations

import csv
import html
import io
import re
import string
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest

import gateway.console
from gateway.console.charts import Series, bars
from gateway.console.figures import Figures
from gateway.console.spend import as_csv
from gateway.console.words import WORDS
from tests.console.conftest import CONFIG, POLICY, PRICES, SECRET, Keyed, Person, ask
from tests.entries import eventually, rows
from tests.running import Running, running

TEMPLATES = Path(gateway.console.__file__).parent / "templates"
UTC = ZoneInfo("UTC")


def test_every_word_is_said_in_both_languages_with_the_same_figures_in_it() -> None:
    def figures(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for name, (english, spanish) in WORDS.items():
        assert english.strip(), name
        assert spanish.strip(), name
        assert figures(english) == figures(spanish), name


def test_every_word_that_a_page_uses_is_there_and_none_is_left_over() -> None:
    code = "".join(file.read_text() for file in TEMPLATES.parent.rglob("*.py") if file.name != "words.py")
    pages = "".join(file.read_text() for file in TEMPLATES.glob("*.html"))
    used = set(re.findall(r"\bt\.(\w+)", pages)) | set(re.findall(r'\bt\["(\w+)"\]', code)) - {"get"}
    used |= set(re.findall(r'visit\.t\["(\w+)"\]', code))
    assert used - {"get"} - WORDS.keys() == set()
    begun = (
        "budget_",
        "nav_",
        "unless_",
        "role_",
        "zone_",
        "class_",
        "outcome_",
        "period_",
        "by_",
        "cloud_",
        "circuit_",
        "done_",
        "signal_",
        "event_",
    )
    said = {name for name in WORDS if not name.startswith(begun) and name not in used}
    assert {name for name in said if f'"{name}"' not in code + pages} == set()


def test_money_is_said_with_the_decimals_that_it_needs_and_never_guessed() -> None:
    english, spanish = Figures("en", UTC), Figures("es", UTC)
    assert english.money(1_234_567_890_000) == "$1,234.57"
    assert spanish.money(1_234_567_890_000) == "1.234,57\u00a0USD"
    assert english.money(-12_340_000) == "−$0.0123"
    assert english.money(1) == "$0.000000001"
    assert english.money(0) == "$0.00"
    assert (english.money(None), spanish.money(None)) == ("unknown", "desconocido")
    assert (english.percent(1, 3), spanish.percent(1, 3), english.percent(0, 0)) == ("33.3%", "33,3\u00a0%", "–")


def test_a_chart_holds_no_style_no_script_and_no_id() -> None:
    chart = bars("Requests <b>", ["a", "b"], [Series("x<script>", [1, 2])], str)
    assert chart is not None
    assert not re.search(r"<style|<script|style=|\bid=|onload|https?://(?!www.w3.org)", chart.svg)
    assert 'role="img" aria-label="Requests &lt;b&gt;"' in chart.svg
    assert bars("nothing", ["a"], [Series("x", [0])], str) is None


def test_a_cell_of_the_csv_is_never_a_formula() -> None:
    assert as_csv([{"team": "=1+1", "cost_nano_usd": -5}]) == "team,cost_nano_usd\n'=1+1,-5\n"


def test_the_overview_counts_what_the_ledger_holds(opened: Running) -> None:
    page = html.unescape(Person(opened).see("").text)
    (found,) = rows(opened, "SELECT count(*) AS n, sum(zone = 'premises') AS stayed FROM entries")
    assert f'<span class="value">{found["n"]}</span>' in page
    assert f"{found['stayed']} requests" in page


def test_an_empty_gateway_shows_a_first_request(keyed: Keyed) -> None:
    page = html.unescape(keyed.person(keyed.viewer).see("").text)
    assert f"127.0.0.1:{keyed.gateway.port}/v1/chat/completions" in page
    assert "small" in page
    assert "premises" in page


def test_a_decision_says_its_rule_its_calls_and_their_cost_and_no_text(opened: Running) -> None:
    reply = ask(opened, SECRET)
    page = Person(opened).see(f"/decisions/{reply.headers['x-cauce-request-id']}").text
    for said in ("personal-stays", "it matches: data &gt;= personal", "slm_success", "identity", "GDPR art. 4(1)"):
        assert said in page
    assert "12345678Z" not in page
    assert "abren" not in page


def test_a_refused_request_says_that_no_policy_saw_it(opened: Running) -> None:
    reply = httpx.post(f"{opened.base_url}/chat/completions", content=b"{")
    request_id = reply.headers["x-cauce-request-id"]
    person = Person(opened)
    eventually(lambda: person.see(f"/decisions/{request_id}").status_code == 200)
    assert "before the policy saw it" in person.see(f"/decisions/{request_id}").text


def test_the_decisions_are_paged_without_a_gap_or_a_repetition(opened: Running) -> None:
    person = Person(opened)
    with httpx.Client(base_url=opened.base_url) as client:
        for n in range(60):
            client.post("/chat/completions", json={"messages": [{"role": "user", "content": f"hello {n}"}]})
    seen: list[str] = []
    path = "/decisions"
    while path:
        page = person.see(path).text
        seen += re.findall(r'<td class="mono"><a href="/console/decisions/(req_\w+)"', page)
        older = re.search(r'href="/console(/decisions\?before=[^"]+)" rel="next"', page)
        path = html.unescape(older[1]) if older else ""
    assert len(seen) == len(set(seen))
    assert seen == [
        row["request_id"] for row in rows(opened, "SELECT * FROM entries ORDER BY time_us DESC, request_id DESC")
    ]


def test_the_csv_sums_to_the_ledger(opened: Running) -> None:
    for by in ("team", "model", "day"):
        reply = Person(opened).see(f"/spend.csv?by={by}")
        assert reply.headers["content-type"].startswith("text/csv")
        table = list(csv.DictReader(io.StringIO(reply.text)))
        (whole,) = rows(opened, "SELECT sum(cost_nano_usd) AS cost, count(*) AS n FROM entries")
        assert sum(int(row["cost_nano_usd"] or 0) for row in table) == whole["cost"]
        assert sum(int(row["requests"]) for row in table) == whole["n"]


@pytest.mark.parametrize(
    "query", ["month=nonsense", "by=nonsense", "month=0000-13", "month=9999-12", "before=9-x&zone=%00"]
)
def test_an_address_that_makes_no_sense_is_no_fault(opened: Running, query: str) -> None:
    for path in ("/spend", "/decisions", "/audit"):
        assert Person(opened).see(f"{path}?{query}").status_code == 200


def test_the_audit_says_where_personal_data_went_and_whether_the_record_is_whole(opened: Running) -> None:
    person = Person(opened)
    assert "personal-stays" in person.see("/audit").text
    assert "Whole:" in person.send("/audit").text
    month = person.see("/audit").text.split('name="month" value="')[1][:7]
    spanish = person.see(f"/audit/report?month={month}&in=es&format=md")
    english = person.see(f"/audit/report?month={month}&in=en&format=csv")
    assert "Fallos del detector" in spanish.text
    assert spanish.headers["content-disposition"] == f'attachment; filename="cauce-audit-{month}-es.md"'
    assert english.text.startswith("section,")
    assert person.see("/audit/report?month=soon").status_code == 400


def test_a_page_that_is_not_there_says_so_in_the_readers_language(opened: Running) -> None:
    reply = Person(opened).see("/nothing", **{"accept-language": "es"})
    assert reply.status_code == 404
    assert "Esa página no existe" in reply.text
    assert Person(opened).client.put("/spend").status_code == 405


def test_a_live_page_does_not_keep_the_gateway_from_stopping(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES)
    with (
        running(tmp_path, CONFIG, policy=POLICY) as gateway,
        httpx.stream("GET", f"{gateway.url}/console/decisions/feed", timeout=20) as feed,
    ):
        assert "ready" in next(feed.iter_lines())
        gateway.process.terminate()
        assert gateway.process.wait(15) == 0
