"""What the router model is trained on: public outcomes of real models, and our own graded queries, as one kind of row.

Outcomes: `routing/route_train.jsonl.gz`. The rows that come from MMLU and GSM8K are left out, so that the figures on
the benches of those names are of a model that has seen no outcome of theirs. Nothing here reads a bench file.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gateway.errors import ConfigError
from router_models.features import without_accents
from router_models.router_runtime import DOMAINS, TASKS

OWN = "own"
_DATA: Final = Path(__file__).resolve().parent.parent / "data"
OWN_QUERIES: Final = _DATA / "queries"
PAIRS: Final = _DATA / "pairs"
_OUTCOMES: Final = "route_train.jsonl.gz"
LEFT_OUT: Final = frozenset({"llmrouter_mmlu", "llmrouter_gsm8k"})
# What a grade (rubric in data/README.md) means: success of a small model (7-9B) and of a large one.
GRADE_SLM: Final = (0.96, 0.90, 0.72, 0.45, 0.25)
GRADE_LLM: Final = (0.98, 0.96, 0.92, 0.82, 0.68)
_OWN_WEIGHT = 1.5
_LABEL_WEIGHT: Final = {"exact": 1.0, "judge_1_10": 1.0, "coverage": 0.5, "noisy_f1": 0.35}
_HOLD_OUT = 10
# Task and domain of a source's rows, where they are beyond doubt.
_MEANING: Final[dict[str, tuple[str, str]]] = {
    "llmrouter_mbpp": ("code", "code"),
    "llmrouter_human_eval": ("code", "code"),
    "zeroeval_crux": ("code", "code"),
    "zeroeval_math-l5": ("math", ""),
    "llmrouter_math": ("math", ""),
    "llmrouter_natural_qa": ("open_qa", ""),
    "llmrouter_trivia_qa": ("open_qa", "general"),
    "llmrouter_agentverse-logicgrid": ("reason", ""),
    "llmrouter_commongen": ("write", "general"),
}
_SCIENCE: Final = frozenset({"physics", "chemistry", "biology", "engineering"})


@dataclass(frozen=True, slots=True)
class Row:
    """One query. `slm` and `llm` are soft labels in [0, 1]; `task` and `domain` -1 where they are not known."""

    id: str
    text: str
    lang: str
    source: str
    slm: float
    llm: float
    task: int
    domain: int
    weight: float
    dev: bool = False
    outcome: bool = True  # measured, not graded by hand


def outcomes_folder(data: Path) -> Path:
    """The folder with the outcomes: `data` itself or `data/routing`; raises `ConfigError` when neither has them."""
    for folder in (data, data / "routing"):
        if (folder / _OUTCOMES).is_file():
            return folder
    raise ConfigError(f"{_OUTCOMES} is missing; name the folder that holds it with --data", where=str(data))


def read_outcomes(folder: Path) -> list[Row]:
    """The rows of route_train, `dev` where its own split says so."""
    rows = []
    with gzip.open(folder / _OUTCOMES, "rt", encoding="utf-8") as lines:
        for line in lines:
            raw = json.loads(line)
            task, domain = _MEANING.get(raw["source"], ("", "science" if raw["domain"] in _SCIENCE else ""))
            rows.append(
                Row(
                    id=raw["id"],
                    text=raw["text"],
                    lang=raw["lang"],
                    source=raw["source"],
                    slm=raw["weak_score"],
                    llm=raw["strong_score"],
                    task=TASKS.index(task) if task else -1,
                    domain=DOMAINS.index(domain) if domain else -1,
                    weight=_LABEL_WEIGHT[raw["label_quality"]],
                    dev=raw["split"] == "dev",
                )
            )
    return rows


def read_queries(folder: Path, *, test: bool = False) -> list[Row]:
    """Our own queries; the files `test-*.jsonl`, of other hands and never trained on, when `test` is set."""
    rows = []
    for file in sorted(folder.glob("*.jsonl")):
        if file.name.startswith("test-") is not test:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            if not line.strip():
                continue
            raw = json.loads(line)
            grade = int(raw["grade"]) - 1
            rows.append(
                Row(
                    id=f"{file.stem}-{number}",
                    text=raw["text"],
                    lang=raw["lang"],
                    source=OWN,
                    slm=GRADE_SLM[grade],
                    llm=GRADE_LLM[grade],
                    task=TASKS.index(raw["task"]),
                    domain=DOMAINS.index(raw["domain"]),
                    weight=_OWN_WEIGHT,
                    dev=zlib.crc32(raw["text"].encode()) % _HOLD_OUT == 0,
                    outcome=False,
                )
            )
    return rows


def read_pairs(folder: Path) -> dict[str, str]:
    """Spanish translations of training questions, by the question's id."""
    lines = (line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text(encoding="utf-8").splitlines())
    return {raw["id"]: raw["es"] for raw in map(json.loads, filter(None, lines))}


# ---- augmentation ----------------------------------------------------------------------------------------------------

_GREETINGS: Final = {
    "es": ("Hola, ", "hola! ", "Buenas, ", "Buenos días. ", "oye ", "Hola, una pregunta: ", "Perdona, "),
    "en": ("Hi, ", "hello! ", "Hey ", "Good morning. ", "quick question: ", "Sorry, ", "Hi there, "),
}
_THANKS: Final = {
    "es": (" Gracias.", " gracias!", " Por favor.", " porfa", " Muchas gracias de antemano."),
    "en": (" Thanks.", " thank you!", " Please.", " pls", " Thanks in advance!"),
}


def varied(row: Row, chance: random.Random, filler: list[str]) -> Row:
    """The same question as another person would type it; its labels do not change."""
    lang = row.lang if row.lang in _GREETINGS else "en"
    text, draw = row.text, chance.random()
    if draw < 0.14:
        text = chance.choice(_GREETINGS[lang]) + text
    elif draw < 0.24:
        text += chance.choice(_THANKS[lang])
    elif draw < 0.34:
        text = text.lower()
    elif draw < 0.44:
        text = without_accents(text).replace("¿", "").replace("¡", "")
    elif draw < 0.54:
        text = slipped(text, chance)
    elif draw < 0.58:
        text = f'"{text}"'
    elif draw < 0.60:
        text = text.upper()
    elif draw < 0.76 and not row.outcome:
        text = _with_paste(text, chance, filler)
    return replace(row, text=text)


def slipped(text: str, chance: random.Random) -> str:
    """Two neighbouring letters swapped, or one left out."""
    if len(text) < 5:
        return text
    place = chance.randrange(1, len(text) - 2)
    if chance.random() < 0.5:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text[:place] + text[place + 1 :]


def _with_paste(text: str, chance: random.Random, filler: list[str]) -> str:
    """The question with foreign text pasted after or before it."""
    paste = "\n".join(chance.sample(filler, k=min(chance.randint(2, 12), len(filler))))
    return f"{text}\n\n{paste}" if chance.random() < 0.6 else f"{paste}\n\n{text}"
