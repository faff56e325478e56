"""classify: the privacy scan of a whole request: what class its text has, and the evidence, without the text.

    part > normalise > identifiers (and those under a local disguise) > model > one result a part > one for the request

A part's result is kept under a keyed hash of its role and text (bounded, least recently used goes first), so that in
a conversation only the new turn costs anything; identifiers cut in two by turns are looked for across neighbours.
No IO after `load`; one thread. It raises on bugs only, and its caller then takes the class that the policy names.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from gateway.errors import ConfigError
from gateway.signals import identifiers
from gateway.signals.identifiers import Found
from gateway.signals.identifiers.split import joined, joined_all, turns
from gateway.signals.normalise import Normal, lowered, normalise, rewrites
from gateway.signals.taxonomy import Kind, floor
from gateway.types import DataClass, Detection, Finding, Part
from router_models import manifest
from router_models.encoder import Encoder
from router_models.privacy_runtime import FILES, KINDS, LEVELS, SPANS, VERSION, PrivacyModel, Reading

OPERATING_POINTS: Final = ("balanced", "strict")
_CACHED_PARTS = 4096
_MOST_SECONDS = 5.0  # of one request; `limits.max_scan_chars` bounds a single part
_MOST_JOINED = 4  # user turns that an identifier is looked for across
_MOST_SAID = 400  # characters of a turn that is a piece of an identifier
_MAX_FINDINGS = 64
_MAX_SNIPPETS_READ = 8
_NAME: Final = re.compile(r"(?<![^\W_])[^\W_]++(?:[_-][^\W_]++){3,}+")  # never looks back: linear in any text
_JOINT: Final = re.compile(r"[_-]")
_LETTERS: Final = re.compile(r"[^\W\d_]{2,}")
_WORDS_OF_A_SENTENCE = 4
SURE = 0.9  # an identifier of this score holds a text by itself; the model decides about weaker ones

# What an identifier is to the model: a kind and how sure its form is.
_GROUPS: Final = {
    "IBAN": "bank",
    "CCC": "bank",
    "CARD": "bank",
    "PHONE": "phone",
    "EMAIL": "email",
    "IP": "ip",
    "MAC": "device",
    "IMEI": "device",
    "ICCID": "device",
    "PLATE": "plate",
    "HEALTH_ID": "health_id",
    "ID_NHS": "health_id",
    "CUPS": "place",
    "GPS": "place",
    "POSTCODE": "postcode",
    "DOB": "dob",
    "PASSWORD": "password",
    "CODE": "code",
    "REFERENCE": "reference",
    "ID_CIF": "company",
    "PASSPORT": "id",
}
_SECRETS: Final = frozenset({"TOKEN", "SECRET", "PRIVATE_KEY", "CONNECTION_STRING", "WEBHOOK", "AUTH_HEADER"})
GROUPS: Final = tuple(sorted({*_GROUPS.values(), "id", "secret"}))
TIERS: Final = ("certain", "likely", "soft", "weak")
ENTITIES: Final = tuple(f"{group}:{tier}" for group in GROUPS for tier in TIERS)

_SPAN_KINDS: Final = {
    "person": Kind.IDENTITY,
    "minor": Kind.MINORS,
    "address": Kind.LOCATION,
    "health": Kind.HEALTH,
    "special": Kind.SPECIAL_OTHER,
    "criminal": Kind.CRIMINAL,
    "money": Kind.FINANCIAL,
    "credential": Kind.CREDENTIAL,
    "contact": Kind.CONTACT,
    "dob": Kind.DOB,
    "number": Kind.IDENTITY,
}


def entity(found: Found) -> str:
    """The word that stands for an identifier in what the model reads."""
    group = _GROUPS.get(found.label) or ("secret" if found.label in _SECRETS else "id")
    tier = (
        TIERS[0]
        if found.score >= 0.97
        else TIERS[1]
        if found.score >= SURE
        else TIERS[2]
        if found.score > 0.3
        else TIERS[3]
    )
    return f"{group}:{tier}"


@dataclass(frozen=True, slots=True)
class Examined:
    """A text made plain, the identifiers in it (offsets of the plain text), and decoded pieces worth reading."""

    normal: Normal
    found: list[Found]
    decoded: list[str]

    @property
    def readings(self) -> list[tuple[str, list[tuple[int, int, str]]]]:
        """What the model should read: the text with its identifiers, and each decoded piece."""
        return [(self.normal.text, self.entities), *((piece, []) for piece in self.decoded)]

    @property
    def entities(self) -> list[tuple[int, int, str]]:
        """The identifiers as the model takes them."""
        return [(one.start, one.end, entity(one)) for one in self.found]


def examine(text: str) -> Examined:
    """Normalise, and find the identifiers, those under a local disguise and those split over turns too."""
    normal = normalise(text)
    lower = lowered(normal.text)
    found = identifiers.scan(normal.text, lower)
    decoded: list[str] = []
    hidden: list[Found] = []
    for snippet in rewrites(normal, lower):
        inside = identifiers.scan(snippet.text, lowered(snippet.text))
        hidden += [_moved(one, *snippet.local(one.start, one.end)) for one in inside]
        if snippet.decoded and len(decoded) < _MAX_SNIPPETS_READ:
            decoded.append(snippet.text)
    hidden += _split_in_text(normal.text)
    decoded += _said_in_names(normal.text)[: _MAX_SNIPPETS_READ - len(decoded)]
    return Examined(normal, identifiers.strongest([*found, *hidden]) if hidden else found, decoded)


def _said_in_names(text: str) -> list[str]:
    """Sentences written as names, as a function's: `tomo_la_sertralina_desde_ayer`, in words for the model."""
    if "_" not in text and "-" not in text:
        return []
    joined = (match.group() for match in _NAME.finditer(text))
    return [" ".join(_JOINT.split(name)) for name in joined if len(_LETTERS.findall(name)) >= _WORDS_OF_A_SENTENCE]


def _moved(one: Found, start: int, end: int) -> Found:
    return replace(one, start=start, end=end)


def _split_in_text(text: str) -> list[Found]:
    said = turns(text) if ":" in text and "\n" in text else []
    found: list[Found] = []
    for label, kind, score, number, left, right in joined([text[a:b] for a, b in said]) if len(said) > 1 else ():
        for base, (start, end) in ((said[number][0], left), (said[number + 1][0], right)):
            found.append(Found(label, kind, floor(kind), base + start, base + end, score))
    return found


# ---- the scan --------------------------------------------------------------------------------------------------------

# Forms that by themselves say whose they are: a check digit, a health-card word, an address of a person.
_UNMISTAKABLE: Final = frozenset(
    {
        "ID_DNI",
        "ID_NIE",
        "ID_NIF",
        "ID_NIR",
        "ID_NHS",
        "ID_NIF_PT",
        "ID_SSN",
        "NUSS",
        "IBAN",
        "CCC",
        "CARD",
        "CUPS",
        "IMEI",
        "ICCID",
        "EMAIL",
        "HEALTH_ID",
        "CONNECTION_STRING",
    }
)
_LEAST_STRONG, _LEAST_LIKELY = 0.97, 0.55
_INTERNAL_FORM, _INTERNAL_MODEL = 0.5, 0.98
_NEARLY = 0.92  # of two classes as likely as this to one another, the higher
_SPECIAL_BESIDE_IDENTIFIER = 0.5
_SPAN_AT, _KIND_AT = 0.5, 0.5
_PERSONAL, _SPECIAL = LEVELS.index("personal"), LEVELS.index("special")
_INTERNAL = LEVELS.index("internal")


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where the scan cuts, and what that gave on the public dev set: share found, share of harmless texts held."""

    name: str
    threshold: float
    recall: float
    false_alarms: float


@dataclass(frozen=True, slots=True)
class _PartResult:
    """What one part holds; findings count from its own start."""

    data: DataClass
    stay_score: float
    kinds: frozenset[str]
    findings: tuple[Finding, ...]


_NOTHING = _PartResult(DataClass.PUBLIC, 0.0, frozenset(), ())


class PrivacyScanner:
    """The scan of a process: model, operating point, and the results of parts seen before. One thread."""

    def __init__(
        self, model: PrivacyModel, point: OperatingPoint, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.point = point
        self._clock = clock
        self._model = model
        self._key = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, _PartResult] = OrderedDict()

    @classmethod
    def load(
        cls, artifacts: Path, *, operating_point: str = "balanced", encoder: Encoder | None = None
    ) -> PrivacyScanner:
        """Read the model; `encoder` is shared with the router model when given. Raises `ConfigError`."""
        manifest.verify(artifacts, FILES, version=VERSION)
        points = read_points(artifacts)
        if operating_point not in points:
            raise ConfigError(
                f"privacy: {operating_point!r} is not an operating point; take one of {', '.join(points)}"
            )
        return cls(PrivacyModel.load(artifacts, encoder or Encoder.load(artifacts)), points[operating_point])

    def at(self, point: OperatingPoint) -> PrivacyScanner:
        """The same model, cut at another operating point."""
        return PrivacyScanner(self._model, point)

    def scan(self, parts: Sequence[Part]) -> Detection:
        """The class of all parts together: the highest of any, and of what neighbouring user turns make together.

        Raises `TimeoutError` when the parts that are new have taken too long: whoever asks takes it for a failure.
        """
        end = self._clock() + _MOST_SECONDS
        results: list[tuple[int, _PartResult]] = []
        previous: tuple[int, bytes] | None = None
        said: list[tuple[int, bytes]] = []
        for number, part in enumerate(parts):
            if not part.text:
                continue
            if self._clock() > end:
                raise TimeoutError(f"the scan took more than {_MOST_SECONDS:g} s")
            digest = self._digest(part)
            results.append((number, self._part(part.text, digest)))
            if part.role == "user":
                if previous is not None:
                    results += self._across(parts, previous, (number, digest))
                previous = (number, digest)
                said = [*said[1 - _MOST_JOINED :], previous]
                for first in range(len(said) - 1):
                    results += self._along(parts, said[first:])
        return _together(results)

    def _digest(self, part: Part) -> bytes:
        text = part.text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=24, person=part.role.encode()[:16]).digest()

    def _part(self, text: str, digest: bytes) -> _PartResult:
        known = self._recall(digest)
        return known if known is not None else self._keep(digest, self._judge(text))

    def _recall(self, digest: bytes) -> _PartResult | None:
        known = self._seen.get(digest)
        if known is not None:
            self._seen.move_to_end(digest)
        return known

    def _keep(self, digest: bytes, result: _PartResult) -> _PartResult:
        self._seen[digest] = result
        if len(self._seen) > _CACHED_PARTS:
            self._seen.popitem(last=False)
        return result

    def _across(
        self, parts: Sequence[Part], first: tuple[int, bytes], second: tuple[int, bytes]
    ) -> list[tuple[int, _PartResult]]:
        """Identifiers that two neighbouring user turns make together."""
        digest = first[1] + second[1]
        known = self._recall(digest)
        if known is None:
            known = self._keep(digest, _joined_result(parts[first[0]].text, parts[second[0]].text))
        if known is _NOTHING:
            return []
        left = replace(known, findings=known.findings[::2])
        right = replace(known, findings=known.findings[1::2])
        return [(first[0], left), (second[0], right)]

    def _along(self, parts: Sequence[Part], said: Sequence[tuple[int, bytes]]) -> list[tuple[int, _PartResult]]:
        """An identifier that several user turns in a row make together, a piece each."""
        texts = [parts[number].text for number, _ in said]
        if not all(any(map(str.isdigit, text[:_MOST_SAID])) and len(text) <= _MOST_SAID for text in texts):
            return []
        made = joined_all(texts)
        if made is None:
            return []
        label, kind, sure, spans = made
        score = _LEAST_STRONG if sure >= _LEAST_STRONG else _LEAST_LIKELY + 0.3
        data = floor(kind)
        return [
            (
                number,
                _PartResult(
                    data, score, frozenset({kind.value}), (Finding(kind.value, label, data, 0, start, end, sure),)
                ),
            )
            for (number, _), (start, end) in zip(said, spans, strict=True)
        ]

    def _judge(self, text: str) -> _PartResult:
        seen = examine(text)
        first, *others = (self._model.read(plain, entities) for plain, entities in seen.readings)
        reading = max([first, *others], key=lambda one: one.stay)
        return self._weigh(seen, replace(reading, words=first.words, spans=first.spans))

    def _weigh(self, seen: Examined, reading: Reading) -> _PartResult:
        """Forms and model together."""
        score = max((_evidence(one, reading.stay) for one in seen.found), default=0.0)
        score = max(score, reading.stay)
        data = max((one.data for one in seen.found if one.score >= SURE), default=DataClass.PUBLIC)
        stays = score >= self.point.threshold
        if stays and (reading.stay >= self.point.threshold or reading.levels[_SPECIAL] >= _SPECIAL_BESIDE_IDENTIFIER):
            data = max(data, _level(reading))
        elif stays:
            data = max(data, DataClass.PERSONAL)
        if data < DataClass.PERSONAL and _is_internal(seen.found, reading):
            data = DataClass.INTERNAL
        findings = _findings(seen, reading, stays)
        kinds = {finding.kind for finding in findings if finding.data >= DataClass.PERSONAL}
        if stays:
            kinds |= {kind for kind, chance in zip(KINDS, reading.kinds, strict=True) if chance >= _KIND_AT}
        return _PartResult(data, score, frozenset(kinds), findings)


def read_points(artifacts: Path) -> dict[str, OperatingPoint]:
    """The operating points that training measured."""
    card = json.loads((artifacts / "privacy.json").read_text(encoding="utf-8"))
    return {
        name: OperatingPoint(name, one["threshold"], one["recall"], one["false_alarms"])
        for name, one in card["points"].items()
    }


def _evidence(one: Found, model: float) -> float:
    """What an identifier alone is worth as evidence that the text must stay; a soft one only what the model says."""
    if one.data < DataClass.PERSONAL or one.score < SURE:
        return 0.0
    if one.label in _UNMISTAKABLE:
        return _LEAST_STRONG + 0.02 * one.score + 0.01 * model
    return _LEAST_LIKELY + (_LEAST_STRONG - _LEAST_LIKELY) * model


def _level(reading: Reading) -> DataClass:
    """The model's class of a text that stays."""
    held = reading.levels[_PERSONAL:]
    return DataClass(max(_PERSONAL + place for place, chance in enumerate(held) if chance >= _NEARLY * max(held)))


def _is_internal(found: Sequence[Found], reading: Reading) -> bool:
    if any(one.data == DataClass.INTERNAL and one.score >= _INTERNAL_FORM for one in found):
        return True
    return reading.levels[_INTERNAL] >= _INTERNAL_MODEL


def _findings(seen: Examined, reading: Reading, stays: bool) -> tuple[Finding, ...]:
    found = []
    for one in seen.found:
        if one.score >= SURE or (one.score > 0.3 and (stays or one.data < DataClass.PERSONAL)):
            start, end = seen.normal.origin(one.start, one.end)
            found.append(Finding(one.kind.value, one.label, one.data, 0, start, end, one.score))
    if stays:
        found += _model_findings(seen, reading)
    return tuple(sorted(found, key=lambda finding: finding.start)[:_MAX_FINDINGS])


def _model_findings(seen: Examined, reading: Reading) -> list[Finding]:
    """Runs of words that the model gave one class."""
    findings: list[Finding] = []
    words, spans = reading.words, reading.spans
    marked = spans >= _SPAN_AT
    places = words.places() if marked.any() else []
    for column in np.flatnonzero(marked.any(axis=0)).tolist():
        kind = _SPAN_KINDS.get(SPANS[column])
        if kind is None:
            continue
        for first, last in _runs(np.flatnonzero(marked[:, column]).tolist()):
            if all(words.names[number][0] == "\x00" for number in range(first, last + 1)):
                continue
            start, end = seen.normal.origin(places[first][0], places[last][1])
            score = round(float(spans[first : last + 1, column].max()), 3)
            findings.append(Finding(kind.value, "model", floor(kind), 0, start, end, score))
    return findings


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Neighbours joined; one word between two is bridged ("Ana de Sousa", "C/ Mayor, 3")."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number - runs[-1][1] <= 2:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _joined_result(first: str, second: str) -> _PartResult:
    findings: list[Finding] = []
    score = 0.0
    for label, kind, sure, _, left, right in joined([normalise(first).text, normalise(second).text]):
        for start, end in (left, right):
            findings.append(Finding(kind.value, label, floor(kind), 0, start, end, sure))
        score = max(score, _LEAST_STRONG if sure >= _LEAST_STRONG else _LEAST_LIKELY + 0.3)
    if not findings:
        return _NOTHING
    data = max(finding.data for finding in findings)
    return _PartResult(data, score, frozenset(finding.kind for finding in findings), tuple(findings))


def _together(results: Sequence[tuple[int, _PartResult]]) -> Detection:
    if not results:
        return Detection(DataClass.PUBLIC, 0.0)
    findings = tuple(replace(finding, part=number) for number, result in results for finding in result.findings)
    return Detection(
        data=max(result.data for _, result in results),
        stay_score=max(result.stay_score for _, result in results),
        kinds=frozenset().union(*(result.kinds for _, result in results)),
        findings=findings[: 4 * _MAX_FINDINGS],
    )
