"""Health cards and records: each region's is found, and no year, port or order number is taken for one."""

from __future__ import annotations

import pytest

from gateway.signals.privacy import SURE, examine
from gateway.types import DataClass

CARDS = [
    "CIP GOME1750412003",
    "gome 1 750412 003",
    "el CIP-SNS es BBBBBBBBQR648597",
    "B B B B B B B B Q R 6 4 8 5 9 7",
    "SIP 10234567",
    "mi número SIP: 7654321",
    "mi CIPA es el 4012345678",
    "NUHSA AN0412345678",
    "tarxeta sanitaria 771205GORM1021",
    "tarjeta de Castilla y León CYL0123456789",
    "osasun txartela 1234567",
    "TIS 12345678",
    "NHC 4471",
    "historia clínica n.º 88213",
    "historia: 8821",
    "mi número de historia es 88213",
    "MRN 4471920",
]
OTHERS = [
    "SIP/2.0 200 OK",
    "SIP trunk 5060 en el puerto 5061",
    "ring via SIP extension 1024",
    "sip:100123@10.0.0.1",
    "RFC 3261 define SIP desde 2002",
    "Historia de España 1936 1939",
    "la historia empieza en 1492",
    "el congreso CIP 2023",
    "CIPA 2010, la ley de cámaras",
    "código TSI 2023",
    "ABCD1234567890",
    "SKU ABCD 1234567890",
    "factura FACT0750412003",
    "LOTE 1234567890",
    "BBBBBBBB 12345",
]


def held_by(text: str) -> set[str]:
    """Labels of what holds a text by itself."""
    return {one.label for one in examine(text).found if one.score >= SURE and one.data >= DataClass.PERSONAL}


@pytest.mark.parametrize("text", CARDS)
def test_a_health_number_holds_a_text_as_special(text: str) -> None:
    assert "HEALTH_ID" in held_by(text)
    assert max(one.data for one in examine(text).found) == DataClass.SPECIAL


@pytest.mark.parametrize("text", OTHERS)
def test_a_year_a_port_or_an_order_number_is_no_health_number(text: str) -> None:
    assert "HEALTH_ID" not in held_by(text)
