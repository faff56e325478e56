"""The shipped policies keep what they promise, and their README says what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.policy.cases import EXPECTED, parse_cases, read_cases, run_case
from gateway.policy.check import NOMINAL, check_file, prove
from gateway.policy.documents import TOP
from gateway.policy.load import SHIPPED, parse_policy, read_policy
from gateway.policy.problems import Problem
from gateway.policy.rules import PINNED, Policy
from gateway.policy.sections import RULE
from gateway.policy.verifiers import CHECKS
from gateway.policy.vocabulary import CALLER_FIELDS, DATA_KINDS, DOMAINS, EVERY, TASKS
from gateway.types import DataClass, Guarantee, Model, Signals, Zone
from tests.policy.builders import EURO, LARGE, SMALL, catalogue, with_rules

PACKS = sorted(path for path in SHIPPED.glob("*.yaml") if not path.stem.endswith(".cases"))
README = (SHIPPED / "README.md").read_text(encoding="utf-8")
SPANISH = (SHIPPED / "README.es.md").read_text(encoding="utf-8")


def read(pack: Path) -> Policy:
    policy = read_policy(pack).policy
    assert policy is not None
    return policy


def untold(_request: object) -> Signals:
    """For cases that say nothing but signals; those with a text are run with the real classifier elsewhere."""
    return Signals()


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.stem)
def test_every_pack_is_proved_and_its_cases_pass(pack: Path) -> None:
    report = check_file(pack, models=None, classify=lambda _policy: untold)
    bare = [problem for problem in report.errors if problem.kind != "case"]
    assert bare == []
    assert report.dead_rules == ()
    assert report.guarantees
    assert all(kept.held for kept in report.guarantees)
    wrong = [result for result in report.cases if result.failures and result.case.request is None]
    assert wrong == []


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.stem)
def test_every_rule_of_a_pack_has_a_case_that_fires_it_and_one_that_must_not(pack: Path) -> None:
    policy = read(pack)
    cases = read_cases(pack.with_name(f"{pack.stem}.cases.yaml"), policy).cases
    named = {
        (name, item.negated) for case in cases for item in case.expect if item.what == "rule" for name in item.names
    }
    for rule in policy.rules:
        assert (rule.name, False) in named, f"no case expects {rule.name}"
        assert (rule.name, True) in named, f"no case says that {rule.name} must not match"


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.stem)
def test_the_cases_of_a_pack_speak_both_languages(pack: Path) -> None:
    cases = read_cases(pack.with_name(f"{pack.stem}.cases.yaml"), read(pack)).cases
    spanish = [case for case in cases if case.signals.get("language") == "es" or re.search(r"[áéíóúñ]", case.note)]
    assert len(spanish) * 4 >= len(cases)
    assert len(spanish) * 4 <= 3 * len(cases)


def test_the_default_pack_has_a_case_for_every_turn() -> None:
    assert len(read_cases(SHIPPED / "default.cases.yaml", read(SHIPPED / "default.yaml")).cases) >= 25


@pytest.mark.parametrize("pack", PACKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("models", [(SMALL,), (SMALL, LARGE), (LARGE, SMALL, EURO)], ids=["house", "cloud", "europe"])
def test_the_sector_packs_hold_with_any_models(pack: Path, models: tuple[Model, ...]) -> None:
    proof = prove(read_policy(pack), catalogue(*models))
    general = {
        "default",
        "cheap-first",
        "quality-first",
        "learning",
    }  # these say `slm`: a small model abroad breaks them
    if EURO in models and pack.stem in general:
        assert not all(kept.held for kept in proof.guarantees)
    else:
        assert all(kept.held for kept in proof.guarantees)


PERSONAL_STAYS = Guarantee(DataClass.PERSONAL, Zone.PREMISES)
STRICTER = {"private", "health"}  # they keep lower classes as well
LOOSER = {"eu-only"}  # personal data may be processed in the EU


@pytest.mark.parametrize(
    ("pack", "guarantee"),
    [
        ("private", Guarantee(DataClass.PUBLIC, Zone.PREMISES)),
        ("eu-only", Guarantee(DataClass.PUBLIC, Zone.EU)),
        ("eu-only", Guarantee(DataClass.SPECIAL, Zone.PREMISES)),
        ("health", Guarantee(DataClass.INTERNAL, Zone.PREMISES)),
        ("banking", Guarantee(DataClass.INTERNAL, Zone.EU)),
        *((pack.stem, PERSONAL_STAYS) for pack in PACKS if pack.stem not in STRICTER | LOOSER),
    ],
)
def test_each_sector_has_the_guarantees_that_fit_it(pack: str, guarantee: Guarantee) -> None:
    assert guarantee in read(SHIPPED / f"{pack}.yaml").guarantees


# --- the README -------------------------------------------------------------------------------------------------------


def blocks(page: str = README) -> Iterator[tuple[str, str, str]]:
    """(language, file it is named as, text) of each fenced block, in order."""
    fence = re.compile(r"(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
    for match in fence.finditer(page):
        yield match[2], match[1] or "", match[3]


def problems_of(text: str) -> tuple[Problem, ...]:
    """A block is a policy, a list of rules, or a list of cases."""
    if text.startswith("version:"):
        loaded = parse_policy(text)
    elif text.startswith("- note:"):
        return parse_cases(text, read(SHIPPED / "default.yaml")).problems
    else:
        loaded = parse_policy(with_rules("\n".join(line.removeprefix("- ") for line in text.splitlines())))
    if loaded.policy is None:
        return loaded.problems
    return tuple(problem for problem in prove(loaded).errors if problem.kind != "guarantee")


def test_every_example_of_the_readme_is_what_it_says() -> None:
    examples = [text for language, named, text in blocks() if language == "yaml" and not named]
    assert len(examples) >= 7
    for text in examples:
        assert problems_of(text) == (), text


def test_the_readme_walks_from_an_idea_to_a_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = 0
    for language, named, text in blocks():
        if named:
            Path(named).write_text(text)
        if language != "console":
            continue
        line, _, expected = text.partition("\n")
        words = line.removeprefix("$ cauce ").split()
        result = CliRunner().invoke(main, words)
        assert as_shown(result.output) == as_shown(expected)
        runs += 1
    assert runs == 7


def as_shown(output: str) -> str:
    """Without what a page does not keep: spaces at the ends of lines, and hashes of what the policies say."""
    return re.sub(r" +$", "", re.sub(r"@[0-9a-f]{12}", "@HASH", output), flags=re.MULTILINE)


def test_the_readme_names_every_word_of_the_language() -> None:
    for word in (*EVERY, *TASKS, *DOMAINS, *DATA_KINDS, *CHECKS, *CALLER_FIELDS, *TOP, *EXPECTED, *RULE):
        if word != "json":
            assert re.search(rf"\b{word}\b", README), f"README of policies/ does not say {word!r}"


def test_the_readme_lists_every_pack() -> None:
    assert {pack.name for pack in PACKS} == set(re.findall(r"^\| `([\w-]+\.yaml)`", README, flags=re.MULTILINE))


def test_what_a_caller_pins_stays_inside_the_guarantees_of_every_pack() -> None:
    for pack in PACKS:
        policy = read(pack)
        for route in policy.routes:
            case = parse_cases(
                f"- {{model: {route}, signals: {{data: secret}}, expect: {{rule: {PINNED}, zone: premises}}}}", policy
            ).cases[0]
            assert run_case(case, policy=policy, models=NOMINAL, classify=untold).failures == ()


def test_the_spanish_readme_has_the_same_examples_and_words() -> None:
    def bare(page: str) -> list[tuple[str, str, str]]:
        return [(language, named, re.sub(r" *# .*", "", text)) for language, named, text in blocks(page)]

    assert bare(SPANISH) == bare(README)
    cells = re.compile(r"^\| (`[^|]*) \|", flags=re.MULTILINE)
    assert cells.findall(SPANISH) == cells.findall(README)
