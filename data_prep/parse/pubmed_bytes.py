"""One record from its bytes: several times faster than a tree, for records written as NLM writes them.

The bytes must come from a file that is known to be well-formed and is made of plain tags: it has no comment,
processing instruction or CDATA section, so that every ``<`` begins a tag and text holds none, and no space before a
tag's ``>``, so that an end tag can be written in one way only. On that ground nothing is guessed: the children of each
element are walked one after the other, what is not read is skipped to its end tag, and whatever is not written exactly
as expected raises Unusual, upon which ``pubmed_tree`` reads the record. A test holds the two to the same records.
"""

import re
from functools import lru_cache

import numpy as np
from lxml.etree import XMLSyntaxError, _Element

from data_prep.parse.plain_text import normalise, plain_text
from data_prep.parse.pubmed_record import (
    RETRACTED_TYPE,
    RETRACTED_UI,
    AbstractRules,
    Record,
    finish,
    join_sections,
    pmcid_of,
    pmid_of,
    title_of,
    year_of,
)
from data_prep.parse.pubmed_tree import add_links, sections_of, tree_of
from data_prep.parse.refusal import Refused

# What the patterns below are made of. Attributes, but no namespace:
ATTRIBUTES = rb"""(?:\s(?!xmlns)[A-Za-z]++="[^"<]*+")*+"""
# Small elements of which nothing is wanted are passed over on the way to the next one: a start tag, text and elements
# without children, and then what can only be the end tag.
PASSED_OVER = (
    rb"(?:\s*+(?:<PublicationStatus>[^<]*+</PublicationStatus>"
    rb"|<(?:Date(?:Created|Completed|Revised)|CitationSubset|KeywordList|CoiStatement|Pagination|ELocationID"
    rb"|MedlineJournalInfo)[^<>/]*+>[^<]*+(?:<[A-Za-z]++[^<>/]*+>[^<]*+</[A-Za-z]++>[^<]*+)*+</[A-Za-z]++>))*+\s*+"
)


def _element(name: bytes, group: bytes) -> bytes:
    """Pattern of an element without attributes; the group takes all up to the first end tag of that name."""
    return rb"<%b>(?P<%b>(?:[^<]++|<(?!/%b>))*+)</%b>" % (name, group, name, name)


FIRST_PART = re.compile(  # up to the authors
    rb"""(?:<PubmedArticle>\s*+)?+ <MedlineCitation%(attributes)b>\s*+
    <PMID(?:\sVersion="(?P<version>\d++)")?+>(?P<pmid>[^<&]*+)</PMID> %(passed_over)b
    <Article%(attributes)b>\s*+
    <Journal>\s*+ (?:<ISSN%(attributes)b>[^<]*+</ISSN>\s*+)?+ <JournalIssue%(attributes)b>\s*+
    (?:<Volume>[^<]*+</Volume>\s*+)?+ (?:<Issue>[^<]*+</Issue>\s*+)?+
    <PubDate>\s*+ (?:<Year>(?P<year>[^<&]*+)</Year>\s*+ (?:<(?:Month|Season|Day)>[^<]*+</(?:Month|Season|Day)>\s*+)*+
        | <MedlineDate>(?P<medline_date>[^<&]*+)</MedlineDate>\s*+) </PubDate>\s*+
    </JournalIssue>\s*+ <Title>(?P<journal>[^<]*+)</Title>\s*+
    (?:<ISOAbbreviation>[^<]*+</ISOAbbreviation>\s*+)?+ </Journal>\s*+
    %(title)b %(passed_over)b
    (?:%(abstract)b\s*+)?+
    (?P<authors><AuthorList%(attributes)b>)?+"""
    % {
        b"attributes": ATTRIBUTES,
        b"passed_over": PASSED_OVER,
        b"title": _element(b"ArticleTitle", b"title"),
        b"abstract": _element(b"Abstract", b"abstract"),
    },
    re.X,
)
REST_OF_ARTICLE = re.compile(
    rb"""\s*+(?P<languages>(?:<Language>[^<]*+</Language>\s*+)*+)
    (?:<(?P<other>DataBankList|GrantList)%(attributes)b>(?:[^<]++|<(?!/(?P=other)>))*+</(?P=other)>\s*+)*+
    (?:%(types)b\s*+)?+ (?:%(vernacular_title)b\s*+)?+
    (?P<dates>(?:<ArticleDate%(attributes)b>[^<]*+(?:<[A-Za-z]++>[^<]*+</[A-Za-z]++>[^<]*+)*+</ArticleDate>\s*+)*+)
    </Article>"""
    % {
        b"attributes": ATTRIBUTES,
        b"types": _element(b"PublicationTypeList", b"types"),
        b"vernacular_title": _element(b"VernacularTitle", b"vernacular_title"),
    },
    re.X,
)
CHILD_OR_END = rb"%b<(?:([A-Za-z]++)%b>|/%%b>\s*+)" % (PASSED_OVER, ATTRIBUTES)
PART_OF_CITATION = re.compile(CHILD_OR_END % b"MedlineCitation")
PART_OF_DATA = re.compile(CHILD_OR_END % b"PubmedData")
DATA = re.compile(rb"<PubmedData>\s*+(<ArticleIdList/>)?+")
SECTION = re.compile(
    rb"""\s*+(?:<AbstractText(?:\sLabel="([^"<&]*+)")?+(?:\sNlmCategory="[A-Z]*+")?+>([^<]*+)</AbstractText>
    |<CopyrightInformation>[^<]*+</CopyrightInformation>)\s*+""",
    re.X,
)
LANGUAGE = re.compile(rb"<Language>([^<]*+)</Language>")
TYPE = re.compile(rb'<PublicationType(?: UI="([^"<&]*+)")?+>([^<&]*+)</PublicationType>')
IDENTIFIER = re.compile(rb'<ArticleId(?: IdType="([^"<&]*+)")?+>([^<]*+)</ArticleId>')
PMC_AS_VALUE = re.compile(rb"""["']pmc["']""")
TAG = re.compile(rb"""<(?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>""")
REFERENCE = re.compile(r"&([^;]*+);")
CHARACTERS = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
TAGS_OF_A_DEEP_RECORD = 4096  # fewer cannot nest so deep that a tree would be refused
BYTES_OF_A_DEEP_RECORD = 7 * TAGS_OF_A_DEEP_RECORD // 2  # <a></a>


class Unusual(Exception):
    """The record is not written as NLM writes them."""


def read_record(data: bytes, rules: AbstractRules) -> Record:
    """The record in ``<PubmedArticle>...</PubmedArticle>``, or in the MedlineCitation of before 2017.

    Raises:
        Unusual: see above.
    """
    if len(data) > BYTES_OF_A_DEEP_RECORD:
        tags = np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord("<"))
        if tags > TAGS_OF_A_DEEP_RECORD:
            raise Unusual
    match = FIRST_PART.match(data)
    if match is None:
        raise Unusual
    version, pmid, year, medline_date, journal, title, abstract, authors = match.groups()
    record = Record()
    record.pmid, record.version = pmid_of(pmid.decode(), (version or b"").decode())
    record.journal = _journal(journal)
    record.year = year_of((year or b"").decode(), (medline_date or b"").decode())
    record.title = title_of(_mixed(title))
    if abstract is not None:
        record.abstract, record.truncated = _abstract(abstract, rules)
    at = match.end() if authors is None else _end(data, b"AuthorList", match.end())[1]
    at = _rest_of_article(record, data, at)
    at = _rest_of_citation(record, data, at, rules)
    record.any_pmcid = record.pmcid is not None
    if data.startswith(b"<P"):
        if match := DATA.match(data, at):
            at = _pubmed_data(record, data, match.end(), own=match[1] is not None)
        if not data.startswith(b"</PubmedArticle>", at):
            raise Unusual
        at += len(b"</PubmedArticle>")
    if at != len(data):
        raise Unusual
    return finish(record)


def _rest_of_article(record: Record, data: bytes, at: int) -> int:
    """Read what follows the authors; returns where Article ends."""
    match = REST_OF_ARTICLE.match(data, at)
    if match is None:
        raise Unusual
    languages, _, types, vernacular_title, dates = match.groups()
    record.languages = _languages(languages)
    if types is not None:
        record.types, record.retracted = _types(types)
    if vernacular_title is not None:
        record.vernacular_title = title_of(_mixed(vernacular_title))
    if dates and record.year is None:
        raise Unusual
    return match.end()


def _rest_of_citation(record: Record, data: bytes, at: int, rules: AbstractRules) -> int:
    """Read what follows Article; returns where MedlineCitation ends."""
    while match := PART_OF_CITATION.match(data, at):
        name, begin = match[1], match.end()
        if name is None:
            return begin
        end, at = _end(data, name, begin)
        if name == b"CommentsCorrectionsList":
            _links(record, data, match.start(1) - 1, at)
        elif name in (b"PMID", b"Article", b"MedlineJournalInfo") or (name == b"OtherAbstract" and rules.want_others):
            raise Unusual
        elif name == b"OtherID":
            record.pmcid = pmcid_of(_text(data[begin:end])) or record.pmcid
    raise Unusual


def _pubmed_data(record: Record, data: bytes, at: int, own: bool) -> int:
    """Read the children of PubmedData; returns where it ends. ``own``: the record's own list is past."""
    while match := PART_OF_DATA.match(data, at):
        name, begin = match[1], match.end()
        if name is None:
            return begin
        end, at = _end(data, name, begin)
        if name != b"ArticleIdList":
            record.any_pmcid = record.any_pmcid or _names_pmcid(data, match.start(1) - 1, at)
        elif own:
            raise Unusual
        else:
            own = True
            _identifiers(record, data[begin:end])
    raise Unusual


def _end(data: bytes, name: bytes, begin: int) -> tuple[int, int]:
    """Where the content of an element ends, and where its end tag does.

    The first end tag of that name is taken, here as in the patterns. Should it close an element of the same name
    inside, then the walk goes on one level too deep, from where it cannot come back (each element that is skipped ends
    on its own level or below), and finds no end of the parent where it must be: that is unusual.
    """
    tag = b"</" + name + b">"
    end = data.find(tag, begin)
    if end < 0:
        raise Unusual
    return end, end + len(tag)


def _text(content: bytes) -> str:
    """The text of an element that holds nothing but text."""
    if b"<" in content:
        raise Unusual
    return normalise(_characters(content))


def _characters(content: bytes) -> str:
    text = content.decode()
    return REFERENCE.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    name = match[1]
    if name.startswith("#x"):
        return chr(int(name[2:], 16))
    if name.startswith("#"):
        return chr(int(name[1:]))
    if name not in CHARACTERS:
        raise Unusual
    return CHARACTERS[name]


def _one_line(content: bytes) -> str:
    return " ".join(_characters(content).split())


def _mixed(content: bytes) -> str:
    """The text of an element that may hold markup."""
    if b"<" not in content:
        return _text(content)
    return plain_text(_fragment(b"<t>" + content + b"</t>"))


def _fragment(xml: bytes) -> _Element:
    """The tree of one element alone.

    Raises:
        Unusual: it refers to a character that the document type alone could know, or was cut at the end tag of an
            element inside.
    """
    if b"&" in xml:
        REFERENCE.sub(_character, xml.decode())
    try:
        return tree_of(xml)
    except (Refused, XMLSyntaxError):
        raise Unusual from None


def _abstract(content: bytes, rules: AbstractRules) -> tuple[str, bool]:
    sections, at = [], 0
    while match := SECTION.match(content, at):
        label, text = match.groups()
        if text is not None:
            sections.append((normalise(label.decode()) if label else "", normalise(_characters(text))))
        at = match.end()
    if at < len(content):
        sections = list(sections_of(_fragment(b"<t>" + content + b"</t>")))
    return join_sections(sections, rules.labels)


# Few journals, languages and lists of types make up nearly all records.


@lru_cache(maxsize=4096)
def _journal(content: bytes) -> str:
    """Its name; where there is none, the tree has to be asked for others."""
    name = _text(content)
    if not name:
        raise Unusual
    return name


@lru_cache(maxsize=4096)
def _languages(content: bytes) -> tuple[str, ...]:
    return tuple(_text(language) for language in LANGUAGE.findall(content))


@lru_cache(maxsize=4096)
def _types(content: bytes) -> tuple[tuple[str, ...], bool]:
    """The publication types and whether one says that the paper is retracted."""
    found = TYPE.findall(content)
    if 2 * len(found) != content.count(b"<"):
        raise Unusual
    types = tuple(_text(text) for _, text in found)
    return types, RETRACTED_TYPE in types or RETRACTED_UI.encode() in (ui for ui, _ in found)


def _links(record: Record, data: bytes, begin: int, end: int) -> None:
    if data.find(b"Retract", begin, end) >= 0 or data.find(b"ExpressionOfConcern", begin, end) >= 0:
        add_links(record, _fragment(data[begin:end]))
    else:
        _refuse_references_in_tags(data, begin, end)


def _identifiers(record: Record, content: bytes) -> None:
    found = IDENTIFIER.findall(content)
    if 2 * len(found) != content.count(b"<"):
        raise Unusual
    for kind, text in found:
        if kind == b"pmc":
            record.any_pmcid = True
            record.pmcid = pmcid_of(_one_line(text)) or record.pmcid
        elif kind == b"doi":
            record.doi = _one_line(text) or record.doi


def _names_pmcid(data: bytes, begin: int, end: int) -> bool:
    """Whether one of the ArticleId elements in a part of PubmedData is a PMCID."""
    if data.find(b"<ArticleId", begin, end) < 0:
        return False
    found = data.find(b'<ArticleId IdType="pmc">', begin, end)
    if found >= 0:
        if data.find(b"xmlns", begin, found) >= 0:
            raise Unusual
        return True
    if data.find(b"pmc", begin, end) >= 0 and PMC_AS_VALUE.search(data, begin, end):
        raise Unusual
    _refuse_references_in_tags(data, begin, end)
    return False


def _refuse_references_in_tags(data: bytes, begin: int, end: int) -> None:
    """An attribute could spell any word with ``&#112;``: what was looked for in vain might be there all the same."""
    at = data.find(b"&", begin, end)
    while at >= 0:
        if TAG.match(data, data.rfind(b"<", begin, at), at) is None:
            raise Unusual
        at = data.find(b"&", at + 1, end)
