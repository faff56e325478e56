from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.policy import command
from gateway.ledger.policies import remember
from gateway.ledger.store import open_engine
from gateway.policy.load import load_policy

LOCAL = "version: 1\nroutes: {only: {try: [slm]}}\nrules: []\ndefault: only\n"
CLOUD = LOCAL.replace("[slm]", "[llm, slm]")
BROKEN = (
    "version: 1\nguarantees: [{data: personal, stays: premises}]\nroutes: {c: {try: [llm]}}\nrules: []\ndefault: c\n"
)
CONFIG = """policy: shop.yaml
models:
  small: {provider: fake, model: f, zone: premises, kind: slm}
  large: {provider: fake, model: f, zone: world, kind: llm}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cauce.yaml").write_text(CONFIG)
    (tmp_path / "shop.yaml").write_text(LOCAL)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def in_force(folder: Path, text: str) -> str:
    """What a running gateway does with a changed file."""
    file = folder / "shop.yaml"
    file.write_text(text)
    policy = load_policy(file)
    engine = open_engine("sqlite:///cauce.db")
    included = [Path(name) for name in policy.files[1:]]
    remember(engine, name=policy.name, revision=policy.revision, file=file, included=included)
    engine.dispose()
    return policy.revision


def test_history_names_each_revision_with_when_and_whose(folder: Path) -> None:
    revisions = [in_force(folder, LOCAL), in_force(folder, CLOUD)]
    rows = json.loads(run("history", "--json").output)
    assert [row["revision"] for row in rows] == revisions[::-1]
    assert all(row["who"] and row["since"] and row["file"].endswith("shop.yaml") for row in rows)


def test_a_revision_that_stays_in_force_is_written_once(folder: Path) -> None:
    in_force(folder, LOCAL)
    in_force(folder, "# remark\n" + LOCAL)
    assert len(json.loads(run("history", "--json").output)) == 1


def test_rollback_puts_the_one_before_back(folder: Path) -> None:
    in_force(folder, LOCAL)
    in_force(folder, CLOUD)
    assert run("rollback").exit_code == 0
    assert (folder / "shop.yaml").read_text() == LOCAL


def test_apply_and_rollback_need_no_running_gateway(folder: Path) -> None:
    (folder / "new.yaml").write_text(CLOUD)
    assert run("apply", "new.yaml").exit_code == 0
    assert run("rollback").exit_code == 0
    assert (folder / "shop.yaml").read_text() == LOCAL
    assert len(json.loads(run("history", "--json").output)) == 3


def test_rollback_to_a_named_revision(folder: Path) -> None:
    first = in_force(folder, LOCAL)
    in_force(folder, CLOUD)
    in_force(folder, CLOUD.replace("only", "both"))
    assert run("rollback", first[:6]).exit_code == 0
    assert (folder / "shop.yaml").read_text() == LOCAL


def test_nothing_to_go_back_to_is_said(folder: Path) -> None:
    in_force(folder, LOCAL)
    refused = run("rollback")
    assert refused.exit_code == 1
    assert "no earlier revision" in refused.output


def test_apply_puts_a_proved_policy_in_place(folder: Path) -> None:
    (folder / "new.yaml").write_text(CLOUD)
    assert run("apply", "new.yaml").exit_code == 0
    assert (folder / "shop.yaml").read_text() == CLOUD


def test_apply_refuses_a_policy_that_breaks_its_guarantee(folder: Path) -> None:
    (folder / "new.yaml").write_text(BROKEN)
    refused = run("apply", "new.yaml")
    assert refused.exit_code == 1
    assert "new.yaml:5" in refused.output
    assert (folder / "shop.yaml").read_text() == LOCAL


def test_apply_keeps_a_link_a_link(folder: Path) -> None:
    (folder / "real.yaml").write_text(LOCAL)
    (folder / "shop.yaml").unlink()
    (folder / "shop.yaml").symlink_to("real.yaml")
    (folder / "new.yaml").write_text(CLOUD)
    assert run("apply", "new.yaml").exit_code == 0
    assert (folder / "shop.yaml").is_symlink()
    assert (folder / "real.yaml").read_text() == CLOUD


def test_diff_and_show_tell_revisions_apart(folder: Path) -> None:
    first, second = in_force(folder, LOCAL), in_force(folder, CLOUD)
    assert "+routes: {only: {try: [llm, slm]}}" in run("diff", first, second).output
    assert run("show", first).output == LOCAL
    unknown = run("show", "fffff")
    assert unknown.exit_code == 1
    assert first in unknown.output


OWN = "version: 1\ninclude: base.yaml\nrules: [{name: r, when: {task: faq}, use: only}]\n"


def test_a_change_of_the_base_is_a_revision_with_its_difference(folder: Path) -> None:
    (folder / "base.yaml").write_text(LOCAL)
    first = in_force(folder, OWN)
    (folder / "base.yaml").write_text(CLOUD)
    second = in_force(folder, OWN)
    assert first != second
    assert "+# routes: {only: {try: [llm, slm]}}" in run("diff", first, second).output
    assert run("diff", second).output.strip() == "nothing"


def test_going_back_past_a_change_of_the_base_says_what_to_put_back_first(folder: Path) -> None:
    (folder / "base.yaml").write_text(LOCAL)
    first = in_force(folder, OWN)
    (folder / "base.yaml").write_text(CLOUD)
    in_force(folder, OWN)
    refused = run("rollback")
    assert refused.exit_code == 1
    assert "base.yaml was changed since" in refused.output
    assert f"cauce policy show {first}" in refused.output

    (folder / "base.yaml").write_text(LOCAL)
    assert run("rollback", first).exit_code == 0
    assert (folder / "shop.yaml").read_text() == OWN


def test_a_new_policy_finds_its_base_beside_the_one_in_force(folder: Path) -> None:
    (folder / "base.yaml").write_text(LOCAL)
    (folder / "drafts").mkdir()
    (folder / "drafts" / "new.yaml").write_text(OWN)
    assert run("apply", "drafts/new.yaml").exit_code == 0
    assert (folder / "shop.yaml").read_text() == OWN
