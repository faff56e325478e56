"""Dashboards and alerts against the code's metrics, and every query against a Prometheus that scraped a gateway."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from ruamel.yaml import YAML

from gateway.telemetry.metrics import Metrics
from grafana.make_dashboards import BOARDS, FOLDER, made
from grafana.panels import LANGUAGES
from tests.entries import eventually
from tests.running import free_port
from tests.traffic import a_gateway, mixed

ROOT = Path(__file__).parents[2]
UNITS = {"reqps", "s", "short", "percentunit", "bytes", "currencyUSD"}  # Grafana's own names
FILES = sorted(FOLDER.glob("*/*.json"))
ENGLISH = [file for file in FILES if file.parent.name == "en"]
# What a reader chooses, as a test that lasts seconds does.
CHOSEN = {"$__rate_interval": "1m", "$window": "1m", "$baseline": "1s", "$route": ".*", "$model": ".*", "$team": ".*"}
_ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Query(NamedTuple):
    panel: str
    expression: str
    legend: str


def board(file: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return parsed


def panels(files: list[Path] = ENGLISH) -> list[dict[str, Any]]:
    return [panel for file in files for panel in board(file)["panels"] if panel["type"] != "row"]


QUERIES = [
    Query(panel["title"], target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]
]


def families() -> dict[str, Metric]:
    """What the code counts, by the names that Prometheus knows it by."""
    found = Metrics().registry.collect()
    return {f"{family.name}{ending}": family for family in found for ending in _ENDINGS[family.type]}


def names(expression: str) -> set[str]:
    return set(re.findall(r"\bcauce_[a-z_]+", expression))


def test_the_dashboards_on_disk_are_those_that_the_script_makes() -> None:
    assert {file: file.read_text(encoding="utf-8") for file in FILES} == made()


def test_there_are_three_dashboards_in_two_languages_with_the_same_queries() -> None:
    assert {board.name for board in BOARDS} == {"operations", "finance", "privacy-quality"}
    for name in (f"{board.name}.json" for board in BOARDS):
        english, spanish = (panels([FOLDER / language / name]) for language in LANGUAGES)
        for one, other in zip(english, spanish, strict=True):
            assert [target["expr"] for target in one["targets"]] == [target["expr"] for target in other["targets"]]
            assert one["description"] != other["description"]
    assert len({board(file)["uid"] for file in FILES}) == len(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name} {file.stem}")
def test_what_a_query_leaves_to_the_reader_can_be_chosen(file: Path) -> None:
    given = {f"${variable['name']}" for variable in board(file)["templating"]["list"]}
    queries = [target["expr"] for panel in panels([file]) for target in panel["targets"]]
    assert {name for query in queries for name in re.findall(r"\$\w+", query)} - {"$__rate_interval"} == given


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel}: {query.legend}")
def test_every_metric_of_a_panel_is_one_of_the_codes(query: Query) -> None:
    assert names(query.expression)
    assert names(query.expression) <= families().keys()


def test_every_metric_of_the_code_is_in_a_panel() -> None:
    drawn = {name for query in QUERIES for name in names(query.expression)}
    known = families()
    assert {family.name for name, family in known.items() if name in drawn} == {
        family.name for family in known.values()
    }


def test_the_alerts_know_no_other_metric() -> None:
    for file in (ROOT / "deploy" / "prometheus").glob("alerts*.yml"):
        assert names(file.read_text(encoding="utf-8")) <= families().keys(), file.name


@pytest.mark.parametrize("panel", panels(FILES), ids=lambda panel: str(panel["title"]))
def test_every_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert all(refs)
    assert len(refs) == len(set(refs))  # Grafana draws one query of each name
    for target in panel["targets"]:
        grouped = re.search(r"(?:sum|max|min) by \(([^)]*)\)", target["expr"])
        labels = set(grouped.group(1).split(", ")) - {"le"} if grouped else set()
        if target["expr"].startswith("sum("):
            labels = set()  # all groups in one
        assert target["legendFormat"]
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == labels


def test_panels_have_numbers_of_their_own_and_do_not_lie_on_each_other() -> None:
    for file in FILES:
        found = board(file)["panels"]
        assert len({panel["id"] for panel in found}) == len(found)
        taken = [
            (x, y)
            for panel in found
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < 24


def test_grafana_finds_the_dashboards_and_their_source_where_compose_puts_them() -> None:
    yaml = YAML(typ="safe")
    provisioning = ROOT / "grafana" / "provisioning"
    (provider,) = yaml.load(provisioning / "dashboards" / "cauce.yaml")["providers"]
    (source,) = yaml.load(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    mounts = yaml.load(ROOT / "deploy" / "compose.yaml")["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert provider["options"]["foldersFromFilesStructure"]  # a folder of Grafana's for each language
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}


# --- against a real Prometheus ---------------------------------------------------------------------------------------


def ask(prometheus: str, expression: str) -> list[dict[str, Any]]:
    reply = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=10)
    assert reply.status_code == 200, reply.text
    result: list[dict[str, Any]] = reply.json()["data"]["result"]
    return result


def scrapes(prometheus: str) -> int:
    try:
        return sum(int(series["value"][1]) for series in ask(prometheus, "count_over_time(up[1h])"))
    except httpx.TransportError:
        return 0  # it has not started yet


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that scraped a gateway every second while requests of every kind went through it."""
    folder = tmp_path_factory.mktemp("prometheus")
    program = shutil.which("prometheus") or "prometheus"
    port = free_port()
    with a_gateway(folder / "gateway") as gateway:
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: cauce, static_configs: [{{targets: ['127.0.0.1:{gateway.port}']}}]}}]\n"
        )
        with (folder / "output.log").open("wb") as output:
            where = ("--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}")
            command = [program, "--config.file=prometheus.yml", *where]
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            statuses = mixed(gateway)
            assert {200, 400, 404, 502, 503} == set(statuses), statuses
            eventually(lambda: scrapes(url) >= 2, seconds=30)
            mixed(gateway)
            seen = scrapes(url)
            eventually(lambda: scrapes(url) >= seen + 2, seconds=30)
            month = "max(cauce_month_cost_usd) > 0"  # the gateway looks at the ledger every ten seconds
            eventually(lambda: len(ask(url, month)) > 0, seconds=60)
            yield url
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.panel}: {query.legend}")
def test_every_query_of_a_panel_is_answered_after_mixed_traffic(prometheus: str, query: Query) -> None:
    expression = query.expression
    for name, value in CHOSEN.items():
        expression = expression.replace(name, value)
    result = ask(prometheus, expression)
    values = [float(series["value"][1]) for series in result]
    assert any(not math.isnan(value) for value in values), query.expression
    for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
        assert any(label in series["metric"] for series in result), label


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("metric", ["cauce_requests_total", "cauce_errors_total", "cauce_cost_usd_total"])
def test_a_rate_is_above_zero_when_there_was_traffic(prometheus: str, metric: str) -> None:
    (total,) = ask(prometheus, f"sum(rate({metric}[1m]))")
    assert float(total["value"][1]) > 0
