"""Text to tokens and static embedding rows: read once a text, used by the difficulty and the privacy model.

A token is a whole word where the vocabulary knows it (a dictionary look-up), else the word's SentencePiece pieces
(`sentencepiece` gives those of `tokenizers` in half the time and a fifth of the memory). Splitting words ourselves is
four times as fast as a tokenizer's own pass over the text, reads `foo(bar)` and the word after a line break as words,
and finds more translations (xquad es to en, first hit: 0.87 against 0.81 with 128 dimensions; `train/table.py` has the
figures).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sentencepiece import SentencePieceProcessor

from router_models import manifest

VERSION = "2"
TABLE, SCALES, TOKENIZER = "table.npy", "scales.npy", "tokenizer.model"
FILES = (TABLE, SCALES, TOKENIZER)
UNKNOWN = 0
_MEMO_WORDS, _MEMO_LETTERS = 50_000, 24
HEAD, TAIL = 12_000, 6_000  # characters that are read of a longer text; about 4,500 tokens

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = "\u0300-\u036f"
_CLUSTER = re.compile(rf"[^\x00-\x7f][{_MARKS}]*|[\x00-\x7f][{_MARKS}]+")


class Tokens:
    """The tokens of a text. `offsets` is worked out when it is first asked for."""

    __slots__ = ("__dict__", "_encoder", "_segments", "ids", "text")

    def __init__(self, encoder: Encoder, text: str, ids: Ids, segments: Sequence[tuple[int, int]]) -> None:
        self._encoder = encoder
        self._segments = segments
        self.text = text
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def offsets(self) -> Ids:
        """`(n, 2)`: each token's start and end in the original text, in code points."""
        spans = [span for start, end in self._segments for span in self._encoder.spans(self.text, start, end)]
        return np.array(spans, np.int32).reshape(-1, 2)


class Encoder:
    """The static multilingual embedding: `encode` a text, then ask for `rows` or for the `mean`."""

    def __init__(self, table: npt.NDArray[np.int8], scales: npt.NDArray[np.float16], tokenizer: bytes) -> None:
        self._table = table
        self._scales = scales.astype(np.float32)
        self._tokenizer = SentencePieceProcessor(model_proto=tokenizer)
        self._memo: dict[str, list[int]] = {}
        self._known = _whole_words(self._tokenizer)
        self.dim = int(table.shape[1])
        self.size = int(table.shape[0])

    @classmethod
    def load(cls, folder: Path = manifest.FOLDER) -> Encoder:
        """Read the artefacts, or raise `ConfigError` naming the file that is missing or damaged."""
        manifest.verify(folder, FILES, version=VERSION)
        table = np.asarray(np.load(folder / TABLE, mmap_mode="r"))  # mapped: workers share the pages
        scales = np.load(folder / SCALES)
        return cls(table, scales, (folder / TOKENIZER).read_bytes())

    def encode(self, text: str, *, head: int = HEAD, tail: int = TAIL) -> Tokens:
        """The tokens of `text`; of a text longer than `head + tail` characters, those of its two ends."""
        if len(text) <= head + tail:
            return Tokens(self, text, self._ids(text), ((0, len(text)),))
        segments = ((0, head), (len(text) - tail, len(text)))
        ids = np.concatenate([self._ids(text[start:end]) for start, end in segments])
        return Tokens(self, text, ids, segments)

    def rows(self, ids: Ids) -> Floats:
        """`(n, dim)`: the embedding of each token, already weighted by its rarity."""
        rows: Floats = self._table[ids].astype(np.float32)
        rows *= self._scales[ids, None]
        return rows

    def mean(self, ids: Ids) -> Floats:
        """`(dim,)`: the tokens' sum, scaled to length 1; zeros when no token is known."""
        total: Floats = self._scales[ids] @ self._table[ids].astype(np.float32)
        length = float(np.sqrt(total @ total))
        return total / length if length > 0.0 else total

    def rarity(self) -> Floats:
        """For each token, how rare it is in general text: 0 to about 2."""
        scores = [self._tokenizer.get_score(number) for number in range(self.size)]
        return -np.asarray(scores, np.float32) / np.float32(10)

    def spans(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where each token of `text[start:end]` stands in `text`."""
        part = text[start:end]
        folded = _fold(part)
        origin = _origins(part)
        for match in _WORD.finditer(folded):
            word, base = match.group(), match.start()
            pieces = [(0, len(word))] if word in self._known else self._pieces(word)
            for first, last in pieces:
                yield start + origin[base + first], start + origin[base + max(last, first + 1) - 1] + 1

    def _ids(self, text: str) -> Ids:
        words = _WORD.findall(_fold(text))
        ids: list[int | None] = list(map(self._known.get, words))
        if None not in ids:
            return np.array(ids, np.int32)
        found: list[int] = []
        for word, known in zip(words, ids, strict=True):
            if known is None:
                found += self._memo.get(word) or self._cut(word)
            else:
                found.append(known)
        return np.array(found, np.int32)

    def _cut(self, word: str) -> list[int]:
        """The pieces of a word that is not in the vocabulary; ordinary words are kept, numbers and codes are not."""
        ids: list[int] = self._tokenizer.encode("▁" + _encodable(word))
        if len(word) <= _MEMO_LETTERS and word.isalpha():
            if len(self._memo) >= _MEMO_WORDS:
                self._memo.clear()
            self._memo[word] = ids
        return ids

    def _pieces(self, word: str) -> list[tuple[int, int]]:
        spans, start = [], -1  # the mark of a word's beginning is no letter of it
        for piece in self._tokenizer.encode("▁" + _encodable(word), out_type=str):
            spans.append((max(start, 0), start + len(piece)))
            start += len(piece)
        return spans


@functools.cache
def shared() -> Encoder:
    """The one of this process, from the shipped artefacts: it does not change, and holds tens of megabytes."""
    return Encoder.load()


def _whole_words(tokenizer: SentencePieceProcessor) -> dict[str, int]:
    """The words and signs that are one piece of the vocabulary: nearly all of ordinary text."""
    pieces = [tokenizer.id_to_piece(number) for number in range(tokenizer.get_piece_size())]
    known = {piece: number for number, piece in enumerate(pieces) if _WORD.fullmatch(piece)}
    for number, piece in enumerate(pieces):
        word = piece[1:]
        if piece.startswith("▁") and _WORD.fullmatch(word) and tokenizer.encode(piece) == [number]:
            known[word] = number
    return known


def _encodable(word: str) -> str:
    """The word without lone surrogates, which the tokenizer refuses; as long as before."""
    return word if word.isascii() else word.encode("utf-8", "replace").decode("utf-8")


def _fold(text: str) -> str:
    """NFKC and lower case, letter by letter, so that every letter keeps its place of origin."""
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return text.lower()
    return _CLUSTER.sub(_compose, text).lower()


def _compose(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group())


def _origins(text: str) -> Sequence[int]:
    """For each character of `_fold(text)`, the index in `text` that it came from."""
    if text.isascii():
        return range(len(text))
    origins: list[int] = []
    done = 0
    for match in _CLUSTER.finditer(text):
        origins.extend(range(done, match.start()))
        done = match.end()
        length = len(unicodedata.normalize("NFKC", match.group()).lower())
        # a letter with its marks is one letter: its last character ends where the cluster ends
        origins.extend([match.start()] * (length - 1) + [done - 1] * min(length, 1))
    origins.extend(range(done, len(text)))
    return origins
