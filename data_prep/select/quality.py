"""Rules by which a text is no text to learn from: too little, too much, not language, damaged, or repeating itself.

==============  =======================================================================================================
few_words       fewer words than ``min_words`` (20): a title, a note that there is no abstract. The Common Pile asks for
                20 of its PubMed texts, Gopher for 50 of web pages, which would drop real short abstracts.
many_words      more words than ``max_words`` (off): a whole book or a data dump. Gopher allows 100,000.
few_letters     less than ``min_letters`` (half) of the characters that are no space are letters: tables, series of
                numbers, formulas without prose. Gopher asks that 80 % of the words have a letter; a share of
                characters does not need to know what a word is in "1.5-2.0 mg/kg".
long_words      more than ``max_mean_word_length`` (15) characters for each word on average: text whose spaces were
                lost, sequences of bases, links. Gopher allows 10 on web pages; chemistry has longer names.
repeated_lines  more than ``max_repeated_lines`` (0.3) of the characters are in lines that repeat an earlier one: damage
                in conversion, forms. Gopher counts lines (0.3) and characters (0.2); by lines alone, papers on taxonomy
                with the same short headings for every species would go.
==============  =======================================================================================================

Gopher: Rae et al. 2021 (arXiv 2112.11446), table A1. The thresholds were set so that no real abstract and no full text
of a paper is dropped that a reader would keep: see the figures in ``benchmarks/``.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.schema import Quality
from data_prep.select.words import Words, utf8_slices

SPACE, OTHER, LETTER, INSIDE = range(4)
# What begins at a byte of UTF-8. After 0xC2 come signs of Latin-1 (±, µ, °), after 0xE2 dashes, arrows and operators;
# after any other byte that begins a character, mostly letters.
KINDS = bytes(
    SPACE if byte <= 32 else
    LETTER if 65 <= byte <= 90 or 97 <= byte <= 122 else
    INSIDE if 0x80 <= byte <= 0xBF else
    LETTER if byte >= 0xC3 and byte != 0xE2 else
    OTHER
    for byte in range(256)
)  # fmt: skip


def check(texts: Sequence[str], words: Words, settings: Quality) -> list[str | None]:
    """The first rule that each text breaks, in the order above, or None. ``words`` are those of the texts."""
    facts = zip(texts, words.counts.tolist(), _letters_and_characters(texts), strict=True)
    return [_first_broken(text, number, *counts, settings) for text, number, counts in facts]


def _first_broken(text: str, words: int, letters: int, characters: int, settings: Quality) -> str | None:
    if settings.min_words is not None and words < settings.min_words:
        return "few_words"
    if settings.max_words is not None and words > settings.max_words:
        return "many_words"
    if settings.min_letters is not None and letters < settings.min_letters * characters:
        return "few_letters"
    if settings.max_mean_word_length is not None and characters > settings.max_mean_word_length * words:
        return "long_words"
    if settings.max_repeated_lines is not None and _repeated(text) > settings.max_repeated_lines * len(text):
        return "repeated_lines"
    return None


def _letters_and_characters(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """How many characters of each text are letters, and how many no space."""
    for encoded in utf8_slices(texts):
        kinds = np.frombuffer(b"".join(encoded).translate(KINDS), dtype=np.uint8)
        letter, other = kinds == LETTER, kinds == OTHER
        begin = 0
        for each in encoded:
            end = begin + len(each)
            letters = int(np.count_nonzero(letter[begin:end]))
            yield letters, letters + int(np.count_nonzero(other[begin:end]))
            begin = end


def _repeated(text: str) -> int:
    """How many characters are in lines that repeat an earlier one."""
    lines = text.split("\n")
    different = set(lines)
    if len(different) == len(lines):
        return 0
    return sum(map(len, lines)) - sum(map(len, different))
