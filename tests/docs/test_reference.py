"""REFERENCE.md says what the code says, and the code leaves nothing unsaid."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import errors
from gateway.errors import CauceError
from gateway.settings import Settings
from gateway.types import Cloud, DataClass
from gateway.upstreams import passing
from gateway.wire.caller import REQUEST_HEADERS
from gateway.wire.headers import REPLY_HEADERS, reply_headers
from gateway.wire.messages import DOOR as MESSAGES
from tests.builders import SMALL, an_attempt, an_exchange, an_inbound, some_signals
from tests.docs.reference import PAGE, Section, page, sections

ROOT = Path(__file__).parents[2]
# Read of a request, and said in its own place: the size of a body is no choice of the caller's.
READ_BY_THE_SERVER = {"content-length"}


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.title)
def test_everything_has_a_line_of_help(section: Section) -> None:
    assert section.lead, section.title
    for line in section.lines:
        assert line.help.strip(), f"{section.title}: {line.name} has no help"
        assert "\n" not in line.help


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "REFERENCE.md is stale: `make reference` writes it again"


def test_a_name_stands_in_one_line_only() -> None:
    for section in sections():
        names = [line.name for line in section.lines]
        assert len(names) == len(set(names)), section.title


# --- settings ---------------------------------------------------------------------------------------------------------


def product() -> Iterator[str]:
    """The product's sources, without the file that declares the settings."""
    for file in (ROOT / "gateway").rglob("*.py"):
        if file.name != "settings.py":
            yield file.read_text(encoding="utf-8")


def test_a_setting_that_nothing_reads_says_so() -> None:
    code = "\n".join(product())
    for section in sections():
        for line in section.lines if section.header[0] == "setting" else ():
            field = line.name.rpartition(".")[2]
            read = re.search(rf"\.{field}\b", code) is not None
            assert read is not line.help.startswith("not used yet"), f"{line.name}: {line.help}"


def test_every_field_of_the_settings_is_on_the_page() -> None:
    listed = {line.name.partition(".")[0] for section in sections() for line in section.lines}
    assert set(Settings.model_fields) - listed == {"source"}


# --- errors -----------------------------------------------------------------------------------------------------------


def leaves(root: type[CauceError]) -> Iterator[type[CauceError]]:
    """Every class without a class below it."""
    below = root.__subclasses__()
    if not below:
        yield root
    for one in below:
        yield from leaves(one)


def test_the_tree_in_the_docstring_of_errors_is_the_tree() -> None:
    drawn = re.findall(r"^\s+(\w+)\s+(\d{3})\s+(\w+)", errors.__doc__ or "", flags=re.MULTILINE)
    grown = [(leaf.__name__, str(leaf.status), leaf.code) for leaf in leaves(CauceError)]
    assert drawn == [leaf for leaf in grown if leaf[0] != "ConfigError"]


def test_every_error_that_a_client_can_see_is_on_the_page() -> None:
    (section,) = (section for section in sections() if section.title == "Error codes")
    assert [line.name for line in section.lines] == [
        leaf.code for leaf in leaves(CauceError) if leaf.__name__ != "ConfigError"
    ]
    assert all(line.cells[1] for line in section.lines), "a group's docstring begins with who can act"


# --- headers ----------------------------------------------------------------------------------------------------------


def test_the_reply_headers_are_those_that_a_reply_has() -> None:
    attempt = an_attempt(dataclasses.replace(SMALL, notice="a demonstration"))
    exchange = an_exchange(
        attempt,
        inbound=an_inbound(lost=("store",)),
        signals=some_signals(cloud=Cloud.DOWN),
        transform="pseudonymised",
    )
    sent = {name.decode() for name, _ in reply_headers(exchange, cost_nano_usd=1)}
    assert sent | {MESSAGES.request_id_header.decode()} | set(passing.REPLY) | {"x-should-retry"} == set(REPLY_HEADERS)


def test_the_headers_of_a_provider_that_come_back_are_those_that_are_named() -> None:
    given = {name.encode(): b"1" for name in passing.GIVEN}
    patterns = [re.compile(name.replace("*", r"[\w-]+")) for name in passing.REPLY]
    for name in passing.given(given.items()):
        assert any(pattern.fullmatch(name) for pattern in patterns), name
    assert all(any(pattern.fullmatch(name) for name in passing.given(given.items())) for pattern in patterns)


def test_a_request_that_was_refused_early_has_a_part_of_them() -> None:
    sent = {name.decode() for name, _ in reply_headers(an_exchange(inbound=None, signals=None, decision=None))}
    assert sent < set(REPLY_HEADERS)


def test_the_request_headers_are_those_that_are_read() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "gateway" / "wire").glob("*.py"))
    read = set(re.findall(r'headers\.get\(b"([\w-]+)"', code))
    assert read - READ_BY_THE_SERVER | {name.decode() for name in passing.NAMES} == set(REQUEST_HEADERS)
    assert set(passing.REQUEST) == {name.decode() for name in passing.NAMES}


def test_the_data_classes_named_there_are_all_that_there_are() -> None:
    assert ", ".join(data.label for data in DataClass) in REQUEST_HEADERS["x-cauce-data-class"]
