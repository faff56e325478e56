"""What the difficulty model sees of a query: its shape in numbers, beside the mean of its word vectors.

Counts are made by C code over bytes, regular expressions and token ids, never letter by letter in Python. Nothing here
depends on a capital letter or an accent, so that shouting or a phone's keyboard does not change a route. Word classes are
the same in every language they are written for: that is what keeps the scores of a question and its translation together.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from math import log1p, sqrt

import numpy as np
import numpy.typing as npt

from router_models.encoder import Encoder, Floats, Tokens

# Word classes, Spanish and English first. Only words that are one piece of the vocabulary count.
LEXICON: dict[str, str] = {
    "fact": "what which who whom whose when where que qué cual cuál cuales cuáles quien quién quienes cuando cuándo donde dónde "
    "quel quelle qui quand où was wer wann wo welche welcher qual quem quando onde chi dove quale",
    "why": "why how explain por qué cómo como porqué porque explica explícame explicar razona pourquoi comment explique warum wie "
    "erkläre perché spiega perquè",
    "amount": "many much total each per every average percent percentage cost costs sum remaining left twice half times cuanto cuánto "
    "cuanta cuánta cuantos cuántos cuantas cuántas cada media promedio porcentaje cuesta total suma quedan doble mitad veces "
    "combien chaque wie viele jeder quanto quantos quanti",
    "not": "not except never none neither nor no without least false incorrect unless excepto ni nunca ninguno ninguna sin menos "
    "falso falsa incorrecta incorrecto salvo tampoco nada jamais aucun sans nicht kein ohne",
    "write": "write draft compose poem story essay letter blog post article slogan email mail speech tweet create invent "
    "escribe redacta redáctame escríbeme redactar escribir poema cuento relato historia ensayo carta artículo eslogan correo "
    "discurso crea inventa haz hazme écris rédige schreibe verfasse scrivi escreva",
    "rewrite": "rewrite rephrase paraphrase formal tone proofread improve shorter grammar reescribe reformula corrige mejora "
    "tono ortografía acorta informal reescribir corregir ton reformule",
    "translate": "translate translation traduce tradúceme traducir traducción traduis übersetze traduza traduci english spanish "
    "french german italian portuguese inglés ingles español espanol francés frances alemán aleman italiano portugués catalán "
    "gallego euskera valenciano",
    "summarize": "summarize summarise summary tldr bullet bullets resume resúmeme resumen resumir resume síntesis sintetiza "
    "puntos résumé résume zusammenfassung riassumi",
    "classify": "classify classification label category categories sentiment positive negative neutral spam intent clasifica clasificar "
    "etiqueta categoría categorias categorías sentimiento positiva positivo negativa negativo neutra neutro intención urgente",
    "extract": "extract list fields json csv table names dates extrae extraer saca lista campos nombres fechas tabla importes "
    "devuelve identify identifica mentioned extrais",
    "reason": "prove proof derive show demonstrate argue analyze analyse evaluate compare contrast assess trade justify infer deduce "
    "implies therefore logic paradox hypothesis demuestra demostrar deduce deriva razona argumenta analiza analizar evalúa "
    "compara comparar justifica contrasta hipótesis lógica paradoja implica démontre analysiere beweise",
    "plan": "design plan strategy architecture roadmap optimize optimise optimal scale migrate migration budget scenario diseña "
    "diseñar planifica plan estrategia arquitectura optimiza optimizar óptimo óptima escalar migrar migración presupuesto "
    "escenario propon propón roadmap",
    "code": "function python java javascript sql regex code program script bug error api class method array string query "
    "loop compile algorithm async función código programa consulta clase método algoritmo bucle html css docker kubernetes git "
    "linux bash typescript rust react endpoint assert return def input output",
    "math": "equation integral derivative matrix theorem probability triangle function polynomial vector limit solve calculate compute "
    "find determine ecuación integral derivada matriz teorema probabilidad triángulo polinomio vector límite resuelve calcula "
    "halla determina modulo prime integer real roots angle radius velocity mass energy force velocidad masa energía fuerza",
    "limit": "must should exactly only least most words sentences paragraphs maximum minimum strictly avoid include ensure "
    "debe deben exactamente solo sólo máximo mínimo palabras frases párrafos evita incluye asegúrate líneas lines",
    "service": "my account card order bill invoice refund password cancel open hours delivery return shipping phone app store "
    "appointment mi cuenta tarjeta pedido factura devolución contraseña cancelar horario abrís envío devolver tienda cita "
    "reserva tarifa línea router móvil quiero puedo need want can activar saldo",
    "law": "law court contract plaintiff defendant statute liability jurisdiction ley tribunal contrato demandante demandado "
    "responsabilidad artículo jurisdicción cláusula sentencia recurso rgpd gdpr",
    "health": "patient disease symptoms treatment dose blood diagnosis paciente enfermedad síntomas tratamiento dosis sangre "
    "diagnóstico médico doctor cell cells gene protein",
    "recommend": "recommend suggest suggestion best ideas idea gift options advice recomienda recomiéndame sugiere sugiéreme mejor "
    "mejores ideas regalo opciones consejo consejos recommande empfiehl",
    "polite": "please thanks thank hi hello hey dear kindly por favor gracias hola buenas buenos días tardes saludos oye bonjour merci bitte",
    "hedge": "if suppose assume given although however whereas unless because then si suponga supón dado aunque embargo entonces "
    "mientras además",
    "person": "i you he she they we me him her yo tú él ella ellos nosotros usted me te se je il elle ich er sie",
}
_FUNCTION = "a an the of to in on for with and or is are de la el los las en para con y o es son un una del al le les des du et der die das und"

_DIGITS, _MATHS, _CODE, _STOPS, _QUOTES, _SPACES, _BRACKETS = range(7)
_GROUPS = ("0123456789", "=+*/^<>%~|\\$", "{}[]_;`#@&", ".,:!?¿¡", "\"'«»", " \t\n\r", "()")

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"^[ \t]*\(?[A-Ja-j][.)][ \t]*(.*)$", re.M)
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]", re.M)
_LATEX = re.compile(r"\\[A-Za-z]+|\$[^$\n]+\$")
_ROMAN = re.compile(r"\b(?:II|III|IV)\b\.?")
_CODE_LINE = re.compile(r"^[ \t]*(?:def |class |import |from \w+ import|for .*:$|if .*:$|return\b|assert |SELECT |function |const |let |var |public |#include|</?\w+>)", re.M)
_SENTENCE = re.compile(r"[.!?…]+(?=\s|$)")
_BLANK = re.compile(r"_{2,}|\[[A-Z_]+\]")

NUMBERS = (
    "chars", "tokens", "words_per_line", "lines", "word_length", "digit_share", "maths_share", "code_share", "stop_share",
    "quote_share", "bracket_share", "other_share", "numbers", "largest_number", "decimals", "options", "option_length",
    "option_spread", "numeric_options", "bullets", "latex", "roman", "code_lines", "sentences", "sentence_length", "blanks",
    "questions", "question_last", "ask_tokens", "rarity", "rarity_top", "spread", "unknown", "distinct", "function_share",
    "norm", "single_word",
)  # fmt: skip
NAMES = NUMBERS + tuple(f"has_{name}" for name in LEXICON) + tuple(f"first_{name}" for name in LEXICON)
SIZE = len(NAMES)
_FIRST = 6  # the words that say what is wanted, after a greeting

MAX_CHARS = 8_000


class Features:
    """Turns a text and its tokens into `SIZE` numbers. One object serves every request."""

    def __init__(self, encoder: Encoder) -> None:
        self._groups = _byte_groups()
        classes = _token_classes(encoder)
        self._classes, self._function = np.ascontiguousarray(classes[:, :-1]), np.ascontiguousarray(classes[:, -1])
        self._rarity = encoder.rarity()

    def __call__(self, text: str, tokens: Tokens) -> Floats:
        """The numbers of `text`, in the order of `NAMES`."""
        numbers = self._numbers(text, tokens.ids)
        return np.concatenate((np.array(numbers, np.float32), self._words(tokens.ids)))

    def _numbers(self, text: str, ids: npt.NDArray[np.int32]) -> list[float]:
        raw = np.frombuffer(text.encode("latin-1", "replace"), np.uint8)
        digits, maths, code, stops, quotes, spaces, brackets = (np.bincount(raw, minlength=256) @ self._groups).tolist()
        size, count = len(text), len(ids)
        lines = text.count("\n") + 1
        found = _NUMBER.findall(text) if digits else []
        options = _OPTION.findall(text) if lines > 1 else []
        lengths = [len(option) for option in options] or [0]
        sentences = len(_SENTENCE.findall(text)) + 1
        rarity, rarest, spread = _moments(self._rarity[ids]) if count else (0.0, 0.0, 0.0)
        visible, tokens = max(size - spaces, 1), max(count, 1)
        return [
            _log(size), _log(count), _log(count / lines), _log(lines), visible / tokens / 5,
            digits / visible, maths / visible, code / visible, stops / visible, quotes / visible, brackets / visible,
            (visible - digits - maths - code - stops - quotes - brackets) / visible,
            _log(len(found)), max(map(len, found), default=0) / 8, _log(sum("." in n or "," in n for n in found)),
            min(len(options), 10) / 10, _log(sum(lengths) / len(lengths)), _log(max(lengths) - min(lengths)),
            sum(option[:1].isdigit() or option[:1] in "$-−" for option in options) / max(len(options), 1),
            _log(len(_BULLET.findall(text))), _log(len(_LATEX.findall(text)) if maths else 0),
            _log(len(_ROMAN.findall(text)) if "I" in text else 0), _log(len(_CODE_LINE.findall(text))), _log(sentences),
            _log(count / sentences), float(("__" in text or "[" in text) and _BLANK.search(text) is not None),
            _log(text.count("?")), float("?" in text[-4:]),
            _log(count if not options else len(text[: text.find(options[0])].split())), rarity, rarest, spread,
            (count - int(np.count_nonzero(ids))) / tokens, len(set(ids.tolist())) / tokens,
            int(np.count_nonzero(self._function[ids])) / tokens, float(count == 0), float(count <= 2),
        ]  # fmt: skip

    def _words(self, ids: npt.NDArray[np.int32]) -> Floats:
        classes = self._classes[ids]
        anywhere = np.minimum(np.add.reduce(classes, 0, np.float32), 4) / 2
        first = np.minimum(np.add.reduce(classes[:_FIRST], 0, np.float32), 1)
        return np.concatenate((anywhere, first))


def _log(value: float) -> float:
    return log1p(value) / 4


def _moments(values: Floats) -> tuple[float, float, float]:
    """Mean, greatest and standard deviation: numpy's own methods cost a score as much as all the rest."""
    mean = float(np.add.reduce(values)) / len(values)
    return mean, float(np.maximum.reduce(values)), sqrt(max(float(values @ values) / len(values) - mean * mean, 0.0))


def _byte_groups() -> Floats:
    table = np.zeros((256, len(_GROUPS)), np.float32)
    for column, group in enumerate(_GROUPS):
        table[list(group.encode("latin-1")), column] = 1
    return table


def _token_classes(encoder: Encoder) -> npt.NDArray[np.uint8]:
    table = np.zeros((encoder.size, len(LEXICON) + 1), np.uint8)
    for column, words in enumerate((*LEXICON.values(), _FUNCTION)):
        for word in words.split():
            for form in {word, without_accents(word)}:
                ids = encoder.encode(form).ids
                if len(ids) == 1:
                    table[ids[0], column] = 1
    table[0] = 0
    return table


def without_accents(text: str) -> str:
    """`pásame el menú` as `pasame el menu`; ñ stays."""
    if text.isascii():
        return text
    letters: Sequence[str] = [c if c in "ñÑ" else unicodedata.normalize("NFD", c)[0] for c in text]
    return "".join(letters)
