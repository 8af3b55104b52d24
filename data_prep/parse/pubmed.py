"""One PubMed XML file → its records, in order. The facts behind each rule: NLM's DTD of 2025 and the files since 2014.

A file is used whole or not at all. It is refused when it is not PubMed XML in UTF-8, when its document type carries
declarations of its own (NLM's never does; entity bombs and external entities live there), when it is truncated or not
well-formed, or when one record is larger than any of NLM's could be. No DTD or entity is ever loaded or expanded.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from lxml import etree
from lxml.etree import _Element

from data_prep.parse.plain_text import local_name, normalise, plain_text
from data_prep.parse.refusal import Refused

CHUNK = 1 << 18  # bytes of XML given to the parser at a time
HEAD = 1 << 16  # the declaration, the document type and the root must lie in so many bytes
RECORD_LIMIT = 64 << 20  # bytes between two ends of records; the largest real ones are below 2 MB
RECORDS = {
    "PubmedArticleSet": ("PubmedArticle", "PubmedBookArticle", "DeleteCitation"),
    "PubmedBookArticleSet": ("PubmedArticle", "PubmedBookArticle", "DeleteCitation"),
    "MedlineCitationSet": ("MedlineCitation", "DeleteCitation"),  # until 2016
}
PROLOG = re.compile(
    rb"""\s* (?:<\?xml\s (?P<declaration>[^>]*) \?>)? (?:\s | <!--.*?--> | <\?.*?\?>)*
    (?P<doctype><!DOCTYPE \s+ [\w:.-]+ \s* (?:PUBLIC \s+ (?:"[^"]*"|'[^']*') \s* (?:"[^"]*"|'[^']*')
        | SYSTEM \s+ (?:"[^"]*"|'[^']*'))? \s* (?:(?P<subset>\[)|>))?
    (?:\s | <!--.*?--> | <\?.*?\?>)* (?:<(?P<root>[A-Za-z_][\w:.-]*) [\s/>])?""",
    re.X | re.S,
)
TRUNCATION = re.compile(r"\s*\(?\s*ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\s*\)?\s*\.?\s*$")
LABELS_WITHOUT_MEANING = {"", "UNLABELLED", "UNLABELED", "UNASSIGNED"}
PHRASE_INSTEAD_OF_ABSTRACT = re.compile(r"^abstract available from the publisher\.?$", re.I)
YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")

# Asking lxml for these alone is faster than looking at every child's tag here.
PARTS_OF_CITATION = ("PMID", "Article", "MedlineJournalInfo", "CommentsCorrectionsList", "OtherAbstract", "OtherID")
PARTS_OF_ARTICLE = (
    "Journal", "ArticleTitle", "VernacularTitle", "Abstract", "Language", "PublicationTypeList", "ArticleDate",
)  # fmt: skip

Labels = Literal["keep", "drop"]


@dataclass(slots=True)
class Record:
    """A citation as its file has it; texts are on one line and normalised, the abstract one line a section."""

    pmid: str | None  # digits; None when the record has none
    version: int
    kind: str  # article, book, or unknown:ELEMENT
    title: str
    vernacular_title: str
    abstract: str
    truncated: bool  # NLM cut the abstract off (1975-1995); the mark is taken away
    languages: list[str]  # of the article, three letters each; NLM's abstracts are English nearly always
    journal: str
    year: int | None
    types: list[str]
    retracted: bool
    concern: bool  # an expression of concern is out
    pmcid: str | None
    doi: str | None


@dataclass(slots=True)
class Deletion:
    """An order to remove a citation, from this file or from an earlier one."""

    pmid: str | None
    version: int


def read_pubmed(
    path: str | Path, labels: Labels = "keep", other_abstracts: bool = False
) -> Iterator[Record | Deletion]:
    """Yield everything in a ``.xml`` or ``.xml.gz`` file.

    Args:
        labels: ``keep``: ``LABEL: text``, one line a section; ``drop``: the sections in one line, as in The Pile.
        other_abstracts: use an English abstract by others than the publisher where there is no abstract.

    Raises:
        Refused: with the reason, possibly after records were yielded; they must not be used then.
    """
    with _open(path) as file:
        try:
            yield from _records(file, labels, other_abstracts)
        except (EOFError, zlib.error) as error:
            raise Refused(f"the gzip stream is damaged or cut off: {error}") from None
        except gzip.BadGzipFile as error:
            raise Refused(f"not a sound gzip file: {error}") from None
        except etree.XMLSyntaxError as error:
            raise Refused(f"not well-formed XML: {error.msg}") from None


def _open(path: str | Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def _records(file: IO[bytes], labels: Labels, other_abstracts: bool) -> Iterator[Record | Deletion]:
    head = file.read(HEAD)
    tags = RECORDS[_root_of(head)]
    parser = etree.XMLPullParser(
        events=("end",), tag=tags, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=True
    )
    chunk, since_record = head, 0
    root: _Element | None = None
    while chunk:
        parser.feed(chunk)
        since_record += len(chunk)
        for _, element in parser.read_events():  # type: ignore[misc]
            since_record = 0
            root = element.getparent()
            yield from _unknown_before(element, tags)
            if element.tag == "DeleteCitation":
                yield from _deletions(element)
            else:
                yield _record(element, labels, other_abstracts)
        if since_record > RECORD_LIMIT:
            raise Refused(f"more than {RECORD_LIMIT >> 20} MB without the end of a record")
        chunk = file.read(CHUNK)
    parser.close()
    if root is None:
        raise Refused("holds no citation")
    yield from (_unknown(child) for child in root if local_name(child) not in (*tags, None))


def _root_of(head: bytes) -> str:
    if not head.strip():
        raise Refused("is empty")
    match = PROLOG.match(head.removeprefix(b"\xef\xbb\xbf"))
    assert match is not None  # everything in it is optional
    encoding = re.search(rb"""encoding\s*=\s*["']([^"']+)""", match["declaration"] or b"")
    if encoding and encoding[1].lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        raise Refused(f"is encoded in {encoding[1].decode('ascii', 'replace')}; NLM's files are in UTF-8")
    if match["subset"]:
        raise Refused("its document type declares entities or elements of its own, which NLM's never does")
    root = (match["root"] or b"").decode("ascii", "replace")
    if root not in RECORDS:
        raise Refused(f"not PubMed XML: its root is {root or 'not to be found'}, not one of {', '.join(RECORDS)}")
    return root


def _unknown_before(element: _Element, tags: tuple[str, ...]) -> Iterator[Record]:
    """Drop what lies before a record in the tree (or memory would grow), counting elements that we do not know."""
    parent = element.getparent()
    if parent is None:
        return
    while (earlier := element.getprevious()) is not None:
        if local_name(earlier) not in (*tags, None):
            yield _unknown(earlier)
        parent.remove(earlier)


def _unknown(element: _Element) -> Record:
    kind = f"unknown:{local_name(element)}"
    return Record(None, 1, kind, "", "", "", False, [], "", None, [], False, False, None, None)


def _deletions(element: _Element) -> Iterator[Deletion]:
    for pmid in element.iterchildren("PMID"):
        yield Deletion(*_pmid(pmid))


def _record(element: _Element, labels: Labels, other_abstracts: bool) -> Record:
    if element.tag == "PubmedBookArticle":
        return _book(element, labels)
    citation = element.find("MedlineCitation") if element.tag == "PubmedArticle" else element
    record = Record(None, 1, "article", "", "", "", False, [], "", None, [], False, False, None, None)
    if citation is None:
        return record
    others = []
    for child in citation.iterchildren(*PARTS_OF_CITATION):
        tag = child.tag
        if tag == "PMID":  # only the direct child: PMIDs of cited works lie deeper
            record.pmid, record.version = _pmid(child)
        elif tag == "Article":
            _article(record, child, labels)
        elif tag == "MedlineJournalInfo":
            record.journal = record.journal or normalise(child.findtext("MedlineTA") or "")
        elif tag == "CommentsCorrectionsList":
            for link in child:
                kind = link.get("RefType")
                if kind == "RetractionIn":
                    record.retracted = True
                elif kind == "ExpressionOfConcernIn":
                    record.concern = True
        elif tag == "OtherAbstract":
            others.append(child)
        elif tag == "OtherID" and (child.text or "").startswith("PMC"):  # where old files have the PMCID
            record.pmcid = (child.text or "").split()[0]
    if other_abstracts and not record.abstract:
        _use_other_abstract(record, others, labels)
    identifiers = element.find("PubmedData/ArticleIdList")  # the record's own; ReferenceList has those of cited works
    if identifiers is not None:
        for identifier in identifiers:
            kind, text = identifier.get("IdType"), (identifier.text or "").strip()
            if kind == "pmc" and text:
                record.pmcid = text
            elif kind == "doi" and text:
                record.doi = text
    return record


def _article(record: Record, article: _Element, labels: Labels) -> None:
    fallback_year = None
    for child in article.iterchildren(*PARTS_OF_ARTICLE):
        tag = child.tag
        if tag == "Journal":
            record.journal = normalise(child.findtext("Title") or "") or record.journal
            record.year = _year(child.find("JournalIssue/PubDate"))
        elif tag == "ArticleTitle":
            record.title = _title(child)
        elif tag == "VernacularTitle":
            record.vernacular_title = plain_text(child)
        elif tag == "Abstract":
            record.abstract, record.truncated = _abstract(child, labels)
        elif tag == "Language":
            record.languages.append((child.text or "").strip())
        elif tag == "PublicationTypeList":
            for kind in child:
                _add_type(record, kind)
        elif tag == "ArticleDate":
            fallback_year = _year(child)
    record.year = record.year or fallback_year


def _book(element: _Element, labels: Labels) -> Record:
    record = Record(None, 1, "book", "", "", "", False, [], "", None, [], False, False, None, None)
    document = element.find("BookDocument")
    if document is None:
        return record
    pmid, book, abstract = document.find("PMID"), document.find("Book"), document.find("Abstract")
    if pmid is not None:
        record.pmid, record.version = _pmid(pmid)
    if book is not None:
        record.journal = plain_text(book.find("BookTitle"))
        record.year = _year(book.find("PubDate"))
    title = document.find("ArticleTitle")
    record.title = _title(title) if title is not None else record.journal
    if abstract is not None:
        record.abstract, record.truncated = _abstract(abstract, labels)
    record.languages = [(child.text or "").strip() for child in document.iterchildren("Language")]
    for kind in document.iterchildren("PublicationType"):
        _add_type(record, kind)
    return record


def _pmid(element: _Element) -> tuple[str | None, int]:
    """The number (None when it is none) and its version."""
    digits, version = (element.text or "").strip(), element.get("Version") or ""
    return (
        str(int(digits)) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None,
        int(version) if version.isascii() and version.isdigit() and len(version) <= 4 else 1,
    )


def _add_type(record: Record, kind: _Element) -> None:
    text = normalise(kind.text or "")
    record.types.append(text)
    if kind.get("UI") == "D016441" or text == "Retracted Publication":
        record.retracted = True


def _year(date: _Element | None) -> int | None:
    if date is None:
        return None
    year = date.findtext("Year") or ""
    if not (len(year) == 4 and year.isascii() and year.isdigit()):
        match = YEAR.search(year or date.findtext("MedlineDate") or "")
        year = match[1] if match else ""
    return int(year) if year else None


def _title(element: _Element) -> str:
    """NLM puts titles that it translated in brackets: ``[Title].`` → ``Title.``"""
    title = plain_text(element)
    inner = title[1:].removesuffix(".").removesuffix("]")
    if title.startswith("[") and title.endswith(("]", "].")) and "[" not in inner and "]" not in inner:
        return inner + ("" if inner.endswith((".", "?", "!")) else ".")
    return title


def _abstract(element: _Element, labels: Labels) -> tuple[str, bool]:
    """The sections without CopyrightInformation, and whether NLM had cut the text off."""
    sections, truncated = [], False
    for part in element.iterchildren("AbstractText"):
        text = plain_text(part)
        if "ABSTRACT TRUNCATED" in text:
            text, cuts = TRUNCATION.subn("", text)
            truncated = truncated or cuts > 0
        label = normalise(part.get("Label") or "").rstrip(":").rstrip()
        if text and labels == "keep" and label.upper() not in LABELS_WITHOUT_MEANING:
            text = f"{label}: {text}"
        if text:
            sections.append(text)
    return ("\n" if labels == "keep" else " ").join(sections), truncated


def _use_other_abstract(record: Record, others: list[_Element], labels: Labels) -> None:
    for other in others:
        if other.get("Language", "eng") == "eng":
            text, truncated = _abstract(other, labels)
            if text and not PHRASE_INSTEAD_OF_ABSTRACT.match(text):
                record.abstract, record.truncated = text, truncated
                return
