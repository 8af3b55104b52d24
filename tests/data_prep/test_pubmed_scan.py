"""The scan accepts nothing that XML does not allow, never looks beyond its bytes, and goes on where it had to stop."""

import subprocess
import sys

import pytest
from lxml import etree
from made import article

from data_prep.parse import pubmed_scan as scan
from data_prep.parse.pubmed_scan import END, FULL, MORE, ROWS, STOPPED, Scanner

RECORD = (
    '<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="1">7</PMID><Article><Abstract>'
    '<AbstractText Label="A">β &amp; ]] 𝛾 &#x3b2;</AbstractText><AbstractText/></Abstract></Article></MedlineCitation>'
    "<PubmedData><ArticleIdList><ArticleId IdType='doi'>10.1/a</ArticleId></ArticleIdList></PubmedData></PubmedArticle>"
)


def ended(content: bytes) -> int:
    return Scanner(b"r").scan(content + b"\0", 0).ended


def accepted(text: str | bytes) -> bool:
    """Whether the scan goes through an element with this text."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    found = Scanner(b"r").scan(b"<a>" + data + b"</a></r>\0", 0)
    assert (found.ended, len(found.rows)) in ((END, 1), (STOPPED, 0))
    return found.ended == END


def well_formed(content: bytes) -> bool:
    try:
        etree.fromstring(b"<r>" + content + b"</r>")
    except etree.XMLSyntaxError:
        return False
    return True


def test_every_character_is_accepted_that_xml_allows_and_no_other() -> None:
    for code in range(0x110000):
        if chr(code) not in "<&" and (code < 0x3100 or code % 0x400 < 3 or code % 0x10000 > 0xFFF0):
            allowed = code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code >= 0x10000
            assert accepted(chr(code)) == allowed, hex(code)
            assert accepted(f"&#{code};") == accepted(f"&#x{code:X};") == accepted(f"&#x0{code:x};") == allowed, hex(
                code
            )


def test_bytes_that_are_not_utf8_are_not_accepted() -> None:
    for first in range(128, 256):
        for second in range(256):
            for rest in (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x80\x80\x80"):
                data = bytes([first, second]) + rest
                if second not in b"<&":
                    assert accepted(data) == well_formed(b"<a>" + data + b"</a>"), data


@pytest.mark.parametrize(
    "content",
    [
        "<a>", "<a></b>", "<a></a", "<a></ab>", "<ab></a>", "<a/></a>", "<a><b></a></b>", "<a b></a>", "<a b=1/>",
        "<a b='1'c='2'/>", "<a b='1' b='2'/>", "<a b='<'/>", "<a b='&'/>", "<a b='&x;'/>", "<a b='1/>", "<a>&</a>",
        "<a>&amp</a>", "<a>&#;</a>", "<a>&#x;</a>", "<a>&#xg;</a>", "<a>&#1114112;</a>", "<a>&#99999999999999999;</a>",
        "<a>]]></a>", "<1/>", "<-a/>", "< a/>", "<a / >", "<a//>", "<a>&unknown;</a>", "<a b = '1' =''/>",
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_not_accepted(content: str) -> None:
    assert not well_formed(content.encode())
    assert ended(content.encode() + b"</r>") in (MORE, STOPPED)


@pytest.mark.parametrize("content", ["<!-- a -->", "<a><!-- a --></a>", "<a><![CDATA[b]]></a>", "<a><?b?></a>", "<é/>"])
def test_what_is_left_to_libxml2_is_not_accepted(content: str) -> None:
    assert well_formed(content.encode()) and ended(content.encode() + b"</r>") == STOPPED


def test_elements_deeper_than_the_limit_are_not_accepted() -> None:
    for depth, expected in ((scan.DEEPEST, END), (scan.DEEPEST + 1, STOPPED)):
        assert ended(b"<a>" * depth + b"</a>" * depth + b"</r>") == expected


def test_a_record_that_is_cut_anywhere_waits_for_more() -> None:
    data = RECORD.encode()
    for length in range(len(data)):
        found = Scanner(b"r").scan(data[:length] + b"\0", 0)
        assert (found.ended, found.at, found.rows) == (MORE, 0, []), data[:length]
    found = Scanner(b"r").scan(f"{RECORD} {RECORD}</".encode() + b"\0", 0)
    assert (found.ended, found.at, len(found.rows)) == (MORE, 2 * len(data) + 1, 2)


def test_more_records_and_sections_than_there_is_room_for_come_in_turns() -> None:
    with_sections = article(1, "<AbstractText>a</AbstractText>" * scan.SECTIONS).strip()
    for record, times in (("<a/>", ROWS + 3), (with_sections, 3 * scan.SECTIONS_NOTED // scan.SECTIONS)):
        data = (record * times + "</r>").encode() + b"\0"
        scanner, at, count, ends = Scanner(b"r"), 0, 0, []
        while END not in ends:
            found = scanner.scan(data, at)
            count, at = count + len(found.rows), found.at
            ends.append(found.ended)
            for row in found.rows:
                assert data[row[scan.RECORD][0] : row[scan.RECORD][1]] == record.encode()
        assert count == times and ends.count(FULL) == len(ends) - 1 > 0


def test_an_abstract_with_more_sections_than_are_noted_is_unusual() -> None:
    for number, unusual in ((scan.SECTIONS, False), (scan.SECTIONS + 1, True), (5000, True)):
        data = article(1, "<AbstractText>a</AbstractText>" * number).encode() + b"\0"
        found = Scanner(b"r").scan(data, 0)
        assert bool(found.rows[0][scan.RECORD][2] & scan.UNUSUAL) == unusual


GUARD = """
import ctypes, mmap, sys
from data_prep.parse import pubmed_scan as scan
page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
memory = mmap.mmap(-1, 2 * page)
begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert libc.mprotect(ctypes.c_void_p(begin + page), ctypes.c_size_t(page), 0) == 0
scan._pointer = lambda data: ctypes.cast(begin + page - len(data), ctypes.POINTER(ctypes.c_uint8))
scanner = scan.Scanner(b"")
record = sys.stdin.buffer.read()
for length in range(len(record) + 1):
    data = record[:length] + b"\\0"
    memory[page - len(data) : page] = data
    scanner.scan(data, 0)
print("whole" if scanner.scan(data, 0).rows else "")
if "beyond" in sys.argv:
    memory[page]
"""


@pytest.mark.parametrize("beyond", [False, True])
def test_nothing_is_read_behind_the_data(beyond: bool) -> None:
    """The data end where memory does that must not be read; ``beyond`` shows that reading it would end the process."""
    run = subprocess.run(
        [sys.executable, "-c", GUARD, "beyond" if beyond else ""], input=RECORD.encode(), capture_output=True
    )
    assert (run.returncode == 0) != beyond, run.stderr.decode()
    assert beyond or run.stdout == b"whole\n"
