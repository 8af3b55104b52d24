"""One ``article`` element (NLM DTD 2.x and 3.0, JATS 1.0 to 1.3, with or without namespaces) → an :class:`Article`.

Names are compared without their namespace. Nothing is read from sub-articles, responses or references. ``text`` is
title, abstract, body and the captions of ``floats-group``, with a blank line between blocks.
"""

import re
from collections.abc import Iterable

from lxml.etree import _Element

from data_prep.parse import language, licenses
from data_prep.parse.article import Article
from data_prep.parse.jats_text import blocks_of, line_of
from data_prep.parse.plain_text import local_name, normalise
from data_prep.parse.refusal import Refused
from data_prep.schema import ParsePmc

XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# Anything else (toc, teaser, editor, graphical, summary, plain-language …) is not the paper's own abstract.
ABSTRACT_TYPES = frozenset((None, "", "abstract", "normal", "main", "author", "structured", "section", "background"))
YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
PMCID = re.compile(r"(?:PMC)?(\d{1,12})(?:\.(\d{1,3}))?", re.I)
RETRACTED_TITLE = re.compile(r"\W*(?:RETRACTED|WITHDRAWN)(?: ARTICLE| PAPER)?\s*:|\W*Retracted(?: Article)?:")


def read_article(element: _Element, settings: ParsePmc, place: str) -> Article:
    """Everything that an article says of itself.

    Args:
        element: an ``article``.
        place: where in its file it lies; see :class:`Article`.

    Returns:
        An article of kind ``article``; of ``malformed`` when an entity in its text is not defined in the file (what it
        stood for cannot be known, and to lose it would change the text) or when it is nested beyond all measure.
    """
    article = Article("article", place)
    try:
        _read_front(article, element, settings)
        _read_text(article, element, settings)
    except Refused as reason:
        article.kind, article.detail, article.text, article.body_words = "malformed", str(reason), "", 0
    except RecursionError:
        return Article("malformed", place, "its elements are nested too deeply", article.pmcid, article.version)
    article.license = licenses.from_permissions(_meta(element))
    article.license_from = "xml" if article.license else None
    return article


def _read_front(article: Article, element: _Element, settings: ParsePmc) -> None:
    article.article_type = element.get("article-type") or None
    meta = _meta(element)
    journal = element.find("{*}front/{*}journal-meta")
    if journal is not None:
        article.journal = _first_line(journal, settings, "journal-title", "journal-id")
    if meta is None:
        return
    _read_identifiers(article, meta)
    titles = meta.find("{*}title-group")
    if titles is not None:
        parts = [line_of(titles.find("{*}article-title"), settings)]
        parts += [line_of(one, settings) for one in titles.iterchildren("{*}subtitle")]
        article.title = _joined(parts)
    article.year = _year(meta)
    article.subjects = [
        subject for one in meta.iterfind("{*}article-categories//{*}subject") if (subject := line_of(one, settings))
    ]
    links = {one.get("related-article-type") for one in meta.iterchildren("{*}related-article")}
    # The retracted paper points forward to its notice; the notice ("retraction") is not retracted itself.
    article.retracted = (
        article.article_type in ("retracted-article", "withdrawn-article")
        or "retraction-forward" in links
        or RETRACTED_TITLE.match(article.title) is not None
    )


def _read_text(article: Article, element: _Element, settings: ParsePmc) -> None:
    abstract = []
    meta = _meta(element)
    if settings.abstract and meta is not None:
        abstract = _abstract(meta, settings)
    body = blocks_of(element.find("{*}body"), settings)
    for floats in element.iterchildren("{*}floats-group", "{*}floats-wrap"):
        body += blocks_of(floats, settings)
    article.body_words = sum(len(block.split()) for block in body)
    named = language.from_tag(element.get(XML_LANG))
    article.language = named or language.detect(article.title, " ".join(abstract or body))
    article.language_from = None if article.language is None else "xml" if named else "detected"
    if abstract and settings.headings:
        abstract.insert(0, "Abstract")
    article.text = "\n\n".join(block for block in (article.title, *abstract, *body) if block)


def _meta(element: _Element) -> _Element | None:
    return element.find("{*}front/{*}article-meta")


def _read_identifiers(article: Article, meta: _Element) -> None:
    """Only direct children: related articles and references carry identifiers of others."""
    for one in meta.iterchildren("{*}article-id"):
        kind, text = one.get("pub-id-type"), (one.text or "").strip()
        if kind in ("pmc", "pmcid", "pmcid-ver"):
            match = PMCID.fullmatch(text)
            if match:
                article.pmcid, article.version = int(match[1]), int(match[2] or article.version)
        elif kind == "pmid":
            article.pmid = int(text) if re.fullmatch(r"\d{1,12}", text) and text.isascii() else article.pmid
        elif kind == "doi":
            article.doi = text or article.doi
        elif kind == "manuscript":  # NIHMS123, EMS123: what an author handed in to a funder's archive
            article.manuscript = True


def _abstract(meta: _Element, settings: ParsePmc) -> list[str]:
    """The paper's own abstract; where there is none, the first of the others."""
    own: list[_Element] = []
    others: list[_Element] = []
    for one in meta.iterchildren("{*}abstract"):
        (own if one.get("abstract-type") in ABSTRACT_TYPES else others).append(one)
    for one in (*own, *others):
        blocks = blocks_of(one, settings, abstract=True)
        if blocks:
            return blocks
    return []


def _year(meta: _Element) -> int | None:
    """Of the earliest publication: print, electronic and PMC release each have a date."""
    found = (YEAR.search(date.findtext("{*}year") or "") for date in meta.iterchildren("{*}pub-date"))
    return min((int(match[1]) for match in found if match), default=None)


def _first_line(element: _Element, settings: ParsePmc, *names: str) -> str:
    for name in names:
        for found in element.iter(f"{{*}}{name}"):
            line = line_of(found, settings)
            if line:
                return line
    return ""


def _joined(parts: Iterable[str]) -> str:
    """``Title: subtitle``, without a second mark where the title ends in one."""
    title = ""
    for part in parts:
        if part:
            title = f"{title}{'' if title.endswith((':', '?', '!', '.')) else ':'} {part}" if title else part
    return normalise(title)


def is_article(element: _Element) -> bool:
    """Whether an element is an article, whatever its namespace."""
    return local_name(element) == "article"
