"""The parts of a page that a command writes: what stands between `<!-- NAME -->` and `<!-- /NAME -->`."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import ConfigError


def written(page: Path, name: str) -> str:
    """What stands in this part now; raises `ConfigError` when the page has no such part."""
    return _part(page, name)[2]


def write(page: Path, name: str, text: str) -> None:
    """Put `text` there instead; the rest of the page stays as it is."""
    before, after, _ = _part(page, name)
    page.write_text(f"{before}\n{text.strip()}\n{after}", encoding="utf-8")


def _part(page: Path, name: str) -> tuple[str, str, str]:
    try:
        whole = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(page)) from error
    match = re.fullmatch(rf"(.*<!-- {name} -->)\n(.*)(<!-- /{name} -->.*)", whole, re.DOTALL)
    if match is None:
        raise ConfigError(f"has no lines `<!-- {name} -->` and `<!-- /{name} -->`: put them in", where=str(page))
    return match[1], match[3], match[2].strip()
