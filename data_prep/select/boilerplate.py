"""Sentences that publishers add to texts: rights, licences, disclaimers, declarations, forms. They say nothing that is
worth learning, and stand in thousands of documents.

Only formulas go, by patterns that ask for the beginning of a sentence and for its formula: a study of conflicts of
interest keeps its sentences about them, and so does a paper on software that is available somewhere.

===============  ======================================================================================================
copyright        "Copyright 2011 …", "© The Author(s) 2020 …" and what follows it on its line; NLM's own field for it is
                 not read at all, but many abstracts have it in their text
rights           "All rights reserved."
published_by     "Published by Elsevier Ltd." and the like
licence          "This is an open access article distributed under …", where to find the licence, what it allows
disclaimer       publishers' notes on neutrality and on whose opinions these are
interests        "The authors declare no competing interests.", where to find disclosures
data_statement   "The data that support the findings of this study are available …", "All relevant data are within …"
review_form      questions of PLOS's form for reviewers, reviewers' answers, notes on publishing them
refinement       how SHELX refined a crystal structure: the same sentences in every report
part_doi         "DOI: http://dx.doi.org/10.7554/eLife.00001.002", behind abstracts, figures and tables of eLife
===============  ======================================================================================================
"""

import re
from collections import Counter
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.select.run_filter import RunFilter
from data_prep.select.words import Words, runs_beginning_at, runs_of, utf8_of, with_others, words_of

# Each rule's texts hold one of these runs of words, which others rarely do; a text without any is not looked at.
TRIGGERS = (
    "copyright", "copyrighted", "reserved", "licensee", "commons", "creativecommons", "unrestricted", "elsevier",
    "wiley", "springer", "karger", "lippincott", "mosby", "thieme", "saunders", "blackwell", "jurisdictional",
    "disclaimer", "the publisher", "publisher s", "publisher’s", "competing", "conflict of interest",
    "conflicts of interest", "disclosure", "disclosures", "proprietary", "commercial interest", "financial interest",
    "support the findings", "supporting the findings", "during the current", "all relevant data", "sharing is not",
    "sharing not applicable", "data availability", "reviewer", "plos one", "technically sound", "reflections",
    "goodness of fit", "7554 elife", *(f"c {year}" for year in range(1990, 2011)),
)  # fmt: skip

PUBLISHER = "(?:elsevier|(?:john )?wiley|springer|(?:s\\. ?)?karger|lippincott|mosby|thieme|saunders|blackwell)"
AUTHORS = "(?:the |all (?:of )?(?:the )?|both )?(?:co-?|study |other )?(?:authors?|investigators)"
DECLARE = "(?:have |has )?(?:also )?(?:declared?|reported|reports?|disclosed?|state[sd]?|have|has|had|indicated?)"
OTHER_INTERESTS = "(?:proprietary|commercial|financial)[\\w ,]{0,40}\\binterests?\\b"
INTERESTS = f"(?:competing|conflict(?:ing|s)?\\b|{OTHER_INTERESTS}|disclosures?\\b)"
LABEL = "(?:(?:financial )?(?:disclosures?|conflicts? of interests?|competing interests?)(?: statement|\\(s\\))?: ?)?"
DEVIATIONS = "(?:e\\.? ?s\\.? ?d\\.?|s\\.? ?u\\.?|esds?)\\W{0,2}s?"

# From the notice to the end of its line, behind an end of a sentence or glued to it.
NOTICE = re.compile(
    r"(?:^|(?<=[.!?)\]])) ?(?:"
    r"(?:crown )?copyright\s*(?:©|\(c\)|\d{4}\b|by\b|(?:remains|is) (?:with|held|retained)\b|$)"
    r"|this article is protected by copyright"
    r"|©\s*(?:\d{4}|copyright|by\b|(?:the )?authors?\b|(?-i:[A-Z]))"
    r"|\(c\)\s*(?:19|20)\d\d,? (?:by )?(?:the )?(?-i:[A-Z])"
    r").{0,400}$",
    re.I | re.M,
)
COPYRIGHT_SIGN = "©".encode()
SIGNS = ("©", "opyright", "OPYRIGHT", "(c)", "(C)")  # one of these is in each notice
# A sentence goes as a whole when it begins, in lower case, with one of these.
SENTENCES = {
    "rights": (r"all rights (?:are )?reserved\b",),
    "published_by": (rf"published (?:\d{{4}} )?by {PUBLISHER}.{{0,80}}$",),
    "licence": (
        r"this is an open[- ]access (?:article|journal|paper)\b.{0,80}\b(?:distribut|licen|terms|creative)",
        r"this (?:article|work|paper) is (?:distributed|licensed|published|made available)\b.{0,120}\bcreative commons",
        r"(?:the )?creative commons (?:public domain dedication|licen[cs]e|attribution)\b.{0,160}\b(?:applies|permits)",
        r"the images or other third[- ]party material in this article",
        r"to view a copy of this licen[cs]e",
        r"if (?:the )?material is not included\b.{0,80}\bcreative commons",
        r"(?:which|this) permits unrestricted\b.{0,80}\b(?:use|reproduction|distribution)",
    ),
    "disclaimer": (
        r"(?:springer nature|the (?:publisher|journal)) remains? neutral with regard to",
        r"(?:disclaimer/)?publisher[’']?s[’']? (?:note|disclaimer)\b",
        r"all claims expressed in this article are solely",
        r"any product that may be evaluated in this article\b.{0,120}\bpublisher",
        r"the (?:statements|opinions|views)[\w ,]{0,80} solely those of the (?:individual )?authors?\b",
    ),
    "interests": (
        rf"{LABEL}{AUTHORS} {DECLARE}\b(?: that)?(?: (?:they|he|she|there))?(?: (?:have|has|had|are|is))?"
        rf" no\b[\w ,()-]{{0,60}}?{INTERESTS}[^0-9%]{{0,160}}$",
        rf"{LABEL}no\b[\w ,()-]{{0,60}}?{INTERESTS}[\w ,]{{0,30}}"
        r"\b(?:(?:were|was|are|is|to be) )?(?:declared|disclosed|to (?:declare|disclose|report))\.?$",
        rf"there (?:are|is) no (?:potential |known )?{INTERESTS}[\w ,]{{0,30}}(?:to (?:declare|disclose|report))?\.?$",
        rf"{LABEL}proprietary or commercial disclosures? may be found",
        r"(?:conflicts? of interests?|competing (?:financial )?interests?|financial disclosures?)(?: statement)?"
        r"(?:[:.] ?(?:none|nil)\b.{0,20})?[:.]?$",
    ),
    "data_statement": (
        r"(?:the )?(?:\w+ )?(?:data|datasets?|materials?)(?: sets?)?[\w ,/()-]{0,60}"
        r"(?:support(?:ing)? the findings|during (?:and/or analy[sz]ed during )?the current study)\b.{0,60}"
        r"\b(?:available|included|deposited|accessible)",
        r"all relevant data (?:are|is) (?:\w+ )?(?:within|included|available|contained|provided|in)\b",
        r"data sharing (?:is )?not applicable",
        r"data availability(?: statement)?[:.]?$",
    ),
    "review_form": (
        r"is the manuscript (?:technically sound|presented in an intelligible fashion)",
        r"has the statistical analysis been performed appropriately and",
        r"have the authors made all data underlying",
        r"review comments to the author",
        r"plos authors have the option to publish the peer review",
        r"the plos data policy requires",
        r"plos one does not copyedit",
        r"if you choose .{1,6} your identity will remain anonymous",
        r"reviewer #\d+: ?(?:yes|no|partly|partially|\(no response\)|n/a|i don.t know)?$",
    ),
    "refinement": (
        r"refinement of f\W{0,2}2\W? against",
        r"the weighted r-? ?factor,? wr,? and goodness of fit",
        r"the threshold expression of f",
        r"r-? ?factors based on f\W{0,2}2",
        rf"all {DEVIATIONS} (?:are estimated|\(except)",
        rf"the cell {DEVIATIONS} are taken into account",
        rf"correlations between {DEVIATIONS} in cell parameters",
        r"an approximate \(isotropic\) treatment of cell",
    ),
    "part_doi": (r"doi: ?https?://(?:dx\.)?doi\.org/10\.7554/elife\.\d+\.\d+\.?$",),
}
OPENS = re.compile("|".join(f"(?P<{rule}>{'|'.join(patterns)})" for rule, patterns in SENTENCES.items()))
# Between sentences: an end of line, or a space between an end and a beginning. One character first: so it is fast.
BETWEEN = re.compile(r"(\n|[ ](?<=[.!?)\]][ ])(?=[A-Z0-9(©]))")


def strip_all(texts: pa.Array, words: Words) -> tuple[pa.Array, Words, dict[int, Counter[str]]]:
    """A batch without boilerplate: the texts, their words, and for each text that changed how often each rule hit it.

    ``words`` are those of the given texts; only those of texts that change are made anew.
    """
    stripped, hits = {}, {}
    for place in candidates(texts, words).tolist():
        text, counts = strip(texts[place].as_py())
        if counts:
            stripped[place], hits[place] = text, counts
    places, others = list(stripped), pa.array(stripped.values(), texts.type)
    return _with_others(texts, places, others), with_others(words, places, words_of(others)), hits


def strip_some(texts: pa.Array, which: NDArray[np.bool_]) -> pa.Array:
    """The texts, those without their boilerplate for which ``which`` is true."""
    places = np.flatnonzero(which).tolist()
    return _with_others(texts, places, pa.array([strip(texts[place].as_py())[0] for place in places], texts.type))


def _with_others(texts: pa.Array, places: list[int], others: pa.Array) -> pa.Array:
    """The texts with others at these places (rising)."""
    if not places:
        return texts
    mask = np.zeros(len(texts), dtype=bool)
    mask[places] = True
    return pc.replace_with_mask(texts, mask, others)


def candidates(texts: pa.Array, words: Words) -> NDArray[np.int64]:
    """The texts that may hold boilerplate, rising; all others hold none. ``words`` are those of the texts."""
    data, offsets = utf8_of(texts)
    signs = np.flatnonzero(data[:-1] == COPYRIGHT_SIGN[0])
    found = [np.searchsorted(offsets, signs[data[signs + 1] == COPYRIGHT_SIGN[1]], side="right") - 1]
    for passing, hashes in _triggers():
        places = passing.passed_in(words)
        places = places[np.isin(runs_beginning_at(words, passing.length, places), hashes)]
        found.append(np.searchsorted(words.offsets, places, side="right") - 1)
    return np.unique(np.concatenate(found))


def strip(text: str) -> tuple[str, Counter[str]]:
    """The text without boilerplate, and how often each rule took something out.

    Spaces around what goes, and lines that become empty, go too; a text that no rule hits comes back as it is.
    """
    counts: Counter[str] = Counter()
    if any(sign in text for sign in SIGNS):
        text, notices = NOTICE.subn("", text)
        if notices:
            counts["copyright"] = notices
    pieces = ["", *BETWEEN.split(text)]  # what stands before each sentence, and the sentence
    kept: list[str] = []
    line_feed = False  # where a line begins with what goes, what comes next begins it
    for before, sentence in zip(pieces[::2], pieces[1::2], strict=True):
        line_feed = line_feed or "\n" in before
        if opens := OPENS.match(sentence.lower()):
            counts[str(opens.lastgroup)] += 1
            continue
        kept += ["\n" if line_feed else before, sentence]
        line_feed = False
    if not counts:
        return text, counts
    lines = (line.strip() for line in "".join(kept).split("\n"))
    return "\n".join(line for line in lines if line), counts


@cache
def _triggers() -> list[tuple[RunFilter, NDArray[np.uint64]]]:
    """By length, the hashes of TRIGGERS and a filter for them."""
    triggers = []
    for length in np.unique(words_of(TRIGGERS).counts).tolist():
        of_length = [trigger for trigger in TRIGGERS if len(trigger.split()) == length]
        hashes = runs_of(words_of(of_length), length).hashes
        triggers.append((RunFilter.of(length, hashes), hashes))
    return triggers
