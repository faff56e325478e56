"""Microsoft's Presidio on the same rows, for `cauce privacy evaluate`, where it is installed.

At its own operating point: every result that `AnalyzerEngine.analyze` gives without further options. URL, DATE_TIME,
UUID and ORGANIZATION say nothing about a person by themselves and are left out, to its advantage. Names and places need
a spaCy model (`es_core_*`, `en_core_*`): with none installed its pattern recognisers work alone, and the table says so.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

INSTALL: Final = (
    "Presidio is not installed. Its figures are shown too after `pip install presidio-analyzer` and, for names and "
    "places, `python -m spacy download es_core_news_lg` and `en_core_web_lg`"
)
NOT_PERSONAL: Final = frozenset({"URL", "DATE_TIME", "UUID", "ORGANIZATION"})
_LANGUAGES: Final = ("es", "en")
_SIZES: Final = ("sm", "md", "lg", "trf")
Import = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Presidio:
    """The analyser, its version, and the spaCy model of each language that has one."""

    analyzer: Any
    version: str
    models: dict[str, str]

    def score(self, text: str, language: str) -> float:
        """The score of the surest personal result, 0 to 1; 0 without any. Other languages are read as English."""
        results = self.analyzer.analyze(text=text, language=language if language in _LANGUAGES else "en")
        return max((one.score for one in results if one.entity_type not in NOT_PERSONAL), default=0.0)

    @property
    def said(self) -> str:
        """What was measured."""
        parts = [f"{language} with {self.models.get(language) or 'patterns alone'}" for language in _LANGUAGES]
        return f"Presidio {self.version}: {', '.join(parts)}"


def load(find: Import = importlib.import_module) -> Presidio | None:
    """Presidio with the spaCy models that are installed, or nothing without it. Nothing is fetched."""
    try:
        analyzer = find("presidio_analyzer")
        engines = find("presidio_analyzer.nlp_engine")
        spacy = find("spacy")
        suffixes = find("tldextract.tldextract")
    except ModuleNotFoundError:
        return None
    suffixes.TLD_EXTRACTOR.suffix_list_urls = ()  # else it asks the network for the list that it holds a copy of
    models = {language: _largest(spacy.util.get_installed_models(), language) for language in _LANGUAGES}
    with tempfile.TemporaryDirectory() as folder:
        for language, name in models.items():
            if not name:
                spacy.blank(language).to_disk(f"{folder}/{language}")
        named = [{"lang_code": one, "model_name": name or f"{folder}/{one}"} for one, name in models.items()]
        provider = engines.NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": named})
        engine = analyzer.AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=list(_LANGUAGES))
    version = find("importlib.metadata").version("presidio-analyzer")
    return Presidio(engine, version, {language: name for language, name in models.items() if name})


def _largest(installed: list[str], language: str) -> str:
    """The largest model of a language, or nothing."""
    own = [name for name in installed if name.startswith(f"{language}_core_") and name.rpartition("_")[2] in _SIZES]
    return max(own, key=lambda name: _SIZES.index(name.rpartition("_")[2]), default="")
