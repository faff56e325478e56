"""classify, first step of the privacy scan: the text as a reader sees it, with a way back to the text as it was sent.

`normalise` undoes what hides text in place: percent, HTML and JSON escapes, look-alike and full-width letters, digits
of any script, zero-width characters. `rewrites` finds local disguises (spaced, dotted, spelled-out digits, `arroba`,
letters for digits, base64) and gives a short snippet around each, so that its cost follows what is disguised and not
the length of the text. Plain text takes no more than a few searches for the characters that could start one of these.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from gateway.signals.numerals import spoken_digits

_CONTEXT = 60  # characters kept on each side of a rewritten run: enough for the words that say what a number is
_MAX_DECODED = 65_536  # characters that base64 may add to one scan
_MAX_TOKEN = 8_192


@dataclass(frozen=True, slots=True)
class Edit:
    """`text` stands for the original's `start:end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Normal:
    """A text and the way back. Without segments, offsets are the original's."""

    text: str
    starts: Sequence[int] = ()  # where each segment begins in `text`
    origins: Sequence[
        tuple[int, int, bool]
    ] = ()  # original start and end, and whether the segment was copied as it was
    base: Normal | None = field(default=None, repr=False)
    decoded: bool = False  # a snippet whose text was not there to read before

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The original's span for a span of `text`."""
        start, end = self.local(start, end)
        return self.base.origin(start, end) if self.base else (start, end)

    def local(self, start: int, end: int) -> tuple[int, int]:
        """The span in the text that this one was made from, one step back."""
        if not self.starts:
            return start, end
        return self._back(start, at_end=False), self._back(max(start, end - 1), at_end=True)

    def _back(self, offset: int, *, at_end: bool) -> int:
        number = max(0, bisect_right(self.starts, offset) - 1)
        first, last, copied = self.origins[number]
        if not copied:
            return last if at_end else first
        return min(last, first + offset - self.starts[number] + at_end)


def apply(
    text: str, edits: Iterable[Edit], *, base: Normal | None = None, window: tuple[int, int] | None = None
) -> Normal:
    """`text`, or the window of it, with the edits (in order, not overlapping) made."""
    low, high = window or (0, len(text))
    pieces: list[str] = []
    starts: list[int] = []
    origins: list[tuple[int, int, bool]] = []
    length, position = 0, low

    def add(piece: str, first: int, last: int, copied: bool) -> None:
        nonlocal length
        if piece:
            pieces.append(piece)
            starts.append(length)
            origins.append((first, last, copied))
            length += len(piece)

    for edit in edits:
        add(text[position : edit.start], position, edit.start, True)
        add(edit.text, edit.start, edit.end, False)
        position = edit.end
    add(text[position:high], position, high, True)
    return Normal("".join(pieces), starts, origins, base)


# ---- escapes ---------------------------------------------------------------------------------------------------------

_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,23});")
_ESCAPE = re.compile(r'(?:\\u[0-9A-Fa-f]{4})+|\\[nrt"/]')
_SIMPLE_ESCAPES = {"\\n": "\n", "\\r": "\n", "\\t": "\t", '\\"': '"', "\\/": "/"}


def _percent(token: str) -> str | None:
    try:
        return unquote_to_bytes(token).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _entity(token: str) -> str | None:
    plain = html.unescape(token)
    return plain if plain != token else None


def _escape(token: str) -> str | None:
    if token in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[token]
    units = b"".join(int(code, 16).to_bytes(2, "big") for code in token.split("\\u")[1:])
    try:
        return units.decode("utf-16-be")
    except UnicodeDecodeError:
        return None


_ESCAPES: tuple[tuple[str, re.Pattern[str], Callable[[str], str | None]], ...] = (
    ("\\", _ESCAPE, _escape),
    ("%", _PERCENT, _percent),
    ("&", _ENTITY, _entity),
)


def _unescape(normal: Normal) -> Normal:
    """One layer of each escape, where its first character is there at all."""
    for sign, pattern, decode in _ESCAPES:
        if sign not in normal.text:
            continue
        edits = [
            Edit(match.start(), match.end(), plain)
            for match in pattern.finditer(normal.text)
            if (plain := decode(match.group())) is not None
        ]
        if edits:
            normal = apply(normal.text, edits, base=normal if normal.starts else None)
    return normal


# ---- characters ------------------------------------------------------------------------------------------------------

# Everything but ASCII, accented Latin letters and the punctuation of ordinary prose.
_ODD = re.compile("[^\x00-\x7f\u00a1-\u00ac\u00ae-\u024f\u2014\u2018-\u201d\u2022\u2026\u20ac]+")
_HOMOGLYPHS = {
    **dict(zip("аеорсхіуѕјһԁԛԝкмтвн", "aeopcxiysjhdqwkmtbh", strict=True)),
    **dict(zip("АВЕКМНОРСТУХІЅЈԌ", "ABEKMHOPCTYXISJG", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    **dict(zip("οανικρτυχ", "oavikptux", strict=True)),
    "ı": "i",
    "ɑ": "a",
    "ɡ": "g",
}
_LATIN = re.compile(r"[A-Za-z]")
_LOOKALIKE = re.compile("[" + "".join(_HOMOGLYPHS) + "]")
_OTHER_SCRIPT = re.compile("[\u0370-\u03ff\u0400-\u052f]")


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """One odd character as plain text; nothing for what has no width."""
    category = unicodedata.category(character)
    if category in {"Cf", "Me"} or "\ufe00" <= character <= "\ufe0f":
        return ""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    if category == "Pd" or character == "\u2212":
        return "-"
    return unicodedata.normalize("NFKC", character)


def _fold(normal: Normal) -> Normal:
    text = normal.text
    if text.isascii() or not _ODD.search(text):
        return normal
    lookalikes = _OTHER_SCRIPT.search(text) is not None and _mostly_latin(text)
    edits: list[Edit] = []
    for match in _ODD.finditer(text):
        run, start = match.group(), match.start()
        previous = text[start - 1] if start else ""
        if previous and unicodedata.category(run[0]) == "Mn":
            mark = 0
            while mark < len(run) and unicodedata.category(run[mark]) == "Mn":
                mark += 1
            composed = unicodedata.normalize("NFC", previous + run[:mark])
            edits.append(Edit(start - 1, start + mark, composed if len(composed) == 1 else previous))
            run, start = run[mark:], start + mark
        for offset, character in enumerate(run):
            plain = _HOMOGLYPHS.get(character) if lookalikes else None
            plain = _plain(character) if plain is None else plain
            if plain != character:
                edits.append(Edit(start + offset, start + offset + 1, plain))
    return apply(text, edits, base=normal if normal.starts else None) if edits else normal


def _mostly_latin(text: str) -> bool:
    """Whether look-alikes are strangers here: a Russian or Greek text keeps its letters."""
    sample = text[:20_000]
    latin, other = len(_LATIN.findall(sample)), len(_OTHER_SCRIPT.findall(sample))
    if latin >= other:
        return True
    # A run of look-alikes alone, such as an upper-case number written in Cyrillic letters.
    return len(_LOOKALIKE.findall(sample)) == other


def normalise(text: str) -> Normal:
    """The text as a reader sees it. Two rounds: an escape inside an escape is the deepest that is undone."""
    first = _fold(_unescape(Normal(text)))
    if first.text is text or not any(sign in first.text for sign in "\\%&"):
        return first
    second = _unescape(first)
    return first if second is first else _fold(second)


# ---- local disguises -------------------------------------------------------------------------------------------------

_SPACED = re.compile(r"[0-9](?:[ ._\-/·|*,]{1,3}[0-9A-Za-z](?![0-9A-Za-z])){4,64}")
_SPACED_LEFT = re.compile(r"(?<![0-9A-Za-z])(?:[A-Za-z][ ._\-/·|*,]{1,3}){1,4}$")
_TRAILING_WORD = re.compile(r"[ ,]{1,3}[aeiouy]$")  # a conjunction or preposition after the number, not a part of it
_SEPARATORS = re.compile(r"[ ._\-/·|*,]+")
_LEET = re.compile(r"[0-9][OolI|]|[OolI|][0-9]")
_LEET_RUN = re.compile(r"(?<![A-Za-z])((?:[Ee][Ss])?[XYZxyz]?)([0-9OolI|][0-9OolI| .\-]{2,40})")
_LEET_TOKEN = re.compile(r"[A-Za-z0-9|]{12,40}")
_LEET_DIGITS = re.compile(r"[0-9OolI|]*[0-9][0-9OolI|]*")
_TO_DIGITS = str.maketrans({"O": "0", "o": "0", "l": "1", "I": "1", "|": "1"})
_AT = re.compile(
    r"[\[({<]\s?(?:at|arroba|arrova|arobase|@)\s?[\])}>]|\s(?:arroba|arrova|arobase)\s|\sat\s(?=[A-Za-z0-9\-]{2,30}(?:\.|\s*[\[(]|\s+(?:dot|punto|punt|ponto|point|puntu)\s))",
    re.IGNORECASE,
)
_DOT = re.compile(
    r"\s{0,3}[\[({]\s?(?:\.|dot|punto|punt|ponto|point)\s?[\])}]\s{0,3}|\s{1,3}(?:dot|punto|punt|ponto|point|puntu)\s{1,3}",
    re.IGNORECASE,
)
_AT_GATES = ("arro", "(at", "[at", "{at", "<at", " at ", "arobase", "( at", "[ at")
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_\-])(?:[A-Za-z0-9+/_\-]{12,8192}={0,2}|[A-Za-z0-9+/_\-]{10,11}={1,2})(?![A-Za-z0-9+/_=])"
)
_LEAST_DIGITS = 5  # of what a token in capitals decodes to: else it is a word or a code as it stands
_PRINTABLE = re.compile(r"[\w\s@.,;:+\-/'\"(){}\[\]<>=&%#!?¿¡*$€|\\~^`ºª«»]+")


def _spaced(text: str) -> list[Edit]:
    edits = []
    for match in _SPACED.finditer(text):
        start = match.start()
        if start and text[start - 1].isalnum():
            continue
        left = _SPACED_LEFT.search(text, max(0, start - 16), start)
        start = _after_word(left.group(), left.start()) if left else start
        word = _TRAILING_WORD.search(text, match.end() - 3, match.end())
        end = word.start() if word else match.end()
        edits.append(Edit(start, end, _SEPARATORS.sub("", text[start:end])))
    return edits


def _after_word(letters: str, start: int) -> int:
    """Where the number begins: in "a E S 9 1", the first letter is a word."""
    if letters[0] in "aeouyn" and letters[1] == " " and letters[2:].strip():
        return start + len(letters) - len(letters[1:].lstrip(" "))
    return start


def _leet(text: str) -> list[Edit]:
    edits: list[Edit] = []
    reached = 0
    for hit in _LEET.finditer(text):
        if hit.start() < reached:
            continue
        token = _LEET_TOKEN.search(text, max(reached, hit.start() - 30), min(len(text), hit.end() + 40))
        if token and token.start() <= hit.start() < token.end() and any(map(str.isupper, token.group())):
            edits.append(Edit(token.start(), token.end(), _LEET_DIGITS.sub(_as_digits, token.group())))
            reached = token.end()
            continue
        low = max(reached, hit.start() - 30)
        for match in _LEET_RUN.finditer(text, low, min(len(text), hit.end() + 40)):
            run = match.group(2)
            if match.start() > hit.start() or match.end() <= hit.start() or sum(map(str.isdigit, run)) < 2:
                continue
            edits.append(Edit(match.start(2), match.end(2), run.translate(_TO_DIGITS)))
            reached = match.end(2)
            break
    return edits


def _as_digits(match: re.Match[str]) -> str:
    return match.group().translate(_TO_DIGITS)


def _at_signs(text: str, lower: str) -> list[Edit]:
    if not any(gate in lower for gate in _AT_GATES):
        return []
    edits: list[Edit] = []
    reached = 0
    for match in _AT.finditer(text):
        low, high = max(reached, match.start() - 50), min(len(text), match.end() + 60)
        start = len(text[low : match.start()].rstrip()) + low
        end = high - len(text[match.end() : high].lstrip())
        around = [*_DOT.finditer(text, low, start), *_DOT.finditer(text, end, high)]
        dots = [Edit(dot.start(), dot.end(), ".") for dot in around]
        edits += sorted([*dots, Edit(start, end, "@")], key=lambda edit: edit.start)
        reached = edits[-1].end
    return _in_order(edits)


def _base64(text: str) -> list[Edit]:
    edits: list[Edit] = []
    budget = _MAX_DECODED
    for match in _BASE64.finditer(text):
        token = match.group()
        if token.islower() or token.istitle() or token.isdigit() or token.startswith("eyJ"):
            continue
        plain = _from_base64(token)
        if plain is None or (token.isupper() and sum(map(str.isdigit, plain)) < _LEAST_DIGITS):
            continue
        budget -= len(plain)
        if budget < 0:
            break
        edits.append(Edit(match.start(), match.end(), plain))
    return edits


def _from_base64(token: str) -> str | None:
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1 or len(body) > _MAX_TOKEN:
        return None
    try:
        plain = base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return plain if _PRINTABLE.fullmatch(plain) else None


def _in_order(edits: list[Edit]) -> list[Edit]:
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda item: (item.start, -item.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def rewrites(normal: Normal, lower: str) -> list[Normal]:
    """A snippet around each local disguise of the text, undone. `lower` is the text in lower case, as long."""
    text = normal.text
    snippets: list[Normal] = []
    for edits in (_spaced(text), spoken_edits(text, lower), _leet(text), _at_signs(text, lower)):
        snippets += _windows(normal, edits)
    return snippets + [replace(snippet, decoded=True) for snippet in _windows(normal, _base64(text))]


def spoken_edits(text: str, lower: str) -> list[Edit]:
    """Runs of number words as digits."""
    return [Edit(start, end, digits) for start, end, digits in spoken_digits(text, lower)]


def _windows(normal: Normal, edits: list[Edit]) -> list[Normal]:
    snippets: list[Normal] = []
    base = normal if normal.starts else None
    group: list[Edit] = []
    for edit in edits:
        if group and edit.start - group[-1].end > _CONTEXT:
            snippets.append(_snippet(normal.text, group, base))
            group = []
        group.append(edit)
    if group:
        snippets.append(_snippet(normal.text, group, base))
    return snippets


def _snippet(text: str, edits: list[Edit], base: Normal | None) -> Normal:
    window = (max(0, edits[0].start - _CONTEXT), min(len(text), edits[-1].end + _CONTEXT))
    return apply(text, edits, base=base, window=window)


def lowered(text: str) -> str:
    """Lower case of the same length: the few letters whose lower case is longer stay as they are."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
