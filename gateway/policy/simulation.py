"""What a policy would have done with the requests of the past: the findings of `simulate`, as values and in words."""

from __future__ import annotations

import dataclasses
import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.ledger.replay import Call

Language = Literal["es", "en"]
_Z95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request goes. `model` is empty where nothing answers."""

    rule: str
    route: str
    model: str
    zone: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Integer nano-USD of the requests whose cost is known, and how many are not.

    The change is of the `compared` requests: those that are known on both sides. Nothing: not known of any.
    """

    before_nano_usd: int | None
    before_unknown: int
    after_nano_usd: int | None
    after_unknown: int
    change_nano_usd: int | None
    compared: int


@dataclass(frozen=True, slots=True)
class Move:
    """Requests that go from one place to another; `why` and `before` are said of the example."""

    origin: Place
    to: Place
    requests: int
    cost: Cost
    why: str  # the first rule that matches now
    before: str  # what became of the rule that took it then
    example: str  # a request's id


@dataclass(frozen=True, slots=True)
class Team:
    """The requests of one team."""

    team: str
    requests: int
    moved: int
    leaving: int
    refused: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """Expected share of acceptable answers, over the requests answered both then and now; nothing without any.

    `unsure` of them have scores that the router model doubts.
    """

    requests: int
    unsure: int
    before: Estimate | None
    after: Estimate | None
    change: Estimate | None


@dataclass(frozen=True, slots=True)
class Times:
    """How long the answering call takes; nothing when not known. `unknown` requests go to models without history."""

    p50_us: int | None
    p95_us: int | None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """One model's own history, and how many requests it answered and would answer."""

    model: str
    calls: int
    p50_us: int | None
    p95_us: int | None
    requests_before: int
    requests_after: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Of all requests that a model was called for, and of each model."""

    before: Times
    after: Times
    models: tuple[ModelTimes, ...]


@dataclass(frozen=True, slots=True)
class Privacy:
    """Requests by data class: whose text would newly leave the premises, might if its model fails, would no more."""

    newly_leaving: Mapping[str, int]
    might_leave: Mapping[str, int]
    no_longer_leaving: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Requests that no model may answer: `newly` and `no_longer` by data class.

    `names` counts, of those, the requests that ask for a name that the policy does not know.
    """

    before: int
    after: int
    newly: Mapping[str, int]
    no_longer: Mapping[str, int]
    names: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Revision:
    """A policy that decided some of the requests then."""

    policy: str
    revision: str
    requests: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """All that was found. `left_out` counts requests that could not be replayed, by reason."""

    policy: str
    policy_revision: str
    requests: int
    moved: int
    first_us: int | None
    last_us: int | None
    left_out: Mapping[str, int]
    revisions: tuple[Revision, ...]
    cost: Cost
    quality: Quality
    latency: Latency
    privacy: Privacy
    refusals: Refusals
    moves: tuple[Move, ...]
    teams: tuple[Team, ...]
    assumptions: tuple[str, ...]

    def as_values(self) -> dict[str, Any]:
        """Plain values: `simulate --json`, and what a page shows."""
        return dataclasses.asdict(self)


@dataclass(slots=True)
class History:
    """What each model took for its answers: the source of latencies, and of what a local model's time costs."""

    durations_us: dict[str, array[int]] = field(default_factory=dict)
    completion_tokens: dict[str, int] = field(default_factory=dict)

    def add(self, call: Call) -> None:
        """One call; only those that answered tell how long an answer takes."""
        if call.outcome != "ok" or call.duration_us is None:
            return
        try:
            self.durations_us[call.model].append(call.duration_us)
        except KeyError:
            self.durations_us[call.model] = array("q", (call.duration_us,))
            self.completion_tokens[call.model] = 0
        self.completion_tokens[call.model] += call.completion_tokens or 0

    def seconds_a_token(self, model: str) -> float | None:
        """Mean time of a completion token."""
        tokens = self.completion_tokens.get(model)
        return sum(self.durations_us[model]) / 1e6 / tokens if tokens else None

    def latency(self, before: Mapping[str, int], after: Mapping[str, int]) -> Latency:
        """Of so many requests to each model: each takes what the model's calls took, one as likely as another."""
        ordered = {model: array("q", sorted(taken)) for model, taken in self.durations_us.items()}
        models = tuple(
            ModelTimes(
                model,
                len(ordered.get(model, ())),
                _quantile({model: 1}, ordered, 0.5),
                _quantile({model: 1}, ordered, 0.95),
                before.get(model, 0),
                after.get(model, 0),
            )
            for model in sorted({*before, *after}, key=lambda name: (-after.get(name, 0), name))
        )
        return Latency(_times(before, ordered), _times(after, ordered), models)


def _times(requests: Mapping[str, int], ordered: Mapping[str, array[int]]) -> Times:
    unknown = sum(count for model, count in requests.items() if model not in ordered)
    return Times(_quantile(requests, ordered, 0.5), _quantile(requests, ordered, 0.95), unknown)


def _quantile(requests: Mapping[str, int], ordered: Mapping[str, array[int]], share: float) -> int | None:
    """The time within which this share of the requests is answered: found by halving over all models at once."""
    known = {model: count for model, count in requests.items() if model in ordered and count}
    if not known:
        return None
    wanted = share * sum(known.values())
    low, high = 0, max(ordered[model][-1] for model in known)
    while low < high:
        middle = (low + high) // 2
        within = sum(
            count * bisect_right(ordered[model], middle) / len(ordered[model]) for model, count in known.items()
        )
        low, high = (low, middle) if within >= wanted else (middle + 1, high)
    return low


@dataclass(slots=True)
class Scores:
    """Sums over requests answered then and now, each with its chance of an acceptable answer on both sides."""

    requests: int = 0
    unsure: int = 0
    before: float = 0.0
    after: float = 0.0
    squares: float = 0.0  # of each request's change
    chance: float = 0.0  # variance of the outcomes of those whose answer would be another

    def add(self, other: Scores) -> None:
        """The sums of both."""
        self.requests += other.requests
        self.unsure += other.unsure
        self.before += other.before
        self.after += other.after
        self.squares += other.squares
        self.chance += other.chance

    def quality(self) -> Quality:
        """Means with normal intervals: of requests like these, their outcomes as chancy as the scores say."""
        count = self.requests
        if not count:
            return Quality(0, 0, None, None, None)
        change = (self.after - self.before) / count
        spread = max(0.0, (self.squares + self.chance) / count - change * change)
        return Quality(
            count,
            self.unsure,
            share(self.before, count),
            share(self.after, count),
            _estimate(change, math.sqrt(spread / count), low=-1.0),
        )


def share(expected: float, count: int) -> Estimate:
    """A share of acceptable answers out of the expected number of them."""
    mean = min(1.0, max(0.0, expected / count))
    return _estimate(mean, math.sqrt(mean * (1 - mean) / count), low=0.0)


def _estimate(mean: float, error: float, *, low: float) -> Estimate:
    return Estimate(mean, max(low, mean - _Z95 * error), min(1.0, mean + _Z95 * error))


# --- words ----------------------------------------------------------------------------------------------------------

WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "default": "no rule matches: the default",
        "pinned": "it names its model or route",
        "unknown": "the new policy does not know the name that it asks for",
        "was_default": "no rule matched it before",
        "was_pinned": "the name that it asks for means something else now",
        "gone": "there is no rule {rule} any more",
        "later": "rule {rule} stands after it",
        "unmet": "rule {rule} does not match any more: {why}",
        "route": "rule {rule} uses another route now",
        "ladder": "the route's models are others now: {ladder}",
        "skipped": "{model} is left out: {reason}",
        "nobody": "none",
    },
    "es": {
        "default": "no se cumple ninguna regla: la ruta por defecto",
        "pinned": "nombra su modelo o su ruta",
        "unknown": "la política nueva no conoce el nombre que pide",
        "was_default": "antes no se cumplía ninguna regla",
        "was_pinned": "el nombre que pide significa ahora otra cosa",
        "gone": "ya no hay una regla {rule}",
        "later": "la regla {rule} va después",
        "unmet": "la regla {rule} ya no se cumple: {why}",
        "route": "la regla {rule} usa ahora otra ruta",
        "ladder": "los modelos de la ruta son ahora otros: {ladder}",
        "skipped": "{model} queda fuera: {reason}",
        "nobody": "ninguno",
    },
}

ASSUMPTIONS: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "A model that was called for a request, a shadow's included, answers it, fails or is turned down as it did "
        "then; one that was not called is taken to answer at once. Further escalation is not simulated.",
        "An answer from the cache comes from the cache again if its rule and route are the same; if not, it is a call "
        "of unknown cost.",
        "Cost is of the same tokens at the price of the request's day; a local model without a price costs its own "
        "seconds a token, from this history. What is not known is said and is in no sum.",
        "Quality is the router's estimate: slm_success for a small model, slm_success + gain (0 to 1) for a large one, "
        "two models of a kind alike. Intervals are normal, 95 %, and do not hold the router's own error.",
        "Latency is of the answering call alone, from each model's own calls here; unknown where it has none.",
        "Data class, scores, and the state of the cloud and of the conversation are those that the request had then.",
    ),
    "es": (
        "Un modelo al que se llamó para una petición, también como sombra, la contesta, falla o se descarta como "
        "entonces; de uno al que no se llamó se supone que contesta a la primera. No se simula más escalado.",
        "Una respuesta de la caché vuelve a salir de la caché si su regla y su ruta son las mismas; si no, es una "
        "llamada de coste desconocido.",
        "El coste es el de los mismos tokens al precio del día de la petición; un modelo local sin precio cuesta sus "
        "propios segundos por token, según este historial. Lo desconocido se dice y no entra en ninguna suma.",
        "La calidad es la estimación del router: slm_success para un modelo pequeño, slm_success + gain (de 0 a 1) "
        "para uno grande, iguales dos modelos de un tipo. Los intervalos son normales, del 95 %, sin el error propio "
        "del router.",
        "La latencia es solo la de la llamada que contesta, según las llamadas de cada modelo aquí; desconocida si no "
        "tiene ninguna.",
        "La clase de datos, las puntuaciones y el estado de la nube y de la conversación son los que tuvo la petición "
        "entonces.",
    ),
}
