"""Charts as SVG, drawn here by pygal: no script in the page, and colours from the page's own style sheet.

pygal writes styles and scripts into each drawing; a strict content security policy forbids both, so only its shapes and
texts are kept. Each chart stands beside a table of the same figures.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

_LEFT_OUT: Final = {"script", "style", "defs"}
_FOR_SCRIPTS: Final = {"x centered", "y centered", "x_label"}


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart: a name and a value for each label."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and what stands beside it."""

    title: str
    svg: Markup
    labels: Sequence[str]
    series: Sequence[Series]
    said: Sequence[Sequence[str]]  # the values of each label, as people write them


def bars(title: str, labels: Sequence[str], series: Sequence[Series], write: Callable[[float], str]) -> Chart | None:
    """Stacked bars, one for each label; nothing when there is nothing to draw."""
    return _chart("StackedBar", title, labels, series, write)


def lines(title: str, labels: Sequence[str], series: Sequence[Series], write: Callable[[float], str]) -> Chart | None:
    """A line for each of the series."""
    return _chart("Line", title, labels, series, write)


def _chart(
    kind: str, title: str, labels: Sequence[str], series: Sequence[Series], write: Callable[[float], str]
) -> Chart | None:
    if not any(value for one in series for value in one.values):
        return None
    pygal = _pygal()
    wide = pygal.style.Style(label_font_size=13, major_label_font_size=13)  # room for sums of money beside the axis
    drawing = getattr(pygal, kind)(
        style=wide,
        width=760,
        height=220,
        js=(),
        css=(),
        classes=("chart",),
        disable_xml_declaration=True,
        show_legend=False,
        show_x_guides=False,
        margin=4,
        spacing=4,
        min_scale=2,
        max_scale=5,
        dots_size=2,
        value_formatter=write,
        x_labels_major_count=8,
        show_minor_x_labels=False,
        truncate_label=-1,
        include_x_axis=True,
    )
    drawing.x_labels = list(labels)
    for one in series:
        drawing.add(one.name, list(one.values))
    drawing.add_xml_filter(lambda root: _plain(root, title))
    svg = Markup(drawing.render(is_unicode=True))  # noqa: S704 - pygal escapes what it is given
    return Chart(title, svg, labels, series, [[write(one.values[i]) for one in series] for i in range(len(labels))])


@functools.cache
def _pygal() -> Any:
    """A fifth of a second and 8 MB, for whoever looks at a chart.

    pygal 3.1.3 puts an importer for its maps into `sys.meta_path` that Python no longer knows how to ask: every later
    import would warn of it.
    """
    import pygal.style  # noqa: PLC0415

    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != "pygal"]
    return pygal


def _plain(root: Any, title: str) -> Any:
    """A drawing without styles, scripts, and the ids and remarks that only scripts would read."""
    for parent in list(root.iter()):
        for child in list(parent):
            kind = child.tag if isinstance(child.tag, str) else "script"
            if kind == "desc" and child.get("class") == "value":
                child.tag = "title"  # what a browser shows over a bar, without a script
                child.attrib.clear()
            elif kind in _LEFT_OUT or (kind == "desc" and child.get("class") in _FOR_SCRIPTS) or _is_tooltip(child):
                parent.remove(child)
        for name in ("style", "id"):
            parent.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    root.set("preserveAspectRatio", "xMidYMid meet")
    return root


def _is_tooltip(node: Any) -> bool:
    return node.tag in {"title"} or "tooltip-overlay" in (node.get("class") or "")
