"""Writes `grafana/dashboards/LANGUAGE/*.json`: run `make grafana` after a change here. A test keeps both the same.

Every metric in a panel is one of `gateway/telemetry/metrics.py`, and every metric there is in a panel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grafana import finance, operations, privacy_quality
from grafana.panels import LANGUAGES, as_json

FOLDER: Final = Path(__file__).parent / "dashboards"
BOARDS: Final = (operations.BOARD, finance.BOARD, privacy_quality.BOARD)


def made() -> dict[Path, str]:
    """Every dashboard in every language, by its file."""
    return {
        FOLDER / language / f"{board.name}.json": as_json(board, language) for language in LANGUAGES for board in BOARDS
    }


def main() -> None:
    """Write them all."""
    for file, text in made().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file.relative_to(FOLDER.parent.parent)}")


if __name__ == "__main__":
    main()
