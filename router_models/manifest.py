"""Which artefact files there are, and proof that they are the ones that were trained.

`artifacts/manifest.json` names each file with its version, size and sha256. Training writes it; the gateway
checks it at start, so that a missing, truncated or foreign file stops the start and never becomes a wrong score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from gateway.errors import ConfigError

FORMAT = 1
FOLDER = Path(__file__).parent / "artifacts"
_NAME = "manifest.json"
_CURE = "reinstall cauce, or run `cauce router train` to make the artefacts again"


def verify(folder: Path, names: Iterable[str], *, version: str) -> None:
    """Check that every one of `names` is in `folder`, whole and of this `version`, or raise `ConfigError`."""
    entries = _read(folder)
    for name in names:
        entry = entries.get(name)
        path = folder / name
        if entry is None or not path.is_file():
            raise ConfigError(f"the model file {name} is missing; {_CURE}", where=str(path))
        if entry.get("version") != version:
            raise ConfigError(
                f"the model file is of version {entry.get('version')!r}, this gateway reads {version!r}; {_CURE}",
                where=str(path),
            )
        if path.stat().st_size != entry.get("bytes"):
            raise ConfigError(
                f"the model file has {path.stat().st_size} bytes, not {entry.get('bytes')}: truncated?; {_CURE}",
                where=str(path),
            )
        if sha256(path) != entry.get("sha256"):
            raise ConfigError(f"the model file's sha256 differs from the manifest's; {_CURE}", where=str(path))


def record(folder: Path, names: Iterable[str], *, version: str) -> None:
    """Write what `names` are now into the manifest; entries of other files stay."""
    path = folder / _NAME
    entries = _read(folder) if path.is_file() else {}
    for name in names:
        file = folder / name
        entries[name] = {"bytes": file.stat().st_size, "sha256": sha256(file), "version": version}
    text = json.dumps({"files": entries, "format": FORMAT}, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, dict[str, object]]:
    path = folder / _NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] == FORMAT:
            return dict(manifest["files"])
    except FileNotFoundError:
        raise ConfigError(f"the models' manifest is missing; {_CURE}", where=str(path)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"the models' manifest cannot be read ({error}); {_CURE}", where=str(path)) from error
    raise ConfigError(f"the manifest is of format {manifest['format']}, not {FORMAT}; {_CURE}", where=str(path))


def sha256_of(content: bytes) -> str:
    """What some bytes hash to, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256(path: Path) -> str:
    """What the file hashes to, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
