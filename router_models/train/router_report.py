"""All figures of `cauce router evaluate` in one value, and that value as tables."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from gateway.errors import ConfigError
from gateway.types import Model
from router_models.evaluate import Interval, Measured
from router_models.router_runtime import RouterModel
from router_models.train.router_cost import Latency, Weight, latencies, weights
from router_models.train.router_data import Row, outcomes_folder, read_outcomes, read_queries
from router_models.train.router_decisions import (
    CHANGES,
    GOES,
    Agreement,
    Routes,
    Unchanged,
    UseCase,
    agreement,
    invariance,
    read_use_cases,
)
from router_models.train.router_evaluate import (
    Bench,
    Calibration,
    Meaning,
    Parallel,
    Ranking,
    calibrations,
    confusions,
    meanings,
    oracle,
    parallel,
    ranked,
    read_benches,
    read_parallel,
)
from router_models.train.router_in_domain import InDomain, in_domain
from router_models.train.watcher import Watcher

ORACLE: Final = "oracle"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a policy decides for a text."""

    routes: Routes
    ladder: Sequence[Model]


@dataclass(frozen=True, slots=True)
class Sets:
    """What is measured on; none of it was trained on."""

    dev: list[Row]
    benches: list[Bench]
    parallel: Mapping[str, list[tuple[str, str]]]
    queries: list[Row]
    use_cases: list[UseCase]

    @classmethod
    def read(cls, data: Path, queries: Path, use_cases: Path | None) -> Sets:
        """From the folder of outcomes, the folder of our own queries and a file of use cases."""
        folder = outcomes_folder(data)
        held_out = read_queries(queries, test=True)
        if not held_out:
            raise ConfigError(
                "there is no test-*.jsonl; name the folder that holds them with --queries", where=str(queries)
            )
        return cls(
            dev=[row for row in read_outcomes(folder) if row.dev],
            benches=read_benches(folder),
            parallel=read_parallel(folder),
            queries=held_out,
            use_cases=read_use_cases(use_cases) if use_cases else [],
        )


@dataclass(frozen=True, slots=True)
class BenchFigures:
    """Every router on one bench, and the mean outcome of its two models."""

    name: str
    rows: int
    small: float
    large: float
    routers: Mapping[str, Measured]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured."""

    model: str
    resamples: int
    benches: list[BenchFigures]
    in_domain: list[InDomain]
    calibration: list[Calibration]
    parallel: list[Parallel]
    meaning: list[Meaning]
    mistakes: Mapping[str, list[tuple[str, str, int]]]
    routes: Mapping[str, int]
    invariance: list[Unchanged]
    agreement: Agreement | None
    latency: list[Latency]
    weight: list[Weight]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Measures one router model. `hash_` is what its file hashes to, `decide` what a policy does with its scores."""

    model: RouterModel
    hash_: str
    folder: Path
    decide: Callable[[str], Choice]
    resamples: int
    watcher: Watcher

    def figures(self, sets: Sets, routers: Mapping[str, Ranking]) -> Figures:
        """Everything, part by part."""
        model, resamples = self.model, self.resamples
        benches = [self._bench(bench, routers) for bench in sets.benches]
        self.watcher.begins("with outcomes of its own", len(sets.benches))
        own = [self._done(in_domain(model, bench, resamples=resamples)) for bench in sets.benches]
        self.watcher.begins("calibration, languages, tasks and domains", 3 + len(sets.parallel))
        calibration = self._done(calibrations(model, sets.dev))
        pairs = [self._done(parallel(model, name, some, resamples=resamples)) for name, some in sets.parallel.items()]
        meaning = self._done(meanings(model, sets.queries, resamples=resamples))
        mistakes = self._done(confusions(model, sets.queries))
        self.watcher.begins("decisions", 2 + len(CHANGES))
        agreed = self._done(self._agreement(sets.use_cases))
        plain = self._done([self._routes(row.text) for row in sets.queries])
        unchanged = [line for change in CHANGES for line in self._done(self._invariance(sets.queries, plain, change))]
        self.watcher.begins("latency and memory", 2)
        return Figures(
            model=self.hash_,
            resamples=resamples,
            benches=benches,
            in_domain=[one for one in own if one is not None],
            calibration=calibration,
            parallel=pairs,
            meaning=meaning,
            mistakes=mistakes,
            routes=Counter(one.route for one in plain),
            invariance=unchanged,
            agreement=agreed,
            latency=self._done(latencies(model)),
            weight=self._done(weights(self.folder)),
        )

    def _bench(self, bench: Bench, routers: Mapping[str, Ranking]) -> BenchFigures:
        self.watcher.begins(f"{bench.name}: {len(bench.texts)} queries", len(routers) + 1)
        resamples = self.resamples
        found = {name: self._done(ranked(bench, one, resamples=resamples)) for name, one in routers.items()}
        measured = {name: one for name, one in found.items() if one is not None}
        measured[ORACLE] = self._done(oracle(bench, resamples=self.resamples))
        count = len(bench.texts)
        return BenchFigures(bench.name, count, sum(bench.small) / count, sum(bench.large) / count, measured)

    def _invariance(self, rows: Sequence[Row], plain: Sequence[Routes], change: str) -> list[Unchanged]:
        return invariance(self._routes, rows, plain, change, resamples=self.resamples)

    def _agreement(self, cases: Sequence[UseCase]) -> Agreement | None:
        return agreement(cases, lambda text: self.decide(text).ladder) if cases else None

    def _routes(self, text: str) -> Routes:
        return self.decide(text).routes

    def _done(self, result: T) -> T:
        self.watcher.step()
        return result


# ---- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table, with the sentence that says how to read it."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def sheets(figures: Figures) -> Iterator[Sheet]:
    """The figures as tables."""
    yield _routers(figures)
    if figures.in_domain:
        yield _own_outcomes(figures.in_domain)
    if figures.calibration:
        yield Sheet(
            "Calibration of slm_success on measured outcomes (en)",
            "Expected calibration error, 15 bins of equal mass, on dev rows. Slope and offset were fitted on those of "
            "the sources trained on; the sources left out are of MMLU and GSM8K.",
            ("rows", "queries", "mean said", "mean outcome", "error"),
            [
                (c.name, f"{c.rows:,}", f"{c.said:.3f}", f"{c.measured:.3f}", f"{c.error:.3f}")
                for c in figures.calibration
            ],
        )
    if figures.parallel:
        yield Sheet(
            "The same question in Spanish and English",
            "Spearman's correlation of the two gains, and the mean of Spanish minus English.",
            ("source", "questions", "rank correlation", "mean shift"),
            [(p.source, f"{p.rows:,}", p.correlation.shown(), p.shift.shown()) for p in figures.parallel],
        )
    yield Sheet(
        "Task and domain on held-out queries",
        f"The test files, by a writer who saw no other. Most often wrong (true > said): {_mistakes(figures)}. "
        "The error of slm_success here is against what the grade stands for, not against outcomes.",
        ("language", "queries", "task right", "domain right", "error of slm_success"),
        [
            (m.language, f"{m.rows:,}", _percent(m.task), _percent(m.domain), f"{m.calibration:.3f}")
            for m in figures.meaning
        ],
    )
    yield _changes(figures)
    if figures.agreement is not None:
        yield _agreed(figures.agreement)
    yield Sheet(
        "Time to read a text",
        f"One thread, {platform.machine()}, {os.cpu_count()} cores; features and network, a fresh text each time.",
        ("tokens", "p50 ms", "p99 ms"),
        [(f"{line.tokens:,}", f"{line.p50_ms:.2f}", f"{line.p99_ms:.2f}") for line in figures.latency],
    )
    yield Sheet(
        "Size",
        "Files, and the resident memory that each part adds to a process, onnxruntime included.",
        ("part", "files MB", "memory MB"),
        [
            (
                w.part,
                f"{w.file_bytes / 1e6:.1f}",
                "unknown" if w.memory_bytes is None else f"{w.memory_bytes / 1e6:.0f}",
            )
            for w in figures.weight
        ],
    )


def _routers(figures: Figures) -> Sheet:
    return Sheet(
        "Routers on measured outcomes (en)",
        "APGR: area under the recovered gap between the small and the large model; chance is 0.5. CPT50, CPT80: large "
        "calls, in percent, that recover 50 and 80 % of the gap. Best in bold, the oracle apart.",
        ("bench", "router", "APGR", "CPT50 %", "CPT80 %"),
        [
            (
                f"{bench.name}: {bench.rows:,} queries, {bench.small:.3f} / {bench.large:.3f}",
                name,
                _bold(one.apgr.shown(), name == _best(bench)),
                one.cpt50.shown(1),
                one.cpt80.shown(1),
            )
            for bench in figures.benches
            for name, one in bench.routers.items()
        ],
    )


def _own_outcomes(found: Sequence[InDomain]) -> Sheet:
    rows: list[tuple[str, ...]] = []
    for one in found:
        name = f"{one.name}: {one.rows:,} queries"
        fitted = f"ours, {one.fitted:,} outcomes, {'a head' if one.head else 'no head proved itself'}"
        for router, figures in (("ours", one.shipped), ("length", one.length), (fitted, one.calibrated)):
            bold = router == fitted
            rows.append(
                (name, router, _bold(figures.apgr.shown(), bold), figures.cpt50.shown(1), figures.cpt80.shown(1))
            )
    return Sheet(
        "With outcomes of its own: `cauce router calibrate`",
        "Outcomes of rows that are drawn once, by a fixed seed, and not scored; all figures are on the other rows.",
        ("bench", "router", "APGR", "CPT50 %", "CPT80 %"),
        rows,
    )


def _best(bench: BenchFigures) -> str:
    others = {name: one.apgr.value for name, one in bench.routers.items() if name != ORACLE}
    return max(others, key=others.__getitem__, default="")


def _changes(figures: Figures) -> Sheet:
    languages = list(dict.fromkeys(line.language for line in figures.invariance))
    found = {(line.change, line.language): line for line in figures.invariance}
    total = sum(figures.routes.values())
    spread = ", ".join(f"{route} {count / total:.0%}" for route, count in sorted(figures.routes.items()))
    rows = []
    for change in CHANGES:
        lines = [found.get((change, language)) for language in languages]
        counts = " / ".join(str(line.rows) if line else "0" for line in lines)
        whole = [_percent(line.route) if line else "" for line in lines]
        rows.append((change, counts, *whole, *(_percent(line.public) if line else "" for line in lines)))
    return Sheet(
        "Decisions that stay when the query is typed otherwise",
        "Share of unchanged routes under default.yaml, of the queries that the change alters; `scores` leaves out the "
        f"privacy scan, which reads pasted text too. Routes as written: {spread}.",
        ("change", f"queries {' / '.join(languages)}", *languages, *(f"{name}, scores" for name in languages)),
        rows,
    )


def _agreed(agreed: Agreement) -> Sheet:
    counts = [(goes, agreed.agreed.get(goes, 0), agreed.rows[goes]) for goes in GOES if agreed.rows.get(goes)]
    counts.append(("all", sum(agreed.agreed.values()), sum(agreed.rows.values())))
    others = ", ".join(f"{name} ({goes})" for name, goes in agreed.others) or "none"
    return Sheet(
        "Use cases under default.yaml",
        "slm: a small model is asked first; llm: a large one; local: every rung is on the premises. Nominal models. "
        f"Otherwise than they should: {others}.",
        ("goes", "agreed", "of", "share"),
        [(goes, str(right), str(rows), f"{right / rows:.1%}") for goes, right, rows in counts],
    )


def _mistakes(figures: Figures) -> str:
    return "; ".join(
        f"{kind} " + ", ".join(f"{true} > {said} {count}" for true, said, count in found[:4])
        for kind, found in figures.mistakes.items()
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def markdown(figures: Figures) -> str:
    """The tables for a page."""
    parts = [f"Of router.onnx {figures.model}; intervals are 95 %, {figures.resamples} resamples."]
    for sheet in sheets(figures):
        lines = [f"### {sheet.title}", sheet.note, "", _line(sheet.header), _line(["---"] * len(sheet.header))]
        parts.append("\n".join([*lines, *map(_line, sheet.rows)]))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
