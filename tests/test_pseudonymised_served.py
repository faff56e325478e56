"""A personal request goes out with placeholders and its answer comes back with names: each door, whole and streamed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.running import Running, running
from tests.witness import Witness, witnesses

POLICY = """
version: 1
guarantees: [{data: personal, stays: premises, unless: pseudonymised}]
routes:
  masked: {try: [far, broken, near], transform: pseudonymise}
  falls: {try: [broken, near], transform: pseudonymise}
  local: {try: [near]}
rules:
  - {name: special-stays, when: {data: ">= special"}, use: masked}
  - {name: personal, when: {data: personal}, use: masked}
default: masked
aliases: {gpt-4o: far}
"""
NAME, DNI, MAIL = "Ana Ruiz Gil", "12345678Z", "ana.ruiz@gmail.com"
TEXT = f"El DNI de {NAME} es {DNI} y su correo {MAIL}: redacta un saludo."


@dataclass
class House:
    gateway: Running
    servers: dict[str, Witness]

    def sent(self, name: str = "far") -> str:
        """What a server has received since the last look."""
        seen = bytes(self.servers[name].seen).decode("utf-8", "replace")
        self.servers[name].seen.clear()
        return seen

    def ask(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        for name in self.servers:
            self.sent(name)
        return httpx.post(f"{self.gateway.base_url}/chat/completions", json=body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with witnesses({"far": "echo", "broken": "fail", "near": "echo"}) as servers:
        zones = {"far": "world", "broken": "world", "near": "premises"}
        models = "".join(
            f"  {name}: {{provider: openai-compatible, base_url: 'http://127.0.0.1:{server.port}/v1', model: m, "
            f"zone: {zones[name]}, kind: llm}}\n"
            for name, server in servers.items()
        )
        config = f"discover: false\nmodels:\n{models}"
        with running(tmp_path_factory.mktemp("masked"), config, policy=POLICY) as gateway:
            yield House(gateway, servers)


def user(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def none_of(sent: str) -> bool:
    return not any(value in sent for value in (NAME, "Ana", "Ruiz", DNI, MAIL))


@pytest.mark.parametrize("stream", [False, True])
def test_the_chat_door(house: House, stream: bool) -> None:
    client = openai.OpenAI(base_url=house.gateway.base_url, api_key="none")
    house.sent()
    if stream:
        chunks = list(client.chat.completions.create(stream=True, model="auto", messages=user()["messages"]))
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    else:
        said = str(client.chat.completions.create(model="auto", messages=user()["messages"]).choices[0].message.content)
    assert said == TEXT
    sent = house.sent()
    assert "PERSON_" in sent
    assert none_of(sent)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_arguments_are_json_with_the_values_in_it(house: House, stream: bool) -> None:
    name = f"ficha_{DNI}"
    tool = {"type": "function", "function": {"name": name, "description": f"La ficha de {NAME}.", "parameters": {}}}
    reply = house.ask(user(tools=[tool], stream=stream))
    if stream:
        chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        calls = [call for c in chunks for choice in c["choices"] for call in choice["delta"].get("tool_calls", [])]
        names = [call["function"]["name"] for call in calls if call["function"].get("name")]
        arguments = "".join(call["function"].get("arguments", "") for call in calls)
    else:
        function = reply.json()["choices"][0]["message"]["tool_calls"][0]["function"]
        names, arguments = [function["name"]], function["arguments"]
    assert names == [name]
    assert json.loads(arguments) == {"nota": TEXT}
    assert none_of(house.sent())


@pytest.mark.parametrize("stream", [False, True])
def test_the_other_doors(house: House, stream: bool) -> None:
    house.sent()
    base, asked = house.gateway.base_url, {"model": "auto", "stream": stream}
    old = httpx.post(f"{base}/completions", json={**asked, "prompt": TEXT}, timeout=30)
    new = httpx.post(f"{base}/responses", json={**asked, "input": TEXT}, timeout=30)
    client = anthropic.Anthropic(base_url=house.gateway.url, api_key="none")
    with client.messages.stream(model="auto", max_tokens=100, messages=[{"role": "user", "content": TEXT}]) as events:
        assert events.get_final_text() == TEXT
    for reply in (old, new):
        assert reply.headers["x-cauce-transform"] == "pseudonymised"
        assert "PERSON_" not in reply.text
    if not stream:
        assert old.json()["choices"][0]["text"] == TEXT
        assert new.json()["output"][0]["content"][0]["text"] == TEXT
    sent = house.sent()
    assert sent.count("PERSON_") >= 3
    assert none_of(sent)


def test_a_conversation_keeps_its_placeholders_and_gets_earlier_answers_masked_too(house: House) -> None:
    first = house.ask(user()).json()["choices"][0]["message"]["content"]
    before = house.sent()
    turns = [*user()["messages"], {"role": "assistant", "content": first}, {"role": "user", "content": "¿Y su NIF?"}]
    reply = house.ask({"messages": turns})
    after = house.sent()
    code = before.partition("PERSON_")[2][:4]
    assert f"PERSON_{code}" in after
    assert after.count(f"PERSON_{code}") == 2
    assert none_of(after)
    assert reply.headers["x-cauce-data-class"] == "personal"


def test_a_placeholder_that_a_user_types_gets_nobodys_name(house: House) -> None:
    house.ask(user())
    minted = "PERSON_" + house.sent().partition("PERSON_")[2][:4]
    for body in (user(f"¿Quién es {minted}?"), user(f"{TEXT} ¿Y quién es {minted}, o [PERSON_1]?")):
        said = house.ask(body).json()["choices"][0]["message"]["content"]
        assert minted in said
        assert said == body["messages"][0]["content"]


def test_models_inside_the_zone_get_the_text_as_it_is(house: House) -> None:
    reply = house.ask(user(model="falls"))
    assert reply.headers["x-cauce-model"] == "near"
    assert reply.json()["choices"][0]["message"]["content"] == TEXT
    assert TEXT in house.sent("near")
    assert none_of(house.sent("broken"))


STAYS = {
    "health": "Ana Ruiz Gil, DNI 12345678Z, tiene cáncer de mama y toma tamoxifeno.",
    "a password": "La contraseña de ana.ruiz@gmail.com es Tr3bol!Qx9.",
    "a statement without a place": "Mi marido me ha dejado y estoy sola con mis dos hijos, no llego a fin de mes.",
}


@pytest.mark.parametrize("text", STAYS.values(), ids=STAYS)
def test_what_placeholders_do_not_take_out_stays(house: House, text: str) -> None:
    reply = house.ask(user(text))
    assert (reply.status_code, reply.headers["x-cauce-model"]) == (200, "near")
    assert house.sent("far") == house.sent("broken") == ""


def test_what_the_caller_called_personal_stays(house: House) -> None:
    reply = house.ask(user(), **{"x-cauce-data-class": "personal"})
    assert (reply.headers["x-cauce-model"], reply.headers["x-cauce-transform"]) == ("near", "none")
    assert not house.sent("far")


def test_a_model_named_by_its_caller_gets_no_personal_text_at_all(house: House) -> None:
    for name in ("far", "gpt-4o"):
        assert house.ask(user(model=name)).status_code == 503
    assert not house.sent("far")


def test_no_answer_with_a_name_is_kept(house: House) -> None:
    assert [house.ask(user()).headers["x-cauce-cache"] for _ in range(2)] == ["off", "off"]
    assert house.sent("far")


def test_the_audit_says_what_was_done_and_nothing_keeps_a_text(house: House) -> None:
    request = house.ask(user()).headers["x-cauce-request-id"]
    falls = house.ask(user(model="falls")).headers["x-cauce-request-id"]
    stayed = house.ask(user(), **{"x-cauce-data-class": "personal"}).headers["x-cauce-request-id"]
    with sqlite3.connect(house.gateway.folder / "cauce.db") as database:
        heap = "\n".join(database.iterdump())
        read = "SELECT transform, destinations, detail, data_class FROM audit WHERE request_id = ?"
        done, half, none = (database.execute(read, (name,)).fetchone() for name in (request, falls, stayed))
    database.close()
    assert done[0] == "pseudonymised"
    assert [(one["zone"], one.get("transform")) for one in json.loads(done[1])] == [("world", "pseudonymised")]
    detail = json.loads(done[2])
    assert detail["sent_as"] == "public"
    assert detail["replaced"] == {"EMAIL": 1, "ID": 1, "PERSON": 1}
    assert done[3] == "personal"
    *tries, answered = (one.get("transform") for one in json.loads(half[1]))
    assert set(tries) == {"pseudonymised"}
    assert answered is None
    assert (none[0], json.loads(none[2])) == ("none", {"not_pseudonymised": "raised"})
    for text in (heap, house.gateway.output):
        assert none_of(text)
        assert "PERSON_" not in text


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="only Linux says so there")
def test_a_gateway_that_crashes_leaves_no_picture_of_its_memory(house: House) -> None:
    limits = Path(f"/proc/{house.gateway.process.pid}/limits").read_text(encoding="utf-8")
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4] == "0"
