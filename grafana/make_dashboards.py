"""Writes `grafana/dashboards/*.json`: run `make grafana` after a change here. A test keeps file and script the same.

Every metric in a panel is one of `gateway/telemetry/metrics.py`, and every metric there is in a panel.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FOLDER = Path(__file__).parent / "dashboards"
_SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_PER = "[$__rate_interval]"


class Panel(NamedTuple):
    """One chart: its title, unit, and queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def _rate(metric: str, *by: str) -> tuple[str, str]:
    return f"sum by ({', '.join(by)}) (rate({metric}{_PER}))", " ".join(f"{{{{{label}}}}}" for label in by)


def _quantiles(metric: str, *by: str) -> tuple[tuple[str, str], ...]:
    labels = ", ".join(("le", *by))
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{_PER})))",
            f"p{int(q * 100)} {legend}".strip(),
        )
        for q in (0.5, 0.99)
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Traffic",
        (
            Panel("Requests by route and outcome", "reqps", (_rate("cauce_requests_total", "route", "outcome"),)),
            Panel("Requests by model", "reqps", (_rate("cauce_requests_total", "model"),)),
            Panel("Errors by code", "reqps", (_rate("cauce_errors_total", "code"),)),
            Panel("In flight", "short", (("sum(cauce_requests_in_flight)", "requests"),)),
        ),
    ),
    (
        "Time",
        (
            Panel("Whole request", "s", _quantiles("cauce_request_seconds", "route")),
            Panel("First byte of a stream", "s", _quantiles("cauce_first_byte_seconds", "model")),
            Panel("Upstream call", "s", _quantiles("cauce_upstream_seconds", "model")),
            Panel("Classification", "s", _quantiles("cauce_classify_seconds")),
        ),
    ),
    (
        "Models",
        (
            Panel("Upstream calls", "reqps", (_rate("cauce_upstream_attempts_total", "model", "outcome"),)),
            Panel("Answers turned down", "reqps", (_rate("cauce_rejected_answers_total", "model", "check"),)),
            Panel(
                "Circuits",
                "short",
                (("max by (model, replica) (cauce_circuit_open)", "{{model}} {{replica}}: 1 open"),),
            ),
            Panel("Went on to another model", "reqps", (_rate("cauce_fallbacks_total", "model", "outcome"),)),
            Panel(
                "Calls made again, and beside slow ones",
                "reqps",
                (
                    _rate("cauce_upstream_retries_total", "model", "outcome"),
                    _rate("cauce_upstream_hedges_total", "outcome"),
                ),
            ),
            Panel("Cloud", "short", (("min(cauce_cloud_up)", "1 up, 0.5 degraded, 0 down"),)),
            Panel("Cache", "reqps", (_rate("cauce_cache_total", "state"),)),
            Panel("Cache size", "bytes", (("sum(cauce_cache_bytes)", "held"),)),
        ),
    ),
    (
        "Cascade",
        (
            Panel(
                "Escalations, share of the requests",
                "percentunit",
                (
                    (
                        f"sum by (route) (rate(cauce_escalations_total{_PER})) / "
                        f"sum by (route) (rate(cauce_requests_total{_PER}))",
                        "{{route}}",
                    ),
                ),
            ),
            Panel("Verdicts by check", "reqps", (_rate("cauce_verdicts_total", "check", "verdict"),)),
            Panel("Wasted tokens", "short", (_rate("cauce_wasted_tokens_total", "model", "why"),)),
        ),
    ),
    (
        "Money",
        (
            Panel(
                "Spend, USD an hour",
                "currencyUSD",
                (("3600 * " + _rate("cauce_cost_usd_total", "route", "model")[0], "{{route}} {{model}}"),),
            ),
            Panel(
                "Baseline, USD an hour",
                "currencyUSD",
                (("3600 * " + _rate("cauce_baseline_usd_total", "route")[0], "{{route}}"),),
            ),
            Panel("Tokens", "short", (_rate("cauce_tokens_total", "model", "kind"),)),
            Panel("Requests of unknown cost", "reqps", (_rate("cauce_unknown_cost_requests_total", "model"),)),
            Panel("Budgets: share spent", "short", (("sum by (budget) (cauce_budget_used_ratio)", "{{budget}}"),)),
            Panel("Refused for a budget", "reqps", (_rate("cauce_budget_refusals_total", "level"),)),
            Panel(
                "Alerts on budgets",
                "short",
                (
                    (
                        "sum by (threshold, outcome) (increase(cauce_budget_alerts_total[1h]))",
                        "{{threshold}} % {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Over a limit a minute",
                "reqps",
                (
                    _rate("cauce_rate_refusals_total", "level", "kind"),
                    (f"sum(rate(cauce_limits_alone_total{_PER}))", "held by one process alone"),
                ),
            ),
        ),
    ),
    (
        "Privacy and safety",
        (
            Panel("Data class and zone", "reqps", (_rate("cauce_data_requests_total", "data_class", "zone"),)),
            Panel(
                "Changed policies",
                "short",
                (("sum by (outcome) (increase(cauce_policy_reloads_total[1h]))", "{{outcome}}"),),
            ),
            Panel("Refused at the gate", "reqps", (_rate("cauce_gate_refusals_total", "data_class", "zone"),)),
            Panel(
                "Failures of our own",
                "reqps",
                (
                    (f"sum(rate(cauce_privacy_scan_failures_total{_PER}))", "privacy scan"),
                    (f"sum(rate(cauce_ledger_failures_total{_PER}))", "ledger"),
                    (f"sum(rate(cauce_crashes_total{_PER}))", "crash"),
                ),
            ),
            Panel(
                "Ledger entries waiting",
                "short",
                (
                    ("sum(cauce_ledger_waiting)", "entries"),
                    ("sum(cauce_ledger_spooled)", "of them on disk"),
                    ("max(cauce_ledger_away)", "database away"),
                ),
            ),
        ),
    ),
)


def operations() -> str:
    """The operations dashboard as JSON."""
    board = (
        dashboard.Dashboard("Cauce: operations")
        .uid("cauce-operations")
        .tags(["cauce"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
    )
    number = 0
    for title, panels in ROWS:
        number += 1
        board = board.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            board = board.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel:
    chart = timeseries.Panel().title(panel.title).unit(panel.unit).datasource(_SOURCE).span(6).height(7).min(0)
    for letter, (expression, legend) in zip("ABCDEF", panel.queries, strict=False):
        chart = chart.with_target(prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend))
    return chart


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "operations.json"
    file.write_text(operations(), encoding="utf-8")
    print(f"wrote {file.relative_to(FOLDER.parent.parent)}")


if __name__ == "__main__":
    main()
