"""The privacy scan's table beside Presidio's: its own operating point, its installed models, nothing fetched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.signals.privacy import PrivacyScanner
from router_models import manifest
from router_models.train.privacy_data import read_own
from router_models.train.privacy_evaluate import score, table
from router_models.train.privacy_presidio import load


class Installed:
    """The modules that Presidio's package brings, as small as can be: an e-mail is all that it finds."""

    def __init__(self, *models: str) -> None:
        self.suffixes = SimpleNamespace(TLD_EXTRACTOR=SimpleNamespace(suffix_list_urls=("https://publicsuffix",)))
        self.models, self.blank, self.asked = models, [], {}  # type: tuple[str, ...], list[str], dict[str, Any]
        self.languages: list[str] = []

    def __call__(self, name: str) -> Any:
        def blank(language: str) -> Any:
            self.blank.append(language)
            return SimpleNamespace(to_disk=lambda path: Path(path).mkdir())

        def provider(nlp_configuration: dict[str, Any]) -> Any:
            self.asked = nlp_configuration
            return SimpleNamespace(create_engine=lambda: None)

        return {
            "presidio_analyzer": SimpleNamespace(AnalyzerEngine=lambda **_: self),
            "presidio_analyzer.nlp_engine": SimpleNamespace(NlpEngineProvider=provider),
            "spacy": SimpleNamespace(blank=blank, util=SimpleNamespace(get_installed_models=lambda: [*self.models])),
            "tldextract.tldextract": self.suffixes,
            "importlib.metadata": SimpleNamespace(version=lambda _: "2.2"),
        }[name]

    def analyze(self, text: str, language: str) -> list[Any]:
        self.languages.append(language)
        found = [SimpleNamespace(entity_type="URL", score=1.0)]
        return [*found, SimpleNamespace(entity_type="EMAIL_ADDRESS", score=0.4)] if "@" in text else found


def missing(name: str) -> Any:
    raise ModuleNotFoundError(name)


def test_without_presidio_there_is_nothing_beside() -> None:
    assert load(missing) is None


def test_without_a_spacy_model_its_patterns_work_alone_and_it_is_said() -> None:
    installed = Installed()
    presidio = load(installed)
    assert presidio is not None
    assert presidio.said == "Presidio 2.2: es with patterns alone, en with patterns alone"
    assert installed.blank == ["es", "en"]
    assert installed.suffixes.TLD_EXTRACTOR.suffix_list_urls == ()


def test_the_largest_installed_model_of_each_language_is_used() -> None:
    installed = Installed("es_core_news_sm", "es_core_news_lg", "xx_ent_wiki_sm")
    presidio = load(installed)
    assert presidio is not None
    assert presidio.said == "Presidio 2.2: es with es_core_news_lg, en with patterns alone"
    assert installed.asked["models"][0] == {"lang_code": "es", "model_name": "es_core_news_lg"}


def test_what_it_finds_is_counted_at_its_own_operating_point() -> None:
    installed = Installed()
    presidio = load(installed)
    assert presidio is not None
    rows = read_own(manifest.FOLDER.parent / "data" / "privacy")["test"][:60]
    scored = score(rows, PrivacyScanner.load(manifest.FOLDER), presidio.score)
    everything = next(table(scored, ()))
    mailed = [row for row in rows if row.label and "@" in row.text]
    assert everything.presidio_recall.hits == len(mailed)
    assert everything.presidio_recall.total == everything.recall.total
    assert set(installed.languages) <= {"es", "en"}


@pytest.mark.parametrize(("entity", "held"), [("DATE_TIME", 0.0), ("PERSON", 0.85)])
def test_a_date_alone_is_nobody_and_a_name_is(entity: str, held: float) -> None:
    presidio = load(Installed())
    assert presidio is not None
    analyzer = SimpleNamespace(analyze=lambda **_: [SimpleNamespace(entity_type=entity, score=0.85)])
    assert type(presidio)(analyzer, "2.2", {}).score("x", "en") == held
