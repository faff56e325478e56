"""An identifier said in pieces, a turn each, is one; numbers that make none are none."""

from __future__ import annotations

import pytest

from gateway.reading import ARTIFACTS
from gateway.signals.privacy import PrivacyScanner
from gateway.types import DataClass, Part


@pytest.fixture(scope="module")
def scanner() -> PrivacyScanner:
    return PrivacyScanner.load(ARTIFACTS)


def asked(scanner: PrivacyScanner, *turns: str) -> tuple[DataClass, set[str]]:
    parts = [part for text in turns for part in (Part("user", text), Part("assistant", "¿Y lo demás?"))]
    found = scanner.scan(parts[:-1])
    return found.data, {one.label for one in found.findings}


@pytest.mark.parametrize(
    ("turns", "label"),
    [
        (("mi DNI es 1234", "5678Z"), "ID_DNI"),
        (("mi DNI empieza por 123", "456", "78Z"), "ID_DNI"),
        (("12", "34", "56", "78 Z"), "ID_DNI"),
        (("el IBAN: ES91 2100", "0418 4502", "0005 1332"), "IBAN"),
        (("la tarjeta empieza por 4111 1111", "luego 1111", "y 1111"), "CARD"),
        (("mi móvil empieza por 612 345", "678"), "PHONE"),
    ],
)
def test_an_identifier_in_pieces_is_found(scanner: PrivacyScanner, turns: tuple[str, ...], label: str) -> None:
    data, labels = asked(scanner, *turns)
    assert data >= DataClass.PERSONAL
    assert label in labels


@pytest.mark.parametrize(
    "turns",
    [
        ("quiero 12 tornillos", "y 34 tuercas", "de 56 mm"),
        ("1234", "5678A"),
        ("del 2019 al 2021", "y 300 páginas", "en 45 días"),
    ],
)
def test_numbers_that_make_no_identifier_are_none(scanner: PrivacyScanner, turns: tuple[str, ...]) -> None:
    _, labels = asked(scanner, *turns)
    assert not labels & {"ID_DNI", "IBAN", "CARD", "PHONE"}


def test_only_what_is_new_is_read(scanner: PrivacyScanner) -> None:
    """The results of parts that were scanned before are kept, by role and text."""

    class Counting:
        reads = 0

        def read(self, plain: str, entities: object) -> object:
            self.reads += 1
            return scanner._model.read(plain, entities)  # type: ignore[arg-type]

    model = Counting()
    counted = PrivacyScanner(model, scanner.point)  # type: ignore[arg-type]
    parts = [Part("user" if n % 2 == 0 else "assistant", f"Turno número {n} sobre faros y barcos.") for n in range(40)]
    for length in range(1, 41):
        counted.scan(parts[:length])
    assert model.reads == 40


def test_a_scan_that_takes_too_long_is_given_up(scanner: PrivacyScanner) -> None:
    now = iter(range(0, 1000, 2))
    slow = PrivacyScanner(scanner._model, scanner.point, clock=lambda: float(next(now)))
    with pytest.raises(TimeoutError):
        slow.scan([Part("user", f"Turno {n}") for n in range(10)])
