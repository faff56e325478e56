from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.ledger.prices import Machine, Price, PriceBook, load_prices
from gateway.types import Model, Usage, Zone
from tests.builders import LARGE, NOON_NS, SMALL, an_attempt

MACHINE = Machine(Decimal("0.36"), Decimal(100), Decimal("0.20"))
COUNTS = st.integers(0, 10**7)


def a_book(**own: Price) -> PriceBook:
    return PriceBook(machine=MACHINE, baseline=LARGE, own={name: (price,) for name, price in own.items()})


def a_price(prompt: str = "2", completion: str = "8", cached: str = "0.5", day: str = "2026-01-01") -> Price:
    input_price, output_price, cached_price = (int(Decimal(x) * 10**9) for x in (prompt, completion, cached))
    return Price(input_price, output_price, cached_price, dt.date.fromisoformat(day), "contract")


def test_a_call_costs_what_the_contract_says_to_the_nano_dollar() -> None:
    charge = a_book(large=a_price()).charge(an_attempt(LARGE, 1_000, 100))
    assert (charge.nano_usd, charge.source, charge.valid_from) == (2_800_000, "contract", "2026-01-01")


def test_cached_tokens_cost_their_own_price() -> None:
    assert a_price().cost(Usage(1_000, 0, cached_tokens=400)) == 600 * 2_000 + 400 * 500


def test_the_seed_knows_common_models_and_says_its_version() -> None:
    charge = a_book().charge(an_attempt(LARGE, 1_000, 100))
    assert charge.nano_usd is not None
    assert charge.nano_usd > 0
    assert charge.source.startswith("genai-prices ")


def test_an_unknown_price_is_unknown_and_not_zero() -> None:
    odd = Model("odd", "openai", "model-that-nobody-sells", Zone.WORLD, "llm")
    assert a_book().charge(an_attempt(odd)).nano_usd is None


def test_a_model_at_an_address_that_the_seed_does_not_know_has_no_price() -> None:
    odd = Model("odd", "openai-compatible", "gpt-4.1", Zone.EU, "llm", base_url="http://10.0.0.7/v1")
    assert a_book().charge(an_attempt(odd)).nano_usd is None


def test_a_paid_call_without_usage_is_unknown_unless_it_never_reached_the_model() -> None:
    book = a_book(large=a_price())
    assert book.charge(an_attempt(LARGE, usage=None, outcome="upstream_timeout")).nano_usd is None
    assert book.charge(an_attempt(LARGE, usage=None, outcome="upstream_unreachable")).nano_usd == 0


def test_a_local_answer_costs_machine_time_and_power() -> None:
    # 0.5 s at 0.36 USD/h and 100 W at 0.20 USD/kWh
    assert a_book().charge(an_attempt(SMALL, seconds=0.5)).nano_usd == 50_000 + 2_778


def test_the_newest_price_that_is_valid_on_the_day_counts() -> None:
    old, new, future = a_price("1"), a_price("3", day="2026-06-01"), a_price("9", day="2099-01-01")
    book = PriceBook(machine=MACHINE, baseline=None, own={"large": (old, future, new)})
    assert book.charge(an_attempt(LARGE, 1_000_000, 0)).nano_usd == 3_000_000_000


def test_the_baseline_is_priced_by_the_same_tokens() -> None:
    assert a_book(large=a_price()).baseline(Usage(10, 5), NOON_NS).nano_usd == 10 * 2_000 + 5 * 8_000


@given(COUNTS, COUNTS, COUNTS)
def test_money_is_exact_to_half_a_nano_dollar(prompt: int, cached: int, completion: int) -> None:
    price = Price(123_457, 987_653, 11_113, dt.date(2026, 1, 1), "x")
    usage = Usage(prompt + cached, completion, cached_tokens=cached)
    exact = Decimal(prompt * 123_457 + cached * 11_113 + completion * 987_653) / 10**6
    assert abs(price.cost(usage) - exact) <= Decimal("0.5")


def test_prices_are_read_from_the_operators_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("gpt: {prompt: 2.0, cached: 0.5, completion: 8.0, from: 2026-01-01, source: contract}\n")
    assert load_prices(file)["gpt"] == (a_price(),)
    file = tmp_path / "prices.json"
    file.write_text(
        '{"gpt": [{"prompt": 2, "completion": 8, "cached": 0.5, "from": "2026-01-01", "source": "contract"}]}'
    )
    assert load_prices(file)["gpt"] == (a_price(),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "mapping"),
        ("gpt: 3", "gpt: expected"),
        ("gpt: {prompt: 1, completion: 2}", "gpt.from"),
        ("gpt: {prompt: x, completion: 2, from: 2026-01-01}", "gpt.prompt"),
        ("gpt: {prompt: -1, completion: 2, from: 2026-01-01}", "gpt.prompt"),
        ("gpt: {prompt: 1, completion: 2, from: 2026-01-01, form: 3}", "form"),
        ("gpt: {", "prices"),
    ],
)
def test_a_wrong_price_file_is_refused_by_its_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.yaml") as caught:
        load_prices(file)
    assert says in str(caught.value)
