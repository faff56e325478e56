"""Derive the encoder's table from the 256-dimension one: `python -m router_models.train.table --models FOLDER`.

The source table's columns are principal components in order of variance, so keeping the first 128 is the best
table of 128 dimensions. What it costs (gain by ridge on the mean vector, route_train dev; es to en, first hit of
1,190 parallel questions of xquad), measured with the word split of `encoder.py`:

    dimensions             64     96     128    160    192    256
    dev APGR               0.632  0.637  0.638  0.638  0.639  0.641
    es to en               0.776  0.834  0.866  0.876  0.885  0.894
    bytes of the table     4.1M   6.2M   8.3M   10.3M  12.4M  16.5M

The tokenizer is the source's, packed.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

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
    text = (models / SOURCE_TOKENIZER).read_bytes()
    (out / encoder.TOKENIZER).write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    manifest.record(out, encoder.FILES, version=encoder.VERSION)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=manifest.FOLDER)
    chosen = arguments.parse_args()
    derive(chosen.models, chosen.out)
