from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import (
    UpstreamBroken,
    UpstreamContext,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamPaused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.retries import Budget, Pace, again, race, worth_it
from gateway.types import Retries

QUICK = Retries(most=3, first_wait_s=0.001, longest_wait_s=0.5)


@pytest.mark.parametrize(
    ("error", "on_a_rung", "on_the_last"),
    [
        (UpstreamFailed("500"), True, True),
        (UpstreamBroken("half"), True, True),
        (UpstreamUnreachable("refused"), False, True),
        (UpstreamOverloaded("busy", retry_after_s=0.5, status=429), False, True),
        (UpstreamOverloaded("busy", retry_after_s=60.0, status=429), False, False),
        (UpstreamOverloaded("quota", status=429, passing=False), False, False),
        (UpstreamTimeout("20 s"), False, False),
        (UpstreamPaused("open"), False, False),
        (UpstreamDenied("key"), False, False),
        (UpstreamContext("long"), False, False),
    ],
    ids=lambda value: value.code if isinstance(value, UpstreamError) else "",
)
def test_a_call_is_made_again_where_that_may_help_and_nothing_better_is_at_hand(
    error: UpstreamError, on_a_rung: bool, on_the_last: bool
) -> None:
    assert worth_it(error, QUICK, last=False) is on_a_rung
    assert worth_it(error, QUICK, last=True) is on_the_last
    assert not worth_it(error, Retries(most=0), last=True)


def asked_again(*outcomes: str | UpstreamError, first: UpstreamError | None = None) -> tuple[str, int]:
    """The answer, and how many calls were made after the first."""
    script, made = list(outcomes), 0

    async def once(number: int) -> str:
        nonlocal made
        made += 1
        assert number == made
        step = script.pop(0)
        if isinstance(step, UpstreamError):
            raise step
        return step

    first = first or UpstreamFailed("500")
    return asyncio.run(again(first, once, retries=QUICK, budget=Budget(), last=True)), made


def test_a_failure_that_passes_is_made_good_by_the_same_model() -> None:
    assert asked_again("yes") == ("yes", 1)
    assert asked_again(UpstreamFailed("500"), UpstreamBroken("half"), "yes") == ("yes", 3)


def test_calls_are_not_made_again_without_end_and_the_last_failure_is_told() -> None:
    with pytest.raises(UpstreamBroken, match="third"):
        asked_again(UpstreamFailed("first"), UpstreamFailed("second"), UpstreamBroken("third"))


def test_an_error_that_does_not_pass_ends_the_retries() -> None:
    with pytest.raises(UpstreamContext):
        asked_again(UpstreamContext("long"), "never")


def test_a_retry_waits_as_long_as_the_upstream_says() -> None:
    async def main() -> float:
        clock = asyncio.get_running_loop().time
        started = clock()
        busy = UpstreamOverloaded("busy", retry_after_s=0.2, status=429)
        await again(busy, _yes, retries=QUICK, budget=Budget(), last=True)
        return clock() - started

    assert asyncio.run(main()) >= 0.19


async def _yes(_number: int) -> str:
    return "yes"


def test_an_upstream_in_trouble_does_not_get_twice_the_calls() -> None:
    budget = Budget()
    second = 0
    for _ in range(1000):
        budget.earn()
        second += budget.spend()
    assert 200 <= second <= 211


def test_what_is_slow_is_not_known_before_enough_answers_have_come() -> None:
    pace = Pace()
    for number in range(19):
        pace.add(float(number))
    assert pace.p95 is None
    pace.add(19.0)
    assert pace.p95 == 19.0


# --- hedges ----------------------------------------------------------------------------------------------------------


class Lane:
    """One of two calls: when it ends and how, and whether it was broken off."""

    def __init__(self, seconds: float, result: str | UpstreamError) -> None:
        self.seconds, self.result = seconds, result
        self.made = self.broken_off = False

    async def call(self) -> str:
        self.made = True
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.broken_off = True
            raise
        if isinstance(self.result, UpstreamError):
            raise self.result
        return self.result


def raced(first: Lane, second: Lane, *, drop: Callable[[str], Awaitable[None]] | None = None) -> str:
    async def main() -> str:
        result = await race(first.call(), second.call, after_s=0.02, drop=drop or _never)
        assert len(asyncio.all_tasks()) == 1
        return result

    return asyncio.run(main())


async def _never(_result: str) -> None:
    raise AssertionError("nobody has lost")


def test_a_call_that_is_quick_has_no_second() -> None:
    second = Lane(0, "second")
    assert raced(Lane(0, "first"), second) == "first"
    assert not second.made


def test_the_first_answer_wins_and_the_other_call_is_broken_off() -> None:
    first, second = Lane(30, "first"), Lane(0, "second")
    assert raced(first, second) == "second"
    assert first.broken_off
    first, second = Lane(0.06, "first"), Lane(30, "second")
    assert raced(first, second) == "first"
    assert second.broken_off


def test_a_failure_is_waited_over_while_the_other_call_may_answer() -> None:
    assert raced(Lane(0.06, UpstreamTimeout("first")), Lane(0.1, "second")) == "second"
    assert raced(Lane(0.1, "first"), Lane(0, UpstreamFailed("second"))) == "first"


def test_the_first_calls_failure_is_told_when_both_fail() -> None:
    with pytest.raises(UpstreamTimeout, match="first"):
        raced(Lane(0.06, UpstreamTimeout("first")), Lane(0, UpstreamFailed("second")))


def test_a_client_that_leaves_a_race_leaves_no_call_behind() -> None:
    first, second = Lane(30, "first"), Lane(30, "second")

    async def main() -> None:
        task = asyncio.create_task(race(first.call(), second.call, after_s=0.01, drop=_never))
        while not second.made:  # noqa: ASYNC110 - it is a flag
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert first.broken_off and second.broken_off
