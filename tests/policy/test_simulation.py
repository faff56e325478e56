from __future__ import annotations

import random

import orjson
import pytest

from gateway.ledger.replay import Past
from gateway.policy.simulation import Simulation
from gateway.types import Model, Signals, Usage, Zone
from tests.policy.builders import SMALL, a_policy, catalogue, with_rules
from tests.policy.past import lived, prices, simulated

ALL_LOCAL = a_policy(with_rules("{name: nothing, when: {}, use: local}"))
ALL_CLOUD = a_policy(with_rules("{name: everything, when: {}, use: cloud}", guarantees="[]"))
EASY = Signals(slm_success=0.9, gain=0.05, task="faq")
HARD = Signals(slm_success=0.3, gain=0.5, task="math")


def test_a_move_costs_the_new_models_price_for_the_same_tokens_to_the_nano_dollar() -> None:
    past = lived(EASY, ALL_LOCAL, usage=Usage(1_003, 257, cached_tokens=100))
    assert past.cost_nano_usd == 5_000  # half a second of the machine
    found = simulated([past], ALL_CLOUD, prices=prices(large=(2, 8)))
    assert found.cost.after_nano_usd == 1_003 * 2_000 + 257 * 8_000
    assert found.cost.change_nano_usd == 1_003 * 2_000 + 257 * 8_000 - 5_000


def test_a_price_that_is_not_known_is_said_and_never_counts_as_nothing() -> None:
    nameless = Model("large", "openai", "nobody-knows-1", Zone.WORLD, "llm")
    found = simulated(
        [lived(EASY, ALL_LOCAL), lived(HARD, ALL_CLOUD)], ALL_CLOUD, models=catalogue(SMALL, nameless), prices=prices()
    )
    assert (found.cost.after_nano_usd, found.cost.after_unknown) == (2_000 * 10 + 8_000 * 5, 1)
    assert (found.cost.change_nano_usd, found.cost.compared) == (0, 1)
    alone = simulated([lived(EASY, ALL_LOCAL)], ALL_CLOUD, models=catalogue(SMALL, nameless), prices=prices())
    assert (alone.cost.after_nano_usd, alone.cost.change_nano_usd) == (None, None)


def test_a_local_model_costs_the_seconds_a_token_of_its_own_history() -> None:
    slow = [lived(EASY, ALL_LOCAL, usage=Usage(9, 20)) for _ in range(3)]  # 0.025 s a token
    found = simulated([*slow, lived(HARD, ALL_CLOUD, usage=Usage(10, 100))], ALL_LOCAL)
    (move,) = found.moves
    assert move.cost.after_nano_usd == 25_000
    alone = simulated([lived(HARD, ALL_CLOUD)], ALL_LOCAL)
    assert (alone.cost.after_nano_usd, alone.cost.after_unknown) == (None, 1)


def test_quality_is_success_of_the_small_model_and_with_the_gain_of_the_large_one() -> None:
    pasts = [lived(Signals(slm_success=0.6, gain=0.3), ALL_LOCAL), lived(Signals(slm_success=0.9, gain=0.4), ALL_LOCAL)]
    quality = simulated(pasts, ALL_CLOUD).quality
    assert quality.before is not None
    assert quality.after is not None
    assert quality.change is not None
    assert quality.before.mean == pytest.approx(0.75)
    assert quality.after.mean == pytest.approx((0.9 + 1.0) / 2)
    assert quality.change.mean == pytest.approx(0.2)


def test_the_interval_of_quality_covers_what_happens_about_95_times_in_100() -> None:
    chance = random.Random(7)
    covered = {"after": 0, "change": 0}
    for _ in range(100):
        drawn = [Signals(slm_success=chance.uniform(0.4, 0.8), gain=chance.uniform(0, 0.2)) for _ in range(100)]
        quality = simulated([lived(signals, ALL_LOCAL) for signals in drawn], ALL_CLOUD).quality
        before = sum(chance.random() < signals.slm_success for signals in drawn) / len(drawn)
        after = sum(chance.random() < signals.slm_success + signals.gain for signals in drawn) / len(drawn)
        assert quality.after is not None
        assert quality.change is not None
        covered["after"] += quality.after.low <= after <= quality.after.high
        covered["change"] += quality.change.low <= after - before <= quality.change.high
    assert all(count >= 88 for count in covered.values()), covered


def with_seconds(past: Past, seconds: float) -> Past:
    return past._replace(calls=tuple(call._replace(duration_us=int(seconds * 1e6)) for call in past.calls))


def test_latency_is_from_each_models_own_history_and_unknown_where_it_has_none() -> None:
    local = [with_seconds(lived(EASY, ALL_LOCAL), n / 100) for n in range(1, 101)]
    found = simulated(local, ALL_CLOUD)
    small, large = sorted(found.latency.models, key=lambda model: -model.requests_before)
    assert (small.model, small.p50_us, small.p95_us, small.requests_after) == ("small", 500_000, 950_000, 0)
    assert (large.model, large.p50_us, large.p95_us, large.requests_after) == ("large", None, None, 100)
    assert (found.latency.before.p50_us, found.latency.after.p50_us, found.latency.after.unknown) == (
        500_000,
        None,
        100,
    )


def test_latency_of_all_weighs_each_models_history_by_its_requests() -> None:
    quick = [with_seconds(lived(EASY, ALL_LOCAL), 1) for _ in range(9)]
    slow = with_seconds(lived(HARD, ALL_CLOUD), 60)
    found = simulated([*quick, slow], ALL_CLOUD)
    assert (found.latency.before.p50_us, found.latency.before.p95_us) == (1_000_000, 60_000_000)
    assert (found.latency.after.p50_us, found.latency.after.p95_us) == (60_000_000, 60_000_000)


def test_a_simulation_is_plain_values() -> None:
    found = simulated([lived(EASY, ALL_LOCAL), lived(HARD, ALL_LOCAL, signals={})], ALL_CLOUD)
    values = found.as_values()
    assert orjson.loads(orjson.dumps(values))["moves"][0]["origin"]["model"] == "small"
    assert set(values) == set(Simulation.__dataclass_fields__)
    assert any("escalation is not simulated" in assumption for assumption in values["assumptions"])


def test_a_judges_grade_is_no_answer_of_its_model_and_its_cost_stays_with_the_checks_that_asked() -> None:
    route = "{try: [slm, llm], verify: [finish, {judge: llm}]}"
    judged = a_policy(f"version: 1\nroutes: {{first: {route}}}\ndefault: first\n")
    cloud = a_policy("version: 1\nroutes: {far: {try: [llm]}}\ndefault: far\n")
    past = lived(Signals(), judged, book=prices(large=(2, 8)))
    grade = past.calls[0]._replace(model="large", kind="judge", cost_nano_usd=700, prompt_tokens=99)
    past = past._replace(calls=(*past.calls, grade), cost_nano_usd=(past.cost_nano_usd or 0) + 700)
    assert simulated([past], judged).as_values()["cost"]["after_nano_usd"] == past.cost_nano_usd
    moved = simulated([past], cloud).as_values()["cost"]["after_nano_usd"]
    assert moved == 10 * 2_000 + 5 * 8_000
