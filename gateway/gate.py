"""The one door: text leaves the pipeline through `Gate.release`, or not at all.

Upstream call, retry, next rung, judge, shadow, embedding, cache write: each takes a `Released` value, and only this
module makes one. Logs, traces, metrics and the ledger take no text at all, so they have no door.
The gate refuses, it does not warn; it holds whatever the rules of the policy say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, final

from gateway.errors import GateRefused
from gateway.types import DataClass, Guarantee, Zone

T = TypeVar("T")

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class Destination:
    """A place that text can go. `stores` is true where the text would stay after the request has ended."""

    name: str
    zone: Zone
    stores: bool = False


@final
class Released(Generic[T]):
    """A value that the gate let out to one destination. Only `Gate.release` can make one."""

    __slots__ = ("data", "destination", "value")

    def __init__(self, seal: object, value: T, data: DataClass, destination: Destination) -> None:
        if seal is not _SEAL:
            raise TypeError("only Gate.release makes a Released value")
        self.value = value
        self.data = data
        self.destination = destination


def ceiling(data: DataClass, guarantees: Iterable[Guarantee], *, pseudonymised: bool = False) -> Zone:
    """The farthest zone that text of this class may enter under these guarantees.

    Pseudonymised, it is also free of those that say `unless: pseudonymised`: a personal text only. What is special or
    secret in a text is more than who it is about, so no placeholder takes it out.
    """
    excepted = pseudonymised and data == DataClass.PERSONAL
    kept = (g.stays for g in guarantees if data >= g.data and not (excepted and g.unless))
    return min(kept, default=Zone.WORLD)


def _ignore(_destination: Destination, _data: DataClass) -> None:
    """No one listens to refusals."""


class Gate:
    """Lets values out, or refuses. `on_refusal` hears of each refusal (metrics, audit)."""

    __slots__ = ("_on_refusal",)

    def __init__(self, *, on_refusal: Callable[[Destination, DataClass], None] = _ignore) -> None:
        self._on_refusal = on_refusal

    def permits(self, *, data: DataClass, limit: Zone, destination: Destination) -> bool:
        """Whether `release` would let text of this class out to this destination."""
        if destination.zone > limit:
            return False
        return not (destination.stores and data >= DataClass.PERSONAL)

    def release(self, value: T, *, data: DataClass, limit: Zone, destination: Destination) -> Released[T]:
        """Let `value` out, or raise `GateRefused`.

        `limit` is the ceiling of the request: `ceiling(data, guarantees)`. Personal data and above is never stored.
        """
        if not self.permits(data=data, limit=limit, destination=destination):
            self._on_refusal(destination, data)
            raise GateRefused(
                f"{data.label} data may not go to {destination.name} ({destination.zone.label}): "
                f"it stays inside {limit.label}. Add a model in that zone, or change the policy's guarantees."
            )
        return Released(_SEAL, value, data, destination)
