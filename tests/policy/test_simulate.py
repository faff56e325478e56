from __future__ import annotations

import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UnknownModel
from gateway.policy.decide import decide
from gateway.policy.load import SHIPPED, read_policy
from gateway.policy.rules import Policy
from gateway.policy.simulation import Place
from gateway.types import Caller, DataClass, Model, Signals, Usage, Zone
from tests.policy.builders import DEFAULT_TEXT, LARGE, a_policy, catalogue, with_rules
from tests.policy.past import AWAY, LOW, OK, WRONG, lived, prices, simulated

OLD = a_policy()
ALL_LOCAL = a_policy(with_rules("{name: nothing, when: {}, use: local}"))
ALL_CLOUD = a_policy(with_rules("{name: everything, when: {}, use: cloud}", guarantees="[]"))
EASY = Signals(slm_success=0.9, gain=0.05, task="faq")
HARD = Signals(slm_success=0.3, gain=0.5, task="math")

VALUES: dict[str, tuple[Any, ...]] = {
    "slm_success": (0.5, 0.1, 0.79999, 0.8, 0.80001, 1.0),
    "gain": (0.0, -0.1, 0.34999, 0.35, 0.35001, 0.9),
    "stay_score": (0.0, 0.2, 0.5, 0.9),
    "task": ("open_qa", "faq", "classify", "math"),
    "data": tuple(DataClass),
    "data_kinds": (frozenset(), frozenset({"financial"}), frozenset({"health", "identity"})),
    "language": ("en", "es", "und"),
    "prompt_tokens": (0, 99, 100, 101, 150, 151, 9_000),
    "tools": (False, True),
    "caller": (Caller(), Caller("k", "legal", "bot", ("draft",)), Caller("k", "sales", "bot", ("draft",))),
    "budget_left": (None, 0.5, 1.0, 7.0),
    "hour": (12, 0, 5, 6, 22),
    "held_by": ("", "kept"),
    "draw": (0.5, 0.0, 0.049, 0.05, 0.9999),
}
some_signals = st.builds(Signals, **{name: st.sampled_from(values) for name, values in VALUES.items()})
LIVELY = a_policy(
    with_rules(
        """
        {name: private, when: {data: ">= personal"}, use: local}
        {name: tried, when: {task: faq}, use: local, canary: {cloud: 5%}, shadow: llm}
        {name: kept, when: {gain: ">= 0.35"}, use: local, sticky: conversation}
        """
    )
)
PACKS = [
    OLD,
    LIVELY,
    *(read_policy(SHIPPED / f"{name}.yaml").policy for name in ("default", "banking", "eu-only", "learning")),
]
asked = st.sampled_from(("auto", "auto", "auto", "gpt-4o", "small", "large", "local"))
outcomes = st.lists(st.sampled_from((OK, LOW, AWAY, WRONG)), max_size=3)


# --- properties -------------------------------------------------------------------------------------------------------


@given(st.sampled_from(PACKS), st.lists(st.tuples(some_signals, asked, outcomes), max_size=8))
def test_the_policy_in_force_moves_nothing(policy: Policy, requests: list[tuple[Signals, str, list[str]]]) -> None:
    pasts = []
    for signals, requested, went in requests:
        try:
            pasts.append(lived(signals, policy, *went, requested=requested))
        except UnknownModel:
            continue
    found = simulated(pasts, policy)
    assert (found.requests, found.moved, found.moves) == (len(pasts), 0, ())
    assert not found.cost.change_nano_usd
    assert found.cost.before_nano_usd == found.cost.after_nano_usd
    assert found.cost.before_unknown == found.cost.after_unknown
    assert found.privacy.newly_leaving == found.privacy.no_longer_leaving == found.privacy.might_leave == {}
    assert found.refusals.before == found.refusals.after
    assert found.latency.before == found.latency.after
    assert found.quality.before == found.quality.after


RULES = """
{name: late, when: {hour: "22:00-06:00"}, use: cloud}
{name: draft, when: {caller: {team: legal, tags: [draft]}}, use: cloud}
{name: kinds, when: {data_kinds: [financial, health], prompt_tokens: "< 100"}, use: local}
{name: unsure, when: {difficulty: "> 0.2", gain: "> 0.35"}, use: cloud}
{name: edge, when: {slm_success: "0.8"}, use: cloud}
{name: poor, when: {budget_left: "< 1"}, use: local}
{name: other, when: {not: {language: [es, en]}}, use: cloud}
"""
SHORT = Model("short", "fake", "short-1", Zone.PREMISES, "slm", context_tokens=150, tools=False)


def test_many_requests_are_decided_as_each_of_them_is() -> None:
    policy, models = a_policy(with_rules(RULES)), catalogue(SHORT, LARGE)
    pairs = itertools.combinations(VALUES, 2)
    requests = [
        Signals(**{one: first, other: second})
        for one, other in pairs
        for first, second in itertools.product(VALUES[one], VALUES[other])
    ]
    expected: dict[Place, int] = {}
    for signals in requests:
        decision = decide(signals, policy=policy, models=models)
        first = models[decision.ladder[0]] if decision.ladder else None
        zone = first.zone.label if first else ""
        place = Place(decision.rule, decision.route.name, first.id if first else "", zone)
        expected[place] = expected.get(place, 0) + 1
    found: dict[Place, int] = {}
    for move in simulated([lived(signals, ALL_LOCAL) for signals in requests], policy, models=models).moves:
        found[move.to] = found.get(move.to, 0) + move.requests
    assert found == expected
    assert len(expected) >= 9


@given(st.lists(st.tuples(some_signals, outcomes, st.sampled_from("abc"), st.booleans()), max_size=20))
def test_teams_and_moves_add_up_to_the_whole(requests: list[tuple[Signals, list[str], str, bool]]) -> None:
    pasts = [
        lived(signals, OLD, *went, team=team, usage=Usage(100, n) if known else None)
        for n, (signals, went, team, known) in enumerate(requests)
    ]
    found = simulated(pasts, ALL_CLOUD)
    for name in ("before_nano_usd", "before_unknown", "after_nano_usd", "after_unknown", "change_nano_usd", "compared"):
        assert sum(getattr(team.cost, name) or 0 for team in found.teams) == (getattr(found.cost, name) or 0)
    assert sum(team.requests for team in found.teams) == found.requests == len(pasts)
    assert sum(team.moved for team in found.teams) == found.moved == sum(move.requests for move in found.moves)
    assert sum(team.leaving for team in found.teams) == sum(found.privacy.newly_leaving.values())


# --- moves ------------------------------------------------------------------------------------------------------------

STRICT = DEFAULT_TEXT.replace('">= 0.35"', '">= 0.6"')
LOCAL = DEFAULT_TEXT.replace("use: cloud", "use: local")
GAIN = "it matches: gain >= 0.35"


@pytest.mark.parametrize(
    ("text", "why", "before"),
    [
        (
            STRICT,
            "no rule matches: the default",
            "rule hard does not match any more: gain is 0.5; the rule asks for >= 0.6",
        ),
        (LOCAL.replace("hard,", "gainful,"), GAIN, "there is no rule hard any more"),
        (LOCAL, GAIN, "rule hard uses another route now"),
        (
            DEFAULT_TEXT.replace("[llm, slm]", "[slm, llm]"),
            GAIN,
            "the route's models are others now: small > large",
        ),
        (
            DEFAULT_TEXT.replace("rules:", "rules:\n  - {name: maths, when: {task: math}, use: local}"),
            "it matches: task = math",
            "rule hard stands after it",
        ),
    ],
    ids=["unmet", "gone", "route", "ladder", "later"],
)
def test_a_request_that_moves_says_from_where_to_where_and_why(text: str, why: str, before: str) -> None:
    found = simulated([lived(HARD, OLD, request_id="req_7"), lived(EASY, OLD)], a_policy(text))
    (move,) = found.moves
    assert (found.requests, found.moved, move.requests) == (2, 1, 1)
    assert move.origin == Place("hard", "cloud", "large", "world")
    assert (move.to.model, move.to.zone) == ("small", "premises")
    assert (move.why, move.before, move.example) == (why, before, "req_7")


def test_the_reasons_are_in_the_language_asked_for() -> None:
    (move,) = simulated([lived(HARD, OLD)], a_policy(STRICT), language="es").moves
    assert move.why == "no se cumple ninguna regla: la ruta por defecto"
    assert move.before == "la regla hard ya no se cumple: gain es 0.5; la regla pide >= 0.6"


def test_a_name_that_the_new_policy_does_not_know_is_a_refusal_and_is_named() -> None:
    asking = [lived(EASY, OLD, requested=name) for name in ("gpt-4o", "gpt-4o", "auto")]
    found = simulated(asking, a_policy(DEFAULT_TEXT.replace("gpt-4o: auto, ", "")))
    assert found.refusals.names == {"gpt-4o": 2}
    assert found.refusals.newly == {"public": 2}
    assert found.moves[0].why == "the new policy does not know the name that it asks for"


def test_an_alias_that_means_something_else_moves_those_who_use_it() -> None:
    found = simulated(
        [lived(EASY, OLD, requested="fast")], a_policy(DEFAULT_TEXT.replace("fast: local", "fast: cloud"))
    )
    assert (found.moves[0].origin.model, found.moves[0].to.model) == ("small", "large")


def test_hours_are_those_of_the_new_policys_time_zone() -> None:
    policy = a_policy(with_rules('{name: noon, when: {hour: "12:00-13:00"}, use: cloud}'))
    past = lived(Signals(hour=3), ALL_LOCAL)  # at 12:00 UTC
    assert simulated([past], policy, zone=ZoneInfo("UTC")).moves[0].to.rule == "noon"
    assert simulated([past], policy, zone=ZoneInfo("Europe/Madrid")).moves == ()
    assert simulated([past], policy).moves == ()


# --- what had been called ---------------------------------------------------------------------------------------------


def test_an_answer_that_was_turned_down_is_turned_down_again_where_it_is_checked() -> None:
    escalated = lived(Signals(), OLD, LOW)
    assert escalated.model == "large"
    unchecked = a_policy(DEFAULT_TEXT.replace("default: small-first", "default: local"))
    renamed = a_policy(DEFAULT_TEXT.replace("small-first", "careful"))
    assert simulated([escalated], renamed).moves[0].to.model == "large"
    assert simulated([escalated], unchecked).moves[0].to.model == "small"
    assert simulated([lived(Signals(), ALL_CLOUD)], OLD).moves[0].to.model == "small"


def test_a_model_that_was_away_is_away_again_and_its_call_is_paid_for_again() -> None:
    past = lived(HARD, OLD, AWAY, book=prices(large=(2, 8)))
    assert (past.model, past.cost_nano_usd) == ("small", None)
    found = simulated([past], ALL_CLOUD)
    assert (found.moves, found.cost.after_unknown) == ((), 1)


def test_a_request_that_its_model_calls_wrong_is_sent_to_no_other() -> None:
    past = lived(HARD, OLD, WRONG)
    assert past.model == ""
    found = simulated([past], a_policy(DEFAULT_TEXT.replace("cloud", "abroad")))
    assert found.moves[0].to == Place("hard", "abroad", "", "")


def test_an_answer_from_the_cache_is_one_again_only_where_rule_and_route_stay() -> None:
    cached = lived(EASY, OLD, outcome="cached", calls=(), cost_nano_usd=0, model="small", zone="premises")
    again, moved = simulated([cached], OLD), simulated([cached], ALL_CLOUD)
    assert (again.moves, again.cost.after_nano_usd, again.latency.models) == ((), 0, ())
    assert (moved.moves[0].to.model, moved.cost.after_nano_usd, moved.cost.after_unknown) == ("large", None, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signals": {}}, "not_classified"),
        ({"rule": ""}, "not_decided"),
        ({"signals": {"gain": 0.5}}, "incomplete_signals"),
        ({"calls": (), "outcome": "refused", "code": "gateway_overloaded"}, "gateway_overloaded"),
    ],
)
def test_what_cannot_be_replayed_is_counted_by_its_reason(changes: dict[str, Any], reason: str) -> None:
    found = simulated([lived(EASY, OLD, **changes), lived(EASY, OLD)], OLD)
    assert (found.requests, found.left_out) == (1, {reason: 1})


EVERY_COPY = with_rules("{name: all, when: {}, use: local, shadow: llm}", guarantees="[]")


def test_a_copy_for_a_shadow_leaves_the_premises_and_is_paid_for() -> None:
    found = simulated([lived(EASY, ALL_LOCAL)], a_policy(EVERY_COPY))
    assert found.privacy.newly_leaving == {"public": 1}
    assert found.cost.change_nano_usd == 2_000 * 10 + 8_000 * 5


def test_a_copy_that_was_made_is_part_of_what_was_and_tells_how_its_model_does() -> None:
    past = lived(EASY, a_policy(EVERY_COPY))
    again = simulated([past], a_policy(EVERY_COPY))
    assert (again.moves, again.cost.change_nano_usd, again.privacy.newly_leaving) == ((), 0, {})
    assert again.cost.before_nano_usd == 5_000 + 2_000 * 10 + 8_000 * 40
    promoted = simulated([past], ALL_CLOUD)
    assert (promoted.cost.after_nano_usd, promoted.latency.after.p50_us) == (2_000 * 10 + 8_000 * 40, 800_000)
    turned_down = past._replace(calls=(past.calls[0], past.calls[1]._replace(rejected_by="finish")))
    checked = with_rules("{name: all, when: {}, use: cloud}").replace("[llm, slm]", "[llm, slm], verify: [finish]")
    assert simulated([turned_down], a_policy(checked)).moves[0].to.model == "small"


# --- privacy and refusals ---------------------------------------------------------------------------------------------


def test_what_would_newly_leave_the_premises_is_counted_by_data_class() -> None:
    classes = [DataClass.PUBLIC, DataClass.INTERNAL, DataClass.INTERNAL, DataClass.PERSONAL]
    stayed = [lived(Signals(data=data), ALL_LOCAL) for data in classes]
    found = simulated(stayed, ALL_CLOUD)
    assert found.privacy.newly_leaving == {"public": 1, "internal": 2, "personal": 1}
    back = simulated([lived(Signals(data=data), ALL_CLOUD) for data in classes], ALL_LOCAL)
    assert (back.privacy.newly_leaving, back.privacy.no_longer_leaving) == (
        {},
        {"public": 1, "internal": 2, "personal": 1},
    )


def test_text_that_would_leave_only_if_its_model_failed_is_counted_apart() -> None:
    found = simulated([lived(Signals(data=DataClass.INTERNAL), ALL_LOCAL)], OLD)
    assert (found.privacy.newly_leaving, found.privacy.might_leave) == ({}, {"internal": 1})


def test_a_call_that_failed_abroad_had_left_the_premises_too() -> None:
    found = simulated([lived(HARD, OLD, AWAY)], ALL_CLOUD)
    assert found.privacy.newly_leaving == {}


def test_requests_that_no_model_may_answer_are_refusals_by_data_class() -> None:
    text = with_rules("{name: all, when: {}, use: cloud}").replace("[llm, slm]", "[llm]")
    stayed = [lived(Signals(data=data), ALL_LOCAL) for data in (DataClass.PUBLIC, DataClass.SECRET)]
    found = simulated(stayed, a_policy(text))
    assert (found.refusals.before, found.refusals.after, found.refusals.newly) == (0, 1, {"secret": 1})
    refused = lived(Signals(data=DataClass.SECRET), a_policy(text))
    back = simulated([refused], ALL_LOCAL)
    assert (back.refusals.before, back.refusals.after, back.refusals.no_longer) == (1, 0, {"secret": 1})
    assert back.cost.after_unknown == 1
