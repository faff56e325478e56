from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.main import main
from gateway.ledger.entry import AttemptEntry
from gateway.ledger.report import Period, report
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from tests.builders import an_attempt_entry, an_entry

PRICES = "large: {prompt: 2, cached: 0.5, completion: 8, from: 2026-01-01, source: contract}\n"
CONFIG = """
ledger: sqlite:///{folder}/ledger.db
discover: false
prices: {folder}/prices.yaml
models:
  large: {{provider: openai, model: gpt-4.1, zone: world, kind: llm}}
"""


def a_call(request: str, at: str, prompt: int, completion: int, cached: int = 0, **more: Any) -> AttemptEntry:
    """A call to gpt-4.1 at 2 and 8 USD a million tokens, 0.50 from the cache."""
    given: dict[str, Any] = {
        "model": "large", "provider": "openai", "upstream_model": "gpt-4.1", "zone": "world", "kind": "llm",
        "price_source": "contract", "started_us": int(dt.datetime.fromisoformat(at).timestamp() * 1e6),
        "prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": cached,
        "cost_nano_usd": (prompt - cached) * 2_000 + cached * 500 + completion * 8_000,
    }  # fmt: skip
    return an_attempt_entry(request, **{**given, **more})


CALLS = (
    a_call("r1", "2026-11-02T10:00:00Z", 1_000, 100),
    a_call("r2", "2026-11-02T23:30:00Z", 3_000, 50, cached=1_000),
    a_call("r3", "2026-11-03T12:00:00Z", 700, 70),
)
COST = sum(call.cost_nano_usd or 0 for call in CALLS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prices.yaml").write_text(PRICES)
    (tmp_path / "cauce.yaml").write_text(CONFIG.format(folder=tmp_path))

    async def write() -> None:
        ledger = Ledger(open_engine(f"sqlite:///{tmp_path}/ledger.db"), on_failure=lambda e: pytest.fail(str(e)))
        for call in CALLS:
            entry = an_entry(call.request_id, model="large", cost_nano_usd=call.cost_nano_usd, time_us=call.started_us)
            await ledger.append(entry, [call])
        ledger.close()

    asyncio.run(write())
    return tmp_path


def cauce(folder: Path, command: str, *given: str) -> Result:
    return CliRunner().invoke(main, [*command.split(), "--config", str(folder / "cauce.yaml"), *given])


def reconciled(folder: Path, invoice: str, *given: str) -> tuple[int, dict[str, Any]]:
    file = folder / "invoice.csv"
    file.write_text(invoice)
    result = cauce(folder, "reconcile", str(file), "--json", *given)
    assert result.exit_code in {0, 1}, result.output
    found: dict[str, Any] = orjson.loads(result.stdout)
    return result.exit_code, found


OPENAI = """start_time,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens,amount
1793577600,gpt-4.1-2025-04-14,2,4000,1000,150,{first}
1793664000,gpt-4.1-2025-04-14,1,700,0,70,{second}
"""
FIRST, SECOND = "0.0077", "0.00196"


def spent(folder: Path) -> int:
    rows = report(open_engine(f"sqlite:///{folder}/ledger.db"), by=(), period=Period(), zone=_zone())
    total: int = rows[0]["cost_nano_usd"]
    return total


def _zone() -> Any:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    return ZoneInfo("Europe/Madrid")


def test_an_invoice_that_says_what_the_ledger_says_has_no_difference(folder: Path) -> None:
    code, found = reconciled(folder, OPENAI.format(first=FIRST, second=SECOND))
    assert (code, found["apart_nano_usd"], found["offset_hours"]) == (0, 0, 0)
    assert [line["why"] for line in found["lines"]] == [[], []]


def test_anthropics_export_is_read_by_its_own_columns(folder: Path) -> None:
    anthropic = (
        "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_read,usage_output_tokens\n"
        "2026-11-02,gpt-4.1,3000,1000,150\n2026-11-03,gpt-4.1,700,0,70\n"
    )
    assert reconciled(folder, anthropic, "--tolerance", "100")[1]["lines"][0]["why"] == []


@pytest.mark.parametrize(
    ("invoice", "why"),
    [
        (OPENAI.format(first="0.0100", second=SECOND), "the price differs: invoiced at 1.2987 times it"),
        (
            OPENAI.format(first="0.01", second=SECOND).replace(",4000,1000,", ",4000,200,"),
            "cached tokens: 200 invoiced",
        ),
        (
            OPENAI.format(first="0.02", second=SECOND).replace("4000", "9000"),
            "missing in the ledger: 5000 prompt tokens",
        ),
        (OPENAI.format(first="0.008", second=SECOND), "rounding"),
        (OPENAI.format(first=FIRST, second=SECOND).replace("2,4000", "3,4000"), "3 requests invoiced, 2 in the ledger"),
        ("day,model,amount\n2026-11-02,o9-huge,12.00\n", "missing in the ledger"),
        ("day,model,amount\n2026-11-02,o9-huge,12.00\n", "not invoiced"),
    ],
)
def test_a_difference_is_explained_at_its_line(folder: Path, invoice: str, why: str) -> None:
    _, found = reconciled(folder, invoice)
    assert any(reason.startswith(why) for line in found["lines"] for reason in line["why"]), found["lines"]


def test_days_that_are_counted_in_another_time_zone_are_found(folder: Path) -> None:
    shifted = "day,model,input_tokens,output_tokens,amount\n2026-11-02,gpt-4.1,1000,100,0.0028\n"
    shifted += "2026-11-03,gpt-4.1,3700,120,0.00686\n"  # half past midnight, an hour east of Greenwich
    code, found = reconciled(folder, shifted)
    assert (code, found["offset_hours"], found["apart_nano_usd"]) == (0, 1, 0)


def test_more_than_the_tolerance_is_exit_1(folder: Path) -> None:
    invoice = OPENAI.format(first="0.0078", second=SECOND)
    assert [reconciled(folder, invoice, "--tolerance", limit)[0] for limit in ("0.5", "5")] == [1, 0]


def test_any_csv_can_be_read_by_naming_its_columns_and_currency(folder: Path) -> None:
    generic = "Fecha;x\n".replace(";x", ",SKU,Importe") + '02/11/2026,gpt-4.1,"0,0070"\n03/11/2026,gpt-4.1,"0,00196"\n'
    code, found = reconciled(
        folder, generic, "--columns", "day=Fecha,model=SKU,amount=Importe", "--rate", "1.1", "--tolerance", "6"
    )
    assert (code, found["invoice_nano_usd"]) == (0, 7_700_000 + 2_156_000)


def test_adjusting_makes_the_ledger_say_what_the_invoice_says_once(folder: Path) -> None:
    invoice = OPENAI.format(first="0.010000001", second="0.00196")
    for expected in (2, 0):
        _, found = reconciled(folder, invoice, "--adjust")
        assert found["adjusted_requests"] == expected
        assert spent(folder) == 10_000_001 + 1_960_000
    assert found["apart_nano_usd"] == 0


@pytest.mark.parametrize(
    ("invoice", "says"),
    [
        ("day,model,amount\n2026-11-02,gpt,x\n", "invoice.csv:2: amount: 'x' is not a number"),
        ("day,model,amount\nsoon,gpt,1\n", "invoice.csv:2: 'soon' is not a day"),
        ("a,b\n1,2\n", "invoice.csv:1: needs a model"),
    ],
)
def test_a_wrong_invoice_is_refused_at_its_line(folder: Path, invoice: str, says: str) -> None:
    (folder / "invoice.csv").write_text(invoice)
    result = cauce(folder, "reconcile", str(folder / "invoice.csv"))
    assert result.exit_code == 2
    assert says in result.output


# --- prices ---------------------------------------------------------------------------------------------------------


def test_a_corrected_price_is_booked_beside_the_entries_once_and_may_be_corrected_again(folder: Path) -> None:
    dear = PRICES.replace("prompt: 2", "prompt: 3")
    for prices, times in ((dear, 1), (PRICES, 0), (dear, 1)):
        (folder / "prices.yaml").write_text(prices)
        said = orjson.loads(cauce(folder, "prices reprice", "--json").stdout)
        assert (said["applied"], said["changed"]) == (False, 0 if spent(folder) == COST + times * 3_700_000 else 3)
        for _ in range(2):
            cauce(folder, "prices reprice", "--apply")
        assert spent(folder) == COST + times * 3_700_000  # all but the cached thousand


def test_a_price_that_is_found_later_makes_an_unknown_cost_known(folder: Path) -> None:
    call = a_call("r4", "2026-11-04T12:00:00Z", 1_000, 0, cost_nano_usd=None, price_source="")

    async def write() -> None:
        ledger = Ledger(open_engine(f"sqlite:///{folder}/ledger.db"), on_failure=lambda e: pytest.fail(str(e)))
        await ledger.append(an_entry("r4", model="large", cost_nano_usd=None, time_us=call.started_us), [call])
        ledger.close()

    asyncio.run(write())
    assert spent(folder) == COST
    assert "1 of 4 requests booked" in cauce(folder, "prices reprice", "--apply").output
    assert spent(folder) == COST + 2_000_000


def test_the_list_says_each_price_with_its_source(folder: Path) -> None:
    (row,) = orjson.loads(cauce(folder, "prices list", "--json").stdout)
    assert (row["rates"]["prompt"], row["source"], row["from"]) == (2_000_000_000, "contract", "2026-01-01")


def test_the_difference_between_the_seed_and_ones_own_file_is_shown(folder: Path) -> None:
    (folder / "prices.yaml").write_text(PRICES.replace("prompt: 2", "prompt: 1.5"))
    (row,) = orjson.loads(cauce(folder, "prices diff", "--json").stdout)
    assert {"kind": "prompt", "old": 1_500_000_000, "new": 2_000_000_000} in row["changes"]


def test_what_changed_upstream_since_a_day_is_shown(folder: Path) -> None:
    rows = orjson.loads(cauce(folder, "prices diff", "--since", "2025-01-01", "--all", "--json").stdout)
    assert rows
    assert all(row["changes"] for row in rows)
