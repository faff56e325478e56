"""The pages that people read first say what is so: examples load, commands and files exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway.cli.main import COMMANDS, main
from gateway.errors import ConfigError
from gateway.policy.check import check_file
from gateway.settings import load_settings
from gateway.types import Signals
from gateway.upstreams import registry
from gateway.wire.caller import REQUEST_HEADERS
from gateway.wire.headers import REPLY_HEADERS
from tests.docs.reference import metrics

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.es.md")
PAGES = (*READMES, "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "REFERENCE.md")
CARDS = tuple(sorted(str(card.relative_to(ROOT)) for card in (ROOT / "router_models").rglob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# What the README's examples take from the environment.
ENVIRON = {"OPENAI_API_KEY": "sk-of-a-test"}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    return FENCE.sub("", text(page))


def spans(page: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def rows(page: str, first: str) -> list[str]:
    """The rows of the table whose header begins with this word."""
    _, found, table = text(page).partition(f"\n| {first} |")
    assert found, f"{page} has no table of {first}"
    return re.findall(r"^\| .*", table.split("\n\n")[0], flags=re.MULTILINE)


# --- examples ---------------------------------------------------------------------------------------------------------


def yaml_blocks() -> Iterator[tuple[str, str]]:
    for page in READMES:
        for language, block in FENCE.findall(text(page)):
            if language == "yaml":
                yield page, block


@pytest.mark.parametrize(("page", "block"), list(yaml_blocks()))
def test_every_yaml_example_is_accepted_by_what_reads_it(page: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(block, encoding="utf-8")
    if block.startswith("version:"):
        report = check_file(file, models=None, classify=lambda _policy: lambda _request: Signals())
        assert report.errors == ()
        assert report.guarantees
        assert report.dead_rules == ()
    else:
        settings = load_settings(file, environ=ENVIRON)
        assert settings.models
        assert {model.provider for model in settings.catalogue()} <= set(registry.PROVIDERS)


def test_both_kinds_of_example_are_there_in_both_languages() -> None:
    for page in READMES:
        kinds = [
            "policy" if block.startswith("version:") else "settings" for name, block in yaml_blocks() if name == page
        ]
        assert {"policy", "settings"} <= set(kinds), page


def test_the_secret_of_the_example_comes_from_the_environment(tmp_path: Path) -> None:
    block = next(block for _, block in yaml_blocks() if "api_key" in block)
    (tmp_path / "cauce.yaml").write_text(block, encoding="utf-8")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        load_settings(tmp_path / "cauce.yaml", environ={})


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(page: str) -> Iterator[str]:
    """Each `cauce ...` that a page names: in a sentence, a table or a block of shell."""
    yield from (span for span in spans(page) if span.startswith("cauce "))
    for language, block in FENCE.findall(text(page)):
        if language in {"sh", "console"}:
            yield from (found[1] for found in re.finditer(r"^(?:\$ )?(?:\.venv/bin/)?(cauce .*)", block, re.MULTILINE))


def named(line: str) -> list[tuple[click.Command, list[str]]]:
    """The commands that a line means, with the options that it gives them: `keys create / list` means two."""
    words = shlex.split(line.replace("[", " ").replace("]", " ").replace("...", " "))[1:]
    context = click.Context(main, info_name="cauce")
    command: click.Command = main
    found: list[click.Command] = []
    while words and isinstance(command, click.Group):
        inner = command.get_command(context, words[0])
        if inner is None:
            break
        context = click.Context(inner, info_name=words.pop(0), parent=context)
        while len(words) > 1 and words[0] == "/":
            other = command.get_command(context, words[1])
            assert other is not None, f"`{line}`: there is no {words[1]}"
            found.append(other)
            words = words[2:]
        command = inner
    assert command is not main, f"`{line}`: there is no command {words[0]!r}"
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [(one, options) for one in (command, *found)]


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", [page for page in (*PAGES, *CARDS) if page != "REFERENCE.md"])
def test_every_command_that_a_page_names_is_there_with_its_options(page: str) -> None:
    for line in commands(page):
        for command, options in named(line):
            assert set(options) <= options_of(command), line


def test_the_readme_names_commands_at_all() -> None:
    assert all(len(list(commands(page))) >= 10 for page in READMES)


@pytest.mark.parametrize("page", READMES)
def test_the_table_of_commands_is_the_list_of_commands(page: str) -> None:
    first = {"README.md": "command", "README.es.md": "orden"}[page]
    lines = [row for row in rows(page, first) if "`cauce" in row]
    assert {re.findall(r"`cauce (\w+)", row)[0] for row in lines} == set(COMMANDS)
    for row in lines:
        found = [command for line in re.findall(r"`(cauce [^`]*)`", row) for command, _ in named(line)]
        for option in re.findall(r"`(--[\w-]+)`", row):
            assert any(option in options_of(command) for command in found), row


@pytest.mark.parametrize("page", [*PAGES, *CARDS])
def test_every_make_target_that_a_page_names_is_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.MULTILINE))
    shell = "\n".join(block for language, block in FENCE.findall(text(page)) if language == "sh")
    made = re.findall(r"^make ([a-z-]+)", "\n".join([*spans(page), *shell.splitlines()]), flags=re.MULTILINE)
    assert set(made) <= targets


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *CARDS, "policies/README.md", "policies/README.es.md"])
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", prose(page)):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_header_and_metric_that_a_page_names_is_there(page: str) -> None:
    headers = set(re.findall(r"\bx-cauce-[a-z-]+\b(?!\*)", text(page)))
    assert headers <= {*REPLY_HEADERS, *REQUEST_HEADERS}
    assert set(re.findall(r"`(cauce_\w+)`", text(page))) <= {line.name for line in metrics().lines}


def test_the_providers_of_the_table_are_those_of_the_registry() -> None:
    for page, first in (("README.md", "provider"), ("README.es.md", "proveedor")):
        names = [name for row in rows(page, first) for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]
        assert sorted(names) == sorted(registry.PROVIDERS), page


@pytest.mark.parametrize("page", READMES)
def test_the_figures_are_filled_in(page: str) -> None:
    assert "FIGURES" not in text(page)


# --- two languages ----------------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_shape() -> None:
    english, spanish = (text(page) for page in READMES)
    assert re.findall(r"^#+", english, flags=re.MULTILINE) == re.findall(r"^#+", spanish, flags=re.MULTILINE)
    assert [kind for kind, _ in FENCE.findall(english)] == [kind for kind, _ in FENCE.findall(spanish)]


def test_both_languages_have_the_same_providers_and_commands_in_the_same_order() -> None:
    def first_words(page: str, first: str) -> list[list[str]]:
        return [
            re.findall(r"`([\w -]+?)(?: \"[^`]*| \[[^`]*| NAME| NOMBRE)?`", row.split("|")[1])
            for row in rows(page, first)
        ]

    assert first_words("README.md", "provider") == first_words("README.es.md", "proveedor")
    assert first_words("README.md", "command") == first_words("README.es.md", "orden")


# --- ARCHITECTURE, CONTRIBUTING ---------------------------------------------------------------------------------------


def paths(page: str) -> Iterator[str]:
    """Each code span that is the name of a file or of a folder; capitals stand for a name of the reader's choice."""
    for span in spans(page):
        if re.fullmatch(r"[\w./-]+\.(py|yaml|yml|json|md|toml|txt|importlinter)|[\w.-]+(/[\w.-]+)*/|\.\w+", span):
            yield span


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    for path in paths(page):
        if path in {"cauce.yaml", ".venv"}:  # the reader's own
            continue
        shown = path.replace("NAME", "*")
        assert any(list(base.glob(shown.rstrip("/"))) for base in (ROOT, ROOT / "gateway")), path


def test_the_pages_name_files_at_all() -> None:
    assert len(set(paths("ARCHITECTURE.md"))) >= 15
    assert len(set(paths("CONTRIBUTING.md"))) >= 10


def test_the_order_of_imports_is_the_one_that_is_checked() -> None:
    (drawn,) = (span for span in spans("ARCHITECTURE.md") if span.startswith("cli > app"))
    layers = text(".importlinter").partition("layers =\n")[2].partition("\n\n")[0]
    checked = [set(re.findall(r"gateway\.(\w+)", line)) for line in layers.splitlines()]
    assert [set(re.split(r",\s*", level)) for level in drawn.split(" > ")] == checked


def test_the_stages_of_the_design_are_the_stages_of_the_table() -> None:
    (life,) = {span for span in spans("ARCHITECTURE.md") if span.startswith("receive > ")}
    table = [row.split("|")[1].strip() for row in rows("ARCHITECTURE.md", "stage")]
    assert [word.partition(" ")[0] for word in life.split(" > ")] == [name for name in table if name.isalpha()]
