"""Labels come from closed sets: whatever a caller sends, no value of a label is the caller's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import CauceError, GateRefused
from gateway.gate import Destination, Gate
from gateway.ledger.budgets import THRESHOLDS
from gateway.ledger.entry import SHADOW, AttemptEntry
from gateway.ledger.limits import LEVELS, RATES
from gateway.opinions import Came
from gateway.stages.verify import ASKING, CHECKS
from gateway.telemetry.metrics import Metrics, gateway_us
from gateway.types import CacheState, DataClass, Outcome, Zone
from gateway.upstreams.static import default_embedding
from tests.builders import an_attempt_entry, an_entry
from tests.entries import eventually
from tests.running import Running
from tests.traffic import MODELS, a_gateway, authorised, mixed


def codes(kind: type[CauceError] = CauceError) -> set[str]:
    return {kind.code}.union(*(codes(below) for below in kind.__subclasses__()))


ROUTES = {"", "plain", "climbing", "falling", "cutting", "away", "pinned"}
CLOSED: dict[str, set[str]] = {
    "route": ROUTES,
    "model": {"", *MODELS, default_embedding().id},
    "outcome": {*Outcome, *codes(), "in_force", SHADOW, "outrun", "made", "sent", "failed", "logged"},
    "replica": {"0"},
    "code": codes() | {"client_closed_request"},
    "check": set(CHECKS) | ASKING,
    "kind": {"prompt", "completion", *RATES},
    "verdict": set(Came),
    "why": {"turned_down", "verifying"},
    "state": set(CacheState),
    "transform": {"pseudonymised", "none"},
    "team": {"billing", ""},
    "data_class": {data.label for data in DataClass},
    "zone": {"", *(zone.label for zone in Zone)},
    "level": set(LEVELS),
    "budget": {"team:billing/month"},
    "threshold": {str(threshold) for threshold in THRESHOLDS},
}
ODD = [
    "x" * 5_000,
    "llevo-31-dias-con-ansiedad",
    "12345678Z",
    'a"b\\c',
    "línea\nnueva",
    "{{route}}",
    "near ",
    "NEAR",
    "0",
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with a_gateway(tmp_path_factory.mktemp("metrics")) as started:
        yield started


def labels(gateway: Running) -> set[tuple[str, str]]:
    """Every label with its value, buckets left out."""
    page = httpx.get(f"{gateway.url}/metrics").text
    return {
        (name, value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        for name, value in sample.labels.items()
        if name != "le"
    }


def test_every_label_has_a_value_of_its_closed_set_whatever_was_sent(gateway: Running) -> None:
    mixed(gateway)
    key = authorised(gateway)
    asked = {"messages": [{"role": "user", "content": "¿A qué hora abren?"}]}
    for odd in ODD:
        said = odd.strip().encode("unicode_escape").decode()
        requests = [
            ({**asked, "model": odd}, {}),
            ({**asked, "user": odd, "metadata": {"route": odd}}, {}),
            ({**asked, odd: odd}, {}),
            (asked, {"x-cauce-data-class": said}),
            (asked, {"x-cauce-tags": said}),
            (asked, {"user-agent": "x" * 60, "x-request-id": "12345678Z"}),
        ]
        for body, headers in requests:
            httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers | key, timeout=30)
    eventually(lambda: ("team", "billing") in labels(gateway), seconds=30)  # the month's figures come by themselves
    after = labels(gateway)
    assert {value for name, value in after if value not in CLOSED[name]} == set()
    assert {name for name, _ in after} == CLOSED.keys()


def test_paths_that_do_not_exist_leave_no_label(gateway: Running) -> None:
    before = labels(gateway)
    for path in ("/v1/12345678Z", "/llevo-31-dias", "/v1/models/12345678Z"):
        assert httpx.get(f"{gateway.url}{path}", headers=authorised(gateway)).status_code == 404
    assert labels(gateway) == before


def test_a_first_refusal_of_the_gate_is_an_increase() -> None:
    metrics = Metrics()
    gate = Gate(on_refusal=metrics.refused)

    def refusals() -> float | None:
        return metrics.registry.get_sample_value(
            "cauce_gate_refusals_total", {"data_class": "personal", "zone": "world"}
        )

    assert refusals() == 0
    with pytest.raises(GateRefused):
        gate.release("text", data=DataClass.PERSONAL, limit=Zone.PREMISES, destination=Destination("far", Zone.WORLD))
    assert refusals() == 1


def test_the_metrics_of_one_gateway_are_its_own() -> None:
    first, second = Metrics(), Metrics()
    first.crashes.inc()
    assert second.registry.get_sample_value("cauce_crashes_total") == 0


def test_the_gateways_own_time_is_what_no_upstream_was_being_asked_in() -> None:
    def call(started_us: int, duration_us: int) -> AttemptEntry:
        return an_attempt_entry(started_us=started_us, duration_us=duration_us)

    entry = an_entry(duration_us=1_000)
    assert gateway_us(entry, []) == 1_000
    assert gateway_us(entry, [call(100, 700)]) == 300
    assert gateway_us(entry, [call(100, 300), call(500, 300)]) == 400  # one after the other
    assert gateway_us(entry, [call(300, 500), call(100, 400)]) == 300  # one beside the other
    assert gateway_us(entry, [call(100, 600), call(200, 100)]) == 400  # one within the other
    assert gateway_us(entry, [call(0, 5_000)]) == 0  # a clock that was set back
