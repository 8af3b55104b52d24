"""``pubmed=sample``: PubMed files made on the spot, offline, with the shapes of NLM's real ones and invented content.

The same settings give the same bytes. The first file has the root that NLM used until 2016; the last is an update
file: revisions of earlier citations, a second version, a retraction, deletions. On the way: structured and plain
abstracts, inline markup, a formula, titles without abstract, translated titles, copyright lines, cut-off abstracts,
cited PMIDs and PMCIDs, a book, and the same text under two PMIDs.
"""

import gzip
import hashlib
import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from base.progress import progress
from base.storage import write_bytes
from data_prep.download.sample_text import Drug, article, drugs
from data_prep.schema import Sample

FIRST_PMID = 90_000_001  # beyond what NLM has given out
OLD_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE MedlineCitationSet PUBLIC "-//NLM//DTD Medline Citation, 1st January, 2016//EN"
                                    "https://www.nlm.nih.gov/databases/dtd/nlmmedlinecitationset_160101.dtd">
<MedlineCitationSet>
"""
NEW_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">
<PubmedArticleSet>
"""
FORMULA = (
    ' The clearance was estimated as <mml:math xmlns:mml="http://www.w3.org/1998/Math/MathML"><mml:mfrac><mml:mi>D</mml:mi>'
    "<mml:msub><mml:mi>C</mml:mi><mml:mn>0</mml:mn></mml:msub></mml:mfrac></mml:math>."
)
BOOK = """<PubmedBookArticle><BookDocument><PMID Version="1">{pmid}</PMID><Book><Publisher><PublisherName>Invented House
</PublisherName></Publisher><BookTitle book="made">A Made-up Handbook</BookTitle><PubDate><Year>2021</Year></PubDate>
</Book>
<ArticleTitle book="made" part="one">{title}</ArticleTitle><Language>eng</Language><PublicationType UI="D016454">Review
</PublicationType><Abstract><AbstractText>{text}</AbstractText></Abstract></BookDocument></PubmedBookArticle>
"""


@dataclass(frozen=True)
class Citation:
    """What one record says, as XML text."""

    pmid: int
    title: str
    sections: tuple[tuple[str, str], ...]
    version: int = 1
    year: int = 2020
    labelled: bool = False
    language: str = "eng"
    copyright: bool = False
    truncated: bool = False
    retracted: bool = False
    cites: tuple[int, ...] = field(default=())


def write_sample(folder: Path, settings: Sample) -> list[str]:
    """Write the files, each with its ``.md5``; returns their names in order."""
    random = Random(settings.seed)
    known = drugs(random, 120)
    per_file = settings.citations // settings.files
    names: list[str] = []
    seen: list[Citation] = []
    with progress("sample", settings.files, "files") as advance:
        for number in range(settings.files):
            first = FIRST_PMID + len(seen)
            citations = [_citation(random, known, first + index) for index in range(per_file)]
            seen += citations
            if number == 0:
                name, text = "medline16n0001.xml.gz", OLD_HEAD + "".join(map(_medline, citations)) + _end("Medline")
            else:
                name = f"pubmed26n{number:04d}.xml.gz"
                update = _update(random, known, seen) if number == settings.files - 1 else ""
                text = NEW_HEAD + "".join(map(_pubmed, citations)) + update + _end("Pubmed")
            _write(folder / name, text)
            names.append(name)
            advance(1)
    return names


def _citation(random: Random, known: list[Drug], pmid: int) -> Citation:
    title, sections = article(random, known)
    kind = random.random()
    if kind < 0.08:
        return Citation(pmid, title, (), year=random.randint(1975, 2025))
    if kind < 0.1:
        sections[-1] = (sections[-1][0], sections[-1][1] + FORMULA)
    return Citation(
        pmid, title, tuple(sections), year=random.randint(1975, 2025), labelled=random.random() < 0.4,
        language=random.choice(("fre", "ger", "spa")) if random.random() < 0.07 else "eng",
        copyright=random.random() < 0.25, truncated=random.random() < 0.01, retracted=random.random() < 0.005,
        cites=tuple(random.randint(FIRST_PMID, pmid) for _ in range(random.randint(0, 4))),
    )  # fmt: skip


def _update(random: Random, known: list[Drug], seen: list[Citation]) -> str:
    """What an update file has besides new citations: revised ones, versions, a copy, a book, deletions."""
    old = random.sample(seen[: len(seen) // 2], 12)
    revised = [replace(one, title=f"{one.title} Revised edition.", labelled=True) for one in old[:5]]
    revised.append(replace(old[5], version=2, title=f"{old[5].title} Second version."))
    revised.append(replace(old[6], retracted=True))
    new_pmid = seen[-1].pmid
    revised.append(replace(next(one for one in seen if one.sections), pmid=new_pmid + 1))
    title, sections = article(random, known)
    book = BOOK.format(pmid=new_pmid + 2, title=title, text=" ".join(text for _, text in sections))
    deleted = "".join(f'<PMID Version="1">{one.pmid}</PMID>' for one in old[7:])
    return "".join(map(_pubmed, revised)) + book + f"<DeleteCitation>{deleted}</DeleteCitation>\n"


def _pubmed(citation: Citation) -> str:
    cited = "".join(
        f'<Reference><Citation>Invented.</Citation><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId>'
        f'<ArticleId IdType="pmc">PMC{pmid - FIRST_PMID + 9_000_000}</ArticleId></ArticleIdList></Reference>'
        for pmid in citation.cites
    )
    own = f'<ArticleId IdType="pubmed">{citation.pmid}</ArticleId>'
    if citation.pmid % 3 == 0:
        own += f'<ArticleId IdType="pmc">PMC{citation.pmid - FIRST_PMID + 9_000_000}</ArticleId>'
    references = f"<ReferenceList>{cited}</ReferenceList>" if cited else ""
    return (
        f"<PubmedArticle>{_medline(citation)}<PubmedData><PublicationStatus>ppublish</PublicationStatus>"
        f"<ArticleIdList>{own}</ArticleIdList>{references}</PubmedData></PubmedArticle>\n"
    )


def _medline(citation: Citation) -> str:
    title = citation.title if citation.language == "eng" else f"[{citation.title.removesuffix('.')}]."
    types = '<PublicationType UI="D016428">Journal Article</PublicationType>'
    comments = "".join(
        f'<CommentsCorrections RefType="Cites"><RefSource>Invented J. 2001</RefSource><PMID Version="1">{pmid}</PMID>'
        "</CommentsCorrections>"
        for pmid in citation.cites
    )
    if citation.retracted:
        types += '<PublicationType UI="D016441">Retracted Publication</PublicationType>'
        comments += (
            '<CommentsCorrections RefType="RetractionIn"><RefSource>Invented J. 2024</RefSource></CommentsCorrections>'
        )
    if comments:
        comments = f"<CommentsCorrectionsList>{comments}</CommentsCorrectionsList>"
    return (
        f'<MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="{citation.version}">{citation.pmid}</PMID>'
        f'<Article PubModel="Print"><Journal><JournalIssue CitedMedium="Print"><PubDate><Year>{citation.year}</Year>'
        "</PubDate></JournalIssue><Title>Invented journal of medicine</Title></Journal>"
        f"<ArticleTitle>{title}</ArticleTitle>{_abstract(citation)}<Language>{citation.language}</Language>"
        f"<PublicationTypeList>{types}</PublicationTypeList></Article><MedlineJournalInfo>"
        f"<MedlineTA>Invented J</MedlineTA></MedlineJournalInfo>{comments}</MedlineCitation>\n"
    )


def _abstract(citation: Citation) -> str:
    if not citation.sections:
        return ""
    if citation.labelled:
        parts = "".join(
            f'<AbstractText Label="{label}" NlmCategory="{label}">{text}</AbstractText>'
            for label, text in citation.sections
        )
    else:
        mark = "(ABSTRACT TRUNCATED AT 250 WORDS)" if citation.truncated else ""
        parts = f"<AbstractText>{' '.join(text for _, text in citation.sections)}{mark}</AbstractText>"
    notice = "<CopyrightInformation>Copyright by nobody.</CopyrightInformation>" if citation.copyright else ""
    return f"<Abstract>{parts}{notice}</Abstract>"


def _end(kind: str) -> str:
    return f"</{kind}{'CitationSet' if kind == 'Medline' else 'ArticleSet'}>\n"


def _write(path: Path, text: str) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
        file.write(text.encode())
    data = packed.getvalue()
    write_bytes(f"{path}.md5", f"MD5({path.name})= {hashlib.md5(data).hexdigest()}\n".encode())
    write_bytes(str(path), data)
