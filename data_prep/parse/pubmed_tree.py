"""One record from its tree: the form that takes whatever well-formed XML holds.

``pubmed_bytes`` reads the usual records faster and hands the rest to this one. What this module says of a record is
right, and a test holds the other to it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree
from lxml.etree import _Element

from data_prep.parse.plain_text import local_name, normalise, plain_text
from data_prep.parse.pubmed_record import (
    CONCERN_LINK,
    PHRASE_INSTEAD_OF_ABSTRACT,
    PLAIN_LANGUAGE,
    PLAIN_LANGUAGE_LABEL,
    RETRACTED_TYPE,
    RETRACTED_UI,
    RETRACTING_LINKS,
    AbstractRules,
    Deletion,
    Record,
    finish,
    join_sections,
    pmcid_of,
    pmid_of,
    title_of,
    year_of,
)
from data_prep.parse.refusal import Refused

# Asking lxml for these alone is faster than looking at every child's tag here.
PARTS_OF_CITATION = ("PMID", "Article", "MedlineJournalInfo", "CommentsCorrectionsList", "OtherAbstract", "OtherID")
PARTS_OF_ARTICLE = (
    "Journal", "ArticleTitle", "VernacularTitle", "Abstract", "Language", "PublicationTypeList", "ArticleDate",
)  # fmt: skip

# The files are checked by a parser that builds no tree (pubmed.py). What is left for `recover` are faults of
# namespaces, such as a prefix that is not declared, which do not matter here.
SAFE: dict[str, Any] = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": True,
    "recover": True,
}
PARSER = etree.XMLParser(**SAFE)  # making one takes longer than reading a title with it


def tree_of(xml: bytes) -> _Element:
    """The root of a piece of XML that is known to be well-formed.

    Raises:
        Refused: it cannot be held as a tree, for being too deep.
    """
    root = etree.fromstring(xml, PARSER)
    refuse_fatal(PARSER.error_log)
    return root


def refuse_fatal(errors: Iterable[etree._LogEntry]) -> None:
    """Raise Refused when the log of a recovering parser has an error at which it lost something."""
    for error in errors:
        if error.level >= etree.ErrorLevels.FATAL:
            raise Refused(f"not well-formed XML: {error.message}")


def read_child(element: _Element, rules: AbstractRules) -> Iterator[Record | Deletion]:
    """What a child of the root stands for: one record, or any number of deletions; nothing for a comment."""
    name = local_name(element)
    if element.tag in ("PubmedArticle", "MedlineCitation"):
        yield _article_record(element, rules)
    elif element.tag == "PubmedBookArticle":
        yield _book(element, rules)
    elif element.tag == "DeleteCitation":
        for pmid in element.iterchildren("PMID"):
            yield Deletion(*pmid_of(pmid.text or "", pmid.get("Version") or ""))
    elif name is not None:
        yield Record(f"unknown:{name}")


def _article_record(element: _Element, rules: AbstractRules) -> Record:
    citation = element.find("MedlineCitation") if element.tag == "PubmedArticle" else element
    record = Record()
    if citation is None:
        return record
    others = []
    for child in citation.iterchildren(*PARTS_OF_CITATION):
        tag = child.tag
        if tag == "PMID":  # only the direct child: PMIDs of cited works lie deeper
            record.pmid, record.version = pmid_of(child.text or "", child.get("Version") or "")
        elif tag == "Article":
            _article(record, child, rules)
        elif tag == "MedlineJournalInfo":
            record.journal = record.journal or normalise(child.findtext("MedlineTA") or "")
        elif tag == "CommentsCorrectionsList":
            add_links(record, child)
        elif tag == "OtherAbstract":
            others.append(child)
        elif tag == "OtherID":  # where old files have the PMCID
            record.pmcid = pmcid_of(child.text or "") or record.pmcid
    _add_other_abstracts(record, others, rules)
    record.any_pmcid = record.pmcid is not None
    _add_identifiers(record, element.find("PubmedData"))
    return finish(record)


def _article(record: Record, article: _Element, rules: AbstractRules) -> None:
    fallback_year = None
    for child in article.iterchildren(*PARTS_OF_ARTICLE):
        tag = child.tag
        if tag == "Journal":
            _add_journal(record, child)
        elif tag == "ArticleTitle":
            record.title = title_of(plain_text(child))
        elif tag == "VernacularTitle":
            record.vernacular_title = title_of(plain_text(child))
        elif tag == "Abstract":
            record.abstract, record.truncated = join_sections(sections_of(child), rules.labels)
        elif tag == "Language":
            record.languages += (normalise(child.text or ""),)
        elif tag == "PublicationTypeList":
            _add_types(record, child)
        elif tag == "ArticleDate":
            fallback_year = _year(child)
    record.year = record.year or fallback_year


def _add_journal(record: Record, journal: _Element) -> None:
    """The name of the journal, and the year of its issue."""
    record.journal = normalise(journal.findtext("Title") or "") or record.journal
    record.year = _year(journal.find("JournalIssue/PubDate"))


def add_links(record: Record, links: _Element) -> None:
    """Whether the record is retracted, or under an expression of concern."""
    for link in links.iterchildren("CommentsCorrections"):
        kind = link.get("RefType")
        record.retracted = record.retracted or kind in RETRACTING_LINKS
        record.concern = record.concern or kind == CONCERN_LINK


def _add_types(record: Record, parent: _Element) -> None:
    for kind in parent.iterchildren("PublicationType"):
        text = normalise(kind.text or "")
        record.types += (text,)
        record.retracted = record.retracted or kind.get("UI") == RETRACTED_UI or text == RETRACTED_TYPE


def _add_identifiers(record: Record, data: _Element | None) -> None:
    """The record's own lie in the list that is a direct child; those of cited works in lists below ReferenceList."""
    if data is None:
        return
    own = data.find("ArticleIdList")
    if own is not None:
        for identifier in own.iterchildren("ArticleId"):
            kind, text = identifier.get("IdType"), " ".join((identifier.text or "").split())
            if kind == "pmc":
                record.pmcid = pmcid_of(text) or record.pmcid
            elif kind == "doi" and text:
                record.doi = text
    named = any(identifier.get("IdType") == "pmc" for identifier in data.iter("ArticleId"))
    record.any_pmcid = record.any_pmcid or named


def _book(element: _Element, rules: AbstractRules) -> Record:
    record = Record("book")
    document = element.find("BookDocument")
    if document is None:
        return record
    pmid, book, abstract = document.find("PMID"), document.find("Book"), document.find("Abstract")
    if pmid is not None:
        record.pmid, record.version = pmid_of(pmid.text or "", pmid.get("Version") or "")
    if book is not None:
        record.journal = plain_text(book.find("BookTitle"))
        record.year = _year(book.find("PubDate"))
    title = document.find("ArticleTitle")
    record.title = title_of(plain_text(title)) if title is not None else record.journal
    record.vernacular_title = title_of(plain_text(document.find("VernacularTitle")))
    if abstract is not None:
        record.abstract, record.truncated = join_sections(sections_of(abstract), rules.labels)
    record.languages = tuple(normalise(child.text or "") for child in document.iterchildren("Language"))
    _add_types(record, document)
    _add_identifiers(record, document)
    _add_identifiers(record, element.find("PubmedBookData"))
    return finish(record)


def _year(date: _Element | None) -> int | None:
    return None if date is None else year_of(date.findtext("Year") or "", date.findtext("MedlineDate") or "")


def sections_of(abstract: _Element) -> Iterator[tuple[str, str]]:
    """Label and text of each section; CopyrightInformation is none."""
    for part in abstract.iterchildren("AbstractText"):
        yield normalise(part.get("Label") or ""), plain_text(part)


def _add_other_abstracts(record: Record, others: list[_Element], rules: AbstractRules) -> None:
    english = [other for other in others if other.get("Language", "eng") == "eng"]
    used = None
    if rules.other_abstracts and not record.abstract:
        for other in english:
            text, truncated = join_sections(sections_of(other), rules.labels)
            if text and not PHRASE_INSTEAD_OF_ABSTRACT.match(text):
                record.abstract, record.truncated, used = text, truncated, other
                break
    if rules.plain_language:
        sections = [
            (label or PLAIN_LANGUAGE_LABEL, text)
            for other in english
            if other.get("Type") == PLAIN_LANGUAGE and other is not used
            for label, text in sections_of(other)
        ]
        text, _ = join_sections(sections, rules.labels)
        if text:
            separator = "\n" if rules.labels == "keep" else " "
            record.abstract = f"{record.abstract}{separator}{text}" if record.abstract else text
