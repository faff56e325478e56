"""Derives the language model: `derive(out)` writes language.npz, py3langid's own model cut down to our languages.

py3langid 0.4.0 knows 140 languages by 100,053 byte n-grams; an automaton of 104,583 states finds at each byte the
longest one that ends there, and when that one is dropped the next longest answers in its place. We keep those that say
most, of the languages we tell apart, beyond what the next longest says. The number kept, against right answers on
7,743 messages of router_models/data, and texts of 40 letters or more in a foreign language that were taken for one of
`READ`: 2,749 sentences in 28 languages (Django's translations), 1,958 questions in German (xquad).

    n-grams             10,000   15,000   20,000   30,000   40,000   all
    messages right      0.9864   0.9868   0.9877   0.9880   0.9875   0.9871
    of them, Galician   0.918    0.934    0.945    0.951    0.945    0.945
    foreign sentences   2        0        0        0        0        0
    German questions    6        4        3        1        1        0
    bytes of the file   0.40M    0.58M    0.75M    1.07M    1.38M    3.17M
    memory              5.0M     6.7M     8.2M     11.5M    14.2M    49.7M
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

from gateway.signals.language import LANGUAGES
from router_models import manifest
from router_models.language_runtime import FILES, VERSION
from router_models.train.files import save_npz

KEPT = 30_000
READ = ("es", "en", "ca", "gl", "eu", "pt", "fr")  # told apart from each other and from the rest, which may be mixed up
READ_WEIGHT = 3.0
_MAX_UINT16 = np.iinfo(np.uint16).max

Doubles = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int32]


def derive(out: Path) -> None:
    """Write the language model to `out` and record it in the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    whole = LanguageIdentifier.from_model_file(MODEL_FILE)
    columns = [number for number, name in enumerate(whole.nb_classes) if name in LANGUAGES]
    names = [whole.nb_classes[number] for number in columns]
    chances = whole.nb_ptc[:, columns]
    ngrams = ngrams_of(whole)
    worth = worth_of(ngrams, chances.astype(np.float64), names)
    kept = np.sort(np.argsort(-worth, kind="stable")[:KEPT])
    moves, row, output = automaton([ngrams[number] for number in kept])
    save_npz(
        out / FILES[0],
        {
            "chances": chances[kept].T.astype(np.float16),  # a language after the other packs a fifth smaller
            "priors": whole.nb_pc[columns].astype(np.float32),
            "names": np.array(names),
            "moves": _narrow(moves),
            "row": _narrow(row),
            "output": output,
        },
    )
    manifest.record(out, FILES, version=VERSION)


def ngrams_of(model: LanguageIdentifier) -> list[bytes]:
    """The n-gram of each feature: the shortest bytes that lead to a state which gives that feature."""
    moves = np.array(model.tk_nextmove).reshape(-1, 256)
    row = np.array(model.tk_row)
    found: dict[int, bytes] = {}
    reached = np.zeros(len(row), dtype=bool)
    reached[0] = True
    frontier = {0: b""}
    while frontier:
        for state, path in frontier.items():
            found.setdefault(model.tk_output[state], path)
        states, paths = list(frontier), list(frontier.values())
        targets, firsts = np.unique(moves[row[states]], return_index=True)
        fresh = ~reached[targets]
        reached[targets] = True
        frontier = {
            target: paths[first // 256] + bytes([first % 256])
            for target, first in zip(targets[fresh].tolist(), firsts[fresh].tolist(), strict=True)
        }
    return [found[feature] for feature in range(len(model.nb_ptc))]


def worth_of(ngrams: list[bytes], chances: Doubles, names: list[str]) -> Doubles:
    """How much each n-gram tells: how often it is seen, by how far its verdict is from that of its longest suffix.

    A verdict is the log-probability in each language, less the mean; it answers for the n-gram when that is dropped.
    """
    weights = np.array([READ_WEIGHT if name in READ else 1.0 for name in names])
    weights /= weights.sum()
    verdicts = chances - (chances * weights).sum(axis=1, keepdims=True)
    numbers = {ngram: number for number, ngram in enumerate(ngrams)}
    suffixes = [_longest_suffix(ngram, numbers) for ngram in ngrams]
    instead = np.vstack([verdicts, np.zeros_like(verdicts[:1])])[suffixes]  # -1, no suffix, is the last row: no verdict
    seen = (np.exp(chances) * weights).sum(axis=1)
    return np.asarray(seen * ((verdicts - instead) ** 2 * weights).sum(axis=1), dtype=np.float64)


def _longest_suffix(ngram: bytes, numbers: dict[bytes, int]) -> int:
    return next((numbers[ngram[cut:]] for cut in range(1, len(ngram)) if ngram[cut:] in numbers), -1)


def automaton(ngrams: list[bytes]) -> tuple[Whole, Whole, Whole]:
    """Aho-Corasick: rows of next states (none twice), the row of each state, and the longest n-gram that ends there."""
    children: list[dict[int, int]] = [{}]
    output = [-1]
    for number, ngram in enumerate(ngrams):
        state = 0
        for byte in ngram:
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
                output.append(-1)
            state = children[state][byte]
        output[state] = number
    moves = np.zeros((len(children), 256), dtype=np.int32)
    failure = [0] * len(children)
    queue = [0]
    for state in queue:  # grows: the shorter n-grams first, since a state falls back on a shorter one
        moves[state] = moves[failure[state]]
        if output[state] < 0:
            output[state] = output[failure[state]]
        for byte, child in children[state].items():
            failure[child] = int(moves[state, byte])
            moves[state, byte] = child
            queue.append(child)
    rows, row = np.unique(moves, axis=0, return_inverse=True)
    return rows.ravel(), row.ravel().astype(np.int32), np.array(output, dtype=np.int32)


def _narrow(numbers: Whole) -> npt.NDArray[Any]:
    return numbers.astype(np.uint16) if numbers.max() <= _MAX_UINT16 else numbers
