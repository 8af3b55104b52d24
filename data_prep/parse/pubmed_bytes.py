"""One record from its bytes: several times faster than a tree, for records written as NLM writes them.

The bytes must come from a file that is known to be well-formed and is made of plain tags: it has no comment,
processing instruction or CDATA section, so that every ``<`` begins a tag and text holds none, and no space before a
tag's ``>``, so that an end tag can be written in one way only. On that ground nothing is guessed: the children of each
element are walked one after the other, what is not read is skipped to its end tag, and whatever is not written exactly
as expected raises Unusual, upon which ``pubmed_tree`` reads the record. A test holds the two to the same records.
"""

import re
from functools import lru_cache

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
    title_of,
    year_of,
)
from data_prep.parse.pubmed_tree import add_links, sections_of, tree_of
from data_prep.parse.refusal import Refused

# Small elements of which nothing is wanted are passed over on the way to the next one: a start tag, text and elements
# without children, and then what can only be the end tag.
PASSED_OVER = (
    rb"(?:\s*+(?:<PublicationStatus>[^<]*+</PublicationStatus>"
    rb"|<(?:Date(?:Created|Completed|Revised)|CitationSubset|KeywordList|CoiStatement|Pagination|ELocationID|ArticleDate|"
    rb"MedlineJournalInfo)[^<>/]*+>[^<]*+(?:<[A-Za-z]++[^<>/]*+>[^<]*+</[A-Za-z]++>[^<]*+)*+</[A-Za-z]++>))*+"
)
ATTRIBUTES = rb"""((?:[^<>"'/]++|"[^"<]*+"|'[^'<]*+')*+)"""
CHILD = re.compile(PASSED_OVER + rb"\s*+<([A-Za-z]++)" + ATTRIBUTES + rb">")
END_OF_ARTICLE = re.compile(PASSED_OVER + rb"\s*+</Article>")
END_OF_CITATION = re.compile(PASSED_OVER + rb"\s*+</MedlineCitation>")
DATA = re.compile(rb"\s*+<PubmedData>(\s*+<ArticleIdList/>)?+")
END_OF_RECORD = re.compile(PASSED_OVER + rb"\s*+(?:</PubmedData>\s*+)?</PubmedArticle>")
# Every record begins so: PMID, dates, the journal with the year of its issue.
BEGINNING = re.compile(
    rb"""(?:<PubmedArticle>\s*+)?+ <MedlineCitation"""
    + ATTRIBUTES
    + rb""">\s*+
    <PMID(?:\sVersion="(?P<version>[0-9]{1,4}+)")?+>(?P<pmid>[0-9]{1,18}+)</PMID>"""
    + PASSED_OVER
    + rb"""
    \s*+ <Article"""
    + ATTRIBUTES
    + rb""">\s*+
    <Journal>\s*+ (?:<ISSN[^<>/&]*+>[^<]*+</ISSN>\s*+)?+ <JournalIssue(?:\sCitedMedium="\w++")?+>\s*+
    (?:<Volume>[^<]*+</Volume>\s*+)?+ (?:<Issue>[^<]*+</Issue>\s*+)?+
    <PubDate>\s*+ (?:<Year>(?P<year>[0-9]{4})</Year>\s*+ (?:<(?:Month|Season|Day)>[^<]*+</(?:Month|Season|Day)>\s*+)*+
        | <MedlineDate>(?P<date>[^<&]*+)</MedlineDate>\s*+) </PubDate>\s*+
    </JournalIssue>\s*+ <Title>(?P<journal>[^<]*+)</Title>\s*+
    (?:<ISOAbbreviation>[^<]*+</ISOAbbreviation>\s*+)?+ </Journal>""",
    re.X,
)
SECTION = re.compile(
    rb'<AbstractText(?: Label="([^"<&]*+)")?+(?: NlmCategory="[A-Z]*+")?+>([^<]*+)</AbstractText>'
    rb"|<(CopyrightInformation)>[^<]*+</CopyrightInformation>"
)
TYPE = re.compile(rb'<PublicationType(?: UI="([^"<&]*+)")?+>([^<&]*+)</PublicationType>')
IDENTIFIER = re.compile(rb'<ArticleId(?: IdType="([^"<&]*+)")?+>([^<]*+)</ArticleId>')
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
    if len(data) > BYTES_OF_A_DEEP_RECORD and data.count(b"<") > TAGS_OF_A_DEEP_RECORD:
        raise Unusual
    match = BEGINNING.match(data)
    if match is None or b"xmlns" in match[1] or b"xmlns" in match[4]:
        raise Unusual
    record = Record()
    _, version, pmid, _, year, date, journal = match.groups()
    record.pmid, record.version = int(pmid), int(version or 1)
    record.year = int(year) if year else year_of("", date.decode())
    record.journal = _text(journal)
    if not (record.journal and record.year):  # then they may be said elsewhere, in what is passed over here
        raise Unusual
    at = _rest_of_article(record, data, match.end(), rules)
    at = _rest_of_citation(record, data, at, rules)
    record.any_pmcid = record.pmcid is not None
    if data.startswith(b"<P"):
        if match := DATA.match(data, at):
            at = _pubmed_data(record, data, match.end(), own=match[1] is not None)
        at = _end(END_OF_RECORD, data, at)
    if at != len(data):
        raise Unusual
    return finish(record)


def _rest_of_article(record: Record, data: bytes, at: int, rules: AbstractRules) -> int:
    """Read the children of Article behind Journal; returns where it ends."""
    while match := CHILD.match(data, at):
        name, attributes = match.groups()
        begin = match.end()
        end, at = _skip(data, name, attributes, begin)
        if name == b"Language":
            language = data[begin:end]
            record.languages.append("eng" if language == b"eng" else _text(language))
        elif name == b"ArticleTitle":
            record.title = title_of(_mixed(data[begin:end]))
        elif name == b"Abstract":
            record.abstract, record.truncated = _abstract(data[begin:end], rules)
        elif name == b"PublicationTypeList":
            types, retracted = _types(data[begin:end])
            record.types.extend(types)
            record.retracted = record.retracted or retracted
        elif name == b"VernacularTitle":
            record.vernacular_title = title_of(_mixed(data[begin:end]))
        elif name == b"Journal":
            raise Unusual
    return _end(END_OF_ARTICLE, data, at)


def _rest_of_citation(record: Record, data: bytes, at: int, rules: AbstractRules) -> int:
    """Read the children of MedlineCitation behind Article; returns where it ends."""
    while match := CHILD.match(data, at):
        name, attributes = match.groups()
        begin = match.end()
        end, at = _skip(data, name, attributes, begin)
        if name == b"CommentsCorrectionsList":
            _links(record, data, match.start(1) - 1, at)
        elif name == b"OtherID":
            record.pmcid = pmcid_of(_text(data[begin:end])) or record.pmcid
        elif name in (b"PMID", b"Article") or (name == b"OtherAbstract" and rules.want_others):
            raise Unusual
    return _end(END_OF_CITATION, data, at)


def _pubmed_data(record: Record, data: bytes, at: int, own: bool) -> int:
    """Read the children of PubmedData; returns where the last of them ends. ``own``: the record's own list is past."""
    while match := CHILD.match(data, at):
        name, begin = match[1], match.end()
        end, at = _skip(data, name, match[2], begin)
        if name != b"ArticleIdList":
            record.any_pmcid = record.any_pmcid or _names_pmcid(data, match.start(1) - 1, at)
        elif own:
            raise Unusual
        else:
            own = True
            _identifiers(record, data[begin:end])
    return at


def _skip(data: bytes, name: bytes, attributes: bytes, begin: int) -> tuple[int, int]:
    """Where the content of an element ends, and where its end tag does.

    The first end tag of that name is taken. Should it close an element of the same name inside, then the walk goes on
    one level too deep, from where it cannot come back (each element that is skipped ends on its own level or below),
    and finds no end of the parent where it must be: that is unusual.
    """
    tag = b"</" + name + b">"
    end = data.find(tag, begin)
    if end < 0 or b"xmlns" in attributes:
        raise Unusual
    return end, end + len(tag)


def _end(tag: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = tag.match(data, at)
    if match is None:
        raise Unusual
    return match.end()


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
    return plain_text(_fragment(b"<t>" + content + b"</t>")) if b"<" in content else _text(content)


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
    found = SECTION.findall(content)
    if 2 * len(found) == content.count(b"<"):
        sections = [
            (normalise(label.decode()) if label else "", _text(text))
            for label, text, copyright in found
            if not copyright
        ]
    else:
        sections = list(sections_of(_fragment(b"<t>" + content + b"</t>")))
    return join_sections(sections, rules.labels)


@lru_cache(maxsize=4096)
def _types(content: bytes) -> tuple[list[str], bool]:
    """The publication types and whether one says that the paper is retracted; few lists make up nearly all records."""
    found = TYPE.findall(content)
    if 2 * len(found) != content.count(b"<"):
        raise Unusual
    types = [_text(text) for _, text in found]
    return types, RETRACTED_TYPE in types or RETRACTED_UI.encode() in (ui for ui, _ in found)


def _links(record: Record, data: bytes, begin: int, end: int) -> None:
    if data.find(b"Retract", begin, end) >= 0 or data.find(b"ConcernIn", begin, end) >= 0:
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
    if data.find(b'<ArticleId IdType="pmc">', begin, end) >= 0:
        return True
    if data.find(b'"pmc"', begin, end) >= 0 or data.find(b"'pmc'", begin, end) >= 0:
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
