"""The router's scores as those of one deployed small model: an offset and a slope each, and perhaps a light head.

    slm_success = chance(offset + slope * logit(slm_success))      gain = offset + slope * gain

`cauce router calibrate` fits them on outcomes of that model (`calibrate.py`) and writes them into a file, an entry a
model; the gateway loads the entry of the model that it serves (`calibration:` in cauce.yaml). With many outcomes of the
same kind of queries an entry also has a head (`domain_head.py`): a light function of the router's own inputs that is
added to the gain.
The numbers mean something only beside the weights that they were fitted on, so the file says their hash.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import copysign, exp, isfinite, log, tanh
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.errors import ConfigError
from router_models import manifest
from router_models.domain_head import Head
from router_models.encoder import FILES as ENCODER_FILES
from router_models.router_runtime import BUCKETS, FILES, Inputs, Scores

FORMAT: Final = 1
_EDGE: Final = 0.9
_FLOOR: Final = 1e-6  # of a probability, before its logit is taken
_PARTS: Final = ("centre", "scale", "factor", "landmarks", "alpha")
_AGAIN: Final = "fit it again: cauce router calibrate"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Line:
    """`offset + slope * x`. The slope is above 0: no calibration turns the order of queries round."""

    offset: float = 0.0
    slope: float = 1.0

    def __call__(self, x: float) -> float:
        """The value at x."""
        return self.offset + self.slope * x

    def after(self, first: Line) -> Line:
        """This line over what another one gave."""
        return Line(self.offset + self.slope * first.offset, self.slope * first.slope)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scores of one small model. `outcomes` is how many were seen, `day` when."""

    slm: str
    slm_success: Line = Line()
    gain: Line = Line()
    head: Head | None = None
    outcomes: int = 0
    day: str = ""

    def scores(self, said: Scores, inputs: Inputs) -> Scores:
        """The router's scores as those of this model; probabilities and gains stay in their bounds."""
        gain = self.gain(said.gain)
        if self.head is not None:
            gain += self.head(said, inputs)
        return replace(
            said,
            slm_success=chance(self.slm_success(logit(said.slm_success))),
            gain=bounded(gain),
        )


def bounded(gain: float) -> float:
    """A gain inside -1 to 1, neither included: what lies beyond 0.9 is drawn together, and its order stays."""
    beyond = abs(gain) - _EDGE
    if beyond <= 0:
        return gain
    return copysign(_EDGE + 0.999 * (1 - _EDGE) * tanh(beyond / (1 - _EDGE)), gain)


def logit(p: float) -> float:
    """The log odds of a probability."""
    p = min(max(p, _FLOOR), 1 - _FLOOR)
    return log(p / (1 - p))


def chance(x: float) -> float:
    """The probability of log odds."""
    return 1 / (1 + exp(-x)) if x > -700 else 0.0


def weights_hash(folder: Path = manifest.FOLDER) -> str:
    """The hash of all files that a score depends on, shortened."""
    digest = "".join(manifest.sha256(folder / name) for name in (*FILES, *ENCODER_FILES))
    return manifest.sha256_of(digest.encode())[:16]


def load(file: Path, names: Sequence[str], *, folder: Path = manifest.FOLDER) -> Calibration:
    """The entry of the first of these small models that the file has one of.

    Raises `ConfigError` when the file cannot be read, was made for other router weights, or has none of them.
    """
    entries = read(file, folder=folder)
    found = next((entries[name] for name in names if name in entries), None)
    if found is None:
        raise ConfigError(
            f"holds {', '.join(entries) or 'no model'}, and the small models here are {', '.join(names) or 'none'}: "
            "calibrate for one of them (cauce router calibrate --slm NAME), or take `calibration:` out",
            where=str(file),
        )
    return found


def read(file: Path, *, folder: Path = manifest.FOLDER) -> dict[str, Calibration]:
    """Every entry of a file, by its model's name; raises `ConfigError`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigError(
                f"is of format {content['format']}, this gateway reads {FORMAT}; {_AGAIN}", where=str(file)
            )
        if content["router"] != (own := weights_hash(folder)):
            raise ConfigError(
                f"was made for other router weights ({content['router']}, here they are {own}): its numbers mean "
                f"nothing beside these; {_AGAIN}",
                where=str(file),
            )
        return {name: _entry(name, values) for name, values in content["models"].items()}
    except OSError as error:
        raise ConfigError(f"the calibration cannot be read: {error.strerror}; {_AGAIN}", where=str(file)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"is no calibration, or not a whole one ({error!r}); {_AGAIN}", where=str(file)) from error


def write(file: Path, entries: dict[str, Calibration], *, folder: Path = manifest.FOLDER) -> None:
    """Write a file with these entries, whole or not at all."""
    content = {
        "format": FORMAT,
        "router": weights_hash(folder),
        "models": {name: _values(entry) for name, entry in sorted(entries.items())},
    }
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(file)


def today() -> str:
    """The day, as entries say it."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def _entry(name: str, values: dict[str, Any]) -> Calibration:
    return Calibration(
        slm=name,
        slm_success=_line(values["slm_success"]),
        gain=_line(values["gain"]),
        head=_head(values["head"]) if values.get("head") else None,
        outcomes=int(values["outcomes"]),
        day=str(values["day"]),
    )


def _line(values: dict[str, Any]) -> Line:
    line = Line(float(values["offset"]), float(values["slope"]))
    if not (isfinite(line.offset) and isfinite(line.slope) and line.slope > 0):
        raise ValueError(f"offset {line.offset}, slope {line.slope}")
    return line


def _head(values: dict[str, Any]) -> Head:
    parts = {name: _unpacked(values[name]) for name in _PARTS}
    width = len(parts["centre"])
    buckets, weights = np.frombuffer(base64.b64decode(values["buckets"]), "<u2"), _unpacked(values["words"])
    words = np.zeros(BUCKETS, np.float32)
    words[buckets] = weights
    landmarks = parts.pop("landmarks").reshape(len(parts["alpha"]), width)
    if any(len(parts[name]) != width for name in ("scale", "factor")) or not np.isfinite(words).all():
        raise ValueError("the head is damaged")
    return Head.of(**parts, landmarks=landmarks, words=words, bias=float(values["bias"]))


def _values(entry: Calibration) -> dict[str, Any]:
    values: dict[str, Any] = {
        "slm_success": {"offset": round(entry.slm_success.offset, 4), "slope": round(entry.slm_success.slope, 4)},
        "gain": {"offset": round(entry.gain.offset, 4), "slope": round(entry.gain.slope, 4)},
        "outcomes": entry.outcomes,
        "day": entry.day,
    }
    if (head := entry.head) is not None:
        buckets = np.flatnonzero(head.words)
        values["head"] = {
            "bias": head.bias,
            **{name: _packed(getattr(head, name)) for name in _PARTS},
            "buckets": base64.b64encode(buckets.astype("<u2").tobytes()).decode(),
            "words": _packed(head.words[buckets]),
        }
    return values


def _packed(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
