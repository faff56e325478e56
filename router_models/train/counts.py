"""Counts of the hand-written queries: `python -m router_models.train.counts` writes them into data/README.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from router_models.router_runtime import DOMAINS, TASKS
from router_models.train import page
from router_models.train.router_data import OWN_QUERIES, PAIRS

README: Final = OWN_QUERIES.parent / "README.md"
_GRADES: Final = ("1", "2", "3", "4", "5")


def tables(queries: Path = OWN_QUERIES, pairs: Path = PAIRS) -> str:
    """The counts as Markdown."""
    files = sorted(queries.glob("*.jsonl"))
    columns = sorted({_column(file) for file in files}, key=lambda name: (name.startswith("test"), name))
    rows = {name: [row for file in files if _column(file) == name for row in _read(file)] for name in columns}
    lines = [("", *columns, "all"), ("---",) * (len(columns) + 2)]
    lines.append(("files", *(str(sum(_column(file) == name for file in files)) for name in columns), str(len(files))))
    lines.append(("queries", *(str(len(rows[name])) for name in columns), str(sum(map(len, rows.values())))))
    for kind, known in (("grade", _GRADES), ("task", TASKS), ("domain", DOMAINS)):
        counts = {name: Counter(str(row[kind]) for row in rows[name]) for name in columns}
        for value in known:
            each = [counts[name][value] for name in columns]
            lines.append((f"{kind} {value}", *map(str, each), str(sum(each))))
    translated = sum(1 for file in pairs.glob("*.jsonl") for _ in _read(file))
    return "\n".join(map(_line, lines)) + f"\n\nTranslated questions in `pairs/`: {translated}.\n"


def _column(file: Path) -> str:
    """`es`, `en`, `test es`, `test en`: what a file's name says of it."""
    first, second = file.stem.split("-")[:2]
    return f"test {second}" if first == "test" else first


def _read(file: Path) -> Iterator[dict[str, object]]:
    return map(json.loads, filter(None, file.read_text(encoding="utf-8").splitlines()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    page.write(README, "counts", tables())
