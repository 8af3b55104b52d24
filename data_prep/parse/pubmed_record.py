"""What a PubMed record is to us, and the rules on its texts that hold however the record was read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Labels = Literal["keep", "drop"]

TRUNCATION = re.compile(r"\s*\(?\s*ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\s*\)?\s*\.?\s*$")
LABELS_WITHOUT_MEANING = {"", "UNLABELLED", "UNLABELED", "UNASSIGNED"}
PHRASE_INSTEAD_OF_ABSTRACT = re.compile(r"^abstract available from the publisher\.?$", re.I)
TITLES_WITHOUT_MEANING = {"", "Not Available.", "In Process Citation."}  # NLM has them in brackets
PLAIN_LANGUAGE, PLAIN_LANGUAGE_LABEL = "plain-language-summary", "PLAIN LANGUAGE SUMMARY"
YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
PMCID = re.compile(r"\s*PMC(\d{1,18})(?!\d)")
RETRACTED_TYPE, RETRACTED_UI = "Retracted Publication", "D016441"
RETRACTING_LINKS = {"RetractionIn", "RetractedandRepublishedIn"}
CONCERN_LINK = "ExpressionOfConcernIn"


@dataclass(slots=True)
class Record:
    """A citation as its file has it; texts are on one line and normalised, the abstract one line a section.

    Attributes:
        pmid: None when the record has none, or none that is a number.
        kind: ``article``, ``book``, or ``unknown:ELEMENT`` for an element that NLM's DTD does not have there.
        title: the English one, without the brackets in which NLM puts titles that it translated; the vernacular one
            where there is no other.
        truncated: NLM cut the abstract off (1975-1995); the mark is taken away.
        languages: of the article, three letters each; NLM's abstracts are English nearly always.
        types: NLM's publication types.
        retracted: the paper, not the notice of it; also when it was retracted and republished.
        concern: an expression of concern is out.
        pmcid: the number of the record's own full text in PMC; never that of a cited work.
        any_pmcid: the record names any PMCID at all, cited works included. The Pile dropped such records.
        doi: of the record itself, as it is written.
    """

    kind: str = "article"
    pmid: int | None = None
    version: int = 1
    title: str = ""
    vernacular_title: str = ""
    abstract: str = ""
    truncated: bool = False
    languages: tuple[str, ...] = ()
    journal: str = ""
    year: int | None = None
    types: tuple[str, ...] = ()
    retracted: bool = False
    concern: bool = False
    pmcid: int | None = None
    any_pmcid: bool = False
    doi: str | None = None


@dataclass(slots=True)
class Deletion:
    """An order to remove a citation, from this file or from an earlier one."""

    pmid: int | None
    version: int


@dataclass(frozen=True, slots=True)
class AbstractRules:
    """What the user wants of abstracts.

    Attributes:
        labels: ``keep``: ``LABEL: text``, one line a section; ``drop``: the sections in one line, as in The Pile.
        other_abstracts: use an English OtherAbstract where there is no abstract.
        plain_language: add the English plain-language summary as a last section.
    """

    labels: Labels = "keep"
    other_abstracts: bool = False
    plain_language: bool = False

    @property
    def want_others(self) -> bool:
        """Whether OtherAbstract is looked at at all."""
        return self.other_abstracts or self.plain_language


def pmid_of(text: str, version: str) -> tuple[int | None, int]:
    """The number (None when it is none) and its version."""
    digits = text.strip()
    return (
        int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None,
        int(version) if version.isascii() and version.isdigit() and len(version) <= 4 else 1,
    )


def pmcid_of(text: str) -> int | None:
    """``PMC123``, ``PMC123.2`` and ``PMC123 [Available on 07/16/16]`` → 123."""
    match = PMCID.match(text)
    return int(match[1]) if match else None


def year_of(year: str, medline_date: str) -> int | None:
    """From ``Year``, or else the first year in ``MedlineDate`` (``1998 Dec-1999 Jan``)."""
    if not (len(year) == 4 and year.isascii() and year.isdigit()):
        match = YEAR.search(year or medline_date)
        year = match[1] if match else ""
    return int(year) if year else None


def title_of(title: str) -> str:
    """NLM puts titles that it translated in brackets: ``[Title].`` → ``Title.``"""
    if not title.startswith("["):
        return title
    inner = title[1:].removesuffix(".").removesuffix("]")
    if title.endswith(("]", "].")) and "[" not in inner and "]" not in inner:
        return inner + ("" if inner.endswith((".", "?", "!")) else ".")
    return title


def finish(record: Record) -> Record:
    """Where the English title says nothing, the vernacular one is the title."""
    if record.title in TITLES_WITHOUT_MEANING:
        record.title = record.vernacular_title
    return record


def join_sections(sections: Iterable[tuple[str, str]], labels: Labels) -> tuple[str, bool]:
    """(label, text) of each section, normalised → the abstract, and whether NLM had cut it off."""
    parts, truncated = [], False
    for label, text in sections:
        if "ABSTRACT TRUNCATED" in text:
            text, cuts = TRUNCATION.subn("", text)
            truncated = truncated or cuts > 0
        if text and label and labels == "keep":
            label = label.rstrip(":").rstrip()
            if label.upper() not in LABELS_WITHOUT_MEANING:
                text = f"{label}: {text}"
        if text:
            parts.append(text)
    return ("\n" if labels == "keep" else " ").join(parts), truncated
