"""Energy and CO2e of a call, as ranges: an estimate by a published method, or measured watts; nothing when not known.

Calls to the cloud: the method of `ecologits` 0.11 (https://ecologits.ai/latest/methodology/llm_inference/), whose
installed package gives a model's parameters as ranges, its speed, and the grid mix of a country; a model that it does
not know has the parameters of our own catalogue (`gateway/catalogue.yaml`). The formula is written out here since it
is linear in the tokens of the answer, and the package's own takes 25 MB and a graph walk a call; a test holds both
against each other. CO2e is that of use and of making the servers.
Calls on the premises: seconds x watts, measured where the machine gives them. Low is what the answer added to a machine
that waits, high is all that the machine drew. The making of one's own machine is not in it.
Units: micro-watt-hours and micrograms of CO2e, integers, so that sums are exact.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.catalogue import catalogue
from gateway.ledger.grid import Grid
from gateway.ledger.power import Power
from gateway.ledger.prices import NEVER_BILLED
from gateway.types import Attempt, Model, Zone

# Constants of the method: `ecologits/impacts/llm.py`. Energy in kWh, time in seconds, parameters in billions.
_BATCH: Final = 64
_GPU_KWH: Final = (1.1665273170451914e-06 / 1000, -0.011205921025579175, 4.052928146734005e-05 / 1000)
_LATENCY: Final = (0.0006785088094353663, 0.0003119310311688259, 0.019473717579473387)
_GPU_MEMORY_GB: Final = 80
_SERVER_GPUS: Final = 8
_SERVER_KW: Final = 1.2
_MADE_KG: Final = (5700, 273)  # kg CO2e of making a server without its GPUs, and a GPU
_LIFE_S: Final = 3 * 365 * 24 * 60 * 60
# Our providers by the catalogue's names, where their data centres are and what these add (PUE): `tracers/utils.py`.
_PROVIDERS: Final[Mapping[str, tuple[str, str, float, float]]] = {
    "anthropic": ("anthropic", "USA", 1.09, 1.14),
    "cohere": ("cohere", "USA", 1.09, 1.09),
    "gemini": ("google_genai", "USA", 1.09, 1.09),
    "google_genai": ("google_genai", "USA", 1.09, 1.09),
    "huggingface_hub": ("huggingface_hub", "USA", 1.09, 1.14),
    "mistral": ("mistralai", "SWE", 1.16, 1.16),
    "mistralai": ("mistralai", "SWE", 1.16, 1.16),
    "openai": ("openai", "USA", 1.20, 1.20),
}
_ANYWHERE: Final = ("", "", 1.09, 1.20)  # the span of the above


@dataclass(frozen=True, slots=True)
class Impact:
    """What one call used: micro-watt-hours, and micrograms of CO2e. Nothing: not known."""

    energy_low_uwh: int | None = None
    energy_high_uwh: int | None = None
    co2e_low_ug: int | None = None
    co2e_high_ug: int | None = None


NOT_KNOWN: Final = Impact()
NONE_USED: Final = Impact(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Bound:
    """One end of a model's range: how many GPUs, what a token takes on each of them, how long tokens take, and PUE."""

    gpus: int
    gpu_kwh: float
    seconds_a_token: float
    first_token_s: float
    pue: float

    def kwh_and_made(self, tokens: int, seconds: float) -> tuple[float, float]:
        """Energy in kWh, and kg CO2e of making the servers, of so many tokens in no more than these seconds."""
        busy = min(seconds, tokens * self.seconds_a_token + self.first_token_s)
        share = self.gpus / _SERVER_GPUS
        server = busy / 3600 * _SERVER_KW * share / _BATCH
        made = busy * (share * _MADE_KG[0] + self.gpus * _MADE_KG[1]) / (_LIFE_S * _BATCH)
        return self.pue * (server + self.gpus * tokens * self.gpu_kwh), made


class Footprint:
    """The energy of calls. `country` is that of the machine that local models run on."""

    def __init__(
        self, *, models: Iterable[Model], grid: Grid, power: Power, idle_watts: float, country: str = ""
    ) -> None:
        self._grid = grid
        self._power = power
        self._idle_watts = idle_watts
        self._country = country
        away = [model for model in models if model.zone is not Zone.PREMISES and model.kind != "embedding"]
        self._bounds = {model.id: _bounds(model) for model in away}

    def of(self, attempt: Attempt) -> Impact:
        """What one call used."""
        model = attempt.model
        if model.zone is Zone.PREMISES:
            return self._local(attempt)
        if attempt.usage is None:
            return NONE_USED if attempt.outcome in NEVER_BILLED else NOT_KNOWN
        bounds = self._bounds.get(model.id)
        if bounds is None:  # of an unknown size, or one that makes embeddings: the method is of text generation
            return NOT_KNOWN
        low, high = (bound.kwh_and_made(attempt.usage.completion_tokens, attempt.seconds) for bound in bounds)
        grid = self._grid.kg_per_kwh(model.energy.country or _home(model)[1], _day(attempt.started_ns))
        if grid is None:
            return Impact(round(low[0] * 1e9), round(high[0] * 1e9))
        return Impact(
            round(low[0] * 1e9),
            round(high[0] * 1e9),
            round((low[0] * grid + low[1]) * 1e9),
            round((high[0] * grid + high[1]) * 1e9),
        )

    def _local(self, attempt: Attempt) -> Impact:
        watts = self._power.watts()
        hours = attempt.seconds / 3600
        low, high = max(0.0, watts - self._idle_watts) * hours, watts * hours
        grid = self._grid.kg_per_kwh(self._country, _day(attempt.started_ns)) if self._country else None
        if grid is None:
            return Impact(round(low * 1e6), round(high * 1e6))
        # Wh x kg/kWh is grams.
        return Impact(round(low * 1e6), round(high * 1e6), round(low * grid * 1e6), round(high * grid * 1e6))


def _day(at_ns: int) -> dt.date:
    return dt.date.fromordinal(719_163 + at_ns // 86_400_000_000_000)


def _home(model: Model) -> tuple[str, str, float, float]:
    """The catalogue's name of a model's provider, with where it computes and what its data centres add."""
    provider = model.energy.like.split("/")[0] if model.energy.like else model.provider
    return _PROVIDERS.get(provider, _ANYWHERE)


def _bounds(model: Model) -> tuple[_Bound, _Bound] | None:
    """Both ends of a model's range; nothing when its size is known to neither the operator nor either catalogue."""
    facts = model.energy
    provider, _, pue_low, pue_high = _home(model)
    if facts.pue is not None:
        pue_low = pue_high = facts.pue
    name = facts.like.split("/", 1)[-1] if facts.like else model.model
    size: tuple[Any, Any] = (facts.active_b or facts.total_b, facts.total_b or facts.active_b)
    speed: Mapping[str, float] = {}
    if size[0] is None:
        if (found := _catalogued(provider, name)) is not None:
            given = found["architecture"]["parameters"]
            size = (given["active"], given["total"]) if isinstance(given, dict) and "total" in given else (given, given)
            speed = found.get("deployment") or {}
        elif (row := catalogue().find(name)) is not None and row.energy is not None:
            size = {"min": row.energy.active_low, "max": row.energy.active_high}, row.energy.total
        else:
            return None
    active, total = map(_ends, size)
    return _bound(active[0], total[0], pue_low, speed), _bound(active[1], total[1], pue_high, speed)


def _ends(value: Any) -> tuple[float, float]:
    return (value["min"], value["max"]) if isinstance(value, dict) else (value, value)


def _bound(active: float, total: float, pue: float, speed: Mapping[str, float]) -> _Bound:
    alpha, beta, gamma = _GPU_KWH
    needed = math.ceil(1.2 * total * 16 / 8 / _GPU_MEMORY_GB)
    per_second = speed.get("tps")
    modelled = _LATENCY[0] * active + _LATENCY[1] * _BATCH + _LATENCY[2]
    return _Bound(
        gpus=2 ** math.ceil(math.log2(needed)),
        gpu_kwh=alpha * math.exp(beta * _BATCH) * active + gamma,
        seconds_a_token=1 / per_second if per_second else modelled,
        first_token_s=speed.get("ttft") or 0.0,
        pue=pue,
    )


def _catalogued(provider: str, name: str) -> dict[str, Any] | None:
    """A model's entry in the catalogue of the installed `ecologits`; its package is not imported, only read."""
    document = json.loads((catalogue_folder() / "models.json").read_text(encoding="utf-8"))
    aliases = {(each["provider"], each["name"]): each["alias"] for each in document["aliases"]}
    name = aliases.get((provider, name), name)
    wanted = (each for each in document["models"] if each["provider"] == provider and each["name"] == name)
    found: dict[str, Any] | None = next(wanted, None)
    return found


def catalogue_folder() -> Path:
    """Where the installed `ecologits` keeps its catalogue."""
    spec = importlib.util.find_spec("ecologits")
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders or [""]))) / "data"
