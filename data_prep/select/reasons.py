"""Why a record is not a document. The first reason that holds is the one that counts, in this order; but for overlap:
pile, which asks for an abstract's PMCID before its text is looked at."""

import numpy as np
from numpy.typing import NDArray

REASONS = {
    # what parsing found
    "no_pmid": "it carries no PMID, or none that is a number",
    "no_identifier": "a full text with neither a PMCID nor a DOI",
    "unknown_element": "an element that NLM's DTD does not know, where records stand",
    "malformed": "its XML is not well-formed, or declares entities of its own",
    "unreadable": "the system would not give its bytes; the next run tries again",
    "encoding": "its XML is not in UTF-8",
    "not_jats": "an XML file that holds no article",
    "too_large": "would take more than 250 MB of memory, or has more than 16 MB itself",
    "unsafe_member": "a link, or a name that leads out of its folder, in a tarball",
    "gone": "the inventory lists it, but the bucket no longer had it",
    # what the other files make of it
    "replaced": "a later record of the same identifier and version took its place",
    "older_version": "another version of the same identifier is higher, or is the published one of a manuscript",
    "deleted": "NLM deleted it",
    # rules that look at one record
    "excluded": "an article on the list of select.exclude (takedowns)",
    "empty": "no text at all",
    "title_only": "no abstract (select.require_abstract)",
    "retracted": "the article is retracted, by any of its records (select.drop_retracted)",
    "concern": "an expression of concern is out on the article (select.drop_concern)",
    "historical_ocr": "a scan of the 18th to 20th century, read by machine",
    "manuscript": "an author's manuscript (select.manuscripts)",
    "license": "its licence does not allow the use (select.license), or none could be found",
    "not_fetched": "its text was not fetched with the settings of that time; run the stage download again",
    "article_type": "a correction, an obituary and the like (select.drop_article_types)",
    "language": "not in a language that is wanted (select.languages, select.full_text_languages)",
    "no_body": "a full text of fewer words than select.quality.min_body_words behind its abstract",
    "few_words": "fewer words than select.quality.min_words",
    "many_words": "more words than select.quality.max_words",
    "few_letters": "a smaller share of letters than select.quality.min_letters: tables, sequences, broken text",
    "long_words": "a longer mean word than select.quality.max_mean_word_length: text without spaces",
    "repeated_lines": "a larger share of its characters in repeated lines than select.quality.max_repeated_lines",
    "contaminated_pmid": "a benchmark is made of it (select.decontaminate.drop_by_pmid)",
    "contaminated_ngram": "it holds text of a benchmark's question (select.decontaminate.drop_by_ngram)",
    # rules that look at all documents
    "overlap": "an abstract whose full text is kept (select.overlap: kept) or that has a PMCID (pile)",
    "duplicate": "the same text as a document that is kept (select.exact_duplicates)",
    "near_duplicate": "nearly the same text as a document that is kept (select.near_duplicates)",
}
NAMES = ("", *REASONS)  # the fate of a record is an index into these; 0: kept
CODES = {name: code for code, name in enumerate(NAMES)}
KEPT, IS_DELETION = 0, 255  # a deletion is an order, not a record

Broken = dict[str, NDArray[np.bool_]]  # by reason, in the order in which they count: for which records it holds


def first_broken(broken: Broken, number: int) -> NDArray[np.uint8]:
    """For each of so many records the code of the first reason that holds for it, or KEPT."""
    codes = np.full(number, KEPT, dtype=np.uint8)
    for reason in reversed(broken):
        codes[broken[reason]] = CODES[reason]
    return codes
