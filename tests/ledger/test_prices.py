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


TIERED = """
currencies:
  EUR: [{usd: 1.10, from: 2026-01-01, source: ECB}, {usd: 1.05, from: 2026-11-01, source: ECB}]
gpt:
  prompt: 2
  cached: 0.5
  cache_write: 2.5
  completion: 8
  prompt_audio: 40
  above: [{tokens: 200000, prompt: 4, completion: 12}]
  batch: 0.5
  flex: {prompt: 1}
  from: 2026-01-01
  source: contract
mistral: {prompt: 2, completion: 6, from: 2026-01-01, source: contract, currency: EUR}
"""


def own_prices(folder: Path, text: str = TIERED) -> dict[str, tuple[Price, ...]]:
    file = folder / "prices.yaml"
    file.write_text(text)
    return load_prices(file)


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        (Usage(1_000, 100), 1_000 * 2_000 + 100 * 8_000),
        (Usage(1_000, 0, cached_tokens=400, cache_write_tokens=500), 100 * 2_000 + 400 * 500 + 500 * 2_500),
        (Usage(1_000, 0, cache_write_tokens=500, cache_write_1h_tokens=200), 500 * 2_000 + 500 * 2_500),
        (Usage(1_000, 0, prompt_audio_tokens=600), 400 * 2_000 + 600 * 40_000),
        (Usage(1_000, 50, completion_audio_tokens=50, prompt_image_tokens=10), 1_000 * 2_000 + 50 * 8_000),
        (Usage(200_000, 10), 200_000 * 2_000 + 10 * 8_000),
        (Usage(200_001, 10), 200_001 * 4_000 + 10 * 12_000),
        (Usage(1_000, 100, tier="batch"), 1_000 * 1_000 + 100 * 4_000),
        (Usage(200_001, 10, tier="batch"), 200_001 * 2_000 + 10 * 6_000),
        (Usage(1_000, 100, tier="flex"), 1_000 * 1_000 + 100 * 8_000),
        (Usage(1_000, 100, tier="priority"), 1_000 * 2_000 + 100 * 8_000),
    ],
)
def test_each_kind_of_token_long_prompt_and_tier_costs_its_own_price(
    tmp_path: Path, usage: Usage, nano_usd: int
) -> None:
    assert own_prices(tmp_path)["gpt"][0].cost(usage) == nano_usd


def test_another_currency_counts_at_the_days_rate_and_says_so(tmp_path: Path) -> None:
    model = Model("mistral", "openai-compatible", "m", Zone.EU, "llm")
    book = PriceBook(machine=MACHINE, baseline=None, own=own_prices(tmp_path))
    may, november = (book.price(model, dt.date(2026, month, 2)) for month in (5, 11))
    assert may is not None
    assert november is not None
    assert (may.prompt, november.prompt) == (2_200_000_000, 2_100_000_000)
    assert november.source == "contract; 1 EUR = 1.05 USD (ECB, 2026-11-01)"


def test_a_day_without_a_rate_of_exchange_has_no_price(tmp_path: Path) -> None:
    text = """
currencies: {EUR: {usd: 1.1, from: 2026-06-01}}
gpt: {prompt: 1, completion: 1, from: 2026-01-01, currency: EUR}
"""
    (price,) = own_prices(tmp_path, text)["gpt"]
    assert price.in_usd(dt.date(2026, 5, 31)) is None
    assert price.in_usd(dt.date(2026, 6, 1)) is not None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gpt:\n  - prompt: 1\n    completion: x\n", ":3:5: gpt.completion"),
        ("gpt: {prompt: 1, completion: 1, from: never}\n", ":1:33: gpt.from"),
        ("a: {prompt: 1, completion: 1, from: 2026-01-01}\nb: 3\n", ":2:1: b"),
        ("a:\n  prompt: 1\n  completion: 1\n  from: 2026-01-01\n  above: [{prompt: 1}]\n", ":5:11: a.above"),
        ("a: {prompt: 1, completion: 1, from: 2026-01-01, currency: EUR}\n", ":1:49: a.currency: EUR has no rate"),
        ("currencies: {euro: 3}\n", "currencies.euro"),
        ("a: {prompt: 1, completion: 1, from: 2026-01-01, batch: cheap}\n", "a.batch"),
        ("a: [}", ":1:5"),
    ],
)
def test_a_wrong_price_is_refused_at_its_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own_prices(tmp_path, text)
    assert place in str(caught.value)


def test_the_seed_knows_long_prompts_batches_and_caches() -> None:
    gemini = Model("gemini", "gemini", "gemini-2.5-pro", Zone.WORLD, "llm")
    claude = Model("claude", "anthropic", "claude-sonnet-4-5", Zone.WORLD, "llm")
    day = dt.date(2026, 11, 24)
    long, caching = a_book().price(gemini, day), a_book().price(claude, day)
    assert long is not None
    assert caching is not None
    assert long.of(Usage(300_000, 1)).prompt > long.of(Usage(1_000, 1)).prompt
    assert long.of(Usage(1_000, 1, tier="batch")).prompt < long.prompt
    assert caching.rate("cache_write_1h") > caching.rate("cache_write") > caching.prompt > caching.cached


def test_the_baselines_range_is_wider_than_its_estimate_and_closes_where_it_answered_itself() -> None:
    span = (Decimal("0.5"), Decimal(2))
    book = PriceBook(machine=MACHINE, baseline=LARGE, own={"large": (a_price(),)}, span=span)
    assert book.baseline_range(Usage(10, 100), NOON_NS, SMALL) == (20_000 + 400_000, 20_000 + 1_600_000)
    assert book.baseline_range(Usage(10, 100), NOON_NS, LARGE) == (820_000, 820_000)
    assert book.baseline_range(None, NOON_NS, SMALL) == (None, None)
