"""One pass over the bytes of a PubMed file: is it well-formed, and where in it lies what is wanted?

A loop over single bytes, compiled by numba. It goes through every tag, attribute, reference and character, and accepts
what XML 1.0 allows, and less: no comment, processing instruction or CDATA section, no entity but XML's own five, no
name with other than ASCII letters, digits and ``-_.:``, no element deeper than ``DEEPEST``. Where it meets anything
else it stops and says nothing of what follows: that is for libxml2 to read or to refuse (``pubmed.py``). What it has
gone through needs no other check.

Of each child of the root it notes where the wanted elements begin and end (``SLOTS``), and what their texts are like,
so that the usual ones (ASCII, no markup, single spaces) are taken as they stand. A child that is no citation, has an
element twice that NLM's DTD has once, declares a namespace, or is otherwise in doubt, is ``UNUSUAL``: its ends are
known, what is in it is not said.

Everything compiled lies in this file, for numba keeps what it has compiled until the file itself changes. The compiled
functions have pointers, not arrays, which numba would count references of, and take and return numbers. ``data`` are
the bytes, with a 0 behind them, where every loop ends; a position is returned as it is, or as ``~position`` of a byte
that is not accepted (the 0 at the end too: there may be more to come).
"""

from ctypes import POINTER, c_int32, c_uint8, cast
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cfunc, njit, types
from numpy.typing import NDArray

DEEPEST = 200  # libxml2 by itself refuses what is deeper than 256
ATTRIBUTES = 16  # of one tag
SECTIONS = 64  # of one abstract
ROWS = 512  # records noted at a time
SECTIONS_NOTED = 2048  # and, before the last one's, so many sections

# What is noted of a record: begin and end in the data, and what it is like. A slot that is not filled begins at -1.
SLOTS = (
    "PMID", "VERSION", "YEAR", "MEDLINE_DATE", "JOURNAL", "TITLE", "VERNACULAR_TITLE", "ABSTRACT", "TYPES", "OTHER_ID",
    "LANGUAGES", "DOI", "PMCID", "RECORD", "SECTIONS_AT",
)  # fmt: skip
(
    PMID, VERSION, YEAR, MEDLINE_DATE, JOURNAL, TITLE, VERNACULAR_TITLE, ABSTRACT, TYPES, OTHER_ID,
    LANGUAGES, DOI, PMCID, RECORD, SECTIONS_AT,
) = range(len(SLOTS))  # fmt: skip
# Elements that are looked into or looked for, beside those that are slots themselves.
(
    ELSEWHERE, IN_DATA, ROOT, ARTICLE_SET, CITATION, ARTICLE, JOURNAL_PART, ISSUE, DATE, DATA, OWN_IDENTIFIERS,
    LINKS, SECTION, IDENTIFIER, OTHER_IDENTIFIER, LINK, ARTICLE_DATE, OTHER_ABSTRACT, MISPLACED,
) = range(len(SLOTS), len(SLOTS) + 19)  # fmt: skip
NODES = MISPLACED + 1
PATHS = {
    ROOT: {"PubmedArticle": ARTICLE_SET, "MedlineCitation": CITATION},
    ARTICLE_SET: {"MedlineCitation": CITATION, "PubmedData": DATA},
    CITATION: {
        "PMID": PMID, "Article": ARTICLE, "CommentsCorrectionsList": LINKS, "OtherAbstract": OTHER_ABSTRACT,
        "OtherID": OTHER_ID, "PubmedData": MISPLACED,
    },
    ARTICLE: {
        "Journal": JOURNAL_PART, "ArticleTitle": TITLE, "VernacularTitle": VERNACULAR_TITLE, "Abstract": ABSTRACT,
        "Language": LANGUAGES, "PublicationTypeList": TYPES, "ArticleDate": ARTICLE_DATE,
    },
    JOURNAL_PART: {"Title": JOURNAL, "JournalIssue": ISSUE},
    ISSUE: {"PubDate": DATE},
    DATE: {"Year": YEAR, "MedlineDate": MEDLINE_DATE},
    ABSTRACT: {"AbstractText": SECTION},
    LINKS: {"CommentsCorrections": LINK},
    DATA: {"ArticleIdList": OWN_IDENTIFIERS, "ArticleId": OTHER_IDENTIFIER},
    OWN_IDENTIFIERS: {"ArticleId": IDENTIFIER},
    IN_DATA: {"ArticleId": OTHER_IDENTIFIER},
}  # fmt: skip
BELOW_DATA = (IN_DATA, DATA, OWN_IDENTIFIERS, IDENTIFIER, OTHER_IDENTIFIER)  # where cited works may be named
MORE_THAN_ONCE = (
    ELSEWHERE, IN_DATA, LANGUAGES, SECTION, IDENTIFIER, OTHER_IDENTIFIER, LINK, ARTICLE_DATE, OTHER_ABSTRACT,
)  # fmt: skip

# Of a text: what must be done before it can be used; 0 for nothing.
MARKUP, REFERENCE, WIDE, SPACES = 1, 2, 4, 8
# Of a record.
UNUSUAL, NAMES_PMCID, RETRACTED, CONCERN, HAS_ARTICLE_DATE, HAS_OTHER_ABSTRACT = 1, 2, 4, 8, 16, 32
# How a scan ends: the data end, there is no room for more, the root's end tag is behind, or something is not accepted.
MORE, FULL, END, STOPPED = range(4)

# Bytes, by what they are in a text.
PLAIN, SPACE, WHITE, LEFT, AMPERSAND, BRACKET, LEAD, BAD = range(8)


def _kinds() -> NDArray[np.uint8]:
    kinds = np.full(256, PLAIN, dtype=np.uint8)
    kinds[:32] = BAD
    kinds[[9, 10, 13]] = WHITE
    kinds[ord(" ")], kinds[ord("<")], kinds[ord("&")], kinds[ord("]")] = SPACE, LEFT, AMPERSAND, BRACKET
    kinds[128:] = LEAD
    return kinds


def _word(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


IN_SLOT = _kinds()
OUTSIDE = IN_SLOT.copy()  # where spaces do not matter
OUTSIDE[[9, 10, 13, 32]] = PLAIN
NAME_BEGINS = np.array([chr(byte).isascii() and chr(byte).isalpha() for byte in range(256)])
NAME_GOES_ON = np.array([begins or chr(byte) in "0123456789-_.:" for byte, begins in enumerate(NAME_BEGINS)])
# The children of each node: those of node n are the names FIRST[n] to FIRST[n + 1].
FIRST = np.cumsum([0] + [len(PATHS.get(node, {})) for node in range(NODES)])
_NAMES = [name for node in range(NODES) for name in PATHS.get(node, {})]
NAMES = _word("".join(_NAMES))
NAME_AT = np.cumsum([0] + [len(name) for name in _NAMES])
CHILD = np.array([child for node in range(NODES) for child in PATHS.get(node, {}).values()])
OTHERWISE = np.array([IN_DATA if node in BELOW_DATA else ELSEWHERE for node in range(NODES)])
ONCE = np.array([node not in MORE_THAN_ONCE for node in range(NODES)])
ENTITIES = (_word("amp;"), _word("lt;"), _word("gt;"), _word("quot;"), _word("apos;"))
XMLNS, ID_TYPE, REF_TYPE, VERSION_NAME, LABEL = map(_word, ("xmlns", "IdType", "RefType", "Version", "Label"))
OF_PMC, OF_DOI = _word("pmc"), _word("doi")
RETRACTION, REPUBLISHED = _word("RetractionIn"), _word("RetractedandRepublishedIn")
OF_CONCERN = _word("ExpressionOfConcernIn")


inlined = njit(cache=True, inline="always")  # by numba: what LLVM leaves as calls costs a tenth of the time


@njit(cache=True)
def _starts_with(data: Any, at: int, word: Any) -> bool:
    """Whether the word stands there; never looks beyond the first byte that differs."""
    for place in range(len(word)):  # noqa: SIM110 # numba knows no all()
        if data[at + place] != word[place]:
            return False
    return True


@njit(cache=True)
def _is(data: Any, begin: int, end: int, word: Any) -> bool:
    return end - begin == len(word) and _starts_with(data, begin, word)


@inlined
def _repeats(data: Any, at: int, begin: int, end: int) -> int:
    """Behind what stands at ``begin`` to ``end`` and must stand here again."""
    for place in range(begin, end):
        if data[at] != data[place]:
            return ~at
        at += 1
    return at


@inlined
def _white(data: Any, at: int) -> int:
    while data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9:
        at += 1
    return at


@inlined
def _name(data: Any, at: int) -> int:
    """Behind a name, or where it would have to begin."""
    if NAME_BEGINS[data[at]]:
        at += 1
        while NAME_GOES_ON[data[at]]:
            at += 1
    return at


@njit(cache=True)
def _reference(data: Any, at: int) -> int:
    """Behind a reference to a character."""
    at += 1
    if data[at] != ord("#"):
        for entity in ENTITIES:
            if _starts_with(data, at, entity):
                return at + len(entity)
        while NAME_GOES_ON[data[at]]:
            at += 1
        return ~at
    at += 1
    number, digits, base = 0, 0, 10
    if data[at] == ord("x"):
        at, base = at + 1, 16
    while True:
        byte = data[at]
        if 48 <= byte <= 57:
            digit = byte - 48
        elif base == 16 and (65 <= byte <= 70 or 97 <= byte <= 102):
            digit = (byte | 32) - 87
        else:
            break
        number = min(number * base + digit, 0x110000)
        digits += 1
        at += 1
    if data[at] != ord(";") or digits == 0:
        return ~at
    white = number == 9 or number == 10 or number == 13
    if not (white or 32 <= number < 0xD800 or 0xE000 <= number < 0xFFFE or 0x10000 <= number < 0x110000):
        return ~(at - 1)
    return at + 1


@njit(cache=True)
def _wide(data: Any, at: int) -> int:
    """Behind a character of several bytes."""
    lead = data[at]
    if lead < 0xC2 or lead > 0xF4:
        return ~at
    following = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
    second = data[at + 1]
    lowest = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
    highest = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
    if second < lowest or second > highest:
        return ~(at + 1)
    for place in range(at + 2, at + 1 + following):
        if data[place] < 0x80 or data[place] > 0xBF:
            return ~place
    if lead == 0xEF and second == 0xBF and data[at + 2] >= 0xBE:
        return ~at  # U+FFFE and U+FFFF
    return at + 1 + following


@inlined
def _text(data: Any, at: int, kinds: Any) -> tuple[int, int]:
    """Where the next tag begins, and what the text up to there is like. ``kinds`` is IN_SLOT or OUTSIDE."""
    flags = 0
    while True:
        kind = kinds[data[at]]
        if kind == PLAIN:
            at += 1
        elif kind == SPACE:
            at += 1
            if data[at] == 32:
                flags |= SPACES
        elif kind == LEFT:
            return at, flags
        elif kind == LEAD:
            flags |= WIDE
            at = _wide(data, at)
        elif kind == AMPERSAND:
            flags |= REFERENCE
            at = _reference(data, at)
        elif kind == WHITE:
            flags |= SPACES
            at += 1
        elif kind == BRACKET:
            at += 1
            if data[at] == ord("]") and data[at + 1] == ord(">"):
                at = ~(at + 1)
        else:
            at = ~at
        if at < 0:
            return at, flags


@njit(cache=True)
def _value(data: Any, at: int, quote: int) -> tuple[int, int]:
    """Where the value of an attribute ends, and what it is like."""
    flags = 0
    while data[at] != quote:
        kind = OUTSIDE[data[at]]
        if kind in (PLAIN, BRACKET):
            at += 1
        elif kind == LEAD:
            at = _wide(data, at)
        elif kind == AMPERSAND:
            flags |= REFERENCE
            at = _reference(data, at)
        else:
            at = ~at
        if at < 0:
            return at, flags
    return at, flags


@inlined
def _attributes(data: Any, at: int, found: Any) -> tuple[int, int, bool]:
    """From behind a tag's name: behind the tag, how many attributes were noted in ``found`` (begin and end of the name
    and of the value, flags), and whether the element is empty."""
    number = 0
    while True:
        begin = _white(data, at)
        if data[begin] == ord(">"):
            return begin + 1, number, False
        if data[begin] == ord("/"):
            return (begin + 2 if data[begin + 1] == ord(">") else ~(begin + 1)), number, True
        end = _name(data, begin)
        if begin == at or end == begin or number == ATTRIBUTES:
            return ~begin, number, False
        for other in range(number):
            length = found[5 * other + 1] - found[5 * other]
            if length == end - begin and _repeats(data, begin, found[5 * other], found[5 * other + 1]) == end:
                return ~begin, number, False
        at = _white(data, end)
        if data[at] != ord("="):
            return ~at, number, False
        at = _white(data, at + 1)
        quote = data[at]
        if quote != ord('"') and quote != ord("'"):
            return ~at, number, False
        value_end, flags = _value(data, at + 1, quote)
        if value_end < 0:
            return value_end, number, False
        found[5 * number], found[5 * number + 1] = begin, end
        found[5 * number + 2], found[5 * number + 3], found[5 * number + 4] = at + 1, value_end, flags
        at = value_end + 1
        number += 1


@njit(cache=True)
def _attribute(data: Any, found: Any, number: int, name: Any) -> int:
    """Which one of the attributes has that name, or -1."""
    for place in range(number):
        if _is(data, found[5 * place], found[5 * place + 1], name):
            return place
    return -1


@inlined
def _child(data: Any, node: int, begin: int, end: int) -> int:
    """The node of an element below another node."""
    for place in range(FIRST[node], FIRST[node + 1]):
        if end - begin == NAME_AT[place + 1] - NAME_AT[place]:
            at = begin
            while at < end and data[at] == NAMES[NAME_AT[place] + at - begin]:
                at += 1
            if at == end:
                return CHILD[place]
    return OTHERWISE[node]


@njit(cache=True)
def _opened(data: Any, node: int, found: Any, number: int, rows: Any, row: int) -> int:
    """Note what the start tag of a node says; returns the slot that the element fills, or -1."""
    place = -1
    if node in (IDENTIFIER, OTHER_IDENTIFIER):
        place = _attribute(data, found, number, ID_TYPE)
    elif node == LINK:
        place = _attribute(data, found, number, REF_TYPE)
    elif node == PMID:
        place = _attribute(data, found, number, VERSION_NAME)
    if place >= 0:
        begin, end = found[5 * place + 2], found[5 * place + 3]
        if found[5 * place + 4]:  # a reference could spell any word
            rows[row + 3 * RECORD + 2] |= UNUSUAL
        elif node == PMID:
            for part in range(3):
                rows[row + 3 * VERSION + part] = found[5 * place + 2 + part]
        elif node == LINK:
            if _is(data, begin, end, RETRACTION) or _is(data, begin, end, REPUBLISHED):
                rows[row + 3 * RECORD + 2] |= RETRACTED
            elif _is(data, begin, end, OF_CONCERN):
                rows[row + 3 * RECORD + 2] |= CONCERN
        elif _is(data, begin, end, OF_PMC):
            rows[row + 3 * RECORD + 2] |= NAMES_PMCID
            return PMCID if node == IDENTIFIER else -1
        elif node == IDENTIFIER and _is(data, begin, end, OF_DOI):
            return DOI
    elif node == ARTICLE_DATE:
        rows[row + 3 * RECORD + 2] |= HAS_ARTICLE_DATE
    elif node == OTHER_ABSTRACT:
        rows[row + 3 * RECORD + 2] |= HAS_OTHER_ABSTRACT
    elif node == MISPLACED:
        rows[row + 3 * RECORD + 2] |= UNUSUAL
    return node if node < RECORD else -1


@njit(cache=True)
def _record(
    data: Any, at: int, rows: Any, row: int, sections: Any, noted: int, stack: Any, found: Any
) -> tuple[int, int]:
    """Go through one element, a record or another child of the root.

    Args:
        at: its ``<``.
        rows, row: see :class:`Scanned`; what belongs to the record begins at number ``row``.
        sections, noted: the same of sections, and how many there are.
        stack: for each element that is open, where its name begins and ends, its node, and the slot that it fills.
        found: attributes of one tag.

    Returns:
        where it ends, and how many sections there are now.
    """
    for slot in range(len(SLOTS)):
        rows[row + 3 * slot], rows[row + 3 * slot + 2] = -1, 0
    rows[row + 3 * RECORD], rows[row + 3 * RECORD + 2] = at, 0
    first = rows[row + 3 * SECTIONS_AT] = noted
    depth, node, seen = 0, ROOT, np.uint64(0)
    leaf, flags = 0, 0  # the depth of the text that is open, or 0, and what it is like so far
    while True:
        tag = at
        if data[tag + 1] == ord("/"):
            name, name_end = stack[4 * depth], stack[4 * depth + 1]
            at = _repeats(data, tag + 2, name, name_end)
            if at < 0:
                return at, noted
            at = _white(data, at)
            if data[at] != ord(">"):
                return ~at, noted
            at += 1
            node, slot = stack[4 * depth + 2], stack[4 * depth + 3]
            empty = False
        else:
            name = tag + 1
            name_end = _name(data, name)
            if name_end == name:
                return ~name, noted
            at, number, empty = _attributes(data, name_end, found)
            if at < 0:
                return at, noted
            if depth == DEEPEST:
                return ~tag, noted
            child = _child(data, node, name, name_end)
            slot = -1
            if leaf:
                flags |= MARKUP
            else:
                for place in range(number):
                    if found[5 * place + 1] - found[5 * place] >= 5 and _starts_with(data, found[5 * place], XMLNS):
                        rows[row + 3 * RECORD + 2] |= UNUSUAL
            if child != ELSEWHERE and child != IN_DATA:
                if ONCE[child]:
                    if seen >> np.uint64(child) & np.uint64(1):
                        rows[row + 3 * RECORD + 2] |= UNUSUAL
                    seen |= np.uint64(1) << np.uint64(child)
                slot = _opened(data, child, found, number, rows, row)
                if slot == LANGUAGES:
                    if rows[row + 3 * LANGUAGES] < 0:
                        rows[row + 3 * LANGUAGES] = tag
                elif slot >= 0:
                    if rows[row + 3 * slot] >= 0:
                        rows[row + 3 * RECORD + 2] |= UNUSUAL
                    rows[row + 3 * slot] = at
                elif child == SECTION:
                    if noted - first == SECTIONS:
                        rows[row + 3 * RECORD + 2] |= UNUSUAL
                        noted = first
                    place = _attribute(data, found, number, LABEL)
                    sections[5 * noted] = sections[5 * noted + 1] = -1
                    if place >= 0:
                        sections[5 * noted], sections[5 * noted + 1] = found[5 * place + 2], found[5 * place + 3]
                    sections[5 * noted + 2] = at
                if (slot >= 0 and slot != ABSTRACT) or child == SECTION:
                    leaf, flags = depth + 1, SPACES if data[at] == 32 else 0
            elif depth == 0:
                rows[row + 3 * RECORD + 2] |= UNUSUAL
            depth += 1
            stack[4 * depth], stack[4 * depth + 1] = name, name_end
            stack[4 * depth + 2], stack[4 * depth + 3] = child, slot
            node = child
        if data[tag + 1] == ord("/") or empty:
            # What was noted at the start tag is complete. Of an empty element the text is empty too.
            end = at if empty else tag
            if leaf == depth:
                if data[end - 1] == 32:
                    flags |= SPACES
                if slot >= 0:
                    rows[row + 3 * slot + 1], rows[row + 3 * slot + 2] = (at if slot == LANGUAGES else end), flags
                elif node == SECTION:
                    sections[5 * noted + 3], sections[5 * noted + 4] = end, flags
                    noted += 1
                leaf = 0
            elif slot >= 0:
                rows[row + 3 * slot + 1] = end
            depth -= 1
            if depth == 0:
                rows[row + 3 * RECORD + 1] = at
                rows[row + 3 * SECTIONS_AT + 1] = noted
                return at, noted
            node = stack[4 * depth + 2]
        at, more = _text(data, at, IN_SLOT if leaf else OUTSIDE)
        flags |= more
        if at < 0:
            return at, noted


BYTES, NUMBERS = types.CPointer(types.uint8), types.CPointer(types.int32)


@cfunc(types.int64(BYTES, types.int64, types.int64, BYTES, types.int64, *[NUMBERS] * 5), cache=True)
def _scan(
    data: Any, at: int, end: int, root: Any, length: int, rows: Any, sections: Any, stack: Any, found: Any, outcome: Any
) -> int:
    """See :meth:`Scanner.scan`. Returns how it ended; in ``outcome``, how many records there are and where they end."""
    count = noted = 0
    ended = MORE
    while True:
        begin = _white(data, at)
        if begin == end:
            break
        if data[begin] != ord("<"):
            ended = STOPPED
            break
        if data[begin + 1] == ord("/"):
            place = 0
            while place < length and data[begin + 2 + place] == root[place]:
                place += 1
            if place == length and data[begin + 2 + place] == ord(">"):
                ended = END
            elif begin + 2 + place != end:
                ended = STOPPED
            break
        if count == ROWS or noted > SECTIONS_NOTED:
            ended = FULL
            break
        behind, noted = _record(data, begin, rows, 3 * len(SLOTS) * count, sections, noted, stack, found)
        if behind < 0:
            ended = MORE if ~behind == end else STOPPED
            break
        at = behind
        count += 1
    outcome[0] = count
    outcome[1] = at
    return ended


@dataclass(frozen=True)
class Scanned:
    """What one scan has found.

    Attributes:
        rows: of each record, for each of ``SLOTS``: begin, end, flags. ``RECORD`` is all of it, with the record's own
            flags; ``SECTIONS_AT`` counts in ``sections``; ``VERSION`` is the attribute of PMID; ``LANGUAGES`` are whole
            elements, from the first to the last.
        sections: begin and end of the label (-1 for none) and of the text, flags of the text.
        at: where the last record ends.
        ended: MORE, FULL, END or STOPPED.
    """

    rows: list[list[list[int]]]
    sections: list[list[int]]
    at: int
    ended: int


class Scanner:
    """Goes through one file. Has room for what is found in it, made once.

    Args:
        root: name of the file's root.
    """

    def __init__(self, root: bytes):
        self._root = root
        self._rows = np.zeros((ROWS, len(SLOTS), 3), dtype=np.int32)
        self._sections = np.zeros((SECTIONS_NOTED + SECTIONS, 5), dtype=np.int32)
        self._outcome = np.zeros(2, dtype=np.int32)
        stack, found = np.zeros((DEEPEST + 1, 4), dtype=np.int32), np.zeros((ATTRIBUTES, 5), dtype=np.int32)
        arrays = (self._rows, self._sections, stack, found, self._outcome)
        self._pointers = [array.ctypes.data_as(POINTER(c_int32)) for array in arrays]  # each keeps its array alive

    def scan(self, data: bytes, at: int) -> Scanned:
        """Go through the children of the root, from one of them on.

        Args:
            data: less than 2 GB, with one byte 0 behind it.
        """
        end = len(data) - 1
        ended = _scan.ctypes(_pointer(data), at, end, _pointer(self._root), len(self._root), *self._pointers)
        count, at = self._outcome.tolist()
        noted = int(self._rows[count - 1, SECTIONS_AT, 1]) if count else 0
        return Scanned(self._rows[:count].tolist(), self._sections[:noted].tolist(), at, ended)


def _pointer(data: bytes) -> Any:
    return cast(data, POINTER(c_uint8))  # type: ignore[arg-type] # it takes bytes as well
