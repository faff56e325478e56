from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway.cli import report_output
from gateway.cli.main import main
from gateway.ledger.adjustments import Adjustment, adjust
from gateway.ledger.focus import COLUMNS, Column
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.builders import NOON_NS, an_attempt_entry, an_entry

NOON_US = NOON_NS // 1000
MONTH_US = 31 * 86_400_000_000
CLOUD: dict[str, Any] = {"model": "large", "provider": "openai", "upstream_model": "gpt-4.1", "zone": "world",
                         "kind": "llm",
                         "price_source": "contract"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with local and cloud calls, an unknown cost, a correction, and a month before."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "cauce.yaml").write_text("ledger: sqlite:///ledger.db\ndiscover: false\nbaseline: large\n")
    engine = open_engine(f"sqlite:///{folder}/ledger.db")

    async def write() -> None:
        ledger = Ledger(engine, on_failure=lambda error: pytest.fail(str(error)))
        for n in range(3):
            await ledger.append(
                an_entry(f"local{n}", team="a", app="bot", caller="key_1", baseline_nano_usd=1_000_000,
                         baseline_low_nano_usd=600_000, baseline_high_nano_usd=1_700_000, energy_low_uwh=1_000,
                         energy_high_uwh=2_000),
                [an_attempt_entry(f"local{n}")],
            )  # fmt: skip
        cloud = [an_attempt_entry("cloud", cost_nano_usd=123_456_789, prompt_tokens=100, **CLOUD)]
        await ledger.append(an_entry("cloud", team="b", model="large", cost_nano_usd=123_456_789), cloud)
        lost = [an_attempt_entry("lost", cost_nano_usd=None, **CLOUD)]
        await ledger.append(an_entry("lost", team="b", model="large", cost_nano_usd=None), lost)
        past = [an_attempt_entry("past", cost_nano_usd=500, **CLOUD)]
        await ledger.append(an_entry("past", team="a", cost_nano_usd=500, time_us=NOON_US - MONTH_US), past)
        ledger.close()

    asyncio.run(write())
    with open_engine(f"sqlite:///{folder}/ledger.db").begin() as connection:
        adjust(connection, [Adjustment("price:cloud", "cloud", NOON_US, "price", -456_789, "contract of 2026-11")])
    return folder


def cauce(folder: Path, *given: str) -> Result:
    runner = CliRunner()
    config = folder / "cauce.yaml"
    config.write_text(config.read_text().replace("sqlite:///ledger.db", f"sqlite:///{folder}/ledger.db"))
    return runner.invoke(main, ["report", "--config", str(config), *given])


def rows(folder: Path, *given: str) -> list[dict[str, Any]]:
    result = cauce(folder, *given, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = orjson.loads(result.stdout)
    return found


def test_a_row_has_the_names_that_the_contract_of_reports_gives(folder: Path) -> None:
    first = rows(folder, "--by", "team", "--month", "2026-11")[0]
    assert first == {
        "team": "b", "requests": 2, "unknown_cost_requests": 1, "unknown_energy_requests": 2,
        "prompt_tokens": 20, "cached_tokens": 0, "completion_tokens": 10, "reasoning_tokens": 0,
        "cache_write_tokens": None, "audio_tokens": None, "image_tokens": None,
        "cost_nano_usd": 123_000_000, "router_nano_usd": 0, "baseline_nano_usd": 18_000,
        "saved_nano_usd": 9_000 - 123_000_000, "saved_low_nano_usd": None, "saved_high_nano_usd": None,
        "cost_per_1000_nano_usd": 123_000_000_000, "energy_wh_low": None, "energy_wh_high": None,
        "co2e_g_low": None, "co2e_g_high": None, "estimated": False,
    }  # fmt: skip


def test_savings_come_with_their_range_and_energy_with_its_own(folder: Path) -> None:
    local = next(row for row in rows(folder, "--by", "team", "--month", "2026-11") if row["team"] == "a")
    saved = [local[f"saved{end}_nano_usd"] for end in ("_low", "", "_high")]
    assert saved == [3 * (each - 1_000) for each in (600_000, 1_000_000, 1_700_000)]
    assert (local["energy_wh_low"], local["energy_wh_high"]) == (0.003, 0.006)


def test_shares_of_a_chargeback_add_up_to_one(folder: Path) -> None:
    shares = [row["share"] for row in rows(folder, "--by", "team,app", "--view", "chargeback")]
    assert sum(shares) == pytest.approx(1.0)


def test_movers_compare_with_the_month_before(folder: Path) -> None:
    moved = {row["team"]: row for row in rows(folder, "--by", "team", "--month", "2026-11", "--view", "movers")}
    assert moved["a"]["change_nano_usd"] == 3_000 - 500
    assert (moved["b"]["requests_before"], moved["b"]["cost_before_nano_usd"]) == (0, 0)
    assert cauce(folder, "--view", "movers").exit_code == 2


def test_break_even_says_idle_time_and_from_how_many_requests_the_machine_pays(folder: Path) -> None:
    found = orjson.loads(cauce(folder, "--month", "2026-11", "--view", "break-even").stdout)
    assert found["local_calls"] == 3
    assert found["busy_seconds"] == 1.5
    assert 0.99 < found["idle_share"] < 1
    assert found["cloud_per_request_nano_usd"] == 1_000_000
    power = Decimal(found["power_nano_usd"]) / 3
    assert found["break_even_requests"] == -(-found["machine_month_nano_usd"] // (1_000_000 - power))


def test_lengths_say_nothing_on_few_copies(folder: Path) -> None:
    found = orjson.loads(cauce(folder, "--view", "lengths").stdout)
    assert (found["copies"], found["baseline_tokens_high"]) == (0, None)


def test_parquet_holds_what_json_does_in_whole_nano_dollars(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.parquet"
    assert cauce(folder, "--by", "team", "--format", "parquet", "--output", str(file)).exit_code == 0
    assert pq.read_table(file).to_pylist() == rows(folder, "--by", "team")
    assert str(pq.read_schema(file).field("saved_low_nano_usd").type) == "int64"
    assert cauce(folder, "--format", "parquet").exit_code == 2


def test_a_table_speaks_the_operators_language(folder: Path, tmp_path: Path) -> None:
    for language, word in (("en", "saved"), ("es", "ahorro")):
        config = tmp_path / "cauce.yaml"
        config.write_text(f"ledger: sqlite:///{folder}/ledger.db\ndiscover: false\nlanguage: {language}\n")
        table = CliRunner().invoke(main, ["report", "--config", str(config)], env={"COLUMNS": "300"}).output
        assert word in table


def test_a_narrow_window_shows_money_whole_and_names_what_it_leaves_out(folder: Path) -> None:
    drawn = io.StringIO()
    report_output.table(
        rows(folder, "--by", "team"), ("team",), report_output.HEADS["es"], Console(width=80, file=drawn)
    )
    said = drawn.getvalue()
    assert "coste USD" in said and "ahorro USD" in said and "…" not in said
    assert "fuera por falta de ancho" in said and "CO2e g" in said.partition("fuera")[2]


def focus_rows(folder: Path) -> list[dict[str, str]]:
    result = cauce(folder, "--month", "2026-11", "--format", "focus")
    assert result.exit_code == 0, result.output
    assert "1 calls of unknown cost" in result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout)))


# The columns that FOCUS 1.2 wants of every data generator (feature level Mandatory).
MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}  # fmt: skip


def test_focus_has_every_mandatory_column_and_ours_are_marked(folder: Path) -> None:
    names = set(focus_rows(folder)[0])
    assert names >= MANDATORY
    assert all(name[0].isupper() or name.startswith("x_") for name in names)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_each_focus_column_holds_its_type_and_its_values(folder: Path, column: Column) -> None:
    for row in focus_rows(folder):
        value = row[column.name]
        if not value:
            assert column.null
        elif column.kind == "decimal":
            assert "E" not in value
            assert Decimal(value).is_finite()
        elif column.kind == "datetime":
            assert dt.datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
        elif column.kind == "json":
            assert all(isinstance(each, str) for each in orjson.loads(value).values())
        assert not column.values or not value or value in column.values


def test_focus_charges_and_corrections_sum_to_the_report(folder: Path) -> None:
    billed = sum(Decimal(row["BilledCost"]) for row in focus_rows(folder))
    spent = sum(row["cost_nano_usd"] or 0 for row in rows(folder, "--by", "team", "--month", "2026-11"))
    assert billed * 10**9 == spent
    corrected = [row for row in focus_rows(folder) if row["ChargeClass"] == "Correction"]
    assert [(row["ChargeCategory"], row["BilledCost"]) for row in corrected] == [("Adjustment", "-0.000456789")]


def test_a_focus_period_is_the_business_day_and_month_in_utc(folder: Path) -> None:
    row = focus_rows(folder)[0]
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z")
