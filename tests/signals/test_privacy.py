"""The scan of a whole request: its class, its evidence, and what it does with anything that is thrown at it."""

from __future__ import annotations

import random

import pytest

from gateway.errors import ConfigError
from gateway.signals.privacy import PrivacyScanner, read_points
from gateway.types import DataClass, Part
from router_models import manifest

PUBLIC, INTERNAL, PERSONAL, SPECIAL, SECRET = DataClass


@pytest.fixture(scope="module")
def scanner() -> PrivacyScanner:
    """One for all: it is slow to load, and tests must not depend on what it has seen."""
    return PrivacyScanner.load(manifest.FOLDER)


def the_class(scanner: PrivacyScanner, *texts: str, role: str = "user") -> DataClass:
    return scanner.scan([Part(role, text) for text in texts]).data


SENTENCES = [
    (PUBLIC, "¿A qué hora cierra la biblioteca municipal los viernes?"),
    (PUBLIC, "What is type 2 diabetes and how common is it in Spain?"),
    (PUBLIC, "Cervantes nació en Alcalá de Henares; resume su vida en tres líneas."),
    (PUBLIC, "My password does not work, how do I reset it?"),
    (PUBLIC, "Escribe una función en Python que ordene una lista de números."),
    (PUBLIC, "Compare fibre and cable for a small office."),
    (INTERNAL, "¿Dónde está el pedido PED-2026-004512?"),
    (PERSONAL, "Mi DNI es 12345678Z y quiero cambiar el titular."),
    (PERSONAL, "Please call Laura Méndez Prieto on 612 345 678 about the flat."),
    (PERSONAL, "Paga a ES91 2100 0418 4502 0005 1332 antes del viernes."),
    (SPECIAL, "Me diagnosticaron esclerosis múltiple en marzo y tomo interferón."),
    (SPECIAL, "My husband has been on antidepressants since he was diagnosed with depression."),
    (SECRET, "La contraseña del servidor es Girasol-1987."),
    (SECRET, "export AWS_KEY=AKIAIOSFODNN7XKQ2LMZ and it still says denied"),
]


@pytest.mark.parametrize(("data", "text"), SENTENCES)
def test_a_sentence_gets_its_class(scanner: PrivacyScanner, data: DataClass, text: str) -> None:
    assert the_class(scanner, text) == data


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "tools", "schema", "field"])
def test_every_part_of_a_request_counts(scanner: PrivacyScanner, role: str) -> None:
    parts = [Part("user", "hola, ¿qué tal?"), Part(role, "DNI 12345678Z"), Part("user", "gracias")]

    assert scanner.scan(parts).data == PERSONAL


def test_the_highest_class_of_any_part_wins(scanner: PrivacyScanner) -> None:
    assert the_class(scanner, "DNI 12345678Z", "la contraseña es Girasol-1987", "hola") == SECRET


def test_a_finding_says_part_and_place(scanner: PrivacyScanner) -> None:
    text = "mi número es ya sabes 12345678Z vale"

    detection = scanner.scan([Part("system", "eres amable"), Part("user", text)])

    finding = next(one for one in detection.findings if one.label == "ID_DNI")
    assert finding.part == 1
    assert text[finding.start : finding.end] == "12345678Z"
    assert "identity" in detection.kinds


def test_a_finding_in_a_disguised_text_covers_what_was_sent(scanner: PrivacyScanner) -> None:
    text = "dni １２３４５６７８Ｚ, gracias"

    finding = next(one for one in scanner.scan([Part("user", text)]).findings if one.label == "ID_DNI")

    assert text[finding.start : finding.end] == "１２３４５６７８Ｚ"


def test_an_identifier_split_over_two_user_turns_is_found(scanner: PrivacyScanner) -> None:
    parts = [Part("user", "la primera mitad es 1234"), Part("assistant", "¿y el resto?"), Part("user", "luego 5678Z")]

    detection = scanner.scan(parts)

    assert detection.data == PERSONAL
    assert {one.part for one in detection.findings if one.label == "ID_DNI"} == {0, 2}


def test_a_conversation_once_personal_stays_so(scanner: PrivacyScanner) -> None:
    turns = [
        Part("user", "soy Laura Méndez Prieto, DNI 12345678Z"),
        Part("assistant", "Hola."),
        Part("user", "¿qué tiempo hace?"),
    ]

    assert scanner.scan(turns).data == PERSONAL


def test_a_part_seen_before_is_judged_the_same_wherever_it_stands(scanner: PrivacyScanner) -> None:
    text = "Me operan de la rodilla el martes y sigo con heparina."
    alone = scanner.scan([Part("user", text)])

    again = scanner.scan([Part("user", "hola"), Part("user", text)])

    assert (again.data, again.stay_score) == (alone.data, alone.stay_score)
    assert [one.start for one in again.findings if one.part == 1] == [one.start for one in alone.findings]


def test_what_was_seen_does_not_change_what_is_found(scanner: PrivacyScanner) -> None:
    fresh = PrivacyScanner.load(manifest.FOLDER)
    texts = [text for _, text in SENTENCES]
    random.Random(2).shuffle(texts)

    for text in texts:
        first, second = (one.scan([Part("user", text)]) for one in (fresh, scanner))
        assert (first.data, first.kinds) == (second.data, second.kinds)
        assert abs(first.stay_score - second.stay_score) < 1e-4  # sums of rows in another order


PROSE = "el consejo aprobó el presupuesto de obras y la licitación del nuevo puente, según informó el portavoz. "
BAD = {
    "empty": "",
    "blank": " \n\t",
    "lone surrogate": "hola \ud800 DNI 12345678Z \udfff",
    "control characters": "".join(map(chr, range(32))) + " DNI 12345678Z",
    "binary": bytes(range(256)).decode("latin-1") * 20,
    "marks only": "\u0301\u200b\ufe0f" * 200,
    "one long word": "a" * 50_000,
    "right to left": "שלום \u202e DNI 12345678Z",
    "emoji": "👩‍👩‍👧‍👦" * 500,
}


@pytest.mark.parametrize("name", BAD)
def test_no_text_is_too_strange_to_scan(scanner: PrivacyScanner, name: str) -> None:
    detection = scanner.scan([Part("user", BAD[name])])

    assert 0 <= detection.stay_score <= 1
    if "12345678Z" in BAD[name]:
        assert detection.data >= PERSONAL


def test_no_parts_are_public(scanner: PrivacyScanner) -> None:
    assert scanner.scan([]).data == PUBLIC


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_megabyte_is_scanned_to_its_end(scanner: PrivacyScanner, place: int) -> None:
    pieces = [PROSE * 3_000, PROSE * 3_000, PROSE * 3_000]
    pieces[place] += " Mi DNI es 12345678Z. "

    assert the_class(scanner, "".join(pieces)) == PERSONAL


def test_a_statement_without_a_number_is_found_in_a_long_text(scanner: PrivacyScanner) -> None:
    hidden = (
        "Me diagnosticaron esclerosis múltiple en marzo y desde entonces tomo interferón y voy en silla de ruedas. "
    )

    assert the_class(scanner, PROSE * 400 + hidden + PROSE * 400) == SPECIAL


def test_strict_holds_whatever_balanced_holds() -> None:
    points = read_points(manifest.FOLDER)

    assert points["strict"].threshold < points["balanced"].threshold
    assert points["strict"].recall > points["balanced"].recall


def test_an_unknown_operating_point_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'lax' is not an operating point; take one of"):
        PrivacyScanner.load(manifest.FOLDER, operating_point="lax")


def test_the_figures_of_the_card_are_of_the_model_that_ships() -> None:
    card = (manifest.FOLDER.parent / "cards" / "privacy.md").read_text(encoding="utf-8")

    told = "python -m router_models.train.privacy_card --data ../shared/data writes them again"
    assert manifest.sha256(manifest.FOLDER / "privacy.onnx")[:16] in card, told
