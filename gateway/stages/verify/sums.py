"""Whether the sums that an answer writes down are right: `48 / 2 = 24`, `3 x 12 = 36 euros`.

A small model that reasons step by step often goes wrong in a step of arithmetic (Cobbe et al. 2021, arXiv 2110.14168,
gave theirs a calculator for it). A sum that is wrong says that the answer is; sums that are right say nothing.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from gateway.stages.verify.question import Question
from gateway.types import Answer, Check

_READ: Final = 8_000
_NUMBER: Final = r"[-−]?[$€£]?\d[\d.,]*%?"
_SUM: Final = re.compile(
    rf"(?<![\w.,+*/×x÷^(=<>-])({_NUMBER}(?:\s*[-+*/×x÷−·]\s*{_NUMBER}){{1,6}})\s*=\s*({_NUMBER})(?![\w.,]*\s*[-+*/×÷^(%])"
)
_STEP: Final = re.compile(r"(?<=[\d%])\s*([-+*/×x÷−·])\s*")
_TIMES: Final = frozenset("*×x·")
_SLACK: Final = Decimal("0.006")  # of the result: what rounding to two decimals, or to the next whole, may take away


def arithmetic(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down an answer in which a sum, difference, product or quotient is wrong, beyond rounding."""
    if question.signals.task == "code" or answer.tool_calls:
        return ""
    wrong = sum(not holds(left, right) for left, right in _SUM.findall(answer.text[:_READ]))
    return f"{wrong} of its sums {'is' if wrong == 1 else 'are'} wrong" if wrong else ""


def holds(left: str, right: str) -> bool:
    """Whether `2 + 3 * 4` is `14`; true where either cannot be read."""
    pieces = _STEP.split(left.strip())
    numbers = [_number(piece) for piece in pieces[::2]]
    result = _number(right)
    if result is None or None in numbers or "%" in left + right:
        return True
    value = _value([number for number in numbers if number is not None], pieces[1::2])
    if value is None:
        return True
    decimals = len(right.partition(".")[2].rstrip("%"))
    rounding = Decimal(10) ** -decimals  # 10 / 3 = 3.33 and 10 / 4 = 3 are roundings of the writer
    inexact = any(sign in "/÷" for sign in pieces[1::2]) or any("." in piece for piece in pieces[::2])
    return abs(value - result) <= (max(rounding, abs(value) * _SLACK) if inexact else Decimal(0))


def _value(numbers: list[Decimal], signs: list[str]) -> Decimal | None:
    """Products and quotients first, each from left to right."""
    terms = [numbers[0]]
    for sign, number in zip(signs, numbers[1:], strict=True):
        if sign in _TIMES:
            terms[-1] *= number
        elif sign in "/÷":
            if not number:
                return None
            terms[-1] /= number
        else:
            terms.append(number if sign == "+" else -number)
    return sum(terms, Decimal(0))


_GROUPED: Final = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d{1,3}(?:\.\d{3})+(?:,\d+)?")


def _number(text: str) -> Decimal | None:
    """A number as people write it. `1.234` and `1,234` can be read both ways: they say nothing."""
    plain = re.sub(r"[$€£%\s]", "", text).replace("−", "-").rstrip(".,")
    if _GROUPED.fullmatch(plain):
        marks = {mark for mark in plain if mark in ".,"}
        if len(marks) == 1 and plain.count(next(iter(marks))) == 1:
            return None
        point = max(marks, key=plain.rfind) if len(marks) == 2 else ""
        plain = "".join(c if c.isdigit() or c == "-" else "." if c == point else "" for c in plain)
    elif plain.count(",") == 1 and "." not in plain:
        plain = plain.replace(",", ".")
    try:
        return Decimal(plain)
    except InvalidOperation:
        return None
