"""`include`: one policy built on another, in the same folder or below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.policy.check import Proof, prove
from gateway.policy.decide import decide
from gateway.policy.live import LivePolicy
from gateway.policy.load import Loaded, load_policy, parse_policy, read_policy
from gateway.policy.problems import Problem
from gateway.policy.rules import Policy
from gateway.types import DataClass, Guarantee, Signals, Zone

from .builders import LARGE, SMALL, catalogue

MODELS = catalogue(SMALL, LARGE)
BASE = """version: 1
description: of the house
guarantees: [{data: personal, stays: premises}]
routes: {local: {try: [slm]}, cloud: {try: [llm, slm]}}
rules:
  - {name: stays, when: {data: ">= personal"}, use: local}
  - {name: hard, when: {gain: ">= 0.35"}, use: cloud}
default: local
aliases: {gpt-4o: auto, best: local}
privacy: {unreadable: secret, operating_point: strict}
time_zone: Europe/Madrid
"""
OWN = """version: 1
include: base.yaml
rules:
  - {name: faq, when: {task: faq}, use: local}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Files of a folder, the policy's own first; its path."""

    def put(own: str = OWN, **others: str) -> Path:
        for name, text in {"own": own, "base": BASE, **others}.items():
            file = tmp_path / f"{name.replace('__', '/')}.yaml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        return tmp_path / "own.yaml"

    return put


def policy_of(path: Path) -> Policy:
    loaded = read_policy(path)
    assert loaded.policy is not None, "\n".join(map(str, loaded.problems))
    return loaded.policy


def the_problem(loaded: Loaded) -> Problem:
    assert loaded.policy is None
    assert len(loaded.problems) == 1, "\n".join(map(str, loaded.problems))
    return loaded.problems[0]


def proof(path: Path) -> Proof:
    return prove(read_policy(path), MODELS)


def test_included_rules_come_after_the_own_ones(write: Write) -> None:
    policy = policy_of(write())
    assert [rule.name for rule in policy.rules] == ["faq", "stays", "hard"]
    assert decide(Signals(task="faq", gain=0.9), policy=policy, models=MODELS).rule == "faq"
    assert decide(Signals(gain=0.9), policy=policy, models=MODELS).rule == "hard"


def test_what_is_not_said_is_what_the_base_says(write: Write) -> None:
    policy = policy_of(write())
    assert policy.default.name == "local"
    assert policy.aliases == {"gpt-4o": "auto", "best": "local"}
    assert policy.guarantees == (Guarantee(DataClass.PERSONAL, Zone.PREMISES),)
    assert (policy.unreadable, policy.operating_point) == (DataClass.SECRET, "strict")
    assert policy.time_zone == "Europe/Madrid"
    assert (policy.name, policy.description) == ("own", "")


def test_what_is_said_in_both_is_what_the_own_file_says(write: Write) -> None:
    own = """version: 1
include: base.yaml
routes: {local: {try: [small, slm]}, far: {try: [llm]}}
default: far
aliases: {best: auto}
time_zone: Atlantic/Canary
"""
    policy = policy_of(write(own))
    assert policy.routes["local"].rungs == ("small", "slm")
    assert policy.rules[0].route.rungs == ("small", "slm")
    assert policy.default.name == "far"
    assert policy.aliases == {"gpt-4o": "auto", "best": "auto"}
    assert policy.time_zone == "Atlantic/Canary"


def test_privacy_is_the_stricter_of_the_two(write: Write) -> None:
    policy = policy_of(write(f"{OWN}privacy: {{unreadable: public, failure: secret, operating_point: balanced}}\n"))
    assert (policy.unreadable, policy.failure) == (DataClass.SECRET, DataClass.SECRET)
    assert policy.operating_point == "strict"


def test_guarantees_only_tighten(write: Write) -> None:
    tighter = policy_of(write(f"{OWN}guarantees: [{{data: internal, stays: premises}}]\n"))
    assert [g.data for g in tighter.guarantees] == [DataClass.INTERNAL, DataClass.PERSONAL]
    same = policy_of(write(f"{OWN}guarantees: [{{data: personal, stays: premises}}]\n"))
    assert len(same.guarantees) == 1
    looser = the_problem(read_policy(write(f"{OWN}guarantees: [{{data: special, stays: eu}}]\n")))
    assert (looser.kind, looser.line, looser.column) == ("looser", 5, 14)
    assert "the included policy keeps it inside premises" in looser.message


def test_a_base_may_include_another_and_lie_below(write: Write) -> None:
    path = write(
        OWN.replace("base.yaml", "shared/team.yaml"),
        shared__team=OWN.replace("base.yaml", "../base.yaml").replace("faq", "code"),
    )
    policy = policy_of(path)
    assert [rule.name for rule in policy.rules] == ["faq", "code", "stays", "hard"]
    assert [Path(file).name for file in policy.files] == ["own.yaml", "team.yaml", "base.yaml"]


def test_including_says_the_same_as_writing_it_out(write: Write) -> None:
    whole = BASE.replace("rules:\n", "rules:\n  - {name: faq, when: {task: faq}, use: local}\n")
    flat = parse_policy(whole.replace("description: of the house\n", "")).policy
    assert flat is not None
    assert policy_of(write()).revision == flat.revision


def test_included_overlays_and_stickiness_come_too(write: Write) -> None:
    base = f"{BASE}sticky: conversation\noverlays: [{{for: {{team: a}}, default: cloud}}]\n"
    policy = policy_of(write(f"{OWN}overlays: [{{for: {{team: b}}, default: local}}]\n", base=base))
    assert [rule.route.name for rule in policy.defaults] == ["local", "cloud"]
    assert all(rule.sticky for rule in (*policy.rules, *policy.defaults))
    assert not policy_of(write(f"{OWN}sticky: none\n", base=base)).sticky


# --- proved ---------------------------------------------------------------------------------------------------------


def test_an_included_rule_is_proved_and_shown_in_its_own_file(write: Write) -> None:
    base = BASE.replace('name: stays, when: {data: ">= personal"}', "name: b, when: {tools: true}")
    result = proof(write(base=base))
    assert [(Path(p.file).name, p.line, p.kind) for p in result.errors] == [("base.yaml", 7, "guarantee")]
    assert result.guarantees[0].counter_example is not None
    assert result.guarantees[0].counter_example["rule"] == "hard"


def test_an_included_rule_may_be_overridden_and_that_is_noted(write: Write) -> None:
    result = proof(write(OWN.replace("{task: faq}", '{gain: ">= 0.3"}')))
    assert result.errors == ()
    assert result.dead_rules == ("hard",)
    note = next(note for note in result.notes if note.kind == "overridden")
    assert (Path(note.file).name, note.line) == ("base.yaml", 7)
    assert "'faq' stands before it" in note.message


def test_an_included_rule_that_its_own_file_kills_is_an_error(write: Write) -> None:
    base = BASE.replace("default:", "  - {name: late, when: {data: secret}, use: local}\ndefault:")
    assert [(p.kind, p.line) for p in proof(write(base=base)).errors] == [("dead_rule", 8)]


# --- wrong ----------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_told_at_the_line_that_includes_it(write: Write) -> None:
    path = write(OWN.replace("base.yaml", "bass.yaml"))
    problem = the_problem(read_policy(path))
    assert (problem.file, problem.line, problem.column) == (str(path), 2, 10)
    assert "bass.yaml cannot be read" in problem.message
    assert "Did you mean 'base.yaml'?" in problem.message


@pytest.mark.parametrize("name", ["../base.yaml", "/etc/base.yaml", "shared/../../base.yaml"])
def test_a_file_outside_the_folder_is_refused_unread(write: Write, name: str) -> None:
    problem = the_problem(read_policy(write(OWN.replace("base.yaml", name))))
    assert (problem.kind, problem.line) == ("include", 2)
    assert "outside the folder" in problem.message


@pytest.mark.parametrize("named", ["own", "base"])
def test_a_circle_is_told_at_the_line_that_closes_it(write: Write, named: str) -> None:
    path = write(base=BASE.replace("description:", f"include: {named}.yaml\ndescription:"))
    problem = the_problem(read_policy(path))
    assert (Path(problem.file).name, problem.line, problem.kind) == ("base.yaml", 2, "include")
    assert f"{named}.yaml" in problem.message.split(" > ")[-1]


def test_a_name_that_both_have_is_told_at_the_line_that_includes_it(write: Write) -> None:
    path = write(OWN.replace("name: faq", "name: hard"))
    problem = the_problem(read_policy(path))
    assert (problem.file, problem.line, problem.column, problem.kind) == (str(path), 2, 10, "duplicate_name")
    assert "base.yaml:7" in problem.message
    assert "own.yaml:4" in problem.message


def test_a_slip_in_the_base_is_told_where_it_stands(write: Write) -> None:
    problem = the_problem(read_policy(write(base=BASE.replace("gain:", "gian:"))))
    assert (Path(problem.file).name, problem.line) == ("base.yaml", 7)
    assert "'gain'" in problem.message


@pytest.mark.parametrize(("base", "kind"), [("", "empty"), ("version: 1\nrules: [", "yaml"), ("- 1\n", "type")])
def test_a_half_saved_base_is_one_clear_problem(write: Write, base: str, kind: str) -> None:
    problem = the_problem(read_policy(write(base=base)))
    assert (Path(problem.file).name, problem.kind) == ("base.yaml", kind)


def test_without_a_base_that_can_be_read_no_name_is_called_unknown(write: Write) -> None:
    found = read_policy(write(f"{OWN}default: cloud\nallases: {{}}\n", base="")).problems
    assert [problem.kind for problem in found] == ["unknown_key", "empty"]


@pytest.mark.parametrize("value", ["[base.yaml]", "{a: b}", "null"])
def test_one_base_is_one_name(write: Write, value: str) -> None:
    assert the_problem(read_policy(write(OWN.replace("base.yaml", value)))).kind == "type"


def test_a_text_that_lies_nowhere_includes_nothing() -> None:
    assert "lies in no folder" in the_problem(parse_policy(OWN)).message


def test_a_policy_that_is_only_a_base_is_one(write: Write) -> None:
    assert load_policy(write("version: 1\ninclude: base.yaml\n"), models=MODELS).default.name == "local"


# --- live -----------------------------------------------------------------------------------------------------------


def test_a_changed_base_below_is_followed(write: Write) -> None:
    path = write(OWN.replace("base.yaml", "shared/base.yaml"), shared__base=BASE)
    live = LivePolicy(path, models=MODELS, on_refusal=lambda _refusal: None)
    for _ in range(2):
        live.look()
    (path.parent / "shared" / "base.yaml").write_text(BASE.replace("0.35", "0.5"))
    looks = [live.look(), live.look()]
    assert looks[0] is None
    assert looks[1] is not None
    assert looks[1].revision != live.current().revision


def test_a_base_that_comes_back_is_noticed(write: Write) -> None:
    path = write(OWN.replace("base.yaml", "shared/base.yaml"), shared__base=BASE)
    live = LivePolicy(path, models=MODELS, on_refusal=lambda _refusal: None)
    base = path.parent / "shared" / "base.yaml"
    base.unlink()
    for _ in range(4):
        live.look()
    assert "cannot be read" in str(live.refusal)
    base.write_text(BASE.replace("0.35", "0.5"))
    assert [policy for _ in range(4) if (policy := live.look())]
    assert live.refusal is None
