"""Derive the encoder's table from the 256-dimension one: `python -m router_models.train.table --models FOLDER`.

The source table's columns are principal components in order of variance, so keeping the first 128 is the best
table of 128 dimensions. What it costs (gain by ridge on the mean vector, route_train dev; es to en, first hit of
1,190 parallel questions of xquad), measured with the word split of `encoder.py`:

    dimensions             64     96     128    160    192    256
    dev APGR               0.632  0.637  0.638  0.638  0.639  0.641
    es to en               0.776  0.834  0.866  0.876  0.885  0.894
    bytes of the table     4.1M   6.2M   8.3M   10.3M  12.4M  16.5M

The tokenizer is the source's vocabulary and scores in SentencePiece's own format; folding is the encoder's work.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from sentencepiece import sentencepiece_model_pb2  # type: ignore[attr-defined,unused-ignore]

from router_models import encoder, manifest

DIM = 128
SOURCE_TABLE = "use3-static-64k-256-int8.npz"
SOURCE_TOKENIZER = "use3-static-64k-tokenizer.json"


def derive(models: Path, out: Path) -> None:
    """Write the table, its scales and the tokenizer to `out`, and record them in the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    source = np.load(models / SOURCE_TABLE)
    rows = source["q"][:, :DIM].astype(np.float32) * source["s"].astype(np.float32)[:, None]
    scales = (np.abs(rows).max(axis=1) / 127).astype(np.float16)
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    table = np.clip(np.round(rows / divisor[:, None]), -127, 127).astype(np.int8)
    np.save(out / encoder.TABLE, table)
    np.save(out / encoder.SCALES, scales)
    (out / encoder.TOKENIZER).write_bytes(
        _sentencepiece(json.loads((models / SOURCE_TOKENIZER).read_text(encoding="utf-8")))
    )
    manifest.record(out, encoder.FILES, version=encoder.VERSION)


def _sentencepiece(source: dict[str, Any]) -> bytes:
    """A Hugging Face Unigram tokenizer as a SentencePiece model: same pieces, ids and scores, no normalising."""
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    unknown = source["model"]["unk_id"]
    for number, (text, score) in enumerate(source["model"]["vocab"]):
        piece = model.pieces.add()
        piece.piece, piece.score, piece.type = text, score, 2 if number == unknown else 1
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 1, unknown, -1, -1, -1
    trainer.vocab_size = len(model.pieces)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = normalizer.escape_whitespaces = False
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=manifest.FOLDER)
    chosen = arguments.parse_args()
    derive(chosen.models, chosen.out)
