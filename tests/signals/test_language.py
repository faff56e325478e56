"""Which language a text is in: short everyday messages, languages we do not read, and texts that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.signals.language import LANGUAGES, UNCODED, UNDETERMINED, detect
from gateway.stages.classify import READ_LANGUAGES
from router_models import language_runtime, manifest
from router_models.train.files import save_npz
from router_models.train.language import automaton

OURS = {
    "es": (
        "¿por que fracasó la Armada Invencible?",
        "a q hora es el check in",
        "capital de Australia",
        "borrar una rama local en git",
        "hola buenas, como activo el roaming?",
        "no me llega el sms",
        "cuanto cuesta el envio",
        "Resume este contrato en cinco líneas, por favor.",
    ),
    "en": (
        "where is my order",
        "capital of France",
        "delete a local git branch",
        "sort a list in python",
        "my wifi is slow, what can I do?",
        "Please summarise this contract in five lines.",
    ),
    "ca": ("Bon dia, a quina hora obriu demà?", "La meva filla té febre i no sé què fer."),
    "gl": ("Bos días, a que hora abre mañá a oficina do concello?", "A miña filla ten febre e non sei que facer."),
    "eu": ("Egun on, zer ordutan irekitzen duzue bihar?", "Nire alabak sukarra du eta ez dakit zer egin."),
    "pt": ("Bom dia, a que horas abrem amanhã?", "A minha filha está com febre e não sei o que fazer."),
    "fr": ("Bonjour, à quelle heure ouvrez-vous demain ?", "Ma fille a de la fièvre et je ne sais pas quoi faire."),
}
FOREIGN = {
    "de": ("Meine Tochter hat Fieber, was soll ich tun?", "wo ist mein paket"),
    "it": ("Mia figlia ha la febbre da tre giorni, cosa devo fare?", "dove si trova la stazione"),
    "nl": ("Mijn buurman heeft gisteren zijn been gebroken.", "waar blijft mijn bestelling"),
    "ro": ("Fiul meu are febră și nu știu ce să fac.", "unde este pachetul meu"),
    "pl": ("Moja żona jest w ciąży i potrzebujemy pomocy.", "gdzie jest moja paczka"),
    "cs": ("Moje dcera má alergii na ořechy, co mám dělat?",),
    "sk": ("Môj otec bol včera operovaný a potrebuje pomoc.",),
    "hu": ("A fiam tegnap eltörte a kezét az iskolában.",),
    "sv": ("Min dotter har feber och kan inte gå till skolan.",),
    "da": ("Hvor lang tid tager det at få svar fra lægen?",),
    "no": ("Datteren min er syk og kan ikke gå på skolen i dag.",),
    "fi": ("Poikani on sairas eikä voi mennä kouluun tänään.",),
    "el": ("Η μητέρα μου είναι στο νοσοκομείο.",),
    "bg": ("Майка ми е в болницата и имам нужда от помощ.",),
    "ru": ("Моя мама лежит в больнице, что мне делать?", "где мой заказ"),
    "uk": ("Моя мама лежить у лікарні, що мені робити?",),
    "tr": ("Annem dün hastaneye kaldırıldı, ne yapmalıyım?", "bu ne kadar"),
    "ar": ("أمي في المستشفى وأحتاج إلى مساعدة.", "أين طلبي"),
    "he": ("אמא שלי בבית חולים ואני צריך עזרה.",),
    "fa": ("مادرم در بیمارستان است و به کمک نیاز دارم.",),
    "hi": ("मेरी माँ अस्पताल में है, मुझे मदद चाहिए।",),
    "bn": ("আমার মা হাসপাতালে আছেন।",),
    "zh": ("我妈妈住院了,我需要帮助。", "我的订单在哪里"),
    "ja": ("母が入院しているので、手伝ってください。",),
    "ko": ("어머니가 병원에 계셔서 도움이 필요합니다.",),
    "vi": ("Mẹ tôi đang nằm viện và tôi cần giúp đỡ.",),
    "th": ("แม่ของฉันอยู่โรงพยาบาล",),
    "id": ("Ibu saya dirawat di rumah sakit dan saya butuh bantuan.",),
}
BOTH = OURS | FOREIGN


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in BOTH.items() for text in texts])
def test_a_message_is_known_for_its_language(code: str, text: str) -> None:
    assert detect(text) == code


def test_every_language_has_an_example() -> None:
    assert set(BOTH) == set(LANGUAGES)


def test_a_language_that_the_privacy_model_does_not_read_is_never_taken_for_one_that_it_reads() -> None:
    assert not {detect(text) for texts in FOREIGN.values() for text in texts} & READ_LANGUAGES


@pytest.mark.parametrize(
    "text", ["", " \n\t", "42", "17 x 6", "+33 6 12 00 47 93", "😀🎉👍", "¿?¡!", "...", "a1", "\x00\x00\x00", "\ud800"]
)
def test_a_text_with_hardly_a_letter_is_undetermined(text: str) -> None:
    assert detect(text) == UNDETERMINED


def test_a_word_that_tells_nothing_is_undetermined_and_not_some_language() -> None:
    assert detect("Hola") == UNDETERMINED


@pytest.mark.parametrize(
    "text", ["Բարև, մայրս հիվանդանոցում է", "გამარჯობა, დედაჩემი საავადმყოფოშია", "ܫܠܡܐ ܐܡܝ", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ"]
)
def test_a_script_that_none_of_our_languages_uses_is_never_taken_for_a_language_that_we_read(text: str) -> None:
    assert detect(text) not in READ_LANGUAGES


def test_a_script_without_any_evidence_has_a_code_that_is_not_read() -> None:
    assert detect("ⵜⴰⵎⴰⵣⵉⵖⵜ") == UNCODED
    assert UNCODED not in READ_LANGUAGES


@pytest.mark.parametrize(
    "odd", ["\ud800", "\udfff\ud800", "\x00", "\x00\x00\x00", "😀", "\u200b", "\ufeff", "\U0010ffff"]
)
def test_an_odd_character_does_not_hide_the_language(odd: str) -> None:
    assert detect(f"{odd}¿A qué hora {odd} cierra la tienda del centro?{odd}") == "es"


@pytest.mark.parametrize("text", ["\ud800" * 500, "\x00" * 500, "ñ\ud800" * 300, "\udcff a\x00" * 200, "e\u0301" * 700])
def test_no_text_raises(text: str) -> None:
    assert detect(text) in {*LANGUAGES, UNDETERMINED, UNCODED}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("es", "GRACIAS POR TODO, PERO NO ME LLEGA EL PAQUETE"),
        ("es", "¿Dónde Está Mi Pedido? Llevo Una Semana Esperando"),
        ("es", "NECESITO hablar con una persona, no con un robot"),
        ("en", "WHERE IS MY PARCEL? NOBODY ANSWERS THE PHONE"),
        ("en", "please HELP, my Card has been Blocked"),
        ("de", "WO IST MEIN PAKET? ICH WARTE SEIT EINER WOCHE"),
        ("ru", "ГДЕ МОЙ ЗАКАЗ? Я ЖДУ УЖЕ НЕДЕЛЮ"),
    ],
)
def test_capitals_do_not_change_the_language(code: str, text: str) -> None:
    assert detect(text) == code


def test_addresses_and_codes_are_no_evidence() -> None:
    assert detect("mira https://www.example.com/where-is-my-order?the=and y dime qué falta") == "es"
    assert detect("escribe a the.house.of.the.rising.sun@example.com que no puedo ir") == "es"


def test_of_a_long_text_the_head_is_read() -> None:
    spanish, english = "Quiero anular el pedido de ayer. ", "I would like to cancel the order. "
    assert detect(spanish * 30 + english * 30_000) == "es"
    assert detect(english * 30 + spanish * 30_000) == "en"
    assert detect("a" * 1_000_000) in {*LANGUAGES, UNDETERMINED}


def test_the_shipped_model_is_the_one_in_the_manifest_and_knows_our_languages() -> None:
    manifest.verify(manifest.FOLDER, language_runtime.FILES, version=language_runtime.VERSION)
    assert set(language_runtime.load(manifest.FOLDER).nb_classes) == set(LANGUAGES)


def test_the_automaton_gives_the_longest_ngram_that_ends_at_each_byte() -> None:
    ngrams = [b"a", b"ab", b"bc", b"abcd", b"c", b"\xc3\xb1", b"ca"]
    moves, row, output = automaton(ngrams)
    text, state = b"xabcabcdca\xc3\xb1ab\x00bc", 0

    for end, byte in enumerate(text, start=1):
        state = int(moves[row[state] * 256 + byte])
        longest = max((n for n in ngrams if text[:end].endswith(n)), key=len, default=None)
        assert output[state] == (ngrams.index(longest) if longest else -1)


def test_an_npz_of_the_same_arrays_has_the_same_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6).reshape(2, 3).T, "a": np.array(["es", "en"])}
    save_npz(tmp_path / "one.npz", arrays)
    save_npz(tmp_path / "two.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
