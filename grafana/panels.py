"""What a dashboard is made of: panels, their queries, and how both become Grafana's JSON, in English and in Spanish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
)

from gateway.telemetry.metrics import Metrics

Language = Literal["en", "es"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "es")
PER: Final = "[$__rate_interval]"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
_COLOURS: Final = ("green", "orange", "red")
# What a reader may narrow a dashboard to: by label, and where its values are found.
_CHOSEN: Final = {"route": "cauce_requests_total", "model": "cauce_requests_total", "team": "cauce_month_cost_usd"}


class Said(NamedTuple):
    """A text in both languages."""

    en: str
    es: str

    def in_(self, language: Language) -> str:
        """The text in one of them."""
        return self.es if language == "es" else self.en


class Query(NamedTuple):
    """An expression of Prometheus, and what its lines are called."""

    expression: str
    legend: Said


class Panel(NamedTuple):
    """One chart. `limits` are the values from which it is orange, and red."""

    title: Said
    about: Said
    unit: str
    queries: tuple[Query, ...]
    limits: tuple[float, ...] = ()


class Choice(NamedTuple):
    """A length of time that a reader chooses: how far back to compare, say."""

    name: str
    label: Said
    values: str


class Row(NamedTuple):
    """Panels that belong together."""

    title: Said
    panels: tuple[Panel, ...]


class Board(NamedTuple):
    """A dashboard: its file's name, the labels it can be narrowed to, its lengths of time, its rows."""

    name: str
    title: Said
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    choices: tuple[Choice, ...] = ()
    since: str = "now-1h"


def _labels() -> dict[str, tuple[str, ...]]:
    """The labels of every metric of the code, by the names that Prometheus knows it by."""
    metrics = [one for one in vars(Metrics()).values() if hasattr(one, "describe")]
    return {family.name: tuple(metric._labelnames) for metric in metrics for family in metric.describe()}


_LABELS: Final = _labels()


def of(metric: str, more: str = "") -> str:
    """A metric of the code, narrowed to what a reader has chosen as far as it has the labels, and by `more`."""
    family = next(
        name for name in (metric, metric.removesuffix("_total"), metric.rpartition("_")[0]) if name in _LABELS
    )
    chosen = [f'{label}=~"${label}"' for label in _CHOSEN if label in _LABELS[family]]
    inside = ",".join([*chosen, *([more] if more else [])])
    return f"{metric}{{{inside}}}" if inside else metric


def same(legend: str) -> Said:
    """A legend of labels alone."""
    return Said(legend, legend)


def rate(metric: str, *by: str, times: str = "") -> Query:
    """How often a second, by these labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(f"{times}sum by ({', '.join(by)}) (rate({of(metric)}{PER}))", same(legend))


def total(metric: str, legend: Said) -> Query:
    """How often a second, in all."""
    return Query(f"sum(rate({of(metric)}{PER}))", legend)


def quantiles(metric: str, *by: str, called: str = "") -> tuple[Query, ...]:
    """The middle and the slowest hundredth."""
    labels = ", ".join(("le", *by))
    legend = " ".join([*([called] if called else []), *(f"{{{{{label}}}}}" for label in by)])
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by ({labels}) (rate({of(f'{metric}_bucket')}{PER})))",
            same(f"p{int(q * 100)} {legend}".strip()),
        )
        for q in (0.5, 0.99)
    )


def as_json(board: Board, language: Language) -> str:
    """The dashboard's file."""
    made = (
        dashboard.Dashboard(board.title.in_(language))
        .uid(f"cauce-{board.name}-{language}")
        .tags(["cauce", language])
        .refresh("30s")
        .time(board.since, "now")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("Cauce")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["cauce", language])
            .keep_time(True)
        )
    )
    for label in board.labels:
        made = made.with_variable(_narrowing(label, language))
    for choice in board.choices:
        first = choice.values.partition(",")[0]
        made = made.with_variable(
            dashboard.IntervalVariable(choice.name)
            .label(choice.label.in_(language))
            .values(choice.values)
            .current(VariableOption(selected=True, text=first, value=first))
        )
    number = 0
    for row in board.rows:
        number += 1
        made = made.with_row(dashboard.Row(row.title.in_(language)).id(number))
        for panel in row.panels:
            number += 1
            made = made.with_panel(_chart(panel, language).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


_NAMES: Final = {
    "route": Said("route", "ruta"),
    "model": Said("model", "modelo"),
    "team": Said("team", "equipo"),
}


def _narrowing(label: str, language: Language) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(label)
        .label(_NAMES[label].in_(language))
        .query(f"label_values({_CHOSEN[label]}, {label})")
        .datasource(_SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _chart(panel: Panel, language: Language) -> timeseries.Panel:
    chart = (
        timeseries.Panel()
        .title(panel.title.in_(language))
        .description(panel.about.in_(language))
        .unit(panel.unit)
        .datasource(_SOURCE)
        .span(6)
        .height(7)
    )
    if panel.limits:
        chart = chart.thresholds(_thresholds(panel.limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        chart = chart.with_target(
            prometheus.Dataquery()
            .ref_id(letter)
            .expr(query.expression)
            .legend_format(query.legend.in_(language))
            .datasource(_SOURCE)
        )
    return chart


def _thresholds(limits: Sequence[float]) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value, colour) for value, colour in zip((None, *limits), _COLOURS, strict=False)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
