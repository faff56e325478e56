"""Identifiers that a form gives away: found with the right check digit, not with a wrong one, under every disguise."""

from __future__ import annotations

import random

import pytest

from gateway.signals import identifiers
from gateway.signals.normalise import lowered
from gateway.signals.privacy import SURE, examine
from gateway.types import DataClass
from router_models.train.privacy_identifiers import EVASIONS, IDENTIFIERS, WORDED, Identifier, found, measure


def labels(text: str, least: float = SURE) -> set[str]:
    """Labels of what a recogniser is sure of."""
    return {one.label for one in examine(text).found if one.score >= least}


RIGHT = [
    ("ID_DNI", "mi DNI es 12345678Z"),
    ("ID_DNI", "12.345.678-Z"),
    ("ID_NIE", "NIE X1234567L"),
    ("ID_NIF", "NIF de menor K1234567L"),
    ("NUSS", "afiliación 28 12345678 40"),
    ("PASSPORT", "pasaporte PAB123456"),
    ("IBAN", "ES91 2100 0418 4502 0005 1332"),
    ("IBAN", "DE89370400440532013000"),
    ("CCC", "cuenta 2100 0418 45 0200051332"),
    ("CARD", "4539 1488 0343 6467"),
    ("CARD", "amex 378167334782506"),
    ("CARD", "card number 180043219876507"),
    ("CUPS", "ES1234123456789012JY"),
    ("IMEI", "IMEI 490154203237518"),
    ("PLATE", "mi coche es el 1234 BCD"),
    ("PLATE", "matrícula M-1234-AB"),
    ("PHONE", "llámame al 612 345 678"),
    ("PHONE", "+44 7911 123456"),
    ("PHONE", "mi móvil: 6610 1136 5"),
    ("PHONE", "tel. + 44 7911 123456"),
    ("EMAIL", "ana.ruiz@gmail.com"),
    ("EMAIL", "l u c i a @ c o r r e o . c a t"),
    ("HEALTH_ID", "NHC 4471920"),
    ("HEALTH_ID", "CIP GOME 1 750412 003"),
    ("ID_NHS", "NHS number 943 476 5919"),
    ("ID_SSN", "SSN 536-90-4399"),
    ("ID_SSN", "536-90-4399"),
    ("ID_SSN", "my social security number is 536904399"),
    ("ID_NIF_PT", "NIF 123456789"),
    ("ID_NIR", "1 85 05 78 006 084 91"),
    ("TOKEN", "AKIAIOSFODNN7XKQ2LMZ"),
    ("TOKEN", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("SECRET", 'client_secret: "9fQx72LmZa0tRwKk"'),
    ("PRIVATE_KEY", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"),
    ("CONNECTION_STRING", "postgres://app:s3cr3tPa55@db.lan:5432/crm"),
    ("AUTH_HEADER", "Authorization: Bearer 9f8Zk2LmQ77TtXw0aB"),
    ("PASSWORD", "mi contraseña es Girasol-1987"),
    ("CODE", "the pin is 4471"),
    ("CODE", "mi pin es el 4471"),
    ("CODE", "el código de verificación es el cuatro ocho dos nueve uno tres"),
    ("PASSWORD", 'curl -u ":d2LkV78zLx!t" https://host.lan:9200'),
]


@pytest.mark.parametrize(("label", "text"), RIGHT)
def test_an_identifier_is_found_by_its_form(label: str, text: str) -> None:
    assert label in labels(text)


@pytest.mark.parametrize(
    "text",
    [
        "la referencia 12345678A del catálogo",
        "X1234567A",
        "DE88370400440532013000",
        "modelo 4539 1488 0343 6460",
        "371449635398430",
        "lote 490154203237519",
        "2100 0418 46 0200051332",
    ],
)
def test_a_wrong_check_digit_is_no_identifier(text: str) -> None:
    held = {one.label for one in examine(text).found if one.score >= SURE and one.data >= DataClass.PERSONAL}

    assert not held - {"PHONE"}


NEAR_MISSES = [
    "El pedido PED-2026-004512 sale mañana",
    "commit 9f86d081884c7d65 y job 95d62755-0838-2350-5367-f77b1e047734",
    "la tarjeta de pruebas 4242 4242 4242 4242",
    "Población de Girona: 618148933 habitantes",
    "escribid a soporte@empresa.example",
    "el servidor 192.168.1.10 y 127.0.0.1",
    "password = os.environ['DB_PASSWORD']",
    "token: ${CI_TOKEN}",
    "no me acuerdo de la contraseña y no me deja entrar",
    "curl --user neo4j:[PASSWORD] http://localhost:7474",
    'environment { CREDENTIALS_ID = "K8S_CRED" }',
    'credentialsId: "ff083f76-7804-4ef1-80e4-fe975bb9141b"',
    'const keyStr = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"',
    "  M_UINT (Cell_t, H_PRIO, 2, &hf_servingcellpriorityparametersdescription_h_prio),",
    "error 404, código postal, código de barras 8412345678905",
    "llame gratis al 900 123 456",
    "salt = 12 rounds; keyword: argument2",
    "ISBN 978-84-376-0494-7, edición de 2004",
    "versión 12.4.567 del 2024-01-15, parche v1.2.3-rc4",
    "order 536-90-4399-22 has part 536-90-4399A",
    "part 536-90-4399 is out of stock",
    "SSN 000-12-3456 and 987-65-0000 were never given out, nor 123-45-6789",
    "the reference B-1234-CD of the catalogue",
    "alice @ work, bob @ home",
    "el nodo 83.45.12.190 responde",
]


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_what_only_looks_like_an_identifier_does_not_hold_a_text(text: str) -> None:
    assert not found(text)


@pytest.mark.parametrize("kind", IDENTIFIERS, ids=lambda kind: kind.name)
def test_every_kind_with_a_check_digit_is_found_in_every_disguise(kind: Identifier) -> None:
    cells = list(measure([kind], each=25, seed=11))

    assert len(cells) == len(EVASIONS)
    assert [cell for cell in cells if cell.hits < (cell.total if cell.evasion == "plain" else 0.9 * cell.total)] == []


# What stays unfound, as the card says: a letter in place of a digit where letters belong, addresses taken apart.
TOO_WELL_DISGUISED = {
    ("passport", "letters for digits"),
    ("phone (es)", "grouped"),
    ("e-mail", "grouped"),
    ("e-mail", "dotted"),
}


@pytest.mark.parametrize("kind", WORDED, ids=lambda kind: kind.name)
def test_a_kind_without_a_check_digit_is_found_by_its_form_or_word_in_every_disguise(kind: Identifier) -> None:
    missed = [cell for cell in measure([kind], each=25, seed=11) if cell.hits < 0.9 * cell.total]

    assert {(cell.identifier, cell.evasion) for cell in missed} <= TOO_WELL_DISGUISED


@pytest.mark.parametrize("kind", IDENTIFIERS, ids=lambda kind: kind.name)
def test_an_identifier_is_placed_where_it_stands(kind: Identifier) -> None:
    value = kind.make(random.Random(3))
    text = kind.carriers[0].format(value)

    seen = examine(text)

    best = max(seen.found, key=lambda one: one.rank)
    assert text[slice(*seen.normal.origin(best.start, best.end))] == value


def test_overlapping_readings_leave_the_strongest() -> None:
    text = "IBAN ES91 2100 0418 4502 0005 1332, titular yo"

    kept = identifiers.scan(text, lowered(text))

    assert [one.label for one in kept] == ["IBAN"]


def test_an_identifier_cut_by_turns_is_put_together() -> None:
    text = "user: primero 1234\nassistant: ¿y el resto?\nuser: luego 5678Z"

    assert "ID_DNI" in labels(text)


def test_what_the_assistant_says_does_not_complete_a_number() -> None:
    text = "user: primero 1234\nassistant: luego 5678Z\nuser: gracias"

    assert "ID_DNI" not in labels(text)


def test_time_does_not_explode_on_hostile_digits() -> None:
    for piece in ("1 ", "ES91 ", "a1@", "1:", "%41", "uno dos ", "key=", "0O1l "):
        examine(piece * 20_000)
