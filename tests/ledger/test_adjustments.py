from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

from gateway.ledger.adjustments import Adjustment, adjust, adjusted


@pytest.fixture
def engine(ledger_engine: Engine) -> Engine:
    return ledger_engine


def a_correction(number: int, request_id: str, nano_usd: int) -> Adjustment:
    return Adjustment(f"price:{number}", request_id, 1, "price", nano_usd, "contract of November")


def test_a_correction_made_twice_is_booked_once_and_sums_by_request(engine: Engine) -> None:
    rows = [a_correction(0, "req_1", -5), a_correction(1, "req_1", 2**60), a_correction(2, "req_2", 7)]
    with engine.begin() as connection:
        assert adjust(connection, rows) == 3
    with engine.begin() as connection:
        assert adjust(connection, [*rows, a_correction(3, "req_2", 1)]) == 1
        assert adjust(connection, []) == 0
    with engine.connect() as connection:
        sums = {row.request_id: row.nano_usd for row in connection.execute(select(adjusted()))}
    assert sums == {"req_1": 2**60 - 5, "req_2": 8}
