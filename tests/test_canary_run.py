"""A small canary run; `make soak` flies a hundred thousand: `python -m tests.canary_run --requests 100000`."""

from __future__ import annotations

import pytest

from tests.canary_run import Tally, run


@pytest.fixture(scope="module")
def tally() -> Tally:
    return run(1_000, seed=1)


def test_no_canary_is_seen_beyond_its_zone_or_kept_anywhere(tally: Tally) -> None:
    assert tally.flights == 1_000
    assert not tally.leaks


def test_the_run_has_flown_over_every_path_and_through_every_fault(tally: Tally) -> None:
    for kind in (
        *(f"a call in {zone}" for zone in ("premises", "eu", "world")),
        *(f"class {data}" for data in ("public", "internal", "personal", "special", "secret")),
        *(f"door /v1/{door}" for door in ("chat/completions", "completions", "messages", "responses")),
        *(f"upstream: Upstream{how}" for how in ("Timeout", "Unreachable", "Overloaded", "Failed", "Rejected")),
        "a call with placeholders", "a stream that was cut", "a reload in flight", "a client that left",
        "the cache failed", "the detector failed", "status 200", "status 503",
    ):  # fmt: skip
        assert tally.kinds[kind], kind
    assert not [kind for kind in tally.kinds if kind.startswith("a fault of the gateway")]
