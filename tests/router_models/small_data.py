"""A folder of invented outcomes and queries, as small as training and evaluation can take."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_THINGS = ("a router", "the bill", "a loan", "the cell", "a theorem", "the plan", "a poem", "the court")
_ASKED = ("What is", "Explain why we need", "Write a long essay about", "How many parts has")
_COSAS = ("la factura", "el router", "un préstamo", "la célula", "un teorema", "la tarifa", "un poema", "el juzgado")
_PEDIDO = ("¿Qué es", "Explica para qué sirve", "Escribe un ensayo largo sobre", "¿Cuántas partes tiene")


def outcomes() -> list[dict[str, Any]]:
    """32 rows of four sources, every fifth of split dev."""
    rows = []
    for number, text in enumerate(f"{asked} {thing}?" for thing in _THINGS for asked in _ASKED):
        rows.append(
            {
                "id": f"row-{number}",
                "text": text,
                "lang": "en",
                "source": ("mmlu_pro", "llmrouter_mbpp", "llmrouter_trivia_qa", "arena_bench_v1")[number % 4],
                "domain": "physics" if number % 3 else "business",
                "weak_score": (number % 5) / 5,
                "strong_score": min(1.0, (number % 5) / 5 + 0.3 * (number % 3)),
                "label_quality": "exact",
                "split": "dev" if number % 5 == 0 else "train",
            }
        )
    return rows


def queries(*, grade: int = 1) -> list[dict[str, Any]]:
    """32 graded queries in Spanish."""
    tasks = ("faq", "reason", "write", "math")
    return [
        {
            "text": f"{asked} {thing}?",
            "lang": "es",
            "task": tasks[number % 4],
            "domain": ("telecom", "science")[number % 2],
            "grade": (number + grade) % 5 + 1,
        }
        for number, (thing, asked) in enumerate((thing, asked) for thing in _COSAS for asked in _PEDIDO)
    ]


def pairs() -> list[dict[str, Any]]:
    """Spanish of three of the outcomes' questions."""
    return [{"id": f"row-{number}", "es": f"¿Qué es esto, número {number}?", "en": ""} for number in (1, 2, 3)]


def bench() -> list[dict[str, Any]]:
    """Ten questions with the outcome of one small and one large model."""
    return [
        {"text": f"Question {number} of ten?", "weak_score": float(number % 2), "strong_score": 1.0}
        for number in range(10)
    ]


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, packed when the name ends in gz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    raw = text.encode()
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)


def write_folder(folder: Path) -> Path:
    """`routing/`, `queries/` and `pairs/` below a folder."""
    write_lines(folder / "routing" / "route_train.jsonl.gz", outcomes())
    write_lines(folder / "routing" / "bench_mmlu.jsonl.gz", bench())
    write_lines(
        folder / "routing" / "parallel_xlingual.jsonl.gz",
        ({"source": "made_up", "text_en": row["text"], "text_es": f"¿{row['text']}"} for row in outcomes()),
    )
    write_lines(folder / "queries" / "es-a-01.jsonl", queries())
    write_lines(folder / "queries" / "test-es.jsonl", queries(grade=2)[:6])
    write_lines(folder / "pairs" / "es-en-01.jsonl", pairs())
    return folder
