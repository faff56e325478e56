from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GateRefused
from gateway.gate import Destination, Gate, Released, ceiling
from gateway.types import DataClass, Guarantee, Zone

CLASSES, ZONES = st.sampled_from(DataClass), st.sampled_from(Zone)


def test_personal_data_is_refused_beyond_its_ceiling() -> None:
    heard: list[tuple[str, DataClass]] = []
    gate = Gate(on_refusal=lambda where, data: heard.append((where.name, data)))

    with pytest.raises(GateRefused, match="may not go to gpt"):
        gate.release("text", data=DataClass.PERSONAL, limit=Zone.PREMISES, destination=Destination("gpt", Zone.WORLD))

    assert heard == [("gpt", DataClass.PERSONAL)]


def test_nobody_but_the_gate_can_release() -> None:
    with pytest.raises(TypeError, match=r"only Gate\.release"):
        Released(object(), "text", DataClass.PUBLIC, Destination("gpt", Zone.WORLD))


@pytest.mark.parametrize("data", [c for c in DataClass if c >= DataClass.PERSONAL])
def test_personal_data_is_never_stored(data: DataClass) -> None:
    store = Destination("cache", Zone.PREMISES, stores=True)
    assert not Gate().permits(data=data, limit=Zone.WORLD, destination=store)


@given(data=CLASSES, guarantees=st.lists(st.builds(Guarantee, CLASSES, ZONES)), zone=ZONES)
def test_what_the_gate_lets_out_breaks_no_guarantee(data: DataClass, guarantees: list[Guarantee], zone: Zone) -> None:
    limit = ceiling(data, guarantees)
    let_out = Gate().permits(data=data, limit=limit, destination=Destination("x", zone))
    broken = any(data >= g.data and zone > g.stays for g in guarantees)
    assert let_out is not broken


@given(low=CLASSES, high=CLASSES, guarantees=st.lists(st.builds(Guarantee, CLASSES, ZONES)))
def test_a_higher_class_never_goes_farther(low: DataClass, high: DataClass, guarantees: list[Guarantee]) -> None:
    if low <= high:
        assert ceiling(high, guarantees) <= ceiling(low, guarantees)
