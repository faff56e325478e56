"""How surely the scan finds each identifier by its form, as it is and in each disguise.

Numbers are drawn at random with right check digits (nobody's), put into short carrier texts, and disguised as people do
it. An identifier is found when a recogniser gives it a score that holds the text by itself, without the model.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stdnum import luhn
from stdnum.es import ccc as es_ccc

from gateway.signals.privacy import SURE, examine
from gateway.types import DataClass

_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_BANKS = ("0049", "2100", "0182", "0081", "2085", "1465", "0073", "2095", "3035")
Make = Callable[[random.Random], str]


def _digits(chance: random.Random, count: int) -> str:
    return "".join(chance.choice(string.digits) for _ in range(count))


def _dni(chance: random.Random) -> str:
    number = chance.randrange(1_000_000, 99_999_999)
    return f"{number:08d}{_LETTERS[number % 23]}"


def _nie(chance: random.Random) -> str:
    first, number = chance.randrange(3), chance.randrange(10_000_000)
    return f"{'XYZ'[first]}{number:07d}{_LETTERS[int(f'{first}{number:07d}') % 23]}"


def _nuss(chance: random.Random) -> str:
    body = f"{chance.randrange(1, 53):02d}{chance.randrange(10_000_000, 99_999_999):08d}"
    return body + f"{int(body) % 97:02d}"


def _ccc(chance: random.Random) -> str:
    bank, account = chance.choice(_BANKS) + _digits(chance, 4), _digits(chance, 10)
    return bank + es_ccc.calc_check_digits(f"{bank}00{account}") + account


def _iban_of(country: str, account: str) -> str:
    number = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    return f"{country}{98 - int(number) % 97:02d}{account}"


def _iban(chance: random.Random) -> str:
    return _iban_of("ES", _ccc(chance))


def _iban_abroad(chance: random.Random) -> str:
    country, length = chance.choice([("PT", 21), ("DE", 18), ("BE", 12), ("FR", 23), ("IT", 0), ("GB", 0)])
    if country == "IT":
        return _iban_of(country, "X" + _digits(chance, 22))
    return _iban_of(country, "BARC" + _digits(chance, 14) if country == "GB" else _digits(chance, length))


def _luhn(prefixes: tuple[str, ...], length: int) -> Make:
    def make(chance: random.Random) -> str:
        prefix = chance.choice(prefixes)
        body = prefix + _digits(chance, length - 1 - len(prefix))
        return body + luhn.calc_check_digit(body)

    return make


def _cups(chance: random.Random) -> str:
    number = _digits(chance, 16)
    check = int(number) % 529
    return f"ES{number}{_LETTERS[check // 23]}{_LETTERS[check % 23]}"


def _nif_pt(chance: random.Random) -> str:
    body = chance.choice("123") + _digits(chance, 7)
    check = 11 - sum((9 - i) * int(c) for i, c in enumerate(body)) % 11
    return body + str(0 if check >= 10 else check)


def _nir(chance: random.Random) -> str:
    born = f"{chance.choice('12')}{chance.randrange(40, 99)}{chance.randrange(1, 13):02d}{chance.randrange(1, 95):02d}"
    body = f"{born}{chance.randrange(1, 990):03d}{chance.randrange(1, 990):03d}"
    return body + f"{97 - int(body) % 97:02d}"


def _nhs(chance: random.Random) -> str:
    while True:
        body = "4" + _digits(chance, 8)
        check = (11 - sum((10 - i) * int(c) for i, c in enumerate(body)) % 11) % 11
        if check < 10:
            return f"{body}{check}"


@dataclass(frozen=True, slots=True)
class Identifier:
    """A kind with a check digit: how one is made and which texts carry it."""

    name: str
    make: Make
    carriers: tuple[str, ...]


_PLAIN = (
    "apunta {}",
    "{} es el mío",
    "Mi número: {}.",
    "please use {} for this",
    "Datos: {} (titular)",
    "o meu é {} se faz falta",
    "{}",
)
IDENTIFIERS = (
    Identifier("DNI", _dni, _PLAIN),
    Identifier("NIE", _nie, _PLAIN),
    Identifier("NUSS", _nuss, _PLAIN),
    Identifier("IBAN (es)", _iban, _PLAIN),
    Identifier("IBAN (abroad)", _iban_abroad, _PLAIN),
    Identifier("CCC", _ccc, _PLAIN),
    Identifier("card, 16 digits", _luhn(("4", "51", "54", "2223", "6011"), 16), _PLAIN),
    Identifier("card, 15 digits", _luhn(("34", "37"), 15), _PLAIN),
    Identifier("CUPS", _cups, _PLAIN),
    Identifier("IMEI", _luhn(("35", "86"), 15), _PLAIN),
    Identifier("ICCID", _luhn(("8934", "8944"), 19), _PLAIN),
    Identifier("NIR (fr)", _nir, _PLAIN),
    Identifier("NIF (pt)", _nif_pt, ("NIF {}", "o meu nif é {}", "contribuinte n.º {}")),
    Identifier("NHS (gb)", _nhs, ("NHS number {}", "my NHS no is {}", "nhs: {}")),
)


def _letters(chance: random.Random, count: int) -> str:
    return "".join(chance.choice("BCDFGHJKLMNPRSTVWXYZ") for _ in range(count))


def _born(chance: random.Random) -> str:
    return f"{chance.randrange(30, 99)}{chance.randrange(1, 13):02d}{chance.randrange(1, 29):02d}"


def _numbered(prefix: str, count: int) -> Make:
    return lambda chance: prefix + chance.choice("123456789") + _digits(chance, count - 1)


def _cip(chance: random.Random) -> str:
    return f"{_letters(chance, 4)}{chance.choice('01')}{_born(chance)}{_digits(chance, 3)}"


def _ssn(chance: random.Random) -> str:
    area = chance.choice([chance.randrange(1, 666), chance.randrange(667, 900)])
    return f"{area:03d}-{chance.randrange(1, 100):02d}-{chance.randrange(1, 10_000):04d}"


def _email(chance: random.Random) -> str:
    name = chance.choice(("ana.ruiz", "jmgarcia", "lucia_pons", "pmartin", "olga.vidal"))
    return f"{name}{chance.randrange(10, 99)}@{chance.choice(('gmail.com', 'outlook.es', 'correo.cat'))}"


# Without a check digit: their form tells, or the word beside them.
WORDED = (
    Identifier("passport", lambda c: f"{_letters(c, 3)}{_digits(c, 6)}", ("pasaporte {}", "my passport is {}")),
    Identifier(
        "plate", lambda c: f"{_digits(c, 4)}{_letters(c, 3)}", ("matrícula {}", "mi coche es el {}", "plate {}")
    ),
    Identifier("phone (es)", _numbered("6", 8), ("llámame al {}", "mi móvil: {}", "my phone is {}", "{}")),
    Identifier("phone (abroad)", lambda c: f"+4479{c.randrange(10, 99)}{_digits(c, 6)}", ("call me at {}", "tel. {}")),
    Identifier("e-mail", _email, ("escríbeme a {}", "my email: {}", "{}")),
    Identifier("CIP (ca)", _cip, ("CIP {}", "tarjeta sanitaria {}", "el meu CIP és {}")),
    Identifier("SIP", _numbered("", 8), ("SIP {}", "mi número SIP es {}", "tarjeta SIP: {}")),
    Identifier("CIPA", _numbered("", 10), ("CIPA {}", "mi CIPA es {}", "tarjeta sanitaria {}")),
    Identifier("CIP-SNS", lambda c: f"BBBBBBBB{_letters(c, 2)}{_digits(c, 6)}", ("CIP-SNS {}", "código {}", "{}")),
    Identifier("NHC", _numbered("", 7), ("NHC {}", "historia clínica n.º {}", "medical record {}")),
    Identifier("SSN (us)", _ssn, ("SSN {}", "my social security number is {}")),
)

# ---- disguises -------------------------------------------------------------------------------------------------------

_WORDS = {
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "en": "zero one two three four five six seven eight nine",
    "ca": "zero u dos tres quatre cinc sis set vuit nou",
    "gl": "cero un dous tres catro cinco seis sete oito nove",
    "eu": "zero bat bi hiru lau bost sei zazpi zortzi bederatzi",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
}
_LOOKALIKES = str.maketrans("aeopcxiABEKMHOPCTX", "аеорсхіАВЕКМНОРСТХ")
_ZERO_WIDTH = ("\u200b", "\u200c", "\u200d", "\ufeff", "\u2060", "\u00ad")


def _said(language: str) -> Callable[[str, random.Random], str]:
    names = _WORDS[language].split()
    return lambda value, _: " ".join(names[int(c)] if c.isdigit() else c for c in value)


def _shifted(zero: int) -> Callable[[str, random.Random], str]:
    return lambda value, _: "".join(chr(zero + int(c)) if c in string.digits else c for c in value)


def _grouped(value: str, chance: random.Random) -> str:
    sign = chance.choice(" -")
    return sign.join(value[i : i + 4] for i in range(0, len(value), 4))


EVASIONS: dict[str, Callable[[str, random.Random], str]] = {
    "plain": lambda value, _: value,
    "grouped": _grouped,
    "lower": lambda value, _: value.lower(),
    "spaced": lambda value, _: " ".join(value),
    "dotted": lambda value, chance: chance.choice(".-_/·").join(value),
    **{f"words ({language})": _said(language) for language in _WORDS},
    "full width": lambda value, _: "".join(chr(ord(c) + 0xFEE0) for c in value),
    "zero width": lambda value, chance: chance.choice(_ZERO_WIDTH).join(value),
    "look-alike letters": lambda value, _: value.translate(_LOOKALIKES),
    "emoji digits": lambda value, _: "".join(c + "\ufe0f\u20e3" if c.isdigit() else c for c in value),
    "letters for digits": lambda value, _: value.replace("0", "O").replace("1", "l"),
    "mathematical digits": _shifted(0x1D7CE),
    "Arabic digits": _shifted(0x660),
    "base64": lambda value, _: base64.b64encode(value.encode()).decode(),
    "percent": lambda value, chance: "".join(f"%{ord(c):02X}" if chance.random() < 0.5 else c for c in value),
    "HTML": lambda value, _: "".join(f"&#{ord(c)};" for c in value),
    "JSON": lambda value, _: "".join(f"\\u{ord(c):04x}" for c in value),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """How many of one kind in one disguise were found."""

    identifier: str
    evasion: str
    hits: int
    total: int
    missed: str = ""


def measure(kinds: Sequence[Identifier] = IDENTIFIERS, *, each: int = 200, seed: int = 7) -> Iterator[Cell]:
    """Every kind in every disguise, `each` times."""
    for identifier in kinds:
        for name, disguise in EVASIONS.items():
            chance = random.Random(f"{seed} {identifier.name} {name}")
            hits, missed = 0, ""
            for _ in range(each):
                text = chance.choice(identifier.carriers).format(disguise(identifier.make(chance), chance))
                if found(text):
                    hits += 1
                else:
                    missed = missed or text
            yield Cell(identifier.name, name, hits, each, missed)


def found(text: str) -> bool:
    """Whether an identifier holds this text by itself."""
    return any(one.data >= DataClass.PERSONAL and one.score >= SURE for one in examine(text).found)
