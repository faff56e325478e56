"""The models that Cauce knows of: a dated file of facts with sources (`catalogue.yaml`), read when first asked for.

A model of cauce.yaml that says nothing of its context window, its modalities or its tools takes what its row says, so
that the ladder leaves it out of what it cannot take. What no row says is not limited.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

FILE: Final = Path(__file__).with_suffix(".yaml")
_REGION: Final = re.compile(r"^(?:global|us|us-gov|eu|apac|au|jp)\.")  # Bedrock's inference profiles
_AFTER_NAME: Final = re.compile(r"[-@:]")  # a date, a revision, a quantisation follow


@dataclass(frozen=True, slots=True)
class ListPrice:
    """USD a million tokens where `at` sells the model, as listed on the catalogue's day."""

    at: str
    prompt: float
    completion: float
    cached: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Energy:
    """Billions of parameters that the energy estimate takes: active ones as a range, and all."""

    active_low: float
    active_high: float
    total: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One model. What is not known is nothing, never a guess."""

    id: str
    family: str
    vendor: str
    kind: str  # slm or llm
    names: Mapping[str, str]  # provider: what it calls the model
    status: str  # current, superseded or retired
    source: str
    active: float | None = None  # billions of parameters
    total: float | None = None
    context_tokens: int | None = None
    modalities: tuple[str, ...] = ()
    tools: bool | None = None
    languages: tuple[str, ...] | int = ()  # codes, or how many
    licence: str = ""
    price: ListPrice | None = None
    energy: Energy | None = None
    retired: dt.date | None = None
    successor: str = ""
    note: str = ""

    @property
    def last_words(self) -> str:
        """What somebody who uses it should know: that it is retired or has a successor; nothing for a current one."""
        if self.status == "current":
            return ""
        when = f" since {self.retired}" if self.retired else ""
        return f"{self.id} is {self.status}{when}; successor: {self.successor or 'none'}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All rows, and the day that they are of."""

    dated: dt.date
    sources: Mapping[str, str]
    entries: Mapping[str, Entry]

    def find(self, model: str) -> Entry | None:
        """The row of a model as its provider calls it: the whole name, or the longest one that it begins with."""
        wanted = _REGION.sub("", model.casefold())
        best: tuple[int, Entry] | None = None
        for entry in self.entries.values():
            for name in (entry.id, *entry.names.values()):
                known = name.casefold()
                if wanted == known:
                    return entry
                begins = wanted.startswith(known) and _AFTER_NAME.match(wanted, len(known))
                if begins and not _other_size(wanted, len(known)) and (best is None or len(known) > best[0]):
                    best = len(known), entry
        return best[1] if best else None


def _other_size(model: str, end: int) -> bool:
    """Whether what follows names another model of the family (`-mini`), not a date, a revision or a quantisation."""
    rest = model[end + 1 :]
    return not re.match(r"\d|v\d|it\b|instruct|chat\b|latest|q\d|fp\d|bf16|awq|gptq|int\d|default|preview", rest)


# How each place that a row names is configured: provider, zone, and what else an entry of cauce.yaml needs there.
_PLACES: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "embedded": ("embedded", "premises", {}),
    "ollama": ("ollama", "premises", {}),
    "huggingface": ("vllm", "premises", {"base_url": "http://localhost:8000/v1"}),
    "openai": ("openai", "world", {"api_key": "${OPENAI_API_KEY}"}),
    "anthropic": ("anthropic", "world", {"api_key": "${ANTHROPIC_API_KEY}"}),
    "gemini": ("gemini", "world", {"api_key": "${GEMINI_API_KEY}"}),
    "mistral": ("mistral", "eu", {"api_key": "${MISTRAL_API_KEY}"}),
    "xai": ("xai", "world", {"api_key": "${XAI_API_KEY}"}),
    "deepseek": ("deepseek", "world", {"api_key": "${DEEPSEEK_API_KEY}"}),
    "watsonx": ("watsonx", "eu", {
        "base_url": "https://eu-de.ml.cloud.ibm.com", "api_key": "${WATSONX_API_KEY}",
        "options": {"project_id": "YOUR-PROJECT"},
    }),
    "bedrock": ("bedrock", "eu", {"options": {
        "region": "eu-central-1", "access_key_id": "${AWS_ACCESS_KEY_ID}",
        "secret_access_key": "${AWS_SECRET_ACCESS_KEY}",
    }}),
    "together": ("together", "world", {"api_key": "${TOGETHER_API_KEY}"}),
    "dashscope": ("openai-compatible", "world", {
        "base_url": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "api_key": "${DASHSCOPE_API_KEY}",
    }),
    "azure": ("openai-compatible", "eu", {
        "base_url": "https://YOUR-RESOURCE.openai.azure.com/openai/v1", "api_key": "${AZURE_OPENAI_API_KEY}",
    }),
}  # fmt: skip


def example(entry: Entry, at: str = "") -> dict[str, Any]:
    """An entry of cauce.yaml's `models:` for a row, where it can run first or at a place that it names."""
    place = at or next(name for name in _PLACES if name in entry.names)
    provider, zone, more = _PLACES[place]
    return {"provider": provider, "model": entry.names[place], "zone": zone, "kind": entry.kind, **more}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a model takes: an unknown window is no limit, unknown modalities are text, unknown tools are taken."""

    context_tokens: int | None = None
    modalities: frozenset[str] = frozenset({"text"})
    tools: bool = True


def limits(model: str) -> Limits:
    """What the row of a model, as its provider calls it, says that it takes."""
    row = catalogue().find(model) if model else None
    if row is None:
        return Limits()
    return Limits(row.context_tokens, frozenset(row.modalities) | {"text"}, row.tools is not False)


@functools.cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    document = YAML(typ="safe", pure=True).load(FILE.read_text(encoding="utf-8"))
    entries = {name: _entry(name, row) for name, row in document["models"].items()}
    return Catalogue(document["dated"], document["sources"], entries)


def _entry(name: str, row: dict[str, Any]) -> Entry:
    given = dict(row)
    parameters, price, energy = given.pop("parameters", {}), given.pop("price", None), given.pop("energy", None)
    languages = given.pop("languages", ())
    return Entry(
        id=name,
        active=parameters.get("active"),
        total=parameters.get("total"),
        modalities=tuple(given.pop("modalities", ())),
        languages=languages if isinstance(languages, int) else tuple(languages),
        price=None if price is None else ListPrice(**{"cached": None, **price}),
        energy=None if energy is None else Energy(*energy),
        **given,
    )
