"""The language model as the gateway runs it: py3langid's, cut down to our languages (`train/language.py` says how).

`language.npz` holds the log-probability of each byte n-gram in each language and the automaton that finds the n-grams.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]

VERSION: Final = "1"
FILES: Final = ("language.npz",)
_CODES: Final = {np.dtype(np.uint16): "H", np.dtype(np.int32): "i"}


def load(folder: Path) -> LanguageIdentifier:
    """The model in `folder`; the caller has checked it against the manifest."""
    with np.load(folder / FILES[0], allow_pickle=False) as model:
        return LanguageIdentifier(
            np.ascontiguousarray(model["chances"].T),
            model["priors"],
            model["names"].tolist(),
            _plain(model["moves"]),
            _plain(model["output"]),
            tk_row=_plain(model["row"]),
        )


def _plain(numbers: npt.NDArray[Any]) -> array[int]:
    """Python's own array: the walk takes one number at a time, which costs less there than in numpy's."""
    copy = array(_CODES[numbers.dtype])
    copy.frombytes(np.ascontiguousarray(numbers).data.cast("B"))
    return copy
