"""The bytes of an XML file or member → its ``article`` elements, safely: no entity, DTD or network, bounded memory.

Roots: ``article``; ``articles`` (Europe PMC), ``pmc-articleset`` (E-utilities) and ``OAI-PMH``, which hold many. An
article is refused when its document type carries declarations of its own (entity bombs and external entities live
there; NLM's never does).
"""

import re
from collections.abc import Iterator
from typing import Any, Protocol

from lxml import etree
from lxml.etree import _Element

from data_prep.parse.jats import is_article
from data_prep.parse.plain_text import local_name
from data_prep.parse.prolog import PROLOG, PUBMED_ROOTS

MEMBER_LIMIT = 16 << 20  # bytes of a member or loose file, which may hold many articles
# Bytes of memory for one article. A worker, which holds 350 MB when it has read PubMed and waits with 200 articles, may
# take 600. That is 16 MB of prose, 7 to 9 of tables, 3 of nothing but tiny elements; the largest of 1,667 real articles
# has 0.9.
MEMORY_LIMIT = 250_000_000
TOO_LARGE = f"would take more than {MEMORY_LIMIT // 10**6} MB of memory, the limit for one article"
CHUNK = 1 << 18  # bytes given to the parser at a time
HEAD = 1 << 16  # the declaration, the document type and the root must lie in so many bytes
SETS = ("articles", "pmc-articleset", "OAI-PMH")
# Bytes below 128 are ASCII in all of these, so that what stands before the root can be looked at undecoded.
ENCODINGS = frozenset(("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252"))
BAD_ENCODING = frozenset((9, 31, 32, 81))  # libxml2: invalid character, unknown, unsupported, invalid encoding
OPTIONS: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}


class Readable(Protocol):
    """What articles are read from: nothing is sought in it."""

    def read(self, size: int = -1, /) -> bytes: ...


class NotRead(Exception):
    """An article cannot be read; ``kind`` and message go to the ledger."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def root_of(head: bytes) -> str:
    """The name of the root, from the first bytes.

    Raises:
        NotRead: there is none, it is none of ours, or the document type declares something of its own.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")):
        raise NotRead("encoding", "is encoded in UTF-16; PMC's files are in UTF-8")
    if not head.strip():
        raise NotRead("not_jats", "is empty")
    match = PROLOG.match(head.removeprefix(b"\xef\xbb\xbf"))
    assert match is not None  # everything in it is optional
    encoding = re.search(rb"""encoding\s*=\s*["']([^"']+)""", match["declaration"] or b"")
    if encoding and encoding[1].decode("ascii", "replace").lower() not in ENCODINGS:
        raise NotRead("encoding", f"is encoded in {encoding[1].decode('ascii', 'replace')}; PMC's files are in UTF-8")
    if match["subset"]:
        raise NotRead("malformed", "its document type declares entities or elements of its own, which NLM's never does")
    root = (match["root"] or b"").decode("ascii", "replace").rpartition(":")[2]
    if root != "article" and root not in SETS:
        if root in PUBMED_ROOTS:
            raise NotRead("not_jats", f"not JATS but citations of PubMed ({root}): give them as pubmed=")
        found = root or "not to be found"
        raise NotRead("not_jats", f"not JATS: its root is {found}, not article or one of {', '.join(SETS)}")
    return root


def memory_for(xml: bytes) -> int:
    """Bytes of memory that it may take to read this piece of an article: of its text, its elements and its attributes,
    each as in the made article where it was seen to take most."""
    elements = xml.count(b"<") - xml.count(b"</")
    return 14 * len(xml) + 380 * elements + 150 * xml.count(b"=")


def parse_article(data: bytes) -> _Element:
    """The element of a file that holds one article. Raises NotRead."""
    if len(data) > MEMBER_LIMIT or memory_for(data) > MEMORY_LIMIT:
        raise NotRead("too_large", TOO_LARGE)
    try:
        root = etree.fromstring(data, etree.XMLParser(**OPTIONS))
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    if not is_article(root):
        raise NotRead("not_jats", f"its root is {local_name(root)}, not article")
    return root


def parse_set(file: Readable) -> Iterator[_Element | None]:
    """Every article of a file that holds many, one at a time: an element is good until the next is asked for.

    None stands for one that is too large (found out to within CHUNK): it is let go of while it is read.

    Raises:
        NotRead: possibly after some were yielded.
    """
    parser = etree.XMLPullParser(events=("start", "end"), tag="{*}article", **OPTIONS)
    depth = since_article = articles = 0  # the second: memory
    current, too_large = None, False
    try:
        while chunk := file.read(CHUNK):
            parser.feed(chunk)
            since_article += memory_for(chunk)
            for event, element in parser.read_events():  # type: ignore[misc]
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1:
                    current = element
                if depth == 0:
                    yield None if too_large else element
                    since_article, articles, current, too_large = 0, articles + 1, None, False
                    _forget(element)
            if since_article > MEMORY_LIMIT:
                if current is None:
                    raise NotRead("too_large", f"what stands before an article {TOO_LARGE}")
                too_large = True
                _let_go(current)
        parser.close()
        if not articles:
            raise NotRead("not_jats", "holds no article")
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None


def _let_go(element: _Element) -> None:
    """Drop what has been read of an element that is still open: all but the path to where the parser stands."""
    one: _Element | None = element
    while one is not None:
        last = next(one.iterchildren(reversed=True), None)  # len() would count them all
        while last is not None and (earlier := last.getprevious()) is not None:
            one.remove(earlier)
        one = last


def _forget(element: _Element) -> None:
    """Empty what has been read, and drop what lies before it, at every level: memory stays flat."""
    tail = element.tail
    element.clear()
    element.tail = tail
    one: _Element | None = element
    while one is not None and (parent := one.getparent()) is not None:
        while (earlier := one.getprevious()) is not None:
            parent.remove(earlier)
        one = parent


def _not_well_formed(error: etree.XMLSyntaxError) -> NotRead:
    if error.code in BAD_ENCODING and re.search("encod|UTF-8", str(error.msg)):
        return NotRead("encoding", f"not in the encoding that it names: {error.msg}")
    return NotRead("malformed", f"not well-formed XML: {error.msg}")
