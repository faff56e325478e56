"""Checks of an answer's words: how it ended, whether it repeats itself, its language, its length, a refusal."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from typing import Final

from gateway.stages.verify.question import Question, wants_json
from gateway.stages.verify.refusals import refuses
from gateway.types import Answer, Check

_LETTERS_TO_JUDGE_LANGUAGE = 60
_END: Final = 3_000  # characters: of a longer answer its two ends are looked at
_WISH: Final = 400  # characters at the two ends of a question: where it says how long an answer it wants


def finish(answer: Answer, _question: Question, _check: Check) -> str:
    """Turns down what was filtered, what ended in an error, and what is empty."""
    if answer.finish_reason in {"content_filter", "error"}:
        return f"it ended with {answer.finish_reason}"
    if not answer.text.strip() and not answer.tool_calls:
        return "it is empty"
    return ""


# --- repetition -----------------------------------------------------------------------------------------------------

_WORD: Final = re.compile(r"\w+")
_LINE_MIN: Final = 12  # letters: shorter lines repeat in tables and code
_TIMES: Final = 4
_GRAM: Final = 4
_WORDS_MIN: Final = 40
_SHARE: Final = 0.4
_RUN: Final = 8  # times a word on end


def repeats(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down a text that runs in circles: a line four times, a word eight times on end, or mostly the same words.

    The share of words inside four-word runs that came before is the measure of Holtzman et al. 2020 (arXiv
    1904.09751) for degenerate text; 0.4 is far above what lists and legal prose reach.
    """
    if question.signals.task in {"code", "extract"} or wants_json(question):
        return ""
    text = _two_ends(answer.text, _END)
    lines = Counter(line for raw in text.splitlines() if len(line := raw.strip().lower()) >= _LINE_MIN)
    if lines and lines.most_common(1)[0][1] >= _TIMES:
        return f"it says a line {lines.most_common(1)[0][1]} times"
    words = _WORD.findall(text.lower())
    if any(word.isalpha() and sum(1 for _ in run) >= _RUN for word, run in groupby(words)):
        return "it says a word again and again"
    if len(words) < _WORDS_MIN:
        return ""
    grams = list(zip(*(words[start:] for start in range(_GRAM)), strict=False))
    again = 1 - len(set(grams)) / len(grams)
    return f"{again:.0%} of it was said before" if again > _SHARE else ""


def _two_ends(text: str, size: int) -> str:
    return text if len(text) <= 2 * size else f"{text[:size]}\n{text[-size:]}"


# --- language and refusal -------------------------------------------------------------------------------------------


def language(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down an answer in another language than the question's, where both can be told."""
    asked = question.signals.language
    if asked == "und" or question.signals.task in {"translate", "code"} or answer.tool_calls:
        return ""
    if sum(map(str.isalpha, answer.text[:2000])) < _LETTERS_TO_JUDGE_LANGUAGE:
        return ""
    given = question.language(answer.text)
    return f"asked in {asked}, answered in {given}" if given not in {asked, "und"} else ""


def refusal(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down "I cannot help with that" and "no lo sé", in the languages of `refusals.py`.

    Only where the answer is that: one that goes on to say something useful, or that was asked to be written (a
    refusal in a letter, its translation), stays.
    """
    if answer.tool_calls or question.signals.task in {"translate", "rewrite", "write", "code", "extract"}:
        return ""
    return "it refuses, or says that it does not know" if refuses(answer.text) else ""


# --- length ---------------------------------------------------------------------------------------------------------

_ONE_WORD: Final = re.compile(
    r"\b(?:(?:in|with) (?:a single|one|just one) word|one[- ]word answer|(?:en|con) una (?:sola )?palabra"
    r"|solo (?:una|la) palabra|amb una (?:sola )?paraula|cunha (?:soa )?palabra|em uma (?:só )?palavra"
    r"|en un seul mot)\b",
    re.IGNORECASE,
)
_MOST_WORDS: Final = re.compile(
    r"\b(?:(?:at most|no more than|under|below|fewer than|less than|maximum(?: of)?|max\.?|como máximo|máximo(?: de)?"
    r"|menos de|no más de|hasta|au plus|màxim)\s+(\d{1,4})\s+(?:words|palabras|paraules|palavras|mots))\b",
    re.IGNORECASE,
)
_ANSWER_WORDS_SHORT: Final = 12  # "Positive." or "The sentiment is positive, since ..." in a line
# Characters that an answer of this kind does not fall below, and does not exceed. Coarse on purpose: a bound that an
# ordinary answer meets would send half the traffic to the large model.
_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "write": (60, 0),
    "code": (8, 0),
    "reason": (30, 0),
    "recommend": (25, 0),
    "classify": (0, 1_500),
}
_SOURCE: Final = 200  # characters of a text to summarise or translate, from which on the answer is held against it
_TRANSLATION: Final = (0.3, 3.5)
_BRIEF: Final = 15  # characters of a question that no length follows from


def length(answer: Answer, question: Question, _check: Check) -> str:
    """Turns down an answer that is far too short or too long for what was asked, or longer than the question allows."""
    text, asked, task = answer.text.strip(), question.asked, question.signals.task
    if answer.tool_calls or wants_json(question) or not text:
        return ""
    too_long = _over_the_limit(text, _two_ends(asked, _WISH))
    return too_long or _beside_the_source(text, asked, task) or _unusual(text, asked, task)


def _over_the_limit(text: str, asked: str) -> str:
    words = len(text.split())
    if _ONE_WORD.search(asked) and words > _ANSWER_WORDS_SHORT:
        return f"one word was asked for and it has {words}"
    if (most := _MOST_WORDS.search(asked)) and words > 1.5 * int(most[1]) + 10:
        return f"at most {most[1]} words were asked for and it has {words}"
    return ""


def _beside_the_source(text: str, asked: str, task: str) -> str:
    if task == "summarize" and len(asked) > 2 * _SOURCE and len(text) > len(asked):
        return "the summary is longer than the text"
    if task == "translate" and len(asked) > _SOURCE:
        low, high = _TRANSLATION
        if not low <= len(text) / len(asked) <= high:
            return f"the translation has {len(text)} characters, the text {len(asked)}"
    return ""


def _unusual(text: str, asked: str, task: str) -> str:
    low, high = _BOUNDS.get(task, (0, 0))
    if len(text) < low and not (len(asked) < _BRIEF or _ONE_WORD.search(_two_ends(asked, _WISH))):
        return f"{len(text)} characters are short for {task}"
    return f"{len(text)} characters are long for {task}" if high and len(text) > high else ""
