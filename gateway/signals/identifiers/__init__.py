"""classify, second step of the privacy scan: identifiers and secrets that can be told by their form.

`scan` looks at a text once: one fused pattern finds number runs, one finds long tokens, and single characters (`@`,
`://`) or words (`password`) open the others, so that prose without numbers costs next to nothing. python-stdnum and
phonenumbers judge candidates only. What a form cannot settle (whose phone? whose IP?) is marked `soft`: the model,
which sees the words around it, decides.
"""

from __future__ import annotations

from gateway.signals.identifiers.base import Found, Scan
from gateway.signals.identifiers.numbers import find_numbers
from gateway.signals.identifiers.references import find_references
from gateway.signals.identifiers.secret import find_secrets
from gateway.signals.identifiers.words import find_worded

__all__ = ["Found", "scan"]


def scan(text: str, lower: str) -> list[Found]:
    """Every identifier of a normalised text, in order, the strongest where two overlap. `lower` has the same length."""
    view = Scan.of(text, lower)
    found = [*find_secrets(view), *find_numbers(view), *find_references(view), *find_worded(view)]
    return strongest(found)


def strongest(found: list[Found]) -> list[Found]:
    """Without those that overlap a stronger (then longer) one."""
    if len(found) < 2:
        return found
    kept: list[Found] = []
    for item in sorted(found, key=lambda one: (one.start, one.end)):
        if kept and item.start < kept[-1].end:
            if item.rank > kept[-1].rank:
                kept[-1] = item
            continue
        kept.append(item)
    return kept
