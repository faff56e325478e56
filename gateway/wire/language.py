"""The language that a reader names in `Accept-Language`."""

from __future__ import annotations

from typing import Literal

Language = Literal["es", "en"]


def named_language(accepted: str, otherwise: Language) -> Language:
    """The first of our languages that the header names."""
    for named in accepted.lower().split(","):
        match named.strip()[:2]:
            case "es":
                return "es"
            case "en":
                return "en"
    return otherwise
