from __future__ import annotations

import dataclasses

import pytest

from gateway.cache.exact import exact_key
from gateway.cache.store import CACHE, Kept, MemoryStore
from gateway.gate import Gate, Released
from gateway.stages.recall import Recall
from gateway.types import CacheState, DataClass, Inbound, Zone
from tests.builders import SMALL, a_caller, a_decision, an_inbound, some_signals

DECISION, SIGNALS = a_decision("small"), some_signals()


def key(inbound: Inbound) -> bytes:
    return exact_key(inbound, SIGNALS, DECISION)


def released(body: bytes = b"{}") -> Released[Kept]:
    return Gate().release(Kept(body, SMALL, None), data=DataClass.PUBLIC, limit=Zone.WORLD, destination=CACHE)


def a_recall(store: MemoryStore | None = None) -> Recall:
    return Recall(store or MemoryStore(max_bytes=100_000, ttl_s=60), gate=Gate())


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 0.3},
        {"stream": True},
        {"tools": []},
        {"a_field_of_next_year": 1},
        {"seed": 1},
        {"model": "small"},
    ],
)
def test_whatever_can_change_an_answer_changes_the_key(body: dict[str, object]) -> None:
    assert key(an_inbound()) != key(an_inbound(body=body))


@pytest.mark.parametrize("body", [{"user": "u1"}, {"metadata": {"a": "b"}}])
def test_labels_for_the_provider_do_not_change_the_key(body: dict[str, object]) -> None:
    assert key(an_inbound()) == key(an_inbound(body=body))


def test_the_order_of_fields_does_not_change_the_key() -> None:
    inbound = an_inbound(body={"seed": 1, "n": 1})
    turned = dataclasses.replace(inbound, body=dict(reversed(list(inbound.body.items()))))
    assert key(inbound) == key(turned)


def test_callers_classes_policies_and_ladders_do_not_share_answers() -> None:
    keys = {
        key(an_inbound()),
        key(an_inbound(caller=a_caller())),
        exact_key(an_inbound(), some_signals(data=DataClass.INTERNAL), DECISION),
        exact_key(an_inbound(), SIGNALS, a_decision("small", policy_revision="other")),
        exact_key(an_inbound(), SIGNALS, a_decision("small", "large")),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("data", [DataClass.PERSONAL, DataClass.SPECIAL, DataClass.SECRET])
def test_the_cache_is_off_for_personal_data(data: DataClass) -> None:
    state, _, kept = a_recall().look(an_inbound(), some_signals(data=data), DECISION)
    assert (state, kept) == (CacheState.OFF, None)


def test_an_answer_is_found_again() -> None:
    recall = a_recall()
    state, key_, _ = recall.look(an_inbound(), SIGNALS, DECISION)
    assert state is CacheState.MISS
    recall.keep(key_, Kept(b"answer", SMALL, None), SIGNALS, DECISION)
    state, _, kept = recall.look(an_inbound(), SIGNALS, DECISION)
    assert state is CacheState.HIT
    assert kept is not None
    assert kept.body == b"answer"


def test_a_caller_may_ask_for_no_cache() -> None:
    assert a_recall().look(an_inbound(cacheable=False), SIGNALS, DECISION)[0] is CacheState.OFF


def test_the_store_never_holds_more_than_its_bound() -> None:
    store = MemoryStore(max_bytes=50_000, ttl_s=60)
    for number in range(200):
        store.put(b"%d" % number, released(b"x" * 1_000))
        assert store.size_bytes <= 50_000
    assert store.get(b"199") is not None
    assert store.get(b"0") is None


def test_an_answer_too_large_is_not_kept() -> None:
    store = MemoryStore(max_bytes=50_000, ttl_s=60)
    store.put(b"k", released(b"x" * 20_000))
    assert len(store) == 0


def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    now = [0.0]
    store = MemoryStore(max_bytes=50_000, ttl_s=60, clock=lambda: now[0])
    store.put(b"k", released())
    now[0] = 59
    assert store.get(b"k") is not None
    now[0] = 61
    assert store.get(b"k") is None
