"""Why a query has the gain that it has: worked out from the model, for `cauce explain`; never on the request path.

Left out, one at a time: each group of inputs is set to that of a plain query (the mean of `_PLAIN`), and each word is
taken out of the text. What the gain then loses is the group's, or the word's, part in it. The parts need not add up:
the model is no sum.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import numpy as np

from router_models.features import NAMES, SIZE
from router_models.router_runtime import DOMAINS, TASKS, Inputs, Scores

Language = Literal["es", "en"]
_MOST_WORDS: Final = 40
_WORTH_SAYING: Final = 0.01  # of gain
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
# Everyday queries, as short and as plain as they come: what a text is compared with.
_PLAIN: Final = (
    "¿A qué hora abre la tienda?", "¿Cómo cambio mi contraseña?", "Escribe un correo para pedir una cita.",
    "Resume este texto en dos frases.", "¿Qué tarifa me conviene?", "Traduce la frase al inglés.",
    "What time does the shop open?", "How do I change my password?", "Write an e-mail to ask for an appointment.",
    "Summarise this text in two sentences.", "Which plan suits me?", "Translate the sentence into Spanish.",
)  # fmt: skip
_GROUPS: Final = {
    "length": "chars tokens words_per_line lines sentences sentence_length ask_tokens",
    "numbers": "digit_share maths_share numbers largest_number decimals latex",
    "code": "code_share code_lines bracket_share",
    "form": "options option_length option_spread numeric_options roman blanks bullets questions question_last",
    "vocabulary": "rarity rarity_top spread unknown distinct function_share word_length norm single_word",
}
_GROUP_OF: Final = {name: group for group, names in _GROUPS.items() for name in names.split()}
_SAID: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "meaning": "what it is about",
        "length": "its length",
        "numbers": "its numbers and formulas",
        "code": "its code",
        "form": "its form (questions, options, lists)",
        "vocabulary": "how rare its words are",
        "wording": "the words that say what is asked",
        "whole": "The large model is expected to add {gain:+.2f} ({plain:+.2f} for a plain query) and the small one to "
        "succeed in {success:.0%}{because}; it is most like {task} ({sure:.0%}), about {domain}.",
        "because": ", mostly because of {parts}",
        "words": "the words {words}",
        "word": "the word {words}",
        "and": " and ",
    },
    "es": {
        "meaning": "aquello de lo que trata",
        "length": "su longitud",
        "numbers": "sus números y fórmulas",
        "code": "su código",
        "form": "su forma (preguntas, opciones, listas)",
        "vocabulary": "lo raras que son sus palabras",
        "wording": "las palabras que dicen lo que se pide",
        "whole": "Del modelo grande se espera que añada {gain:+.2f} ({plain:+.2f} en una consulta corriente) y del "
        "pequeño que acierte en el {success:.0%}{because}; a lo que más se parece es a {task} ({sure:.0%}), "
        "sobre {domain}.",
        "because": ", sobre todo por {parts}",
        "words": "las palabras {words}",
        "word": "la palabra {words}",
        "and": " y ",
    },
}


@dataclass(frozen=True, slots=True)
class Why:
    """The parts of a gain, the greatest first; and the tasks that the model knows, the nearest first."""

    gain: float
    plain: float  # the gain of a plain query
    slm_success: float
    groups: dict[str, float]
    words: dict[str, float]
    tasks: dict[str, float]
    domain: str


def why(text: str, *, inputs: Callable[[str], Inputs], score: Callable[[Inputs], Scores]) -> Why:
    """Why a text has its gain. `score` may be a calibrated one."""
    seen = inputs(text)
    said = score(seen)
    usual = np.mean([inputs(one).dense for one in _PLAIN], axis=0).astype(np.float32)
    plain = float(np.mean([score(inputs(one)).gain for one in _PLAIN]))
    groups = {}
    for group, columns in _columns(len(seen.dense)).items():
        dense = seen.dense.copy()
        dense[columns] = usual[columns]
        groups[group] = said.gain - score(Inputs(dense, seen.grams)).gain
    words = {}
    for match in islice(_WORD.finditer(text), _MOST_WORDS):
        if match.group().lower() not in words:
            without = text[: match.start()] + text[match.end() :]
            words[match.group().lower()] = said.gain - score(inputs(without)).gain
    tasks = sorted(zip(TASKS, said.tasks, strict=True), key=lambda pair: -pair[1])
    domain = DOMAINS[said.domains.index(max(said.domains))]
    return Why(said.gain, plain, said.slm_success, _sorted(groups), _sorted(words), dict(tasks[:3]), domain)


def sentence(told: Why, language: Language) -> str:
    """The explanation in one sentence: what moved the gain in the direction in which it lies from a plain query's."""
    said = _SAID[language]
    way = 1 if told.gain >= told.plain else -1
    groups = [f"{said[name]} ({part:+.2f})" for name, part in _moved(told.groups, way)]
    words = [f"«{word}» ({part:+.2f})" for word, part in _moved(told.words, way)]
    parts = groups + (
        [said["words" if len(words) > 1 else "word"].format(words=said["and"].join(words))] if words else []
    )
    because = said["because"].format(parts=_listed(parts, said["and"])) if parts else ""
    task, sure = next(iter(told.tasks.items()))
    whole = said["whole"].format(
        gain=told.gain,
        plain=told.plain,
        success=told.slm_success,
        because=because,
        task=task,
        sure=sure,
        domain=told.domain,
    )
    return whole if language == "en" else re.sub(r"(\d)\.(\d)", r"\1,\2", whole).replace("%", " %")


def _moved(parts: dict[str, float], way: int) -> list[tuple[str, float]]:
    """The two that moved most that way."""
    return [
        (name, part)
        for name, part in sorted(parts.items(), key=lambda item: -way * item[1])
        if way * part >= _WORTH_SAYING
    ][:2]


def _listed(parts: list[str], last: str) -> str:
    return last.join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def _sorted(parts: dict[str, float]) -> dict[str, float]:
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1])))


def _columns(width: int) -> dict[str, list[int]]:
    """Where each group stands among the inputs: two mean vectors, then the shape."""
    shape = width - SIZE
    found: dict[str, list[int]] = {"meaning": list(range(shape))}
    for number, name in enumerate(NAMES):
        found.setdefault(_GROUP_OF.get(name, "wording"), []).append(shape + number)
    return found
