from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.gate import Released
from gateway.settings import Settings
from gateway.types import Answer, Model
from gateway.upstreams.base import Call, Health
from gateway.upstreams.breaker import Breaker
from gateway.upstreams.fake import an_answer
from gateway.upstreams.guarded import GuardedUpstream
from gateway.upstreams.replicas import Replicas
from tests.builders import SMALL
from tests.upstreams.loopback import released


class Slow:
    """Holds every call until it may answer."""

    def __init__(self, model: Model = SMALL) -> None:
        self.model = model
        self.may_answer = asyncio.Event()

    async def complete(self, call: Released[Call]) -> Answer:
        await self.may_answer.wait()
        return an_answer("Sí")

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        yield b""

    async def health(self) -> Health:
        return Health(ready=True)

    async def aclose(self) -> None: ...


def some_replicas(weights: Sequence[int] = (1, 1, 1)) -> Replicas:
    return Replicas(SMALL, [GuardedUpstream(Slow(), Breaker(1, 60.0)) for _ in weights], weights)


def turns(name: str, number: int = 1) -> list[dict[str, str]]:
    conversation = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": f"I am {name}"}]
    for turn in range(1, number):
        conversation += [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": f"Question {turn}"}]
    return conversation


def chosen(replicas: Replicas, messages: object, number: int = 0) -> int:
    return replicas.members.index(replicas.choose(Call("req_1", {"messages": messages}, stream=False, number=number)))


def test_every_turn_of_a_conversation_goes_to_the_same_replica() -> None:
    replicas = some_replicas()
    for name in ("Ana", "Bo", "Cruz"):
        assert len({chosen(replicas, turns(name, number)) for number in range(1, 6)}) == 1


def test_conversations_are_spread_by_weight() -> None:
    replicas = some_replicas((1, 3))
    shares = Counter(chosen(replicas, turns(str(number))) for number in range(2000))
    assert 0.70 < shares[1] / 2000 < 0.80


def test_a_conversation_leaves_its_replica_while_that_has_more_than_its_share_of_the_calls() -> None:
    async def main() -> Counter[int]:
        replicas = some_replicas()
        call = released(SMALL, messages=turns("Ana"))
        calls = [asyncio.create_task(_ask(replicas, call)) for _ in range(30)]
        await asyncio.sleep(0)
        in_flight = Counter({place: member.calls for place, member in enumerate(replicas.members)})
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert [member.calls for member in replicas.members] == [0, 0, 0]
        return in_flight

    in_flight = asyncio.run(main())
    assert in_flight.total() == 30
    assert max(in_flight.values()) <= 13  # a quarter more than a third of 30, rounded up


async def _ask(replicas: Replicas, call: Released[Call]) -> None:
    await replicas.complete(call)


def test_a_replica_that_is_left_alone_gets_no_calls_and_the_others_keep_their_conversations() -> None:
    replicas = some_replicas()
    before = {name: chosen(replicas, turns(name)) for name in map(str, range(50))}
    broken = replicas.members[0].breaker
    broken.end(False, probe=broken.begin())
    after = {name: chosen(replicas, turns(name)) for name in before}
    assert 0 not in after.values()
    assert all(after[name] == place for name, place in before.items() if place != 0)


def test_a_second_try_goes_to_another_replica() -> None:
    replicas = some_replicas()
    assert sorted(chosen(replicas, turns("Ana"), number) for number in range(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("provider", "base_url", "key", "taken"),
    [
        ("openai", "", "", False),
        ("mistral", "https://api.mistral.ai/v1", "", False),
        ("openai", "", "sk-its-own", True),
        ("mistral", "https://elsewhere.example/other/v1", "", True),
        ("vllm", "http://10.0.0.1:8000/v1", "", True),
    ],
)
def test_a_providers_key_goes_to_no_other_host(provider: str, base_url: str, key: str, taken: bool) -> None:
    replica = {"base_url": "https://elsewhere.example/v1", "api_key": key}
    model = {
        "provider": provider, "model": "m", "zone": "world", "kind": "llm", "base_url": base_url, "api_key": "sk-key",
        "replicas": [replica],
    }  # fmt: skip
    if taken:
        assert Settings.model_validate({"models": {"large": model}}).models
        return
    with pytest.raises(ValueError, match=r"large: the replica at elsewhere\.example is not sent the key") as error:
        Settings.model_validate({"models": {"large": model}})
    assert "sk-key" not in str(error.value)
