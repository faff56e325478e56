"""pseudonymise: a personal request to the same request about placeholders, or the reason why it stays as it is.

What the scan has placed is replaced everywhere in the body, names and keys included; then what is left is scanned
again, and must come out below personal. The placeholders themselves are read as `[PERSON_1]` there: they say nothing
of anyone, and their letters would look like a code. A text that is personal by what it tells, with no place to point
at, comes out as it went in, and stays.

In law the result is personal data still (GDPR recital 26, art. 4(5)): `SECURITY.md` says what it is good for.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.pseudonyms.names import Names, Pseudonyms, TooMany, like_placeholders
from gateway.pseudonyms.restore import Restorer
from gateway.types import (
    DataClass,
    Decision,
    Detection,
    Finding,
    Inbound,
    Masked,
    Model,
    Part,
    Signals,
    Skipped,
)

_MOST_SURFACES: Final = 250  # of one request: each is looked for at every place of it
_ROUNDS: Final = 3
_EDGES: Final = " \t\r\n.,;:()[]{}<>\"'«»“”¿?¡!*"
_ESCAPES: Final = re.compile(r'(?:\\(?!u)[^\s]|["\x00-\x1f])+')  # what JSON writes otherwise than it is
_UNICODE: Final = re.compile(r"\\u[0-9A-Fa-f]{4}")
_SPACE: Final = "[ \u00a0\u2000-\u200a\u202f\u3000]+"  # none that JSON escapes
_NOT_READ: Final = frozenset({"scan_failed", "oversize"})
_BY_LABEL: Final = {
    "IBAN": "ACCOUNT", "CCC": "ACCOUNT", "CARD": "CARD", "PHONE": "PHONE", "EMAIL": "EMAIL", "IP": "DEVICE",
    "MAC": "DEVICE", "IMEI": "DEVICE", "ICCID": "DEVICE", "PLATE": "PLATE", "GPS": "ADDRESS", "POSTCODE": "ADDRESS",
    "DOB": "DATE",
}  # fmt: skip
_BY_KIND: Final = {
    "identity": "ID", "contact": "DETAIL", "financial": "AMOUNT", "location": "ADDRESS", "dob": "DATE",
    "online_id": "DEVICE", "minors": "PERSON",
}  # fmt: skip
_NO_NAMES: Final = frozenset({"del", "las", "los", "san", "the", "van", "von", "don", "doña", "sra", "mrs"})
_PARTICLES: Final = frozenset({"de", "del", "la", "las", "los", "da", "do", "dos", "das", "y", "e", "i", "van", "von"})
# Fields whose values are words of the protocol, and names of fields that every request has.
_PROTOCOL: Final = frozenset({"role", "type", "model", "object", "stream"})
_FIELDS: Final = _PROTOCOL | {
    "messages", "content", "name", "tools", "tool_calls", "tool_call_id", "tool_choice", "function", "functions",
    "arguments", "parameters", "properties", "description", "required", "text", "id", "metadata", "response_format",
}  # fmt: skip

STILL: Final = "still_personal"
RAISED: Final = "raised"
UNPLACED: Final = "unplaced"
TOO_MANY: Final = "too_many"
_WHY: Final = {
    STILL: "the text is still personal where placeholders stand for what was found",
    RAISED: "the text is personal by the caller's word or the key's, which no placeholder takes back",
    UNPLACED: "the text is personal by what it tells, not by something that a placeholder can stand for",
    TOO_MANY: "the text names more than can be kept apart",
}
REASONS: Final = tuple(_WHY)


# The privacy scan as the request had it: a request and its language to its class; it never raises.
Detect = Callable[[Inbound, str], Detection]
Read = Callable[[Mapping[str, object]], tuple[tuple[Part, ...], tuple[str, ...]]]


class Pseudonymiser:
    """The transform of one process. `read` gives a body's texts and its unreadable parts, as receiving does."""

    __slots__ = ("_names", "_read")

    def __init__(self, names: Pseudonyms, *, read: Read) -> None:
        self._names = names
        self._read = read

    def mask(self, inbound: Inbound, signals: Signals, detect: Detect) -> Masked | str:
        """The body with placeholders and its class, or why there is none: one of `REASONS`."""
        if inbound.data >= DataClass.PERSONAL:
            return RAISED  # whoever said so may know more than the scan
        first = next((part.text for part in inbound.parts if part.role == "user"), "")
        names = self._names.of(inbound.caller.id, first)
        work = _Work(inbound, names)
        try:
            return self._masked(inbound, signals, detect, work)
        except TooMany:
            return TOO_MANY
        finally:
            self._names.keep(inbound.caller.id, first, names)

    def _masked(self, inbound: Inbound, signals: Signals, detect: Detect, work: _Work) -> Masked | str:
        parts: Sequence[Part] = inbound.parts
        findings: Sequence[Finding] = signals.findings
        for _ in range(_ROUNDS):
            surfaces = _surfaces(parts, findings)
            if surfaces is None or not work.add(surfaces):
                return STILL if work.values else UNPLACED
            body = work.replaced()
            if body is None:
                return UNPLACED
            texts, opaque = self._read(body)
            parts = tuple(Part(part.role, work.neutral(part.text)) for part in texts)
            detection = detect(_with(inbound, body, parts, opaque), signals.language)
            if any(one.label in _NOT_READ for one in detection.findings):
                return STILL
            if detection.data < DataClass.PERSONAL:
                return Masked(body, detection.data, work.values, work.counts)
            findings = detection.findings
        return STILL


def masked_request(
    made: Masked | str, inbound: Inbound, decision: Decision, models: Mapping[str, Model]
) -> tuple[Inbound, Decision]:
    """The request with what was made of it; or, where nothing was, without the models that may not have it as it is."""
    if isinstance(made, Masked):
        return dataclasses.replace(inbound, masked=made), decision
    left, skipped = [], list(decision.skipped)
    for name in decision.ladder:
        model = models[name]
        if model.zone <= decision.ceiling:
            left.append(name)
        else:
            skipped.append(Skipped(name, f"it is in zone {model.zone.label}, and {_WHY[made]}"))
    return inbound, dataclasses.replace(decision, ladder=tuple(left), skipped=tuple(skipped), masked=None)


def _with(inbound: Inbound, body: Mapping[str, object], parts: tuple[Part, ...], opaque: tuple[str, ...]) -> Inbound:
    return dataclasses.replace(inbound, body=body, parts=parts, opaque=opaque, data=DataClass.PUBLIC)


def _surfaces(parts: Sequence[Part], findings: Iterable[Finding]) -> dict[str, str] | None:
    """The texts that were found, as they stand there, with the type of what stands for each.

    Nothing when one of them is no value: a word that gave a person away is not who that person is.
    """
    found: dict[str, str] = {}
    for text, start, end, kind in _spans(parts, findings):
        for piece in _ESCAPES.split(text[start:end]):
            surface = piece.strip(_EDGES)
            if not any(map(str.isalnum, surface)):
                continue
            if len(surface) < 2 or not _is_value(surface, kind):
                return None
            found.setdefault(surface, kind)
    for surface in [surface for surface, kind in found.items() if kind == "PERSON"]:
        words = surface.split()
        for word in words if len(words) > 1 else ():
            if len(word) > 2 and word[0].isupper() and word.lower() not in _NO_NAMES:
                found.setdefault(word, "PERSON")  # a first name alone, later on
    return found


def _spans(parts: Sequence[Part], findings: Iterable[Finding]) -> Iterator[tuple[str, int, int, str]]:
    """Where values stand: findings that overlap are one, of the type of the surest; numbers are taken whole."""
    placed = [
        one for one in findings if one.data == DataClass.PERSONAL and one.end > one.start and one.part < len(parts)
    ]
    for number, group in itertools.groupby(sorted(placed, key=_place), key=lambda one: one.part):
        text, end, run = parts[number].text, -1, list[Finding]()
        for one in group:
            if run and one.start >= end:
                yield (text, *_whole(text, run[0].start, end), _type_of(run, text))
                run, end = [], -1
            run.append(one)
            end = max(end, one.end)
        if run:
            yield (text, *_whole(text, run[0].start, end), _type_of(run, text))


def _place(one: Finding) -> tuple[int, int, int]:
    return one.part, one.start, one.end


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """A span that begins or ends inside a number, widened to all of it: 1.450 is one amount."""
    while start > 1 and text[start].isdigit() and (text[start - 1].isdigit() or text[start - 2 : start] in _POINTS):
        start -= 1 if text[start - 1].isdigit() else 2
    while end < len(text) and text[end - 1].isdigit():
        if text[end].isdigit():
            end += 1
        elif text[end] in ".," and text[end + 1 : end + 2].isdigit():
            end += 2
        else:
            break
    return start, end


_POINTS: Final = frozenset(f"{digit}{point}" for digit in "0123456789" for point in ".,")


def _type_of(run: Sequence[Finding], text: str) -> str:
    surest = max(run, key=lambda one: (one.label in _BY_LABEL, one.score))
    return _type(surest, _UNICODE.sub("é", text[run[0].start : max(one.end for one in run)]))


def _is_value(surface: str, kind: str) -> bool:
    """Whether this can be what is meant, a name or a number, rather than a word about it."""
    surface = _UNICODE.sub("é", surface)
    if any(map(str.isdigit, surface)) or "@" in surface:
        return True
    words = [word for word in surface.split() if word.lower() not in _PARTICLES]
    return all(word[0].isupper() for word in words) if kind == "PERSON" else any(word[0].isupper() for word in words)


def _type(one: Finding, surface: str) -> str:
    if one.label in _BY_LABEL:
        return _BY_LABEL[one.label]
    if one.label == "model" and one.kind == "identity" and not any(map(str.isdigit, surface)):
        return "PERSON"
    return _BY_KIND.get(one.kind, "DETAIL")


class _Work:
    """One request while its values are being replaced."""

    def __init__(self, inbound: Inbound, names: Names) -> None:
        self._body = inbound.body
        self._names = names
        raw = orjson.dumps(inbound.body).decode()
        self._avoid = frozenset(like_placeholders(raw))
        self._surfaces: dict[str, str] = {}
        self._by_form: dict[str, str] = {}
        self._pattern = re.compile("(?!)")
        self._neutral = Restorer({})
        self.values: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def add(self, surfaces: Mapping[str, str]) -> bool:
        """Whether there is anything new to look for. Raises `TooMany`."""
        new = {surface: kind for surface, kind in surfaces.items() if surface not in self._surfaces}
        if any(next(like_placeholders(surface), None) or "[" in surface for surface in new):
            return False  # what is found now is what we put there
        self._surfaces |= new
        if len(self._surfaces) > _MOST_SURFACES:
            raise TooMany
        return bool(new)

    def replaced(self) -> dict[str, Any] | None:
        """The body with placeholders; nothing when two of its keys would become one, or a value could not come back."""
        self.values, self.counts = {}, Counter()
        self._by_form = {_form(surface): kind for surface, kind in self._surfaces.items()}
        longest = sorted(self._surfaces, key=len, reverse=True)
        spelled = "|".join(_spelled(surface, self._surfaces[surface]) for surface in longest)
        self._pattern = re.compile(rf"(?<![^\W_])(?:{spelled})(?![^\W_])", re.IGNORECASE)
        try:
            body = self._walk(self._body)
        except (KeyError, ValueError):
            return None
        said = {made: f"[{made.partition('_')[0]}_{self._names.ordinal(made)}]" for made in self.values}
        self._neutral = Restorer(said)
        return body if isinstance(body, dict) else None

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            made = {
                name if name in _FIELDS else self._text(name): item if name in _PROTOCOL else self._walk(item)
                for name, item in value.items()
            }
            if len(made) < len(value):
                raise KeyError
            return made
        return value

    def _text(self, text: str) -> str:
        return self._pattern.sub(self._placeholder, text)

    def _placeholder(self, match: re.Match[str]) -> str:
        written = match.group()
        kind = self._by_form.get(_form(written), "DETAIL")
        value = _meant(written)
        made = self._names.placeholder(kind, value, avoid=self._avoid)
        if made not in self.values:
            self.values[made] = value
            self.counts[kind] += 1
        return made

    def neutral(self, text: str) -> str:
        """A text as the second scan reads it."""
        return self._neutral.whole(text)


def _form(surface: str) -> str:
    return " ".join(surface.casefold().split())


def _spelled(surface: str, kind: str) -> str:
    """A pattern for a text however its words are spaced; a name of one word only as it is written: Rosa, Mar, Sol."""
    pattern = _SPACE.join(map(re.escape, surface.split()))
    alone = kind == "PERSON" and " " not in surface and not surface.islower()
    return f"(?-i:{pattern})" if alone else pattern


def _meant(written: str) -> str:
    """A text without the escapes of the JSON that it stood in. Raises `ValueError` when it cannot be put back so."""
    meant = str(json.loads(f'"{written}"')) if "\\" in written else written
    if "\\" in meant or _ESCAPES.search(meant):
        raise ValueError("it holds what JSON escapes")
    return meant
