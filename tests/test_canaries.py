"""Nothing leaks: canaries of every class, in every place of a request, over every path through a running gateway."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from gateway.types import DataClass, Zone
from tests.canaries import PLACES, UNREADABLE, Body, Canary, canary
from tests.running import Running, running
from tests.witness import Witness, witnesses

ZONES = {"world": Zone.WORLD, "eu": Zone.EU, "premises": Zone.PREMISES}
LADDER = ("refuse", "fail", "reset", "cut", "poor", "good")
MODELS = {f"{zone}-{how}": how for zone in ZONES for how in (*LADDER, "reject")}
LIMITS = {DataClass.PUBLIC: Zone.WORLD, DataClass.INTERNAL: Zone.EU}


def rungs(*behaviours: str) -> str:
    return ", ".join(f"{zone}-{how}" for zone in ZONES for how in behaviours)


POLICY = f"""
version: 1
description: The farthest model first.
guarantees: [{{data: internal, stays: eu}}, {{data: personal, stays: premises}}]
routes:
  nearest: {{try: [{rungs("good")}]}}
  gauntlet: {{try: [{rungs(*LADDER)}], verify: [finish]}}
  broken: {{try: [{rungs("cut")}], mode: streamed, cache: false}}
  wrong: {{try: [{rungs("reject")}], cache: false}}
  failing: {{try: [{rungs("fail")}], cache: false}}
rules: [{{name: copied, when: {{}}, use: nearest, shadow: world-poor}}]
default: nearest
aliases: {{gpt-4o: world-good}}
"""
# What a caller asks for, and the headers that come with it: every way to a model.
PATHS: dict[str, tuple[Body, dict[str, str]]] = {
    "the first rung": ({}, {}),
    "the cache": ({}, {}),
    "the first rung, streamed": ({"stream": True}, {}),
    "failures, then escalation": ({"model": "gauntlet"}, {}),
    "failures, then escalation, streamed": ({"model": "gauntlet", "stream": True}, {}),
    "a stream that breaks": ({"model": "broken", "stream": True}, {}),
    "nothing but failures": ({"model": "failing"}, {}),
    "a model that says no": ({"model": "wrong"}, {}),
    "a model that says no, streamed": ({"model": "wrong", "stream": True}, {}),
    "a pinned model in the world": ({"model": "world-good"}, {}),
    "a pinned model in the EU": ({"model": "eu-good", "stream": True}, {}),
    "an alias": ({"model": "gpt-4o"}, {}),
    "a forged class": ({"user": "x"}, {"x-cauce-data-class": "public"}),
}


def config(servers: dict[str, Witness]) -> str:
    lines = ["discover: false", "models:"]
    never = "breaker: {failures: 0}"  # else which classes find a failing model at rest depends on the machine's pace
    for name, server in servers.items():
        lines.append(
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{server.port}/v1', model: m, "
            f"zone: {name.partition('-')[0]}, kind: llm, modalities: [text, image, file], {never}}}"
        )
    return "\n".join(lines)


@dataclass
class Flight:
    """A canary, the farthest zone that it may be seen in, and all that came back for it."""

    canary: Canary
    limit: Zone
    place: str
    replies: list[httpx.Response] = field(default_factory=list)


@dataclass
class Story:
    gateway: Running
    servers: dict[str, Witness]
    flights: list[Flight]

    def seen_by(self, zone: Zone) -> bytes:
        return b"\n".join(
            bytes(server.seen) for name, server in self.servers.items() if ZONES[name.partition("-")[0]] is zone
        )


def fly(client: httpx.Client, flight: Flight, path: str, **headers: str) -> None:
    changes, given = PATHS[path]
    body = {**PLACES[flight.place](flight.canary), **changes}
    flight.replies.append(client.post("/v1/chat/completions", json=body, headers={**given, **headers}))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    flights: list[Flight] = []
    with (
        witnesses(MODELS) as servers,
        running(tmp_path_factory.mktemp("canaries"), config(servers), policy=POLICY) as gateway,
        httpx.Client(base_url=gateway.url, timeout=30) as client,
    ):
        for number, (data, place) in enumerate(((data, place) for data in DataClass for place in PLACES), start=100):
            limit = Zone.PREMISES if place in UNREADABLE else LIMITS.get(data, Zone.PREMISES)
            flights.append(Flight(canary(data, 2 * number), limit, place))
            for path in PATHS:
                fly(client, flights[-1], path)
            flights.append(Flight(canary(data, 2 * number + 1), Zone.PREMISES, place))
            fly(client, flights[-1], "failures, then escalation", **{"x-cauce-data-class": "personal"})
        yield Story(gateway, servers, flights)


@pytest.mark.parametrize("data", DataClass, ids=lambda data: data.label)
def test_no_server_outside_its_zone_sees_a_text(story: Story, data: DataClass) -> None:
    leaks = [
        f"{zone.label} has seen {flight.canary.text!r} from {flight.place}"
        for zone in (Zone.EU, Zone.WORLD)
        for heap in [story.seen_by(zone)]
        for flight in story.flights
        if flight.canary.data is data and flight.limit < zone and flight.canary.seen_in(heap)
    ]
    assert not leaks


@pytest.mark.parametrize(("data", "zone"), [(data, LIMITS.get(data, Zone.PREMISES)) for data in DataClass])
def test_every_path_leads_a_text_to_servers_inside_its_zone(story: Story, data: DataClass, zone: Zone) -> None:
    sent = [flight.canary for flight in story.flights if flight.canary.data is data]
    for name, server in story.servers.items():
        if ZONES[name.partition("-")[0]] is zone and not name.endswith("refuse"):
            assert any(canary.seen_in(bytes(server.seen)) for canary in sent), name


def test_only_what_is_no_request_is_turned_away_unread(story: Story) -> None:
    refused = {flight.place for flight in story.flights for reply in flight.replies[:1] if reply.status_code == 400}
    assert refused == {"text that is refused", "text in place of a switch"}
    statuses = {reply.status_code for flight in story.flights for reply in flight.replies}
    assert statuses == {200, 400, 502, 503}


def test_a_second_identical_request_is_answered_by_the_cache_unless_it_is_personal(story: Story) -> None:
    again = {
        (flight.limit, flight.replies[1].headers["x-cauce-cache"])
        for flight in story.flights
        if len(flight.replies) > 1
    }
    assert {(Zone.WORLD, "hit"), (Zone.EU, "hit"), (Zone.PREMISES, "off")} <= again
    assert (Zone.PREMISES, "hit") not in again


def test_no_reply_repeats_a_text_not_even_to_say_what_was_wrong_with_it(story: Story) -> None:
    repeated = [
        (flight.place, reply.status_code, reply.text[:300])
        for flight in story.flights
        for reply in flight.replies
        for headers in [b"\n".join(value for pair in reply.headers.raw for value in pair)]
        if flight.canary.seen_in(headers) or flight.canary.seen_in(reply.content)
    ]
    assert not repeated


def ledger(story: Story) -> bytes:
    with sqlite3.connect(story.gateway.folder / "cauce.db") as database:
        rows = "\n".join(database.iterdump())
    database.close()
    assert rows.count('INSERT INTO "entries"') == sum(len(flight.replies) for flight in story.flights)
    return rows.encode()


def pages(story: Story) -> bytes:
    found = [httpx.get(f"{story.gateway.url}{path}") for path in ("/metrics", "/console", "/readyz", "/v1/models")]
    assert all(page.status_code == 200 for page in found)
    return b"".join(page.content for page in found)


def log(story: Story) -> bytes:
    assert story.gateway.output.count('"logger":"cauce.request"') == sum(
        len(flight.replies) for flight in story.flights
    )
    return story.gateway.output.encode()


@pytest.mark.parametrize("heap", [ledger, log, pages], ids=["the ledger", "the log", "the pages"])
def test_no_text_stays_behind(story: Story, heap: object) -> None:
    assert callable(heap)
    left = heap(story)
    assert not [flight.canary.text for flight in story.flights if flight.canary.seen_in(left)]


def test_no_text_stays_in_the_ledgers_files_between_its_rows(story: Story) -> None:
    files = b"".join(file.read_bytes() for file in story.gateway.folder.glob("cauce.db*"))
    assert b"SQLite format 3" in files
    assert not [mark for flight in story.flights for mark in flight.canary.marks if mark.encode() in files]


def test_every_line_of_the_log_is_json(story: Story) -> None:
    printed = story.gateway.output.splitlines()
    first = next(number for number, line in enumerate(printed) if line.startswith("{"))
    assert all(isinstance(json.loads(line), dict) for line in printed[first:])


def test_without_guarantees_the_same_texts_get_out_and_the_same_eyes_see_it(tmp_path: Path) -> None:
    policy = "version: 1\nroutes: {far: {try: [world-good]}}\ndefault: far\nprivacy: {unreadable: public}\n"
    out = [Flight(canary(data, 900 + data), Zone.PREMISES, place) for data in DataClass for place in PLACES]
    with (
        witnesses({"world-good": "good"}) as servers,
        running(tmp_path, config(servers), policy=policy) as gateway,
        httpx.Client(base_url=gateway.url, timeout=30) as client,
    ):
        for flight in out:
            fly(client, flight, "the first rung")
    heap = bytes(servers["world-good"].seen)
    assert {flight.canary.data for flight in out if flight.canary.seen_in(heap)} == set(DataClass)
