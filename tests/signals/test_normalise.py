"""The text as a reader sees it, and the way back to the text as it was sent."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.signals.normalise import Normal, lowered, normalise, rewrites
from gateway.signals.numerals import spoken_digits

HARD = st.text(
    alphabet=st.one_of(
        st.sampled_from(list('abcZ019 .-@%&;\\u#x\n"/=+')),
        st.sampled_from(
            ["\u200b", "\u0301", "１", "а", "Α", "\ufe0f", "\u20e3", "٣", "𝟗", "ﬁ", "İ", "\u00ad", "é", "\ud800"]
        ),
        st.characters(),
    ),
    max_size=120,
)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("plain ASCII stays", "plain ASCII stays"),
        ("１２３４５６７８Ｚ", "12345678Z"),
        ("1\u200b2\u200d3", "123"),
        ("٣٤٥", "345"),
        ("𝟏𝟐", "12"),
        ("1\ufe0f\u20e32\ufe0f\u20e3", "12"),
        ("mi clаve", "mi clave"),  # a Cyrillic letter
        ("cafe\u0301", "café"),
        ("%31%32%C3%B1", "12ñ"),
        ("&#49;&#x32;&amp;", "12&"),
        ("\\u0031\\u0032", "12"),
        ("%2531", "1"),  # an escape in an escape
        ("100% de 5 & más", "100% de 5 & más"),
        ("Привет, как дела", "Привет, как дела"),  # a Russian text keeps its letters
        ("a\u2212b\u2013c", "a-b-c"),
    ],
)
def test_a_disguised_text_reads_as_a_reader_sees_it(sent: str, read: str) -> None:
    assert normalise(sent).text == read


def test_plain_text_is_not_copied() -> None:
    text = "nothing to undo here, año 2024: ¿vale?"

    assert normalise(text).text is text


@given(HARD)
@settings(deadline=None, max_examples=300)
def test_every_place_leads_back_into_the_text_that_was_sent(text: str) -> None:
    normal = normalise(text)
    for snippet in (normal, *rewrites(normal, lowered(normal.text))):
        _leads_back(snippet, text if snippet is normal else normal.text, len(snippet.text))


def _leads_back(snippet: Normal, source: str, size: int) -> None:
    reached = (0, 0)
    for place in range(size):
        start, end = snippet.local(place, place + 1) if source is not snippet.text else (place, place + 1)
        assert 0 <= start <= end <= max(len(source), 0) or snippet.base is not None
        assert start >= reached[0]
        assert end >= reached[1]
        reached = (start, end)


@given(HARD, st.data())
@settings(deadline=None, max_examples=300)
def test_offsets_stay_in_range_and_in_order(text: str, data: st.DataObject) -> None:
    normal = normalise(text)
    size = len(normal.text)
    first = data.draw(st.integers(0, max(size - 1, 0)))
    last = data.draw(st.integers(first, size))

    start, end = normal.origin(first, last)

    assert 0 <= start <= len(text)
    assert 0 <= end <= len(text)
    if last > first:
        assert start <= end
        assert normal.origin(first, size)[0] == start


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mi dni es 1 2 3 4 5 6 7 8 Z, apúntalo", "12345678Z"),
        ("correo: ana arroba gmail punto com ya", "ana@gmail.com"),
        ("uno dos tres cuatro cinco seis siete ocho zeta", "12345678"),
        ("tel 6l2 345 678", "612"),
        ("mira " + base64.b64encode(b"mi dni es 12345678Z").decode(), "12345678Z"),
    ],
)
def test_a_local_disguise_is_undone_beside_the_text(text: str, shown: str) -> None:
    normal = normalise(text)

    assert any(shown in snippet.text for snippet in rewrites(normal, lowered(normal.text)))


@pytest.mark.parametrize(
    ("said", "digits"),
    [
        ("seis doce treinta y cuatro cero cinco", "6123405"),
        ("double five one two three", "55123"),
        ("nou un dos tres", "9123"),
        ("bat bi hiru lau bost", "12345"),
        ("um dois três quatro", "1234"),
        ("soixante douze trente", "601230"),
    ],
)
def test_numbers_said_in_words_are_read_as_digits(said: str, digits: str) -> None:
    assert [value for _, _, value in spoken_digits(said, said)] == [digits]


@pytest.mark.parametrize("text", ["dos hermanos y una prima", "one of the three", "un café", "para las siete"])
def test_few_number_words_are_no_number(text: str) -> None:
    assert spoken_digits(text, text) == []


@given(st.text(max_size=60))
@settings(deadline=None)
def test_lower_case_keeps_every_place(text: str) -> None:
    assert len(lowered(text)) == len(text)
