from __future__ import annotations

import pytest

from gateway.errors import (
    UpstreamBroken,
    UpstreamContext,
    UpstreamDenied,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamPaused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnfit,
)
from gateway.types import Cloud
from gateway.upstreams.breaker import Breaker, Circuit
from gateway.upstreams.fake import FakeUpstream
from gateway.upstreams.guarded import GuardedUpstream
from gateway.upstreams.health import CloudHealth
from tests.builders import LARGE
from tests.upstreams.loopback import clean_run, read_all, released


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failing(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.end(False, probe=breaker.begin())


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_failures_in_a_row_open_a_circuit_and_a_good_call_between_them_does_not(clock: Clock) -> None:
    breaker = Breaker(3, 5.0, clock=clock)
    failing(breaker, 2)
    breaker.end(True, probe=breaker.begin())
    failing(breaker, 2)
    assert breaker.state is Circuit.CLOSED
    failing(breaker, 1)
    assert (breaker.state, breaker.refuses, breaker.rest_s) == (Circuit.OPEN, True, 5.0)


def test_a_half_open_circuit_lets_exactly_one_probe_through(clock: Clock) -> None:
    breaker = Breaker(1, 5.0, clock=clock)
    failing(breaker, 1)
    clock.now += 5.0
    assert breaker.state is Circuit.HALF_OPEN
    assert not breaker.refuses
    assert breaker.begin()
    assert breaker.refuses
    breaker.end(True, probe=True)
    assert (breaker.state, breaker.refuses) == (Circuit.CLOSED, False)


def test_a_failed_probe_opens_the_circuit_again(clock: Clock) -> None:
    breaker = Breaker(5, 5.0, clock=clock)
    failing(breaker, 5)
    clock.now += 6.0
    failing(breaker, 1)
    assert (breaker.state, breaker.opened) == (Circuit.OPEN, 2)


def test_a_probe_that_was_broken_off_leaves_the_place_to_the_next(clock: Clock) -> None:
    breaker = Breaker(1, 5.0, clock=clock)
    failing(breaker, 1)
    clock.now += 5.0
    breaker.end(None, probe=breaker.begin())
    assert (breaker.state, breaker.refuses) == (Circuit.HALF_OPEN, False)


@pytest.mark.parametrize("good", [True, False])
def test_a_call_that_began_before_the_circuit_opened_neither_closes_nor_opens_it(clock: Clock, good: bool) -> None:
    breaker = Breaker(1, 5.0, clock=clock)
    early = breaker.begin()
    failing(breaker, 1)
    clock.now += 4.0
    breaker.end(good, probe=early)
    assert (breaker.state, breaker.rest_s) == (Circuit.OPEN, 1.0)


def test_a_circuit_without_a_limit_never_opens(clock: Clock) -> None:
    breaker = Breaker(0, 5.0, clock=clock)
    failing(breaker, 1000)
    assert breaker.state is Circuit.CLOSED


def test_other_gateways_can_be_told_of_an_opening_and_open_theirs(clock: Clock) -> None:
    theirs = Breaker(3, 5.0, clock=clock)
    ours = Breaker(3, 5.0, clock=clock, on_open=theirs.open)
    failing(ours, 3)
    assert theirs.state is Circuit.OPEN


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("error", "after"),
    [
        (UpstreamTimeout("5 s"), UpstreamPaused),
        (UpstreamBroken("half"), UpstreamPaused),
        (UpstreamDenied("key"), UpstreamPaused),
        (UpstreamOverloaded("busy"), UpstreamOverloaded),
        (UpstreamRejected("n"), UpstreamRejected),
        (UpstreamUnfit("tools"), UpstreamUnfit),
        (UpstreamContext("long"), UpstreamContext),
    ],
    ids=lambda value: value.code if isinstance(value, UpstreamError) else "",
)
def test_an_upstream_is_left_alone_for_its_failures_and_not_for_what_it_answered(
    error: UpstreamError, after: type[UpstreamError], stream: bool
) -> None:
    async def main() -> None:
        fake = FakeUpstream(LARGE, [error])
        upstream = GuardedUpstream(fake, Breaker(3, 60.0))
        for _ in range(3):
            with pytest.raises(type(error)):
                await call(upstream, stream)
        with pytest.raises(after) as last:
            await call(upstream, stream)
        if after is UpstreamPaused:
            assert len(fake.seen) == 3
            assert last.value.retry_after_s is not None
        assert upstream.calls == 0

    clean_run(main())


def test_what_a_provider_said_to_one_caller_is_not_told_to_the_next() -> None:
    async def main() -> None:
        upstream = GuardedUpstream(
            FakeUpstream(LARGE, [UpstreamBroken("large: cannot read 'Ana Ruiz'")]), Breaker(1, 60)
        )
        with pytest.raises(UpstreamBroken):
            await call(upstream, stream=False)
        with pytest.raises(UpstreamPaused) as paused:
            await call(upstream, stream=False)
        assert "Ana" not in paused.value.message
        assert UpstreamBroken.code in paused.value.message

    clean_run(main())


async def call(upstream: GuardedUpstream, stream: bool) -> None:
    if stream:
        await read_all(upstream, released(LARGE, stream=True))
    else:
        await upstream.complete(released(LARGE))


def test_the_cloud_is_down_when_all_of_it_that_was_asked_is_left_alone_and_up_again_by_itself(clock: Clock) -> None:
    used, unused = Breaker(3, 5.0, clock=clock), Breaker(3, 5.0, clock=clock)
    health = CloudHealth(["large", "other"], {"large": [used], "other": [unused]}, clock=clock)
    assert health.state() is Cloud.UP
    for _ in range(3):
        failing(used, 1)
        health.heard(LARGE, UpstreamTimeout("5 s"))
    assert health.state() is Cloud.DOWN
    clock.now += 5.0
    assert health.state() is Cloud.DEGRADED
    used.end(True, probe=used.begin())
    for _ in range(9):
        health.heard(LARGE, None)
    assert health.state() is Cloud.UP


def test_a_model_with_one_sound_replica_is_not_down(clock: Clock) -> None:
    broken, sound = Breaker(1, 5.0, clock=clock), Breaker(1, 5.0, clock=clock)
    failing(broken, 1)
    assert CloudHealth(["large"], {"large": [broken, sound]}, clock=clock).state() is Cloud.UP
