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

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.schema import Quality
from data_prep.select.reasons import Broken, first_broken
from data_prep.select.words import Words, utf8_of


def check(texts: pa.Array, words: Words, settings: Quality) -> NDArray[np.uint8]:
    """The code of the first rule that each text breaks, in the order above, or KEPT. ``words`` are those of the
    texts."""
    from data_prep.select.letters import count_letters

    data, offsets = utf8_of(texts)
    counts = np.empty((len(texts), 4), dtype=np.int64)
    count_letters(data, offsets, counts)
    letters, characters, all_characters, longest_line = counts.T
    broken: Broken = {}
    if settings.min_words is not None:
        broken["few_words"] = words.counts < settings.min_words
    if settings.max_words is not None:
        broken["many_words"] = words.counts > settings.max_words
    if settings.min_letters is not None:
        broken["few_letters"] = letters < settings.min_letters * characters
    if settings.max_mean_word_length is not None:
        broken["long_words"] = characters > settings.max_mean_word_length * words.counts
    if settings.max_repeated_lines is not None:
        allowed = settings.max_repeated_lines * all_characters
        # Of lines that are the same the first repeats nothing, so all but the longest line's bytes is the most that can
        # be repeated; few texts have so many.
        broken["repeated_lines"] = np.diff(offsets) - longest_line > allowed
        for place in np.flatnonzero(broken["repeated_lines"]).tolist():
            broken["repeated_lines"][place] = _repeated(texts[place].as_py()) > allowed[place]
    return first_broken(broken, len(texts))


def _repeated(text: str) -> int:
    """How many characters are in lines that repeat an earlier one."""
    lines = text.split("\n")
    different = set(lines)
    if len(different) == len(lines):
        return 0
    return sum(map(len, lines)) - sum(map(len, different))
