"""What is taken from one full-text article: the row that parsing JATS hands over."""

import hashlib
from dataclasses import dataclass, field


@dataclass(slots=True)
class Article:
    """One article, or one place in a file where an article should have been.

    Attributes:
        kind: ``article``, or why there is no text, in the words of the ledger: ``malformed`` (not well-formed XML),
            ``too_large``, ``unsafe_member`` (a link, or a name that leaves its folder, in a tarball), ``not_jats``,
            ``encoding``, ``unreadable`` (the system would not give its bytes), ``not_fetched`` (the bucket's metadata
            is there, the XML was not wanted), ``gone`` (the inventory lists it, the bucket no longer has it). With
            metadata beside it, any kind has its fields.
        place: where in its file it lies: the member of a tarball, the path of a loose file, or ``#3`` for the third
            article of a file of many.
        detail: more words on the kind, for the one who mends the file.
        text: title, abstract, sections with headings, in order; ready but for the rules of ``select``.
        license: as NLM's metadata writes it (``schema.License``); None when neither metadata nor XML tells.
        license_from: ``metadata``, ``xml`` or None.
        language: two letters; from ``xml:lang`` (``language_from`` = ``xml``) or detected (``detected``).
        md5: hex digest of the article's XML.
    """

    kind: str
    place: str
    detail: str | None = None
    pmcid: int | None = None
    version: int = 1
    pmid: int | None = None
    doi: str | None = None
    title: str = ""
    text: str = ""
    body_words: int = 0
    language: str | None = None
    language_from: str | None = None
    article_type: str | None = None
    license: str | None = None
    license_from: str | None = None
    retracted: bool = False
    manuscript: bool = False
    historical_ocr: bool = False
    year: int | None = None
    journal: str = ""
    subjects: list[str] = field(default_factory=list)
    md5: str | None = None


def spelled(name: str) -> str:
    """The name of a file or member as it can be written down: a byte E9 that is not UTF-8 becomes ``\\udce9``."""
    return name.encode("utf-8", "backslashreplace").decode()


def doi_key(doi: str) -> int:
    """A DOI as 64 bits, whatever its case: what full texts and abstracts are matched by."""
    return int.from_bytes(hashlib.blake2b(doi.strip().lower().encode(), digest_size=8).digest())
