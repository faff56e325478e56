"""The canary run: random requests over all paths with random faults, and what each zone has seen of them.

    python -m tests.canary_run --requests 100000

Everything between the caller's bytes and the upstreams' adapters is the product's own: doors, scan, policies (changed
while requests run), gate, ladder, retries, shadows, opinions, cache, pseudonyms, recorder. Upstreams are in process and
write down what they are given; they answer, fail, break off or say nothing. The detector fails now and then, the cache
does, clients leave. A canary that a zone beyond its own has seen, in any spelling, is a leak; so is one
in the ledger, the audit, the log or another caller's reply. Sockets and adapters: `tests/test_canaries.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import orjson

from gateway.cache.conversations import Conversations
from gateway.cache.store import Kept, MemoryStore
from gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.gate import Gate, Released
from gateway.ledger.entry import attempt_entries, entry_of
from gateway.ledger.prices import Machine, PriceBook
from gateway.opinions import Opinions
from gateway.pipeline import Pipeline
from gateway.policy.load import parse_policy
from gateway.policy.rules import Policy
from gateway.pseudonyms.names import CODE_LENGTH, CODE_LETTERS, TYPES, Pseudonyms, like_placeholders
from gateway.reading import ARTIFACTS
from gateway.settings import LimitSettings
from gateway.shadows import Shadows
from gateway.signals.language import detect
from gateway.signals.privacy import PrivacyScanner
from gateway.signals.remembered import Remembered
from gateway.stages.classify import Classifier, Moment
from gateway.stages.pseudonymise import Pseudonymiser
from gateway.stages.recall import Recall
from gateway.telemetry.audit import record_of
from gateway.types import (
    Answer,
    Attempt,
    Caller,
    Cloud,
    DataClass,
    Detection,
    Difficulty,
    Exchange,
    Model,
    Part,
    Retries,
    Zone,
)
from gateway.upstreams.base import Call, Health
from gateway.wire import completions, messages, responses
from gateway.wire.chat import read_texts
from gateway.wire.door import Door
from gateway.wire.endpoint import Endpoint
from tests.canaries import PLACES, UNREADABLE, Body, Canary, canary
from tests.upstreams.loopback import DONE, completion, delta

_MINTED: Final = re.compile(rf"\b(?:{'|'.join(TYPES)})_[{CODE_LETTERS}]{{{CODE_LENGTH}}}")  # as we write them
_BATCH: Final = 128
_AT_ONCE: Final = 24
_KEYS: Final = {f"key-{n}": Caller(id=f"key_{n}", team=f"t{n}", app="app") for n in range(3)}
_ZONES: Final = {"world": Zone.WORLD, "eu": Zone.EU, "premises": Zone.PREMISES}
_MODELS: Final = {
    f"{zone}-{kind}": Model(
        f"{zone}-{kind}", "fake", "m", _ZONES[zone], kind, hedge="none", retries=Retries(1, 0.0, 0.0),
        modalities=frozenset({"text", "image", "audio", "file"}),
    )
    for zone in _ZONES
    for kind in ("slm", "llm")
}  # fmt: skip
_ROUTES: Final = """
  far: {try: [llm, slm], verify: [finish]}
  masked: {try: [world-llm, eu-llm, premises-slm], verify: [finish], transform: pseudonymise}
  drafted:
    try: [premises-slm, world-llm, eu-llm]
    verify: [finish, {judge: {model: world-slm, at_least: 0.9}}]
    draft: true
    transform: pseudonymise
  streaming: {try: [world-slm, eu-slm, premises-llm], mode: streamed, transform: pseudonymise}
  buffered: {try: [slm, llm], mode: buffered, verify: [finish], transform: pseudonymise}
"""
_RULES: Final = (
    """
  - {name: copied, when: {task: faq}, use: far, shadow: world-slm}
  - {name: hard, when: {gain: ">= 0.5"}, use: masked}""",
    """
  - {name: kept, when: {gain: ">= 0.3"}, use: masked, sticky: conversation, canary: {far: 30%}}""",
    """
  - {name: copied, when: {data: ">= personal"}, use: masked, shadow: eu-slm}
  - {name: formed, when: {json: true}, use: buffered}""",
    " []",
)
_PROMISES: Final = (
    ("[{data: internal, stays: eu}, {data: personal, stays: premises, unless: pseudonymised}]", Zone.EU),
    ("[{data: personal, stays: premises, unless: pseudonymised}]", Zone.WORLD),
)
_ASKED_FOR: Final = (
    "auto", "auto", "auto", "far", "masked", "masked", "drafted", "streaming", "buffered", "gpt-4o", *_MODELS,
)  # fmt: skip
_DOORS: Final = {
    "/v1/chat/completions": Door("chat"),
    "/v1/completions": completions.DOOR,
    "/v1/messages": messages.DOOR,
    "/v1/responses": responses.DOOR,
}
_FILLERS: Final = ("Hola.", "¿Qué tal?", "Thanks, and shorter please.", "Explica cómo funciona un faro.")


@dataclass
class Flight:
    """One request: its canary, the farthest zone that may see it, and what became of it."""

    canary: Canary
    limit: Zone
    said: str
    caller: str
    reply: bytearray = field(default_factory=bytearray)
    status: int = 0
    whole: bool = False


@dataclass
class Tally:
    """What was flown, and what leaked."""

    flights: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)


CURRENT: ContextVar[Flight] = ContextVar("flight")


class Unsteady:
    """An upstream that writes down what it is given, then does anything."""

    def __init__(self, model: Model, seen: list[bytes], chance: random.Random, kinds: Counter[str]) -> None:
        self.model = model
        self._seen = seen
        self._chance = chance
        self._kinds = kinds

    def _given(self, call: Released[Call]) -> str:
        value = call.value
        self._seen.append(orjson.dumps([value.body, dict(value.headers)]))
        self._kinds[f"a call in {self.model.zone.label}"] += 1
        said = value.body["messages"]
        assert isinstance(said, list)
        content = said[-1].get("content")
        if any(like_placeholders(self._seen[-1].decode())):
            self._kinds["a call with placeholders"] += 1
        return content if isinstance(content, str) else "El faro."

    def _fault(self) -> UpstreamError | None:
        if self._chance.random() < 0.7:
            return None
        kind: type[UpstreamError] = self._chance.choice(
            [UpstreamTimeout, UpstreamUnreachable, UpstreamOverloaded, UpstreamFailed, UpstreamRejected]
        )
        self._kinds[f"upstream: {kind.__name__}"] += 1
        return kind("it happens")

    async def complete(self, call: Released[Call]) -> Answer:
        text = self._given(call)
        await asyncio.sleep(0)
        if (fault := self._fault()) is not None:
            raise fault
        text = "" if self._chance.random() < 0.1 else text
        return Answer(orjson.dumps(completion(text)), text)

    async def stream(self, call: Released[Call]) -> AsyncIterator[bytes]:
        text = self._given(call)
        await asyncio.sleep(0)
        if (fault := self._fault()) is not None:
            raise fault
        text = "" if self._chance.random() < 0.1 else text
        place = 0
        while place < len(text):
            step = self._chance.randint(1, 12)
            yield delta(text[place : place + step])
            place += step
            if self._chance.random() < 0.01:
                self._kinds["a stream that was cut"] += 1
                raise UpstreamBroken("it broke off")
        yield delta(finish="stop")
        yield DONE

    async def health(self) -> Health:
        return Health(True)

    async def aclose(self) -> None:
        pass


class UnsteadyScanner:
    """The privacy scan, which fails now and then: the canary of that request may then be seen nowhere else."""

    def __init__(self, scanner: PrivacyScanner, chance: random.Random, kinds: Counter[str]) -> None:
        self._scanner = scanner
        self._chance = chance
        self._kinds = kinds

    def scan(self, parts: Sequence[Part]) -> Detection:
        if self._chance.random() < 0.02:
            self._kinds["the detector failed"] += 1
            raise RuntimeError("the detector failed")
        return self._scanner.scan(parts)


class UnsteadyStore(MemoryStore):
    """A cache that forgets and, where it were another machine's, would not answer."""

    def __init__(self, chance: random.Random, kinds: Counter[str]) -> None:
        super().__init__(max_bytes=20_000_000, ttl_s=60)
        self._chance = chance
        self._kinds = kinds
        self.heap: list[bytes] = []

    def get(self, key: bytes) -> Kept | None:
        self._fail()
        return super().get(key)

    def put(self, key: bytes, answer: Released[Kept]) -> None:
        self._fail()
        self.heap.append(answer.value.body)
        super().put(key, answer)

    def _fail(self) -> None:
        if self._chance.random() < 0.01:
            self._kinds["the cache failed"] += 1
            raise ConnectionError("the cache failed")


class Scorer:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def score(self, _parts: Sequence[Part]) -> Difficulty:
        return Difficulty(self._chance.random(), self._chance.random(), self._chance.choice(["faq", "code"]), "general")


class Keys:
    required = True

    def find(self, key: str) -> Caller | None:
        return _KEYS.get(key)


class Recorder:
    """The entries and audit records of all requests, as they would be written; a ledger that fails changes nothing."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices
        self.heap: list[bytes] = []

    async def record(self, exchange: Exchange) -> None:
        attempts = attempt_entries(exchange, self._prices)
        entry = entry_of(exchange, attempts, self._prices)
        self.heap.append(repr((entry, attempts, record_of(exchange, entry, attempts))).encode())

    def record_shadow(self, exchange: Exchange, attempt: Attempt) -> None:
        self.heap.append(repr(attempt).encode())

    def cost(self, _exchange: Exchange) -> int | None:
        return 0


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heap: list[bytes] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heap.append(f"{record.getMessage()} {vars(record)}".encode("utf-8", "backslashreplace"))


class Field:
    """A gateway in process under one set of promises, and everything that could keep or pass on a text."""

    def __init__(self, promises: str, internal: Zone, *, seed: int, tally: Tally) -> None:
        self.chance = random.Random(seed)
        self.tally = tally
        self.internal = internal
        self.policies = [_policy(promises, rules) for rules in _RULES]
        self.policy = self.policies[0]
        kinds = tally.kinds
        self.seen: dict[Zone, list[bytes]] = {zone: [] for zone in Zone}
        upstreams = {m.id: Unsteady(m, self.seen[m.zone], self.chance, kinds) for m in _MODELS.values()}
        gate = Gate(on_refusal=lambda destination, _data: kinds.update([f"the gate refused {destination.name}"]))
        self.store = UnsteadyStore(self.chance, kinds)
        self.recorder = Recorder(PriceBook(machine=Machine(Decimal(0), Decimal(0), Decimal(0)), baseline=None))
        self.log = Log()
        scanner = UnsteadyScanner(PrivacyScanner.load(ARTIFACTS), self.chance, kinds)
        conversations = Conversations()
        self.shadows = Shadows(
            models=_MODELS,
            upstreams=upstreams,
            gate=gate,
            record=self.recorder.record_shadow,
            heard=_heard,
            crashed=self._crashed,
        )
        pipeline = Pipeline(
            classifier=Classifier(
                scorer=Scorer(self.chance),
                scanners={"balanced": scanner},
                language=detect,
                max_scan_chars=1_000_000,
                on_failure=lambda _error: None,
                remembered=Remembered(),
            ),
            policy=lambda: self.policy,
            models=_MODELS,
            upstreams=upstreams,
            gate=gate,
            recall=Recall(self.store, gate=gate),
            recorder=self.recorder,
            language=detect,
            moment=lambda inbound: Moment(self.chance.choice(list(Cloud)), 12, None, conversations.held_by(inbound)),
            heard=_heard,
            pseudonymiser=Pseudonymiser(Pseudonyms(), read=read_texts),
            conversations=conversations,
            shadows=self.shadows,
            opinions=Opinions(models=_MODELS, upstreams=upstreams, gate=gate, heard=_heard),
        )
        self.endpoint = Endpoint(
            {path: (door, pipeline.run) for path, door in _DOORS.items()},
            keys=Keys(),
            limits=LimitSettings(),
            recorder=self.recorder,
            crashed=self._crashed,
        )

    def _crashed(self, _request_id: str, error: BaseException) -> None:
        self.tally.kinds[f"a fault of the gateway: {type(error).__name__}"] += 1

    async def fly(self, numbers: range) -> None:
        """A batch of requests, each with a canary of its own; then every place is searched for all of them."""
        flights = [self._flight(number) for number in numbers]
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(flight: Flight, path: str, body: Body, headers: dict[str, str]) -> None:
            async with places:
                CURRENT.set(flight)
                if self.chance.random() < 0.05:
                    self.policy = self.chance.choice(self.policies)  # reload, with requests in flight
                    self.tally.kinds["a reload in flight"] += 1
                await self._ask(flight, path, body, headers)

        await asyncio.gather(*(asyncio.create_task(one(*flight)) for flight in flights))
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)  # the shadows
        self._search([flight for flight, *_ in flights])

    def _flight(self, number: int) -> tuple[Flight, str, Body, dict[str, str]]:
        chance = self.chance
        data = chance.choice(list(DataClass))
        bird = canary(data, number)
        limits = {DataClass.PUBLIC: Zone.WORLD, DataClass.INTERNAL: self.internal}
        limit = limits.get(data, Zone.PREMISES)
        path = chance.choice([*_DOORS, "/v1/chat/completions", "/v1/chat/completions"])
        place, body = _body(path, bird, chance)
        if place in UNREADABLE:
            limit = Zone.PREMISES
        headers = {"authorization": f"Bearer {chance.choice(list(_KEYS))}"}
        if chance.random() < 0.1:
            headers["x-cauce-data-class"] = "personal"
            limit = Zone.PREMISES
        if path == "/v1/messages":
            headers["anthropic-version"] = "2023-06-01"
        body |= {"model": chance.choice(_ASKED_FOR)}
        if chance.random() < 0.5:
            body["stream"] = True
        self.tally.kinds[f"door {path}"] += 1
        self.tally.kinds[f"class {data.label}"] += 1
        said = f"{data.label} in {place}, {path}, model {body['model']}, stream {body.get('stream', False)}"
        return Flight(bird, limit, said, headers["authorization"]), path, body, headers

    async def _ask(self, flight: Flight, path: str, body: Body, headers: dict[str, str]) -> None:
        raw = orjson.dumps(body)
        scope = {
            "type": "http", "method": "POST", "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        leaves = self.chance.random() < 0.03
        given = False

        async def receive() -> MutableMapping[str, Any]:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": raw, "more_body": False}
            if leaves:
                self.tally.kinds["a client that left"] += 1
            else:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                flight.status = message["status"]
                flight.reply += repr(message["headers"]).encode()
            else:
                flight.reply += message["body"]
                flight.whole = not message.get("more_body", False)

        await self.endpoint(scope, receive, send)
        self.tally.flights += 1
        self.tally.kinds[f"status {flight.status}"] += 1

    def _search(self, flights: Sequence[Flight]) -> None:
        leaks = self.tally.leaks
        for zone in (Zone.EU, Zone.WORLD):
            heap = b"\n".join(self.seen[zone])
            leaks += [f"{zone.label} has seen {f.said}" for f in flights if f.limit < zone and f.canary.seen_in(heap)]
        kept = b"\n".join([*self.recorder.heap, *self.log.heap])
        leaks += [f"kept: {f.said}" for f in flights if f.canary.seen_in(kept)]
        cached = b"\n".join(self.store.heap)
        leaks += [
            f"cached: {f.said}" for f in flights if f.canary.data >= DataClass.PERSONAL and f.canary.seen_in(cached)
        ]
        owners = {mark: number for number, flight in enumerate(flights) for mark in flight.canary.marks}
        marks = re.compile("|".join(map(re.escape, owners)))
        for number, flight in enumerate(flights):
            reply = flight.reply.decode("utf-8", "replace")
            if any(owners[mark.group()] != number for mark in marks.finditer(reply)):
                leaks.append(f"another's canary in the reply to {flight.said}")
            if _MINTED.search(reply) and flight.whole and b"event: error" not in flight.reply:
                leaks.append(f"a placeholder in the reply to {flight.said}")
        for searched in (*self.seen.values(), self.recorder.heap, self.log.heap, self.store.heap):
            searched.clear()


def _heard(_model: Model, _error: UpstreamError | None) -> None:
    """No breaker: each fault stands by itself."""


def _policy(promises: str, rules: str) -> Policy:
    text = f"version: 1\nguarantees: {promises}\nroutes:{_ROUTES}rules:{rules}\ndefault: masked\n"
    loaded = parse_policy(text + "aliases: {gpt-4o: world-llm}\n")
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def _body(path: str, bird: Canary, chance: random.Random) -> tuple[str, Body]:
    filler = chance.choice(_FILLERS)
    if path == "/v1/chat/completions":
        place = chance.choice(list(PLACES))
        body = PLACES[place](bird)
        if chance.random() < 0.4:
            body["messages"] = [
                {"role": "user", "content": filler},
                {"role": "assistant", "content": "Muy bien."},
                *body["messages"],
            ]
        return place, body
    if path == "/v1/completions":
        return "prompt", {"prompt": f"{filler}\n{bird.text}"}
    turn = {"role": "user", "content": filler}
    if path == "/v1/messages":
        tool = {"name": "buscar", "description": bird.text, "input_schema": {"type": "object"}}
        ways: list[tuple[str, Body]] = [
            ("system prompt", {"system": bird.text, "messages": [turn]}),
            ("turn", {"messages": [{"role": "user", "content": bird.text}]}),
            ("tool description", {"tools": [tool], "messages": [turn]}),
            ("metadata", {"metadata": {"user_id": bird.text}, "messages": [turn]}),
        ]
        place, body = chance.choice(ways)
        return place, {"max_tokens": 50, **body}
    ways = [
        ("input", {"input": bird.text}),
        ("instructions", {"instructions": bird.text, "input": filler}),
        ("a turn", {"input": [{"role": "user", "content": bird.text}, turn]}),
        ("metadata", {"metadata": {"nota": bird.text}, "input": filler}),
    ]
    return chance.choice(ways)


def run(requests: int, *, seed: int = 1, progress: bool = False) -> Tally:
    """So many requests, half under each set of promises. The same seed gives the same requests."""
    return asyncio.run(_run(requests, seed, progress))


async def _run(requests: int, seed: int, progress: bool) -> Tally:
    tally, began, said = Tally(), time.monotonic(), time.monotonic()
    first = 100 + seed * 1_000_000 % 7_000_000
    root = logging.getLogger()
    for half, (promises, internal) in enumerate(_PROMISES):
        field_ = Field(promises, internal, seed=seed * 2 + half, tally=tally)
        root.addHandler(field_.log)
        share = requests // 2 + (requests % 2) * half
        for start in range(0, share, _BATCH):
            base = first + half * (requests // 2) + start
            await field_.fly(range(base, base + min(_BATCH, share - start)))
            if progress and time.monotonic() - said > 5:
                said = time.monotonic()
                rate = tally.flights / (said - began)
                left = (requests - tally.flights) / rate
                line = f"{tally.flights:,} of {requests:,} requests, {rate:.0f}/s, {left:.0f} s left"
                print(f"{line}, {len(tally.leaks)} leaks", file=sys.stderr, flush=True)
        await field_.shadows.aclose()
        root.removeHandler(field_.log)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    tally = run(asked.requests, seed=asked.seed, progress=True)
    for kind, times in sorted(tally.kinds.items()):
        print(f"{times:>10,}  {kind}")
    print(f"{tally.flights:,} requests, {len(tally.leaks):,} canaries above their zone")
    for leak in tally.leaks[:50]:
        print(f"  {leak}")
    return 1 if tally.leaks else 0


if __name__ == "__main__":
    raise SystemExit(main())
