"""Records read from bytes are the records read from trees, whatever the file is like; damage never crashes or hangs."""

import gzip
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from damage import damaged

from data_prep.download.sample import write_sample
from data_prep.parse.pubmed import read_pubmed, read_pubmed_as_tree
from data_prep.parse.pubmed_bytes import Unusual, read_record
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record
from data_prep.parse.pubmed_scan import Scanner
from data_prep.parse.refusal import Refused
from data_prep.parse.sources import find_sources
from data_prep.schema import Sample

RULES = (
    AbstractRules(),
    AbstractRules("drop", plain_language=True),
    AbstractRules(other_abstracts=True),
)
CHILD = re.compile(
    rb"<(PubmedArticle|PubmedBookArticle|DeleteCitation)>.*?</\1>|(?<=\n)<MedlineCitation .*?</MedlineCitation>", re.S
)


def outcome(path: Path, read: object, rules: AbstractRules) -> list[Record | Deletion] | str:
    try:
        return list(read(path, rules))  # type: ignore[operator]
    except Refused:
        return "refused"


def assert_both_forms_agree(path: Path, rules: AbstractRules) -> str:
    """Returns ``refused`` or ``read``."""
    fast, slow = (outcome(path, read, rules) for read in (read_pubmed, read_pubmed_as_tree))
    assert fast == slow, path
    return "refused" if fast == "refused" else "read"


def damaged_many_times(seeds: list[bytes], number: int, folder: Path) -> Counter[str]:
    """Read ``number`` damaged variants in both forms."""
    random, outcomes = Random(11), Counter[str]()
    for index in range(number):
        data = damaged(random.choice(seeds), random)
        if index % 5 == 0:
            data = gzip.compress(data, 1, mtime=0)
        if index % 10 == 0:
            data = damaged(data, random)
        path = folder / f"{index}.xml"
        path.write_bytes(data)
        outcomes[assert_both_forms_agree(path, random.choice(RULES))] += 1
        path.unlink()
    return outcomes


def pieces_of(data: bytes, records: int) -> list[bytes]:
    """Files of so many records each, with the head and the root of the given one."""
    first = CHILD.search(data)
    assert first is not None
    children = [match[0] for match in CHILD.finditer(data)]
    tail = b"\n</" + re.findall(rb"</(\w+)>\s*$", data)[0] + b">"
    return [
        data[: first.start()] + b"\n".join(children[at : at + records]) + tail
        for at in range(0, len(children), records)
    ]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("sample")
    return [gzip.decompress((folder / name).read_bytes()) for name in write_sample(folder, Sample(citations=150))]


def test_generated_files_are_read_alike_and_nearly_all_from_bytes(sample: list[bytes], tmp_path: Path) -> None:
    from_bytes = records = 0
    for data in sample:
        (tmp_path / "a.xml").write_bytes(data)
        for rules in RULES:
            assert assert_both_forms_agree(tmp_path / "a.xml", rules) == "read"
        for match in CHILD.finditer(data):
            if match[1] not in (b"PubmedBookArticle", b"DeleteCitation"):
                records += 1
                found = Scanner(b"").scan(match[0] + b"\0", 0)
                with suppress(Unusual):
                    read_record(match[0], found.rows[0], found.sections, RULES[0])
                    from_bytes += 1
    assert from_bytes > 0.95 * records > 100


def test_damaged_generated_files_are_read_alike_or_refused_alike(sample: list[bytes], tmp_path: Path) -> None:
    seeds = [piece for data in sample for piece in pieces_of(data, 3)]
    outcomes = damaged_many_times(seeds, 400, tmp_path)
    assert min(outcomes["read"], outcomes["refused"]) > 100, outcomes


CITATION = """<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="1">7</PMID><DateRevised><Year>2001</Year>
</DateRevised><Article PubModel="Print"><Journal><JournalIssue CitedMedium="Print"><PubDate><Year>2000</Year></PubDate>
</JournalIssue><Title>J Made</Title></Journal><ArticleTitle>A title</ArticleTitle><Abstract>
<AbstractText Label="AIMS" NlmCategory="OBJECTIVE">A text.</AbstractText></Abstract><AuthorList CompleteYN="Y"><Author>
<LastName>A</LastName></Author></AuthorList><Language>eng</Language><PublicationTypeList><PublicationType UI="D016428">
Journal Article</PublicationType></PublicationTypeList></Article><MedlineJournalInfo><MedlineTA>Made J</MedlineTA>
</MedlineJournalInfo><CitationSubset>IM</CitationSubset></MedlineCitation><PubmedData><History><PubMedPubDate/></History>
<ArticleIdList><ArticleId IdType="doi">10.1/a</ArticleId></ArticleIdList>
<ReferenceList><Reference><Citation>C</Citation></Reference></ReferenceList></PubmedData></PubmedArticle>"""


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("<Author>", "<AuthorList><Author/></AuthorList><Author>"),
        ("<Author>", "<Article><AuthorList></AuthorList></Article><Author>"),
        ("<Author>", "<Author><Language>ger</Language></Author><Author>"),
        ("</Article>", "</Article><PMID>8</PMID>"),
        ("</Article>", "</Article><Article><Language>fre</Language></Article>"),
        ("</Article>", "<ArticleTitle>Another</ArticleTitle></Article>"),
        ("</Article>", "<ArticleDate><Year>1999</Year></ArticleDate></Article>"),
        ("</Article>", '</Article><OtherID xmlns="a">PMC9</OtherID>'),
        ("</Article>", "</Article><OtherID>PMC9</OtherID><OtherID/>"),
        ("</Article>", "</Article><MeshHeadingList><MeshHeadingList/></MeshHeadingList>"),
        ("<Year>2000</Year>", "<Month>May</Month>"),
        ("<Title>J Made</Title>", "<Title> </Title>"),
        ("<Title>J Made</Title>", ""),
        ("<Language>eng</Language>", ""),
        ("<Language>eng</Language>", "<Language>eng</Language><New><Language>ger</Language></New>"),
        ("<Citation>C</Citation>", '<ArticleIdList><ArticleId IdType="pmc">5</ArticleId></ArticleIdList>'),
        ("<Citation>C</Citation>", '<A xmlns="a"><ArticleId IdType="pmc">5</ArticleId></A>'),
        ("<Citation>C</Citation>", "<ArticleId A='1' IdType='pmc'>5</ArticleId>"),
        ("<Citation>C</Citation>", '<ArticleId IdType="&#112;mc">5</ArticleId>'),
        ("<PubMedPubDate/>", '<ArticleId IdType="pmc">5</ArticleId>'),
        ("A text.", "a &amp;lt; b &lt; c &#60; d &#xa0;&#x2009; e &gt;&amp;&quot;&apos;"),
        ("A text.", "a\u00a0 b\u2009\u00ad c\u0301\u3000d\n e"),
        ("<AbstractText", "stray <AbstractText"),
        ("</Abstract>", "<CopyrightInformation>Theirs &amp; ours</CopyrightInformation></Abstract>"),
        ('Label="AIMS"', 'Label="A &amp; B:  "'),
        ('Label="AIMS"', "Label='AIMS'"),
        ("A title", "[A <i>title</i> of CO<sub>2</sub>]."),
        ("A title", "A <ArticleTitle>title</ArticleTitle>"),
        ("<PubmedData>", "<PubmedData><PubmedArticle></PubmedArticle>"),
    ],
)
def test_records_that_are_arranged_otherwise_are_read_alike(part: str, instead: str, tmp_path: Path) -> None:
    assert part in CITATION
    for changed in (CITATION, CITATION.replace(part, instead, 1)):
        (tmp_path / "a.xml").write_text(f"<PubmedArticleSet>{changed}{CITATION}</PubmedArticleSet>", encoding="utf-8")
        for rules in RULES:
            assert assert_both_forms_agree(tmp_path / "a.xml", rules) == "read"


def test_pieces_of_any_length_make_the_same_records(
    sample: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.xml").write_bytes(pieces_of(sample[1], 5)[0])
    expected = outcome(tmp_path / "a.xml", read_pubmed, RULES[0])
    monkeypatch.setattr("data_prep.parse.pubmed.HEAD", 300)
    for size in (1, 2, 7, 64, 1000):
        monkeypatch.setattr("data_prep.parse.pubmed.CHUNK", size)
        assert outcome(tmp_path / "a.xml", read_pubmed, RULES[0]) == expected


def test_real_files_are_read_alike(real_data: Path) -> None:
    for source in find_sources(str(real_data / "pubmed")):
        for rules in RULES:
            assert assert_both_forms_agree(Path(source.location), rules) == "read"


@pytest.mark.slow
def test_thousands_of_damaged_real_files_are_read_alike_or_refused_alike(real_data: Path, tmp_path: Path) -> None:
    seeds = []
    for source in find_sources(str(real_data / "pubmed")):
        data = Path(source.location).read_bytes()
        data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        seeds += pieces_of(data, 3)
    outcomes = damaged_many_times(seeds, 4000, tmp_path)
    assert min(outcomes["read"], outcomes["refused"]) > 1000, outcomes
