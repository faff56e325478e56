"""An unknown language widens the doubt, and nothing more."""

from __future__ import annotations

import pytest

from gateway.stages.classify import Classifier, Moment, Unread
from gateway.types import DataClass, Detection, Difficulty
from tests.builders import an_inbound


class Sure:
    """A router model and a scan that are sure of everything."""

    def score(self, parts: object) -> Difficulty:
        return Difficulty(0.9, 0.1, "faq", "general")

    def scan(self, parts: object) -> Detection:
        return Detection(DataClass.PUBLIC, 0.0)


@pytest.mark.parametrize(("language", "unsure"), [("es", False), ("en", False), ("und", True), ("mis", True)])
def test_an_unknown_language_is_answered_with_doubt(language: str, unsure: bool) -> None:
    classifier = Classifier(
        scorer=Sure(),
        scanners={"balanced": Sure()},
        language=lambda _text: language,
        max_scan_chars=1000,
        on_failure=lambda error: None,
    )
    signals = classifier.classify(an_inbound("hola"), unread=Unread(), moment=Moment())
    assert signals.low_confidence is unsure
    assert signals.slm_success == 0.9
