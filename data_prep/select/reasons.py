"""Why a record is not kept: every reason that ``ledger.json`` may name, and what it means to a reader."""

REASONS: dict[str, str] = {
    "no_pmid": "It carries no PMID, or none that is a number.",
    "unknown_element": "An element that NLM's DTD does not know stands where records stand.",
    "replaced": "A later record of the same PMID and version took its place.",
    "older_version": "Another version of the same PMID is higher.",
    "deleted": "NLM ordered it to be deleted.",
    "empty": "It has neither title nor abstract.",
    "title_only": "It has a title and no abstract.",
    "retracted": "The article was retracted.",
    "language": "None of the article's languages is wanted.",
    "duplicate": "Its text is that of another document, which was kept.",
}
