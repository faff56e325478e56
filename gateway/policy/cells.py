"""Every request that there could be, as finite cells; and whether one of them meets some conditions.

Each threshold splits its axis, so an axis is a few cells within which no condition can tell two values apart, and
each cell has a value that stands for it. A set of cells of one axis is the bits of an integer. A question ("does
anything meet this rule and none before it?") is answered by narrowing and splitting, never by multiplying the axes
out: what one axis alone decides narrows it at once; among the rest, the shortest choice is split on. That is exact:
no answer is a sample, and thresholds are taken as floating point has them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.policy.rules import OPERATORS, AllOf, AnyOf, Compare, Condition, Holds, Leaf, Not, OneOf
from gateway.policy.vocabulary import EVERY, Form
from gateway.types import Caller, Cloud, DataClass, Signals

_OTHER: Final = "other"
PLAIN: Final = Signals()  # what every signal is, unless a condition asks for something else


@dataclass(frozen=True, slots=True)
class Axis:
    """One signal, or one possible member of a set (`data_kinds=health`). `values` stand for its cells."""

    name: str
    values: tuple[Any, ...]

    @property
    def full(self) -> int:
        """Every cell."""
        return (1 << len(self.values)) - 1


# A condition over cells, in negation normal form. A literal is (axis number, bits); `and`/`or` are tuples of nodes.
@dataclass(frozen=True, slots=True)
class Lit:
    """The value lies in one of these cells of one axis."""

    axis: int
    bits: int


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them; without parts it is false."""

    parts: tuple[Node, ...]


Node = Lit | And | Or
TRUE: Final = And(())
FALSE: Final = Or(())
Box = tuple[int, ...]  # for each axis, the cells that are still possible


class Space:
    """The cells that some conditions make, and questions about them."""

    def __init__(self, conditions: Iterable[Condition]) -> None:
        leaves = [leaf for condition in conditions for leaf in leaves_of(condition)]
        self.axes: tuple[Axis, ...] = tuple(_axes(leaves))
        self._numbers: Mapping[str, int] = {axis.name: number for number, axis in enumerate(self.axes)}
        self.full: Box = tuple(axis.full for axis in self.axes)

    def node(self, condition: Condition, *, negated: bool = False) -> Node:
        """A condition, or its contrary, over the cells."""
        if isinstance(condition, Not):
            return self.node(condition.part, negated=not negated)
        if isinstance(condition, AllOf | AnyOf):
            parts = tuple(self.node(part, negated=negated) for part in condition.parts)
            return And(parts) if isinstance(condition, AllOf) is not negated else Or(parts)
        if isinstance(condition, Holds):
            members = tuple(self._member(f"{condition.signal}={name}", negated) for name in sorted(condition.values))
            return And(members) if negated else Or(members)
        return self._literal(condition, negated)

    def _member(self, axis: str, negated: bool) -> Lit:
        number = self._numbers[axis]
        return Lit(number, self._bits(number, lambda value: value is not negated))

    def _literal(self, leaf: Compare | OneOf, negated: bool) -> Lit:
        number = self._numbers[_axis_of(leaf.signal)]
        return Lit(number, self._bits(number, lambda value: _holds_at(leaf, value) is not negated))

    def _bits(self, number: int, test: Any) -> int:
        return sum(1 << place for place, value in enumerate(self.axes[number].values) if test(value))

    def find(self, nodes: Iterable[Node], within: Box | None = None) -> Box | None:
        """Cells, one or more on each axis, all of which meet every node; nothing when no request can."""
        return _search(list(within or self.full), list(nodes))

    def plainest(self, nodes: Iterable[Node], *, first: Iterable[str] = ()) -> Signals | None:
        """A request that meets every node and differs as little as possible from a plain one; nothing when none can.

        Axis by axis, the `first` ones first: each takes the plainest value that some request still has.
        """
        wanted = list(nodes)
        box = self.find(wanted)
        if box is None:
            return None
        kept = list(self.full)
        wanted = _narrow(kept, wanted) or []
        ahead = [self._numbers[name] for name in first if name in self._numbers]
        for number in (*ahead, *(n for n in range(len(self.axes)) if n not in ahead)):
            box, kept[number] = self._plain_cell(wanted, kept, number, box)
            wanted = _narrow(kept, wanted) or []  # what is open still: ever less
        return self.signals(tuple(kept))

    def _plain_cell(self, nodes: list[Node], kept: list[int], number: int, box: Box) -> tuple[Box, int]:
        """The first cell of an axis that some request still has: plainest first, the known solution at the latest."""
        for place in range(len(self.axes[number].values)):
            bit = 1 << place & kept[number]
            if box[number] & bit:
                return box, bit
            if not bit:
                continue
            found = self.find(nodes, tuple(bit if n == number else bits for n, bits in enumerate(kept)))
            if found is not None:
                return found, bit
        raise AssertionError("a box without cells is never found")

    def signals(self, box: Box) -> Signals:
        """The signals of a box: on each axis, the plainest value that is left."""
        chosen = {
            axis.name: axis.values[(bits & -bits).bit_length() - 1] for axis, bits in zip(self.axes, box, strict=True)
        }
        return _as_signals(chosen)


# --- axes -----------------------------------------------------------------------------------------------------------


def leaves_of(condition: Condition) -> Iterator[Leaf]:
    """The comparisons that a condition is made of."""
    if isinstance(condition, Not):
        yield from leaves_of(condition.part)
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.parts:
            yield from leaves_of(part)
    else:
        yield condition


def _axis_of(signal: str) -> str:
    return "slm_success" if signal == "difficulty" else signal


def _holds_at(leaf: Compare | OneOf, value: Any) -> bool:
    """Whether a leaf holds at a value of its axis, computed as it is in production."""
    if isinstance(leaf, OneOf):
        return value in leaf.values
    if leaf.signal == "difficulty":
        value = Signals(slm_success=value).difficulty
    return OPERATORS[leaf.op](value, leaf.value)


def _axes(leaves: list[Leaf]) -> Iterator[Axis]:
    by_axis: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if isinstance(leaf, Holds):
            for name in leaf.values:
                by_axis.setdefault(f"{leaf.signal}={name}", [])
        else:
            by_axis.setdefault(_axis_of(leaf.signal), []).append(leaf)
    for name in sorted(by_axis):
        yield Axis(name, _values(name, by_axis[name]))


def _values(name: str, leaves: list[Leaf]) -> tuple[Any, ...]:
    if "=" in name:
        return (False, True)
    signal = EVERY.get(name)
    form = signal.form if signal else Form.WORD
    if form is Form.CLASS:
        return tuple(DataClass)
    if form is Form.FLAG:
        return (False, True)
    if form is Form.HOUR:
        return (12, *(hour for hour in range(24) if hour != 12))
    if form in {Form.NUMBER, Form.COUNT, Form.AMOUNT}:
        return _numbers(name, [leaf for leaf in leaves if isinstance(leaf, Compare)])
    return _words(name, leaves)


def _words(name: str, leaves: list[Leaf]) -> tuple[str, ...]:
    """The names that are spoken of, and those that are not: one of them stands for all."""
    spoken = {str(value) for leaf in leaves if isinstance(leaf, OneOf) for value in leaf.values}
    signal = EVERY.get(name)
    if signal is None:
        # A field of the caller: anyone else is anonymous, or has no team.
        outsider = Caller().id if name == "caller.key" else ""
        others = [outsider] if outsider not in spoken else [_fresh(spoken)]
        return (*others, *sorted(spoken))
    plain = str(getattr(PLAIN, name))
    unspoken = [value for value in (plain, *signal.values) if value not in spoken]
    if not unspoken and signal.open:
        unspoken = [_fresh(spoken)]
    every = (*unspoken[:1], *sorted(spoken))
    return (plain, *(value for value in every if value != plain)) if plain in every else every


def _fresh(taken: set[str]) -> str:
    name = _OTHER
    while name in taken:
        name += "_"
    return name


def _numbers(name: str, leaves: list[Compare]) -> tuple[float, ...]:
    """A value for each cell: the cells begin at the thresholds, and just after them where that makes a difference."""
    signal = EVERY[name]
    whole = signal.form is Form.COUNT
    low = signal.low
    starts = {low}
    for leaf in leaves:
        if leaf.signal == "difficulty":
            starts |= _difficulty_starts(leaf.value)
        elif whole:
            starts |= {math.ceil(leaf.value), math.floor(leaf.value) + 1}
        else:
            starts |= {leaf.value, math.nextafter(leaf.value, math.inf)}
    inside = sorted(start for start in starts if low <= start <= signal.high)
    ends = [*inside[1:], math.inf if math.isinf(signal.high) else math.nextafter(signal.high, math.inf)]
    plain = math.inf if name == "budget_left" else getattr(PLAIN, name)
    cells = [_readable(start, end, plain, whole=whole) for start, end in zip(inside, ends, strict=True)]
    return tuple(sorted(cells, key=lambda value: _distance(value, plain)))


def _distance(value: float, plain: float) -> float:
    if value == plain:
        return -1.0
    return -value if math.isinf(plain) else abs(value - plain)


def _readable(start: float, end: float, plain: float, *, whole: bool) -> float:
    """A value of the cell [start, end) that a person would write: the plain one, or the one with the fewest digits."""
    if start <= plain < end or plain == end == math.inf:
        return plain
    if whole:
        return int(start) if start > plain else int(end) - 1
    if math.isinf(start):
        return math.floor(end) - 1.0
    if math.isinf(end):
        return start if start == round(start, 6) else math.ceil(start) + 0.0
    for digits in range(17):
        nearest = round(start, digits)
        step = 10.0**-digits
        for value in (nearest, nearest + step):
            tidy = round(value, digits)
            if start <= tidy < end:
                return tidy
    return start


def _difficulty_starts(threshold: float) -> set[float]:
    """Where `1 - slm_success` crosses a threshold, as floating point has it: found by halving, not by algebra."""
    starts = set()
    for strict in (False, True):
        # `reaches` holds below some slm_success and never again above it.
        low, high = 0.0, math.nextafter(1.0, 2.0)
        if not _reaches(low, threshold, strict=strict):
            continue
        if _reaches(1.0, threshold, strict=strict):
            continue
        while math.nextafter(low, 2.0) < high:
            middle = (low + high) / 2
            if _reaches(middle, threshold, strict=strict):
                low = middle
            else:
                high = middle
        starts.add(high)
    return starts


def _reaches(success: float, threshold: float, *, strict: bool) -> bool:
    difficulty = Signals(slm_success=success).difficulty
    return difficulty > threshold if strict else difficulty >= threshold


def _as_signals(chosen: Mapping[str, Any]) -> Signals:
    fields: dict[str, Any] = {}
    caller: dict[str, Any] = {}
    sets: dict[str, list[str]] = {"data_kinds": [], "caller.tags": []}
    for name, value in chosen.items():
        group, _, member = name.partition("=")
        if member:
            sets[group] += [member] if value else []
        elif name.startswith("caller."):
            caller[{"key": "id"}.get(name.removeprefix("caller."), name.removeprefix("caller."))] = value
        elif name == "cloud":
            fields[name] = Cloud(value)
        else:
            fields[name] = None if name == "budget_left" and value == math.inf else value
    tags = tuple(sorted(sets["caller.tags"]))
    return Signals(**fields, data_kinds=frozenset(sets["data_kinds"]), caller=Caller(**caller, tags=tags))


# --- search ---------------------------------------------------------------------------------------------------------


def _search(box: list[int], nodes: list[Node]) -> Box | None:
    """Narrow as far as single-axis conditions go, then split on one literal: first the side that settles most."""
    open_nodes = _narrow(box, nodes)
    if open_nodes is None:
        return None
    if not open_nodes:
        return tuple(box)
    axis, bits = _split_on(box, open_nodes)
    for side in (box[axis] & bits, box[axis] & ~bits):
        if side:
            half = box.copy()
            half[axis] = side
            found = _search(half, open_nodes)
            if found is not None:
                return found
    return None


def _narrow(box: list[int], nodes: list[Node]) -> list[Node] | None:
    """The `or`s that the box has not settled yet, each cut to what is open; narrows the box. Nothing: impossible."""
    pending, changed = nodes, True
    while changed:
        changed = False
        stack = list(reversed(pending))
        still_open: list[Node] = []
        while stack:
            node = _reduce(stack.pop(), box)
            if node is FALSE:
                return None
            if isinstance(node, Lit):
                box[node.axis] &= node.bits
                changed = True
            elif isinstance(node, And):
                stack.extend(node.parts)
            else:
                still_open.append(node)
        pending = still_open
    return pending


def _reduce(node: Node, box: list[int]) -> Node:
    """A node as it reads inside the box: `TRUE`, `FALSE` (those very objects), or what is open of it."""
    if isinstance(node, Lit):
        left = box[node.axis]
        here = left & node.bits
        if here == left:
            return TRUE
        return node if here else FALSE
    settles, passes = (FALSE, TRUE) if isinstance(node, And) else (TRUE, FALSE)
    open_parts = []
    for part in node.parts:
        reduced = _reduce(part, box)
        if reduced is settles:
            return settles
        if reduced is not passes:
            open_parts.append(reduced)
    if not open_parts:
        return passes
    if len(open_parts) == 1:
        return open_parts[0]
    return And(tuple(open_parts)) if settles is FALSE else Or(tuple(open_parts))


def _split_on(box: list[int], nodes: list[Node]) -> tuple[int, int]:
    """A literal of a shortest open `or`: on the axis that most of the shortest ones speak of, its widest one."""
    length = min(_length(node) for node in nodes)
    literals = [lit for node in nodes if _length(node) == length for lit in _literals(node)]
    mentions = Counter(lit.axis for lit in literals)
    best = max(literals, key=lambda lit: (mentions[lit.axis], (box[lit.axis] & lit.bits).bit_count()))
    return best.axis, best.bits


def _length(node: Node) -> int:
    return len(node.parts) if isinstance(node, Or) else 1


def _literals(node: Node) -> Iterator[Lit]:
    if isinstance(node, Lit):
        yield node
    else:
        for part in node.parts:
            yield from _literals(part)
