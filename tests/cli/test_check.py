from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.check import command
from gateway.cli.main import main
from tests.policy.builders import DEFAULT_TEXT, with_rules

GOOD = DEFAULT_TEXT.replace("big: large", "big: local")
LEAKY = with_rules('{name: hard, when: {gain: ">= 0.35"}, use: cloud}')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "good.cases.yaml").write_text(
        "- {note: stays, signals: {data: personal}, expect: {rule: personal-stays}}\n"
    )
    (tmp_path / "cauce.yaml.d").mkdir()
    config = tmp_path / "config"
    config.mkdir()
    (config / "cauce.yaml").write_text(
        "models:\n  abroad: {provider: openai-compatible, base_url: 'http://x/v1', model: m, zone: world, kind: slm}\n"
        "  here: {provider: embedded, model: m, zone: premises, kind: slm}\n"
    )
    return tmp_path


def check(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_a_good_policy_exits_0_and_says_what_was_proved(folder: Path) -> None:
    result = check(folder)
    assert result.exit_code == 0, result.output
    assert "proved: personal data and above stays inside premises" in result.output
    assert "good, 1 cases passed" in result.output
    assert "no case fires rule 'hard'" in result.output


def test_a_leak_exits_1_and_shows_the_command_that_shows_it(folder: Path) -> None:
    (folder / "leaky.yaml").write_text(LEAKY)
    result = check(folder / "leaky.yaml")
    assert result.exit_code == 1
    assert "leaky.yaml:8:12: error: rule 'hard' breaks the guarantee" in result.output
    assert "--signals '{" in result.output


def test_json_has_the_form_that_tools_read(folder: Path) -> None:
    (folder / "leaky.yaml").write_text(LEAKY)
    (folder / "dead.yaml").write_text(
        with_rules("{name: a, when: {}, use: local}\n{name: b, when: {task: faq}, use: local}")
    )
    result = check(folder, "--json")
    files = {Path(entry["path"]).name: entry for entry in orjson.loads(result.output)["files"]}

    assert result.exit_code == 1
    assert list(files) == ["dead.yaml", "good.yaml", "leaky.yaml"]
    assert files["good.yaml"]["ok"] is True
    assert files["good.yaml"]["cases"] == {"passed": 1, "failed": 0}
    assert files["good.yaml"]["guarantees"] == [
        {"data": "personal", "stays": "premises", "held": True, "counter_example": None}
    ]
    assert files["dead.yaml"]["dead_rules"] == ["b"]
    assert files["leaky.yaml"]["guarantees"][0]["held"] is False
    assert files["leaky.yaml"]["guarantees"][0]["counter_example"]["data"] == "personal"
    assert files["leaky.yaml"]["errors"][0].keys() == {"line", "column", "kind", "message"}


def test_the_proof_is_for_the_models_that_are_configured(folder: Path) -> None:
    result = check(folder / "good.yaml", "--config", folder / "config" / "cauce.yaml", "--json")
    entry = orjson.loads(result.output)["files"][0]
    assert result.exit_code == 1
    assert entry["guarantees"][0]["counter_example"]["model"] == "abroad"
    assert {note["kind"] for note in entry["notes"]} >= {"empty_kind"}


def test_a_failing_case_exits_1_with_its_line(folder: Path) -> None:
    (folder / "good.cases.yaml").write_text("# one\n- {note: wrong, signals: {}, expect: {rule: hard}}\n")
    result = check(folder)
    assert result.exit_code == 1
    assert "good.cases.yaml:2:3: error: wrong: rule is default, expected hard" in result.output


def test_a_file_that_is_no_policy_exits_1(folder: Path) -> None:
    (folder / "half.yaml").write_text("version: 1\nroutes: {")
    result = check(folder / "half.yaml")
    assert result.exit_code == 1
    assert "half.yaml:2" in result.output


def test_a_folder_named_like_a_policy_is_a_problem_and_not_a_crash(folder: Path) -> None:
    (folder / "odd.yaml").mkdir()
    result = check(folder)
    assert result.exit_code == 1
    assert "is a folder" in result.output


def test_two_policies_of_one_name_are_refused(folder: Path) -> None:
    (folder / "good.yml").write_text(GOOD)
    result = check(folder)
    assert result.exit_code == 1
    assert "one folder holds one policy of a name" in result.output


def test_a_cases_file_means_its_policy(folder: Path) -> None:
    result = check(folder / "good.cases.yaml", folder / "good.yaml", "--json")
    assert [Path(entry["path"]).name for entry in orjson.loads(result.output)["files"]] == ["good.yaml"]
    (folder / "lonely.cases.yaml").write_text("[]")
    assert check(folder / "lonely.cases.yaml").exit_code == 2


def test_the_whole_command_line_exits_2_for_a_broken_cauce_yaml(folder: Path) -> None:
    (folder / "broken.yaml").write_text("models: 7\n")
    for words in (["check", folder / "good.yaml"], ["explain", "--signals", "{}"]):
        result = CliRunner().invoke(main, [*map(str, words), "--config", str(folder / "broken.yaml")])
        assert result.exit_code == 2
        assert "broken.yaml" in result.output


def test_wrong_use_exits_2(folder: Path) -> None:
    assert check(folder / "missing.yaml").exit_code == 2
    assert check(folder / "cauce.yaml.d").exit_code == 2


def test_what_is_promised_to_a_team_is_said_to_be_for_it(folder: Path) -> None:
    overlay = "overlays: [{for: {team: legal}, guarantees: [{data: internal, stays: premises}]}]\n"
    (folder / "teams.yaml").write_text(LEAKY.replace('">= 0.35"', '">= 0.35", data: "< personal"') + overlay)
    said = check(folder / "teams.yaml").output
    assert "proved: personal data and above stays inside premises\n" in said
    assert "broken: internal data and above stays inside premises for caller.team = legal. See it with:" in said
    suite = ET.fromstring(check(folder / "teams.yaml", "--format", "junit").output)[0]  # noqa: S314 - our own output
    failures = {test.get("name"): len(test) for test in suite}
    assert failures["personal stays inside premises"] == 0
    assert failures["internal stays inside premises for caller.team = legal"] == 1


def test_what_is_wrong_in_an_included_file_names_that_file(folder: Path) -> None:
    (folder / "shared").mkdir()
    (folder / "shared" / "base.yaml").write_text(LEAKY)
    (folder / "own.yaml").write_text("version: 1\ninclude: shared/base.yaml\n")
    result = check(folder / "own.yaml")
    assert result.exit_code == 1
    assert "shared/base.yaml:8:12: error: rule 'hard' breaks the guarantee" in result.output
    errors = orjson.loads(check(folder / "own.yaml", "--json").output)["files"][0]["errors"]
    assert errors[0]["message"].startswith("base.yaml: ")


def test_junit_has_a_suite_a_file_and_a_test_a_case(folder: Path) -> None:
    (folder / "leaky.yaml").write_text(LEAKY)
    result = check(folder, "--format", "junit")
    root = ET.fromstring(result.output)  # noqa: S314 - our own output
    suites = {Path(suite.get("name", "")).name: suite for suite in root}
    assert result.exit_code == 1
    assert suites["good.yaml"].get("failures") == "0"
    assert [test.get("name") for test in suites["good.yaml"]][-1] == "stays"
    assert suites["leaky.yaml"].get("failures") == "1"
