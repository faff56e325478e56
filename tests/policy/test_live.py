from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.policy.live import LivePolicy, Refusal
from tests.builders import LARGE, SMALL

MODELS = {SMALL.id: SMALL, LARGE.id: LARGE}
LOCAL = "version: 1\nroutes: {only: {try: [slm]}}\nrules: []\ndefault: only\n"
CLOUD = "version: 1\nroutes: {only: {try: [llm, slm]}}\nrules: []\ndefault: only\n"
BROKEN = """version: 1
guarantees: [{data: personal, stays: premises}]
routes: {cloud: {try: [llm]}}
rules: [{name: hard, when: {gain: ">= 0.5"}, use: cloud}]
default: cloud
"""


def live(file: Path, refused: list[Refusal] | None = None) -> LivePolicy:
    return LivePolicy(file, models=MODELS, on_refusal=(refused if refused is not None else []).append)


def change(policy: LivePolicy) -> str | None:
    """What two looks find: the first sees that something changed, the second that it has stopped changing."""
    assert policy.look() is None
    found = policy.look()
    if found is not None:
        policy.enter(found)
    return found.revision if found else None


def test_a_changed_file_is_in_force_once_it_has_stopped_changing(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(LOCAL)
    policy = live(file)
    before = policy.current()

    file.write_text(CLOUD)

    assert change(policy) == policy.current().revision != before.revision
    assert policy.current().default.rungs == ("llm", "slm")


def test_a_file_that_says_the_same_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(LOCAL)
    policy = live(file)
    file.write_text(f"# a remark\n{LOCAL}")
    assert change(policy) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (BROKEN, "guarantee"),
        ("version: 1\nroutes: {only: {try: [slm", "yaml"),
        ("", "empty"),
        (LOCAL.replace("slm", "slim"), "unknown_model"),
    ],
)
def test_a_bad_file_is_refused_and_the_last_good_one_stays(tmp_path: Path, text: str, kind: str) -> None:
    file, refused = tmp_path / "p.yaml", list[Refusal]()
    file.write_text(LOCAL)
    policy = live(file, refused)
    before = policy.current()

    file.write_text(text)

    assert change(policy) is None
    assert policy.current() is before
    assert refused == [policy.refusal], kind
    assert str(file) in str(policy.refusal)


def test_a_mended_file_takes_the_refusal_away(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(LOCAL)
    policy = live(file)
    file.write_text(BROKEN)
    change(policy)
    file.write_text(CLOUD)
    assert change(policy) is not None
    assert policy.refusal is None


def test_a_file_that_is_gone_leaves_the_policy_in_force(tmp_path: Path) -> None:
    file, refused = tmp_path / "p.yaml", list[Refusal]()
    file.write_text(LOCAL)
    policy = live(file, refused)
    file.unlink()
    assert change(policy) is None
    assert policy.current().default.rungs == ("slm",)
    assert len(refused) == 1


def test_a_config_map_swaps_a_whole_folder_through_a_link(tmp_path: Path) -> None:
    for name, text in (("..2026_1", LOCAL), ("..2026_2", CLOUD)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    policy = live(tmp_path / "p.yaml")

    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    assert change(policy) is not None
    assert policy.current().default.rungs == ("llm", "slm")


def test_without_a_first_good_policy_nothing_starts(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("rules: 3\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:1"):
        live(file)
