"""The privacy model as the gateway runs it: what has no check digit (names, addresses, health, minors, salary).

A text becomes words; each word becomes a vector that depends on the word alone (static multilingual embedding, hashed
n-grams, shape, whether it is a known name, or the kind of identifier that stands there), so it is made once and kept.
Two small convolutions then read the words in their order (ONNX), and give a score for the text and one for each word.
Of a long text they read the windows that the screen, a cheap look at the word vectors, finds most suspect.
An identifier enters as one word that says its kind and how sure it is: the model learns whose phone it is, and it
cannot learn a number by heart.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from router_models.encoder import Encoder

Floats = npt.NDArray[np.float32]

VERSION: Final = "2"
FILES: Final = ("privacy.npz", "privacy.onnx", "privacy.json", "privacy-names.txt")
LEVELS: Final = ("public", "internal", "personal", "special", "secret")
KINDS: Final = (
    "identity",
    "contact",
    "financial",
    "location",
    "dob",
    "online_id",
    "minors",
    "health",
    "special_other",
    "criminal",
    "credential",
)
SPANS: Final = (
    "person",
    "minor",
    "address",
    "health",
    "special",
    "criminal",
    "money",
    "credential",
    "contact",
    "dob",
    "number",
    "place",
    "organisation",
)

EMBEDDING = 128
NGRAM_BUCKETS = 8192
MAX_NGRAMS = 14
WINDOW = 224  # words the model reads at once
OVERLAP = 24
_MAX_WORD = 40
CHUNK = 32  # words that the screen looks at together
MAX_WINDOWS = 24  # a longer text is screened, and only its most suspect windows are read
_MEMO_WORDS = 60_000

_WORD = re.compile(r"[^\W\d_]+|[0-9]+|\n|[^\w\s]|_|[^\W_]")

SHAPE = 40


class Words:
    """The words of a text, in order, as written. An identifier is one word: `\\x00LABEL:tier`."""

    __slots__ = ("_entities", "_text", "names")

    def __init__(self, text: str, entities: Sequence[tuple[int, int, str]]) -> None:
        self._text, self._entities = text, entities
        self.names: list[str] = []
        position = 0
        for start, end, name in entities:
            self.names += _WORD.findall(text, position, max(position, start))
            self.names.append("\x00" + name)
            position = max(position, end)
        self.names += _WORD.findall(text, position)

    def places(self) -> list[tuple[int, int]]:
        """Where each word stands; worked out only when something was found."""
        places: list[tuple[int, int]] = []
        position = 0
        for start, end, name in [*self._entities, (len(self._text), len(self._text), "")]:
            places += [match.span() for match in _WORD.finditer(self._text, position, max(position, start))]
            if name:
                places.append((start, end))
            position = max(position, end)
        return places


def split_words(text: str, entities: Sequence[tuple[int, int, str]] = ()) -> Words:
    """Words of a text; `entities` (start, end, name; in order, not overlapping) stand as one word each."""
    return Words(text, entities)


# ---- one word --------------------------------------------------------------------------------------------------------


def ngrams(word: str) -> list[int]:
    """Hashed pieces of a word, accents dropped, the whole word first."""
    plain = _unaccented(word.lower()[:_MAX_WORD])
    marked = f"<{plain}>"
    pieces = [marked]
    if len(plain) > 2 and plain[0].isalpha():
        pieces += [marked[i : i + 3] for i in range(len(marked) - 2)]
        pieces += [marked[i : i + 5] for i in range(0, len(marked) - 4)]
    if len(pieces) > MAX_NGRAMS:
        keep = MAX_NGRAMS // 2
        pieces = pieces[:keep] + pieces[-keep:]
    return [1 + zlib.crc32(piece.encode("utf-8", "replace")) % (NGRAM_BUCKETS - 1) for piece in pieces]


def _unaccented(word: str) -> str:
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def shape(word: str, names: dict[str, int]) -> Floats:
    """What a word looks like, and whether it is a first or a last name that we know."""
    values = np.zeros(SHAPE, dtype=np.float32)
    first = word[0]
    length = len(word)
    if first.isalpha():
        values[0] = 1
        values[1] = first.isupper()
        values[2] = length > 1 and word.isupper()
        values[3] = length == 1
        values[4] = first.isupper() and length > 1 and word[1:].islower()
        values[5] = not word.isascii()
        values[6 + min(5, length // 2)] = 1
        known = names.get(word.lower(), 0)
        values[12] = bool(known & 1)
        values[13] = bool(known & 2)
        values[14] = bool(known) and bool(first.isupper())
    elif first.isdigit():
        values[15] = 1
        values[16 + min(7, length)] = 1
        value = int(word) if length <= 4 and word.isdecimal() else -1
        values[25] = 1900 <= value <= 2035
        values[26] = 1 <= value <= 31
        values[27] = 0 < value <= 110
        values[28] = first == "0"
    elif first == "\n":
        values[29] = 1
    else:
        values[30] = 1
        values[31] = word in ".!?"
        values[32] = word in ",;:"
        values[33] = word in "\"'«»“”‘’"
        values[34] = word in "()[]{}<>"
        values[35] = word in "=_/\\|#@&%$*+~^"
        values[36] = word in "€$£"
        values[37] = word in "-–—"
        values[38] = not word.isascii()
    values[39] = 1
    return values


@dataclass(frozen=True, slots=True)
class Tables:
    """First layer: everything that is added up to make one word's vector."""

    semantic: Floats  # (EMBEDDING + 2, width)
    ngram: Floats  # (NGRAM_BUCKETS, width)
    shape: Floats  # (SHAPE, width)
    entity: Floats  # (entities, width)
    entities: dict[str, int]
    screen: tuple[Floats, Floats, Floats]  # (2 * width, hidden), (hidden,), (hidden,)

    @property
    def width(self) -> int:
        """Size of a word's vector."""
        return int(self.semantic.shape[1])


def semantic_rows(words: Sequence[str], encoder: Encoder) -> Floats:
    """Direction and length of each word's embedding: unit vector, log of its norm, and whether it is unknown."""
    out = np.zeros((len(words), EMBEDDING + 2), dtype=np.float32)
    if not words:
        return out
    ids = [encoder.encode(word[:_MAX_WORD]).ids for word in words]
    sizes = np.array([len(one) for one in ids])
    some = sizes > 0
    if some.any():
        starts = (np.cumsum(sizes) - sizes)[some]
        out[some, :EMBEDDING] = np.add.reduceat(encoder.rows(np.concatenate(ids)), starts, axis=0)
    norm = np.linalg.norm(out[:, :EMBEDDING], axis=1)
    known = norm > 1e-6
    out[known, :EMBEDDING] /= norm[known, None]
    out[known, EMBEDDING] = np.log(norm[known]) * 0.3
    out[~known, EMBEDDING + 1] = 1
    return out


# ---- the model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says of a text."""

    stay: float
    levels: tuple[float, ...]
    kinds: tuple[float, ...]
    words: Words
    spans: Floats  # (words, SPANS): probability of each span class


class PrivacyModel:
    """The trained model (`net`: its bytes, or its path, of which no copy stays in memory).

    One thread; `read` keeps the vectors of the words that it has met (bounded).
    """

    def __init__(
        self, tables: Tables, net: bytes | str, names: dict[str, int], encoder: Encoder, common: Iterable[str] = ()
    ) -> None:
        import onnxruntime  # noqa: PLC0415 - only the process that scans pays for the import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(net, options, providers=["CPUExecutionProvider"])
        self._tables, self._names, self._encoder = tables, names, encoder
        self._common = tuple(common)
        self._memo: dict[str, int] = {}
        self._vectors = np.zeros((4096, tables.width), dtype=np.float32)
        self._reset()

    @classmethod
    def load(cls, folder: Path, encoder: Encoder) -> PrivacyModel:
        """Read the artefacts that `router_models.train.privacy` wrote into `folder`."""
        with np.load(folder / "privacy.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        card = json.loads((folder / "privacy.json").read_text(encoding="utf-8"))
        tables = Tables(
            semantic=_dequantised(arrays, "semantic"),
            ngram=_dequantised(arrays, "ngram"),
            shape=arrays["shape"].astype(np.float32),
            entity=arrays["entity"].astype(np.float32),
            entities={name: number for number, name in enumerate(card["entities"])},
            screen=(
                arrays["screen_in"].astype(np.float32),
                arrays["screen_bias"].astype(np.float32),
                arrays["screen_out"].astype(np.float32),
            ),
        )
        return cls(
            tables,
            str(folder / "privacy.onnx"),
            read_names(folder / "privacy-names.txt"),
            encoder,
            card["common"],
        )

    def _reset(self) -> None:
        """Start the memo with the common words only."""
        self._memo.clear()
        self._learn(list(self._common))

    def _learn(self, words: list[str]) -> None:
        """Make and keep the vectors of new words."""
        if not words:
            return
        tables = self._tables
        first = len(self._memo)
        if first + len(words) > len(self._vectors):
            grown = np.zeros((2 * (first + len(words)), tables.width), dtype=np.float32)
            grown[:first] = self._vectors[:first]
            self._vectors = grown
        plain = [word for word in words if word[0] != "\x00"]
        if plain:
            hashed = [ngrams(word) for word in plain]
            sizes = np.array([len(one) for one in hashed])
            grams = (
                np.add.reduceat(tables.ngram[np.concatenate(hashed)], np.cumsum(sizes) - sizes, axis=0) / sizes[:, None]
            )
            shapes = np.stack([shape(word, self._names) for word in plain])
            meaning = semantic_rows(plain, self._encoder) @ tables.semantic
            self._vectors[first : first + len(plain)] = meaning + shapes @ tables.shape + grams
        entities = [word for word in words if word[0] == "\x00"]
        for row, word in enumerate(entities, first + len(plain)):
            self._vectors[row] = tables.entity[tables.entities.get(word[1:], 0)]
        self._memo.update(zip([*plain, *entities], range(first, first + len(words)), strict=True))

    def _matrix(self, names: list[str]) -> Floats:
        memo = self._memo
        try:
            return self._vectors[[memo[name] for name in names]]
        except KeyError:
            if len(memo) > _MEMO_WORDS:
                self._reset()
            self._learn(list(dict.fromkeys(name for name in names if name not in memo)))
            return self._vectors[[memo[name] for name in names]]

    def read(self, text: str, entities: Sequence[tuple[int, int, str]] = ()) -> Reading:
        """Score a text; `entities` are the identifiers found in it."""
        words = split_words(text, entities)
        count = len(words.names)
        if not count:
            return Reading(
                0.0, (1.0, 0.0, 0.0, 0.0, 0.0), (0.0,) * len(KINDS), words, np.zeros((0, len(SPANS)), dtype=np.float32)
            )
        spans = np.zeros((count, len(SPANS)), dtype=np.float32)
        best: Floats | None = None
        vectors = self._matrix(words.names)
        for first in self._worth_reading(vectors):
            last = min(count, first + WINDOW)
            document, tagged = self._session.run(None, {"words": vectors[None, first:last]})
            spans[first:last] = np.maximum(spans[first:last], tagged[0])
            scores = document[0]
            best = scores if best is None else np.maximum(best, scores)
        assert best is not None  # noqa: S101 - at least one window was read
        levels = best[1 : 1 + len(LEVELS)]
        return Reading(
            float(best[0]), tuple(map(float, levels)), tuple(map(float, best[1 + len(LEVELS) :])), words, spans
        )

    def _worth_reading(self, vectors: Floats) -> Sequence[int]:
        """Where the windows begin that are read: all of them, or the most suspect of many."""
        starts = _windows(len(vectors))
        if len(starts) <= MAX_WINDOWS:
            return starts
        chunks = np.zeros((-(-len(vectors) // CHUNK) * CHUNK, vectors.shape[1]), dtype=np.float32)
        chunks[: len(vectors)] = vectors
        parts = chunks.reshape(-1, CHUNK, vectors.shape[1])
        entry, bias, out = self._tables.screen
        seen = np.concatenate([parts.max(axis=1), parts.mean(axis=1)], axis=1)
        suspicion = np.maximum(seen @ entry + bias, 0) @ out
        highest = [float(suspicion[start // CHUNK : (start + WINDOW - 1) // CHUNK + 1].max()) for start in starts]
        chosen = sorted(range(len(starts)), key=lambda number: -highest[number])[:MAX_WINDOWS]
        return sorted(starts[number] for number in chosen)


def _windows(count: int) -> Sequence[int]:
    if count <= WINDOW:
        return (0,)
    step = WINDOW - OVERLAP
    return [min(first, count - WINDOW) for first in range(0, count - OVERLAP, step)]


def _dequantised(arrays: dict[str, npt.NDArray[np.generic]], name: str) -> Floats:
    return np.asarray(
        arrays[name].astype(np.float32) * arrays[f"{name}_scale"].astype(np.float32)[:, None], dtype=np.float32
    )


def read_names(path: Path) -> dict[str, int]:
    """First (1) and last (2) names, lower case."""
    names: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, kinds = line.partition(" ")
        names[word] = ("f" in kinds) + 2 * ("l" in kinds)
    return names
