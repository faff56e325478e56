from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.policy.load import load_policy, parse_policy, read_policy, unknown_rungs
from gateway.policy.problems import Problem
from gateway.policy.vocabulary import SIGNALS
from gateway.types import Caller, Cloud, DataClass, Mode, Signals, Zone

from .builders import DEFAULT_TEXT, VECTORS, a_policy, catalogue, loaded, with_rules


def problems(text: str) -> list[Problem]:
    result = parse_policy(text, file="p.yaml")
    assert result.policy is None
    return list(result.problems)


def the_problem(text: str) -> Problem:
    found = problems(text)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def problem_of_when(when: str) -> Problem:
    return the_problem(with_rules(f"{{name: r, when: {when}, use: local}}"))


def matches(when: str, signals: Signals) -> bool:
    return a_policy(with_rules(f"{{name: r, when: {when}, use: local}}")).rules[0].matches(signals)


def test_the_policy_of_the_design_is_read_whole() -> None:
    policy = a_policy()

    assert [rule.name for rule in policy.rules] == ["personal-stays", "hard", "easy-faq"]
    assert policy.routes["small-first"].rungs == ("slm", "llm")
    assert [(c.name, c.threshold) for c in policy.routes["small-first"].checks] == [
        ("finish", 0.0),
        ("confidence", 0.6),
    ]
    assert policy.guarantees[0].data is DataClass.PERSONAL
    assert policy.guarantees[0].stays is Zone.PREMISES
    assert policy.default.name == "small-first"
    assert policy.unreadable is policy.failure is DataClass.SPECIAL


def test_the_smallest_policy_has_no_rules() -> None:
    policy = a_policy("version: 1\nroutes: {local: {try: [slm]}}\nrules: []\ndefault: local\n")
    assert policy.rules == ()


def test_routes_say_how_they_stream_and_whether_they_are_cached() -> None:
    policy = a_policy("version: 1\nroutes: {r: {try: slm, mode: buffered, cache: false}}\ndefault: r\n")
    assert policy.routes["r"].mode is Mode.BUFFERED
    assert policy.routes["r"].cache is False
    assert policy.routes["r"].rungs == ("slm",)


@pytest.mark.parametrize(
    ("when", "signals", "expected"),
    [
        ('{gain: ">= 0.35"}', Signals(gain=0.35), True),
        ('{gain: ">= 0.35"}', Signals(gain=0.3499), False),
        ("{gain: '> 0.2, < 0.6'}", Signals(gain=0.6), False),
        ("{gain: '> 0.2, < 0.6'}", Signals(gain=0.4), True),
        ("{gain: ['< 0.1', '> 0.9']}", Signals(gain=0.95), True),
        ("{gain: ['< 0.1', '> 0.9']}", Signals(gain=0.5), False),
        ("{difficulty: '>= 0.7'}", Signals(slm_success=0.3), True),
        ("{stay_score: '< 0.5'}", Signals(stay_score=0.5), False),
        ("{prompt_tokens: '> 1e3'}", Signals(prompt_tokens=1001), True),
        ("{prompt_tokens: '> 1e3'}", Signals(prompt_tokens=1000), False),
        ("{data: '< personal'}", Signals(data=DataClass.INTERNAL), True),
        ("{data: special}", Signals(data=DataClass.SECRET), False),
        ("{data: [public, secret]}", Signals(data=DataClass.SECRET), True),
        ("{data_kinds: [health, minors]}", Signals(data_kinds=frozenset({"minors", "contact"})), True),
        ("{data_kinds: health}", Signals(), False),
        ("{task: [faq, classify]}", Signals(task="classify"), True),
        ("{task: '!= faq'}", Signals(task="faq"), False),
        ("{language: NO}", Signals(language="no"), True),
        ("{language: [es, ca]}", Signals(language="ca"), True),
        ("{domain: banking}", Signals(domain="banking"), True),
        ("{modality: image}", Signals(modality="text"), False),
        ("{tools: true}", Signals(tools=True), True),
        ("{json: False}", Signals(json=True), False),
        ("{low_confidence: true}", Signals(low_confidence=True), True),
        ("{cloud: [degraded, down]}", Signals(cloud=Cloud.DOWN), True),
        ("{budget_left: '< 5'}", Signals(budget_left=4.99), True),
        ("{budget_left: '< 5'}", Signals(budget_left=None), False),
        ("{budget_left: '>= 5'}", Signals(budget_left=None), True),
        ('{hour: "09:00-18:00"}', Signals(hour=17), True),
        ('{hour: "09:00-18:00"}', Signals(hour=18), False),
        ('{hour: "22:00-06:00"}', Signals(hour=23), True),
        ('{hour: "22:00-06:00"}', Signals(hour=5), True),
        ('{hour: "22:00-06:00"}', Signals(hour=6), False),
        ('{hour: "[9, 18)"}', Signals(hour=9), True),
        ("{hour: [8, 9]}", Signals(hour=9), True),
        ('{hour: ">= 18"}', Signals(hour=18), True),
        ("{}", Signals(), True),
        ("{any: [{task: faq}, {gain: '> 0.9'}]}", Signals(gain=0.95), True),
        ("{any: [{task: faq}, {gain: '> 0.9'}]}", Signals(gain=0.5), False),
        ("{all: [{task: faq}, {not: {tools: true}}]}", Signals(task="faq"), True),
        ("{not: {task: faq, tools: true}}", Signals(task="faq"), True),
        ("{task: faq, not: {language: en}}", Signals(task="faq", language="en"), False),
    ],
)
def test_conditions_mean_what_they_say(when: str, signals: Signals, expected: bool) -> None:
    assert matches(when, signals) is expected


def test_callers_are_told_apart_by_key_team_app_and_tags() -> None:
    caller = Caller(id="key_7", team="billing", app="bot", tags=("vip", "eu"))
    for when in ("{caller: {team: billing, app: [bot, web]}}", "{caller: {tags: [vip]}}", "{caller: {key: key_7}}"):
        assert matches(when, Signals(caller=caller))
        assert not matches(when, Signals())
    assert not matches("{caller: {team: billing, app: web}}", Signals(caller=caller))


@pytest.mark.parametrize(
    ("when", "kind", "said"),
    [
        ("{gian: '>= 0.3'}", "unknown_signal", "'gain'"),
        ("{gain: high}", "type", "'high'"),
        ("{gain: '>= 1.5'}", "range", "-1 to 1"),
        ("{slm_success: '>= 80'}", "range", "'>= 0.8'"),
        ("{slm_success: '< 0'}", "range", "from 0 to 1"),
        ("{data: '>= personel'}", "type", "'personal'"),
        ("{data: '> secret'}", "range", "public < internal"),
        ("{prompt_tokens: '> 10.5'}", "type", "whole number"),
        ("{task: clasify}", "value", "'classify'"),
        ("{task: '>= faq'}", "type", "no order"),
        ("{language: spanish}", "value", "two or three letters"),
        ("{modality: picture}", "value", "image"),
        ("{cloud: dwn}", "value", "'down'"),
        ("{data_kinds: helth}", "value", "'health'"),
        ("{tools: yes}", "type", "'true'"),
        ("{json: NO}", "type", "'false'"),
        ('{hour: "09:30-18:00"}', "value", "whole hour"),
        ('{hour: "9-25"}', "range", "from 00:00 to 24:00"),
        ("{hour: '>= 24'}", "range", "23"),
        ("{caller: {taem: x}}", "unknown_key", "'team'"),
        ("{caller: billing}", "type", "{team: billing}"),
        ("{task: []}", "value", "empty list"),
        ("{any: []}", "value", "at least one"),
        ("{any: {task: faq}}", "type", "expected a list"),
        ("{gain: }", "type", "found nothing"),
        ("{gain: nan}", "type", "'nan'"),
        ("[gain]", "type", "expected a mapping"),
    ],
)
def test_a_wrong_condition_says_what_was_expected(when: str, kind: str, said: str) -> None:
    problem = problem_of_when(when)
    assert problem.kind == kind
    assert said in problem.message


def test_a_problem_stands_at_its_line_and_column() -> None:
    text = DEFAULT_TEXT.replace('gain: ">= 0.35"', 'gian: ">= 0.35"')
    problem = the_problem(text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "gian" in line)
    assert (problem.line, problem.column) == (line, text.splitlines()[line - 1].index("gian") + 1)
    assert str(problem).startswith(f"p.yaml:{line}:")


def test_all_problems_are_told_at_once_in_the_files_order() -> None:
    text = """
version: 2
rutes: {}
routes:
  local: {try: [slm], verfy: [finish]}
  bad: {try: [], mode: fast, cache: maybe}
rules:
  - {name: a, when: {gian: 1}, use: local}
  - {name: a, when: {}, use: lokal}
  - {when: {}, use: local}
  - {name: default, use: local}
default: nowhere
"""
    found = problems(text)
    assert [p.line for p in found] == sorted(p.line for p in found)
    assert {p.kind for p in found} >= {
        "value", "unknown_key", "unknown_signal", "duplicate_name", "unknown_route", "missing", "name", "type",
    }  # fmt: skip
    assert any("'routes'" in p.message and "rutes" in p.message for p in found)
    assert any("'local'" in p.message and "lokal" in p.message for p in found)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("", "empty", "is empty"),
        ("# only a comment\n", "empty", "is empty"),
        ("just words", "type", "a mapping"),
        ("- 1\n", "type", "a mapping"),
        ("version: 1\nroutes:\n\tlocal: {try: [slm]}\n", "yaml", "tab"),
        ("version: 1\nroutes: {local: {try: [slm", "yaml", "saved whole"),
        ("version: 1\n---\nversion: 1\n", "yaml", "second document"),
        (
            "version: 1\nroutes: {a: {try: [slm]}}\nroutes: {a: {try: [slm]}}\ndefault: a\n",
            "duplicate_key",
            "second time",
        ),
        ("version: 1\nx-a: &a [*a]\nroutes: {a: {try: [slm]}}\ndefault: a\n", "anchor", "contains itself"),
        ("a: \x00\n", "yaml", "not YAML"),
        ("version: 1\nroutes: {a: {try: *nothing}}\n", "yaml", "undefined alias"),
    ],
)
def test_a_broken_file_is_one_clear_problem(text: str, kind: str, said: str) -> None:
    problem = the_problem(text)
    assert problem.kind == kind
    assert said in problem.message


def test_an_anchor_bomb_is_refused_before_it_is_written_out() -> None:
    levels = "\n".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
    problem = the_problem(f"version: 1\nx-0: &a0 [1]\n{levels}\nroutes: {{a: {{try: [slm]}}}}\ndefault: a\n")
    assert problem.kind == "anchor"


def test_an_anchor_may_name_a_condition_that_several_rules_share() -> None:
    policy = a_policy(
        """
        version: 1
        x-office: &office {hour: "09:00-18:00"}
        routes: {a: {try: [slm]}, b: {try: [llm]}}
        rules:
          - {name: one, when: {all: [*office, {task: faq}]}, use: a}
          - {name: two, when: *office, use: b}
        default: a
        """
    )
    assert policy.rules[1].matches(Signals(hour=10))
    assert not policy.rules[0].matches(Signals(hour=10, task="code"))


def test_deep_nesting_is_refused_without_a_crash() -> None:
    deep = "{not: " * 3000 + "{tools: true}" + "}" * 3000
    found = problems(with_rules(f"{{name: r, when: {deep}, use: local}}"))
    assert found[0].kind in {"depth", "yaml"}


def test_a_half_saved_file_is_refused_for_its_missing_end() -> None:
    whole = DEFAULT_TEXT
    for cut in (whole.index("default:"), whole.index("rules:"), whole.index("rules:") + 60):
        assert problems(whole[:cut])


def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "win.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + DEFAULT_TEXT.replace("\n", "\r\n").encode())
    assert load_policy(file).revision == a_policy().revision
    assert load_policy(file).name == "win"


def test_what_is_no_readable_file_is_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("version: 1 # señal\n".encode("latin-1"))

    kinds = [read_policy(file).problems[0].kind for file in (folder, big, latin, tmp_path / "none.yaml")]

    assert kinds == ["file", "size", "encoding", "file"]


def test_a_file_of_ten_megabytes_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes((DEFAULT_TEXT + "# once more\n" * 900_000).encode())
    loaded = read_policy(file)
    assert [(problem.kind, problem.line) for problem in loaded.problems] == [("size", 1)]
    assert "1,000,000" in loaded.problems[0].message


def test_words_that_yaml_would_take_for_something_else_stay_what_was_written() -> None:
    policy = a_policy(
        """
        version: 1
        routes: {NO: {try: [slm]}, 1e3: {try: [llm, slm]}, on: {try: [slm]}}
        rules:
          - {name: no, when: {language: NO, prompt_tokens: "> 1e3"}, use: 1e3}
          - {name: 1.0, when: {caller: {app: [null-app, 007, yes]}}, use: NO}
        default: on
        aliases: {off: NO, 12e1: auto}
        """
    )
    assert list(policy.routes) == ["NO", "1e3", "on"]
    assert [rule.name for rule in policy.rules] == ["no", "1.0"]
    assert policy.rules[0].matches(Signals(language="no", prompt_tokens=1001))
    assert policy.rules[1].matches(Signals(caller=Caller(app="007")))
    assert policy.rules[1].matches(Signals(caller=Caller(app="yes")))
    assert policy.aliases == {"off": "NO", "12e1": "auto"}


def test_load_policy_raises_with_every_problem_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "version: 1\nroutes: {local: {try: [slm]}}\nrules: [{name: a, when: {x: 1}, use: b}]\ndefault: local\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert caught.value.where == f"{file}:3:26"
    assert "no signal 'x'" in caught.value.message
    assert "no route 'b'" in caught.value.message


def test_a_rung_that_is_no_model_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\nroutes: {local: {try: [smal]}}\ndefault: local\n")
    with pytest.raises(ConfigError, match="Did you mean 'small'"):
        load_policy(file, models=catalogue())


def test_an_embedding_model_is_no_rung() -> None:
    found = unknown_rungs(
        loaded("version: 1\nroutes: {a: {try: [vectors]}}\ndefault: a\naliases: {e: vectors, f: nowhere}\n"),
        catalogue(VECTORS),
    )
    assert ["embeddings" in p.message for p in found] == [True, True, False]


def test_the_revision_follows_what_is_said_and_not_how() -> None:
    same = a_policy(DEFAULT_TEXT.replace("{try: [slm]}", "\n    try:\n      - slm  # small"))
    other = a_policy(DEFAULT_TEXT.replace("0.35", "0.36"))
    assert same.revision == a_policy().revision
    assert other.revision != same.revision


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("privacy: {unreadable: nothing}", "value"),
        ("privacy: {operating_point: sloppy}", "value"),
        ("time_zone: Madrid", "value"),
        ("guarantees: [{data: personal}]", "missing"),
        ("guarantees: [{data: personal, stays: home}]", "value"),
        ("guarantees: personal", "type"),
        ("aliases: {auto: local}", "name"),
        ("aliases: {x: [a]}", "type"),
    ],
)
def test_the_other_parts_are_checked_too(line: str, kind: str) -> None:
    assert the_problem(f"version: 1\nroutes: {{local: {{try: [slm]}}}}\ndefault: local\n{line}\n").kind == kind


@pytest.mark.parametrize(
    ("verify", "kind"),
    [
        ("[finnish]", "unknown_check"),
        ("[confidence]", "value"),
        ("[{confidence: 6}]", "range"),
        ("[{confidence: high}]", "range"),
        ("[{finish: 1}]", "value"),
    ],
)
def test_a_check_takes_its_threshold_or_none(verify: str, kind: str) -> None:
    assert the_problem(f"version: 1\nroutes: {{a: {{try: [slm], verify: {verify}}}}}\ndefault: a\n").kind == kind


@pytest.mark.parametrize("name", ["auto", "slm", "pinned", "a b", ""])
def test_words_of_our_own_are_no_names_of_routes(name: str) -> None:
    found = problems(f"version: 1\nroutes: {{'{name}': {{try: [slm]}}, ok: {{try: [slm]}}}}\ndefault: ok\n")
    assert found[0].kind == "name"


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, 700), kept=st.integers(0, 60), put=st.text(max_size=12))
def test_no_text_however_broken_crashes_the_loader(cut: int, kept: int, put: str) -> None:
    """A file that was damaged anywhere is a policy or has a problem at a place inside it; never an exception."""
    text = DEFAULT_TEXT[:cut] + put + DEFAULT_TEXT[cut + kept :]
    result = parse_policy(text)
    assert (result.policy is None) is bool(result.problems)
    assert all(p.line >= 1 and p.column >= 1 and p.message for p in result.problems)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*SIGNALS, "any", "all", "not"]),
    st.recursive(
        st.sampled_from([">= 0.5", "personal", "faq", "", "9-18", "{", "null", "-1", "1e309", "true", "!= x", "> > 1"])
        | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SIGNALS, "team", "not"]), inner),
        max_leaves=5,
    ),
)
def test_no_condition_however_odd_crashes_the_loader(signal: str, value: object) -> None:
    text = with_rules(f"{{name: r, when: {orjson.dumps({signal: value}).decode()}, use: local}}")
    result = parse_policy(text)
    assert (result.policy is None) is bool(result.problems)
    if result.policy is not None:
        assert result.policy.rules[0].matches(Signals()) in {True, False}
