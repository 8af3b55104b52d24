"""One PubMed XML file → its records, in order. The facts behind each rule: NLM's DTD of 2025 and the files since 2014.

A file is used whole or not at all. It is refused when it is not PubMed XML in UTF-8, when its document type carries
declarations of its own (NLM's never does; entity bombs and external entities live there), when it is truncated or not
well-formed, or when one record is larger than any of NLM's could be. No DTD or entity is ever loaded or expanded.

All bytes go through libxml2 without a tree being built, which costs a third of building one and settles whether the
file is well-formed. Then the file is cut at its records, and each is read from its bytes (``pubmed_bytes``) or, when
it is written in an unusual way, from its tree (``pubmed_tree``). From the first place on where the file cannot be cut
with certainty (a comment, say), all of it is read as a tree: ``_read_as_tree``.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal import igzip, isal_zlib
from lxml import etree

from data_prep.parse.pubmed_bytes import Unusual, read_record
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record
from data_prep.parse.pubmed_tree import SAFE, read_child, refuse_fatal, tree_of
from data_prep.parse.refusal import Refused, Unreadable

CHUNK = 1 << 16  # bytes of XML given to the parser at a time; malloc takes and returns larger pieces page by page
HEAD = 1 << 16  # the declaration, the document type and the root must lie in so many bytes
RECORD_LIMIT = 64 << 20  # bytes between two ends of records; the largest real ones are below 2 MB
ROOTS = ("PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet")  # the last until 2016
FULL_TEXT_ROOTS = ("article", "articles", "pmc-articleset")
PROLOG = re.compile(
    rb"""\s* (?:<\?xml\s (?P<declaration>[^>]*) \?>)? (?:\s | <!--.*?--> | <\?.*?\?>)*
    (?P<doctype><!DOCTYPE \s+ [\w:.-]+ \s* (?:PUBLIC \s+ (?:"[^"]*"|'[^']*') \s* (?:"[^"]*"|'[^']*')
        | SYSTEM \s+ (?:"[^"]*"|'[^']*'))? \s* (?:(?P<subset>\[)|>))?
    (?:\s | <!--.*?--> | <\?.*?\?>)* (?:<(?P<root>[A-Za-z_][\w:.-]*) [\s/>])?""",
    re.X | re.S,
)
BOM = b"\xef\xbb\xbf"
CHILD = re.compile(rb"""\s*+(<([A-Za-z]++)(?:[^<>"'/]++|"[^"<]*+"|'[^'<]*+')*+>)""")
CHILDREN = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation", "DeleteCitation")
WITH_BYTE_FORM = (b"PubmedArticle", b"MedlineCitation")
Form = Callable[[bytes, Iterator[bytes], AbstractRules], Iterator[Record | Deletion]]
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
    return _read(path, rules, lambda opening, chunks, rules: _read_as_tree(chunks, rules))


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
    chunks = _checked(head, file)
    found = False
    for record in _read_as_tree(chunks, rules) if opening is None else form(opening, chunks, rules):
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
    if root not in ROOTS:
        raise Refused(f"not PubMed XML: its root is {root or 'not to be found'}, not one of {', '.join(ROOTS)}")
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


def _read_as_bytes(opening: bytes, chunks: Iterator[bytes], rules: AbstractRules) -> Iterator[Record | Deletion]:
    """Cut the file at the children of its root: from a start tag to the first end tag of that name."""
    ending = b"</" + opening[opening.rindex(b"<") + 1 :]
    end_of_root = re.compile(rb"\s*+" + ending)
    data, at, searched, checked = bytearray(), len(opening), 0, len(opening)
    for chunk in chunks:
        data += chunk
        certain = _has_plain_tags_only(data, checked)
        while certain and (child := CHILD.match(data, at)):
            name = child[2]
            end_tag = b"</" + name + b">"
            end = data.find(end_tag, max(child.end(), searched))
            if end < 0:  # it ends in a later chunk
                searched = max(len(data) - len(end_tag), 0)
                break
            piece = bytes(data[child.start(1) : end + len(end_tag)])
            record = _read_from_bytes(piece, rules) if name in WITH_BYTE_FORM else None
            if record is not None:
                yield record
            elif piece.count(b"<" + name) == 1:
                for element in tree_of(opening + piece + ending):
                    yield from read_child(element, rules)
            else:  # perhaps one inside another, and the end tag is the inner one's
                certain = False
                break
            at = end + len(end_tag)
        else:
            certain = certain and (data.find(b">", at) < 0 or end_of_root.match(data, at) is not None)
        if not certain:
            yield from _read_as_tree(chain((opening + data[at:],), chunks), rules)
            return
        del data[:at]
        at, searched, checked = 0, max(searched - at, 0), max(len(data) - 1, 0)
        if len(data) > RECORD_LIMIT:
            raise Refused(f"more than {RECORD_LIMIT >> 20} MB without the end of a record")
    if end_of_root.match(data) is None:
        yield from _read_as_tree((opening + data,), rules)


def _has_plain_tags_only(data: bytearray, begin: int) -> bool:
    """Whether there is no comment, processing instruction or CDATA section, and no space before a tag's end."""
    for mark in (b"!", b"?"):
        at = data.find(mark, begin)
        while at >= 0:
            if at > begin and data[at - 1] == ord("<"):
                return False
            at = data.find(mark, at + 1)
    codes = np.frombuffer(data, dtype=np.uint8, offset=begin)
    return not ((codes[1:] == ord(">")) & (codes[:-1] <= ord(" "))).any()


def _read_from_bytes(piece: bytes, rules: AbstractRules) -> Record | None:
    try:
        return read_record(piece, rules)
    except (Unusual, ValueError, OverflowError):  # the last two: not UTF-8, or no character's number; see _checked
        return None


def _read_as_tree(chunks: Iterable[bytes], rules: AbstractRules) -> Iterator[Record | Deletion]:
    """The same from a tree of which a few records are held at a time; for chunks of a file that is well-formed."""
    parser = etree.XMLPullParser(events=("end",), tag=CHILDREN, **SAFE)
    since_record = 0
    for chunk in chunks:
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
