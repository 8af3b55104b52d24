"""``pmc=sample``: full-text files made on the spot, offline, with the shapes of real ones and invented content.

The same settings give the same bytes. Four shapes: a container as the bucket's downloader packs it (metadata beside
the XML), an old bulk tarball with its file list, a file of many articles as Europe PMC has them, and loose files. On
the way: licences of every kind, a retracted article, an author manuscript, metadata without text, two versions of one
article, namespaces, tables, figures, formulas, citations, and a correction. The PMCIDs are those that the citations of
``pubmed=sample`` name, so that abstracts and their full text meet.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from base.progress import progress
from base.storage import write_bytes
from data_prep.download.sample import FIRST_PMID
from data_prep.download.sample_text import Drug, article, drugs
from data_prep.schema import Sample

FIRST_PMCID = 9_000_000  # as the citations of ``pubmed=sample`` count
LICENSES = ("CC BY", "CC BY", "CC BY", "CC BY", "CC BY-NC", "CC BY-NC-ND", "CC0", "CC BY-SA", "TDM", None)
URLS = {
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    **{f"CC {kind}": f"https://creativecommons.org/licenses/{kind.lower()}/4.0/" for kind in (
        "BY", "BY-SA", "BY-NC", "BY-NC-ND",
    )},
}  # fmt: skip
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving and Interchange DTD v1.2 20190208//EN"
                         "JATS-archivearticle1.dtd">
"""
FORMULA = (
    '<disp-formula><label>(1)</label><mml:math xmlns:mml="http://www.w3.org/1998/Math/MathML"><mml:mi>k</mml:mi><mml:mo>='
    "</mml:mo><mml:mfrac><mml:mi>D</mml:mi><mml:mi>V</mml:mi></mml:mfrac></mml:math></disp-formula>"
)
BACK = (
    "<back><ack><p>We thank nobody, for nobody helped.</p></ack><ref-list><ref id='r1'><mixed-citation>Invented J. "
    "2001.</mixed-citation></ref><ref id='r2'><mixed-citation>Invented J. 2002.</mixed-citation></ref></ref-list>"
    "</back>"
)


@dataclass(frozen=True)
class Made:
    """What one invented article says, as XML text."""

    pmcid: int
    pmid: int
    title: str
    abstract: Sequence[tuple[str, str]]
    body: Sequence[tuple[str, str]]
    license: str | None
    version: int = 1
    year: int = 2020
    kind: str = "research-article"
    retracted: bool = False
    fetched: bool = True


def write_articles(folder: Path, settings: Sample) -> list[str]:
    """Write the files into the folder; returns their names in order."""
    random = Random(settings.seed + 1)
    known = drugs(random, 60)
    with progress("sample", settings.articles, "articles") as advance:
        made = []
        for number in range(settings.articles):
            made.append(_article(random, known, number))
            advance(1)
    tenth = settings.articles // 10
    packed, bulk, europe, loose = (
        made[: 5 * tenth],
        made[5 * tenth : 7 * tenth],
        made[7 * tenth : -tenth],
        made[-tenth:],
    )
    packed.append(replace(packed[0], version=2, title=f"{packed[0].title} Second version."))
    packed[1], packed[2] = replace(packed[1], retracted=True), replace(packed[2], fetched=False)
    files = {
        "pmc-00000.tar.gz": _tarball(_bucket_members(packed)),
        "oa_comm_xml.PMC009xxxxxx.baseline.2025-06-26.tar.gz": _tarball(
            (f"PMC009xxxxxx/PMC{one.pmcid}.xml", article_xml(one).encode()) for one in bulk
        ),
        "oa_comm_xml.PMC009xxxxxx.baseline.2025-06-26.filelist.csv": _file_list(bulk),
        f"PMC{europe[0].pmcid}_PMC{europe[-1].pmcid}.xml.gz": gzip.compress(
            "".join(["<articles>", *(article_xml(one, head="") for one in europe), "</articles>\n"]).encode(), mtime=0
        ),
        **{f"made-{one.pmid}.nxml": article_xml(one).encode() for one in loose},
    }
    for name, data in files.items():
        write_bytes(str(folder / name), data)
    return list(files)


def article_xml(made: Made, head: str = HEAD) -> str:
    """One article as JATS."""
    license_tag = ""
    if made.license in URLS:
        license_tag = (
            f'<permissions><license xlink:href="{URLS[made.license]}"><license-p>Open access. The data are under the '
            'waiver <ext-link xlink:href="http://creativecommons.org/publicdomain/zero/1.0/">CC0</ext-link>.</license-p>'
            "</license></permissions>"
        )
    abstract = "".join(f"<sec><title>{title.capitalize()}</title><p>{text}</p></sec>" for title, text in made.abstract)
    body = "".join(f"<sec><title>{title}</title>{text}</sec>" for title, text in made.body)
    manuscript = '<article-id pub-id-type="manuscript">NIHMS1</article-id>' if made.license == "TDM" else ""
    return (
        f'{head}<article xmlns:xlink="http://www.w3.org/1999/xlink" article-type="{made.kind}" xml:lang="en"><front>'
        "<journal-meta><journal-title-group><journal-title>Invented journal of medicine</journal-title>"
        f'</journal-title-group></journal-meta><article-meta><article-id pub-id-type="pmc">{made.pmcid}</article-id>'
        f'<article-id pub-id-type="pmid">{made.pmid}</article-id>{manuscript}<article-categories><subj-group><subject>'
        "Invented findings</subject></subj-group></article-categories><title-group><article-title>"
        f'{made.title}</article-title></title-group><pub-date pub-type="epub"><year>{made.year}</year></pub-date>'
        f"{license_tag}<abstract>{abstract}</abstract></article-meta></front><body>{body}</body>{BACK}</article>\n"
    )


def metadata_json(made: Made) -> bytes:
    """The bucket's metadata of it."""
    name = f"PMC{made.pmcid}.{made.version}"
    return json.dumps(
        {
            "pmcid": f"PMC{made.pmcid}", "version": made.version, "pmid": made.pmid, "doi": None, "title": made.title,
            "citation": f"Invented J. {made.year}", "is_pmc_openaccess": made.license != "TDM",
            "is_manuscript": made.license == "TDM", "is_historical_ocr": False, "is_retracted": made.retracted,
            "license_code": made.license, "xml_url": f"s3://pmc-oa-opendata/{name}/{name}.xml",
        }
    ).encode()  # fmt: skip


def _article(random: Random, known: list[Drug], number: int) -> Made:
    drug = random.choice(known)
    title, abstract = article(random, [drug])
    paragraphs = [article(random, [drug])[1] for _ in range(3)]
    cited = ' [<xref ref-type="bibr" rid="r1">1</xref>,<xref ref-type="bibr" rid="r2">2</xref>].'
    body = []
    for index, (name, _) in enumerate(abstract):
        text = "".join(f"<p>{sections[index][1].removesuffix('.')}{cited}</p>" for sections in paragraphs)
        body.append((name.capitalize(), text))
    body[1] = (body[1][0], body[1][1] + (FORMULA if random.random() < 0.2 else ""))
    cells = "".join(f"<tr><td>Group {name}</td><td>{random.randint(10, 90)}</td></tr>" for name in "AB")
    body[2] = (
        body[2][0],
        f'{body[2][1]}<table-wrap id="t1"><label>Table 1</label><caption><title>Patients by group</title></caption>'
        f"<table>{cells}</table></table-wrap><fig><label>Figure 1</label><caption><p>Course of {drug.name}.</p>"
        "</caption></fig>",
    )
    body.append(("Competing interests", "<p>The author is invented.</p>"))
    pmid = FIRST_PMID + 3 * number + (-FIRST_PMID) % 3
    return Made(
        FIRST_PMCID + pmid - FIRST_PMID, pmid, title, abstract, body, LICENSES[number % len(LICENSES)],
        year=random.randint(2000, 2025), kind="correction" if number % 17 == 16 else "research-article",
    )  # fmt: skip


def _bucket_members(articles: Iterable[Made]) -> Iterable[tuple[str, bytes]]:
    for one in sorted(articles, key=lambda made: (made.pmcid, made.version)):
        name = f"PMC{one.pmcid}.{one.version}"
        yield f"{name}.json", metadata_json(one)
        if one.fetched:
            yield f"{name}.xml", article_xml(one).encode()


def _file_list(articles: Iterable[Made]) -> bytes:
    rows = [
        f"PMC009xxxxxx/PMC{one.pmcid}.xml,Invented J. {one.year},PMC{one.pmcid},2025-06-01 00:00:00,{one.pmid},"
        f"{one.license or 'NO-CC CODE'},{'yes' if one.retracted else 'no'}\n"
        for one in articles
    ]
    head = "Article File,Article Citation,Accession ID,Last Updated (YYYY-MM-DD HH:MM:SS),PMID,License,Retracted\n"
    return "".join([head, *rows]).encode()


def _tarball(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Packed without times or owners: the same members give the same bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()
