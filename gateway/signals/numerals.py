"""classify, part of normalising: numbers said in words, as digits.

People dictate numbers in groups ("seis doce, treinta y cuatro, cero cinco ..."): each group is read as a number and the
groups are joined. Spanish, English, Catalan, Galician, Basque, Portuguese and French.
"""

# ruff: noqa: E501 - patterns and lists of words read better unbroken

from __future__ import annotations

import re

_MIN_DIGITS = 3

_UNITS: dict[str, int] = {}
_TENS: dict[str, int] = {}
_HUNDREDS: dict[str, int] = {}


def _learn(table: dict[str, int], words: str, first: int, step: int) -> None:
    for number, names in enumerate(words.split()):
        for name in names.split("/"):
            table[name] = first + number * step


_learn(_UNITS, "cero uno/un/una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis/dieciseis diecisiete dieciocho diecinueve veinte veintiuno/veintiuna veintidós/veintidos veintitrés/veintitres veinticuatro veinticinco veintiséis/veintiseis veintisiete veintiocho veintinueve", 0, 1)  # fmt: skip
_learn(_UNITS, "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 0, 1)  # fmt: skip
_learn(_UNITS, "zero u/ú/un/una dos/dues tres quatre cinc sis set vuit nou deu onze dotze tretze catorze quinze setze disset divuit dinou", 0, 1)  # fmt: skip
_learn(_UNITS, "cero un/unha dous/dúas tres catro cinco seis sete oito nove dez once doce trece catorce quince dezaseis dezasete dezaoito dezanove", 0, 1)  # fmt: skip
_learn(_UNITS, "zero bat bi hiru lau bost sei zazpi zortzi bederatzi hamar hamaika hamabi hamahiru hamalau hamabost hamasei hamazazpi hemezortzi hemeretzi", 0, 1)  # fmt: skip
_learn(_UNITS, "zero um/uma dois/duas três/tres quatro cinco seis sete oito nove dez onze doze treze catorze/quatorze quinze dezasseis/dezesseis dezassete/dezessete dezoito dezanove/dezenove", 0, 1)  # fmt: skip
_learn(
    _UNITS, "zéro un/une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize", 0, 1
)
_learn(_TENS, "veinte/twenty/vint/vinte/hogei/vingt treinta/thirty/trenta/trinta/trente cuarenta/forty/quaranta/corenta/quarenta/quarante/berrogei cincuenta/fifty/cinquanta/cinquenta/cinquante sesenta/sixty/seixanta/sesenta/sessenta/soixante/hirurogei setenta/seventy/setanta/septante ochenta/eighty/vuitanta/oitenta/laurogei noventa/ninety/noranta/nonante", 20, 10)  # fmt: skip
_learn(_HUNDREDS, "cien/ciento/cent/cem/cento/ehun doscientos/doscientas/duzentos/douscentos/berrehun trescientos/trescientas/trezentos/trescentos/hirurehun cuatrocientos/cuatrocientas/quatrocentos/catrocentos/laurehun quinientos/quinientas/quinhentos/cincocentos/bostehun seiscientos/seiscientas/seiscentos/seiehun setecientos/setecientas/setecentos/zazpiehun ochocientos/ochocientas/oitocentos/zortziehun novecientos/novecientas/novecentos/bederatziehun", 100, 100)  # fmt: skip
_JOINTS = frozenset({"y", "i", "e", "and", "et", "eta"})
_REPEATS = {"doble": 2, "double": 2, "triple": 3, "treble": 3}
_OH = "oh"
_LETTERS = {
    "be": "B", "ce": "C", "efe": "F", "ge": "G", "hache": "H", "jota": "J", "ka": "K", "ele": "L", "eme": "M", "ene": "N",
    "pe": "P", "cu": "Q", "erre": "R", "ese": "S", "te": "T", "uve": "V", "equis": "X", "zeta": "Z", "ceta": "Z", "zed": "Z",
    "de": "D",
}  # fmt: skip
_NUMBER_WORDS = frozenset({*_UNITS, *_TENS, *_HUNDREDS, *_REPEATS})
_LETTERS_BEFORE = re.compile(r"(?<![^\W_])(?:[A-Z][ ,.\-]{1,2}){1,4}$")
_WORD = re.compile(r"[^\W_]+")
_GAP = re.compile(r"[ ,.;\-/\n·]{1,3}")
_GATE = re.compile(
    r"[\s,.;:\-/(\"'¿¡>]((?:"
    + "|".join(sorted(_NUMBER_WORDS, key=len, reverse=True))
    + r")(?:[ ,.;\-/\n·]{1,3}[^\W_]+){2})"
)


def spoken_digits(text: str, lower: str) -> list[tuple[int, int, str]]:
    """Runs that say at least three digits: start, end, and the digits (with the letter of a DNI where one follows)."""
    found: list[tuple[int, int, str]] = []
    reached = 0
    for gate in _GATE.finditer(" " + lower):  # the sign before the word starts the pattern: quicker than looking behind
        start = gate.start(1) - 1
        if start < reached:
            continue
        end, digits = _read(text, lower, start)
        reached = max(reached, end)
        if sum(map(str.isdigit, digits)) < _MIN_DIGITS:
            continue
        left = _LETTERS_BEFORE.search(text, max(0, start - 16), start)
        letters = left.group() if left else ""
        found.append((start - len(letters), end, "".join(filter(str.isalpha, letters)).upper() + digits))
    return found


def _words(lower: str, start: int) -> list[tuple[int, int, str]]:
    """Words from `start` on, for as long as only small gaps stand between them and they could belong to a number."""
    words: list[tuple[int, int, str]] = []
    position = start
    while len(words) < 64:
        word = _WORD.match(lower, position)
        if word is None:
            break
        name = word.group()
        if not (
            name in _NUMBER_WORDS
            or name in _JOINTS
            or name == _OH
            or name.isdigit()
            or len(name) == 1
            or name in _LETTERS
        ):
            break
        words.append((word.start(), word.end(), name))
        gap = _GAP.match(lower, word.end())
        if gap is None:
            break
        position = gap.end()
    return words


def _read(text: str, lower: str, start: int) -> tuple[int, str]:
    words = _words(lower, start)
    digits, end, number, spoken = "", start, 0, 0
    while number < len(words):
        value, used = _group(words, number)
        name = words[number][2]
        if not used and spoken and len(name) == 1 and text[words[number][0]].isupper():
            value, used = name.upper(), 1
        if not used:
            break
        spoken += words[number][2] in _NUMBER_WORDS
        digits += value
        number += used
        end = words[number - 1][1]
    if spoken < 2 and len(digits) < 6:
        return end, ""
    if number < len(words) and len(digits) in {7, 8} and digits.isdigit():
        _, letter_end, name = words[number]
        letter = _LETTERS.get(name) or (name.upper() if len(name) == 1 and name.isalpha() else "")
        if letter:
            return letter_end, digits + letter
    return end, digits


def _group(words: list[tuple[int, int, str]], number: int) -> tuple[str, int]:
    """The digits of one spoken group and the words it took; ("", 0) where no group begins."""
    name = words[number][2]
    following = [word[2] for word in words[number + 1 : number + 5]]
    if name.isdigit():
        return name, 1
    if name == _OH:
        return "0", 1
    if name in _REPEATS:
        unit = _UNITS.get(following[0]) if following else None
        return (str(unit) * _REPEATS[name], 2) if unit is not None and unit < 10 else ("", 0)
    if name in _HUNDREDS:
        rest, used = _below_hundred(following)
        return (str(_HUNDREDS[name] + rest), 1 + used) if used else (str(_HUNDREDS[name]), 1)
    value, used = _below_hundred([name, *following])
    if used == 1 and value == 0:
        return "0", 1
    return (str(value), used) if used else ("", 0)


def _below_hundred(names: list[str]) -> tuple[int, int]:
    if not names:
        return 0, 0
    if names[0] in _TENS:
        ten = _TENS[names[0]]
        if len(names) > 2 and names[1] in _JOINTS and 0 < _UNITS.get(names[2], 0) < 10:
            return ten + _UNITS[names[2]], 3
        if (
            len(names) > 1
            and names[1] not in {"un", "u"}
            and 0 < _UNITS.get(names[1], 0) < 10
            and _english_or_french(names[0])
        ):
            return ten + _UNITS[names[1]], 2
        return ten, 1
    if names[0] in _UNITS:
        return _UNITS[names[0]], 1
    return 0, 0


def _english_or_french(ten: str) -> bool:
    """Languages that say "fifty two" without a joint."""
    return ten.endswith("ty") or ten in {"vingt", "trente", "quarante", "cinquante", "soixante", "septante", "nonante", "vint", "trenta", "quaranta", "cinquanta", "seixanta", "setanta", "vuitanta", "noranta"}  # fmt: skip
