"""One PubMed XML file → its records, in order. The facts behind each rule: NLM's DTD of 2025 and the files since 2014.

A file is used whole or not at all. It is refused when it is not PubMed XML in UTF-8, when its document type carries
declarations of its own (NLM's never does; entity bombs and external entities live there), when it is truncated or not
well-formed, or when one record is larger than any of NLM's could be. No DTD or entity is ever loaded or expanded.

A compiled loop goes over all bytes (``pubmed_scan``): it settles whether the file is well-formed, and where the records
and their parts lie. Each record is then read from its bytes (``pubmed_bytes``) or, when it is written in an unusual
way, from its tree (``pubmed_tree``). From the first place on that the loop does not accept (a comment, say, or a
fault), all of the file is checked by libxml2 and read as a tree: ``_read_as_tree``. So is the end of every file.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from isal import igzip, isal_zlib
from lxml import etree

from data_prep.parse.prolog import FULL_TEXT_ROOTS, PROLOG, PUBMED_ROOTS
from data_prep.parse.pubmed_bytes import Unusual, read_record
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record
from data_prep.parse.pubmed_scan import FULL, MORE, RECORD, Scanner
from data_prep.parse.pubmed_tree import SAFE, read_child, refuse_fatal, tree_of
from data_prep.parse.refusal import Refused, Unreadable

CHUNK = 1 << 18  # bytes of XML scanned at a time: they and what is made of them stay in the processor's cache
HEAD = 1 << 16  # the declaration, the document type and the root must lie in so many bytes
RECORD_LIMIT = 64 << 20  # bytes between two ends of records; the largest real ones are below 2 MB
BOM = b"\xef\xbb\xbf"
CHILDREN = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation", "DeleteCitation")
Form = Callable[[bytes, bytes, IO[bytes], AbstractRules], Iterator[Record | Deletion]]
STRICT: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": True}


DEFAULT_RULES = AbstractRules()


def read_pubmed(path: str | Path, rules: AbstractRules = DEFAULT_RULES) -> Iterator[Record | Deletion]:
    """Yield everything in a ``.xml`` or ``.xml.gz`` file.

    Raises:
        Refused: with the reason, possibly after records were yielded; they must not be used then.
    """
    return _read(path, rules, _read_as_bytes)


def read_pubmed_as_tree(path: str | Path, rules: AbstractRules = DEFAULT_RULES) -> Iterator[Record | Deletion]:
    """The same, slower, without a byte being looked at outside a tree: what ``read_pubmed`` is measured against."""
    return _read(path, rules, lambda opening, head, file, rules: _read_as_tree(head, file, rules))


def _read(path: str | Path, rules: AbstractRules, form: Form) -> Iterator[Record | Deletion]:
    try:
        with _open(path) as file:
            yield from _records(file, rules, form)
    except EOFError as error:
        raise Refused(f"the gzip stream is cut off: {error}") from None
    except igzip.BadGzipFile as error:
        raise Refused(f"not a sound gzip file: {error}") from None
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # isal's stubs take it for something else
        raise Refused(f"the gzip stream is damaged: {error}") from None
    except etree.XMLSyntaxError as error:
        raise Refused(f"not well-formed XML: {error.msg}") from None
    except OSError as error:  # what an error of gzip is as well
        raise Unreadable(error) from None


def _open(path: str | Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return igzip.open(path, "rb") if packed else open(path, "rb")


def _records(file: IO[bytes], rules: AbstractRules, form: Form) -> Iterator[Record | Deletion]:
    head = file.read(HEAD)
    opening = _opening(head)
    found = False
    for record in _read_as_tree(head, file, rules) if opening is None else form(opening, head, file, rules):
        found = found or isinstance(record, Deletion) or not record.kind.startswith("unknown:")
        yield record
    if not found:
        raise Refused("holds no citation")


def _opening(head: bytes) -> bytes | None:
    """Everything up to the end of the root's start tag; None when the file should rather be read as a tree."""
    if not head.strip():
        raise Refused("is empty")
    match = PROLOG.match(head.removeprefix(BOM))
    assert match is not None  # everything in it is optional
    encoding = re.search(rb"""encoding\s*=\s*["']([^"']+)""", match["declaration"] or b"")
    if encoding and encoding[1].lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        raise Refused(f"is encoded in {encoding[1].decode('ascii', 'replace')}; NLM's files are in UTF-8")
    if match["subset"]:
        raise Refused("its document type declares entities or elements of its own, which NLM's never does")
    root = (match["root"] or b"").decode("ascii", "replace")
    if root.rpartition(":")[2] in FULL_TEXT_ROOTS:
        raise Refused(f"not PubMed XML: its root is {root}, that of full text: give it as pmc=")
    if root not in PUBMED_ROOTS:
        raise Refused(f"not PubMed XML: its root is {root or 'not to be found'}, not one of {', '.join(PUBMED_ROOTS)}")
    if (encoding and encoding[1].lower() != b"utf-8") or not match[0].endswith(b">"):
        return None
    return head[: head.index(match[0]) + len(match[0])]


class _NoTree:
    """Takes no event, so that libxml2 does nothing but to check."""

    def close(self) -> None:
        """lxml asks for this one."""


def _checked(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    """The file in pieces, each given to the checking parser before it is given out.

    The parser may report a fault only when it has seen more, at the latest after the last piece. Then the file is
    refused all the same, so it does not matter what was made of the faulty bytes meanwhile.
    """
    target: Any = _NoTree()
    parser = etree.XMLParser(target=target, **STRICT)
    chunk = head
    while chunk:
        parser.feed(chunk)
        yield chunk
        chunk = file.read(CHUNK)
    parser.close()


def _read_as_bytes(opening: bytes, head: bytes, file: IO[bytes], rules: AbstractRules) -> Iterator[Record | Deletion]:
    """Record after record, as far as the scan goes; then what is left."""
    root = opening[opening.rindex(b"<") + 1 : -1]
    ending = b"</" + root + b">"
    scanner = Scanner(root)
    data, at = head + b"\0", len(opening)
    while True:
        found = scanner.scan(data, at)
        for row in found.rows:
            try:
                yield read_record(data, row, found.sections, rules)
            except Unusual:
                begin, end, _ = row[RECORD]
                for element in tree_of(opening + data[begin:end] + ending):
                    yield from read_child(element, rules)
        data, at = data[found.at :], 0
        if found.ended == FULL:
            continue
        if len(data) > RECORD_LIMIT:
            raise Refused(f"more than {RECORD_LIMIT >> 20} MB without the end of a record")
        chunk = file.read(max(CHUNK, len(data))) if found.ended == MORE else b""
        if not chunk:
            break
        data = data[:-1] + chunk + b"\0"
    yield from _read_as_tree(opening + data[:-1], file, rules)


def _read_as_tree(head: bytes, file: IO[bytes], rules: AbstractRules) -> Iterator[Record | Deletion]:
    """The same from a tree of which a few records are held at a time; ``head`` is what stands before the file."""
    parser = etree.XMLPullParser(events=("end",), tag=CHILDREN, **SAFE)
    since_record = 0
    for chunk in _checked(head, file):
        parser.feed(chunk)
        since_record += len(chunk)
        for _, element in parser.read_events():
            root = element.getparent()
            if root is None or root.getparent() is not None:
                continue
            since_record = 0
            while (earlier := root[0]) is not element:
                yield from read_child(earlier, rules)
                root.remove(earlier)
        if since_record > RECORD_LIMIT:
            raise Refused(f"more than {RECORD_LIMIT >> 20} MB without the end of a record")
    root = parser.close()
    refuse_fatal(parser.error_log)
    for child in root:
        yield from read_child(child, rules)
