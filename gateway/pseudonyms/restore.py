"""The way back: the values where their placeholders stand in an answer, whole or in pieces cut anywhere.

A placeholder is found in any case, with its underscore escaped (`PERSON\\_TQVX`, as markdown has it), turned into a
space or a hyphen, or lost. Only what stood for something in this very request is put back. No value holds a character
that JSON escapes (`stages/pseudonymise.py` sees to it), so a value is right in a tool's arguments at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.pseudonyms.names import CODE_LENGTH, CODE_LETTERS, codes, key_of

_BETWEEN: Final = r"\\{0,8}[_\- ]?"
_LONGEST: Final = 32  # a type, eight backslashes, a separator and a code


class Restorer:
    """The values of one request by their placeholders."""

    __slots__ = ("_tail", "_values", "_whole")

    def __init__(self, values: Mapping[str, str]) -> None:
        kinds = sorted({placeholder.rpartition("_")[0] for placeholder in values}, key=len, reverse=True)
        self._values = {key_of(placeholder): value for placeholder, value in values.items()}
        if not kinds:
            self._whole = self._tail = re.compile("(?!)")
            return
        self._whole = re.compile(f"(?:{'|'.join(kinds)}){_BETWEEN}(?:{'|'.join(codes(values))})", re.IGNORECASE)
        begun = sorted({kind[:length] for kind in kinds for length in range(1, len(kind))}, key=len, reverse=True)
        code = rf"[{CODE_LETTERS}]{{0,{CODE_LENGTH - 1}}}"
        begins = [*(f"{kind}{_BETWEEN}{code}" for kind in kinds), *begun]
        self._tail = re.compile(rf"(?:{'|'.join(begins)})\Z", re.IGNORECASE)

    def whole(self, text: str) -> str:
        """A text with its values."""
        return self._whole.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        return self._values.get(key_of(match.group()), match.group())

    def split(self, text: str) -> tuple[str, str]:
        """What is settled of a text, with its values; and its end, where that may be a placeholder's beginning."""
        settled = max((match.end() for match in self._whole.finditer(text)), default=0)
        tail = self._tail.search(text, max(settled, len(text) - _LONGEST))
        cut = len(text) if tail is None else tail.start()
        return self.whole(text[:cut]), text[cut:]


class Pieces:
    """A text that comes in pieces: what is fed and flushed joins to what `whole` makes of all of it."""

    __slots__ = ("_held", "_restorer")

    def __init__(self, restorer: Restorer) -> None:
        self._restorer = restorer
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be sent of it now."""
        settled, self._held = self._restorer.split(self._held + piece)
        return settled

    def flush(self) -> str:
        """What was held back: the text is at its end."""
        held, self._held = self._held, ""
        return held
