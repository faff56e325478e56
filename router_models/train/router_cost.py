"""What the router model costs: time a text, bytes on disk, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router_models import encoder, router_runtime
from router_models.router_runtime import RouterModel

LENGTHS: Final = (20, 200, 4000)
_WORDS: Final = tuple(
    "la factura de este mes trae un cargo que no reconozco y quiero saber de dónde sale "  # noqa: SIM905 - a sentence
    "please compare both plans for a family of four and tell me which one is cheaper".split()
)
# Resident memory before, with the encoder, and with the router model and its runtime, in a process of its own.
_PROBE: Final = """
import json, resource, sys
from pathlib import Path
from router_models.encoder import Encoder
from router_models.router_runtime import RouterModel

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

text, folder = sys.argv[1], Path(sys.argv[2])
before = resident()
encoder = Encoder.load(folder)
encoder.mean(encoder.encode(text).ids)
between = resident()
RouterModel.load(folder, encoder).read(text)
print(json.dumps([between - before, resident() - between]))
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Time to read one text, in milliseconds."""

    tokens: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Weight:
    """A part's files and what it adds to a process's resident memory; nothing where that cannot be measured."""

    part: str
    file_bytes: int
    memory_bytes: int | None


def latencies(model: RouterModel, *, runs: int = 300) -> list[Latency]:
    """By length. A fresh text each time: nothing is remembered of it."""
    lines = []
    for tokens in LENGTHS:
        times = []
        for run in range(runs):
            text = _text(tokens, run)
            started = time.perf_counter()
            model.read(text)
            times.append(1e3 * (time.perf_counter() - started))
        times.sort()
        lines.append(Latency(tokens, times[len(times) // 2], times[int(0.99 * len(times))]))
    return lines


def weights(folder: Path) -> list[Weight]:
    """Of the encoder, which the privacy scan shares, and of the router model with its runtime."""
    parts = {"encoder (shared with the privacy scan)": encoder.FILES, "router model": router_runtime.FILES}
    sizes = [sum((folder / name).stat().st_size for name in names) for names in parts.values()]
    return [Weight(*line) for line in zip(parts, sizes, _memory(folder), strict=True)]


def _memory(folder: Path) -> list[int] | list[None]:
    if not Path("/proc/self/statm").exists():
        return [None, None]
    command = (sys.executable, "-c", _PROBE, _text(4000, 0), str(folder))
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own interpreter and text
    found: list[int] = json.loads(done.stdout)
    return found


def _text(tokens: int, run: int) -> str:
    return " ".join(_WORDS[(run * 7 + n) % len(_WORDS)] for n in range(tokens))
