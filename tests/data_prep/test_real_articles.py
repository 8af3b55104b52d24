"""Real articles of PMC and its publishers: what is known of them, no text lost, and no damage that goes unnoticed."""

import csv
import gzip
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from damage import damaged_bytes
from lxml import etree
from made_articles import metadata
from test_article_files import PIECES, odd_metadata, odd_tarball, outcome, rows_of

from data_prep.parse.article import Article
from data_prep.parse.article_files import read_articles, read_loose
from data_prep.parse.jats import read_article
from data_prep.parse.jats_text import LEFT_OUT
from data_prep.parse.plain_text import local_name
from data_prep.parse.refusal import Refused
from data_prep.parse.sections import is_left_out
from data_prep.parse.sources import find_article_sources
from data_prep.schema import ParsePmc

# Links say CC BY, the words beside them "non-commercial" or "share alike": the narrower one is believed.
WORDS_NARROW_THE_LINK = frozenset(
    {3046499, 3961219, 3656395, 4061186, 4280954, 4481831, 4813409, 4776972, 5264539, 5597285}
)
NOTES = ("fn", "table-fn", "author-notes", "corresp", "aff", "contrib")


def articles(real_data: Path) -> Iterator[Article]:
    for source in find_article_sources(str(real_data / "pmc")):
        if source.members:
            yield from read_loose([(name, Path(place)) for name, place in source.members], ParsePmc())
        else:
            yield from read_articles(Path(source.location), ParsePmc(), source.name)


@pytest.mark.slow
def test_real_articles_are_all_read_and_their_licences_are_those_of_the_manifest(real_data: Path) -> None:
    with open(real_data / "pmc" / "MANIFEST.csv", encoding="utf-8") as file:
        listed = {row["member"]: row for row in csv.DictReader(file)}
    found = list(articles(real_data))
    assert len(found) == 1667 and {article.kind for article in found} == {"article"}
    assert {article.language for article in found} == {"en", None}
    for article in found:
        assert not re.search(r"[\x00-\x09\x0b-\x1f]|  | \n|\n | $", article.text), article.place
        if article.place not in listed:
            continue
        row = listed[article.place]
        assert row["pmcid"] == (f"PMC{article.pmcid}" if article.pmcid else "")
        assert row["pmid"] == str(article.pmid or "") and row["doi"].lower() == (article.doi or "").lower()
        assert row["article_type"] == article.article_type
        said = row["licence_from_xml"].removeprefix("text:")
        if article.pmcid in WORDS_NARROW_THE_LINK:
            assert str(article.license).startswith("CC BY-NC")
        elif said.startswith("CC BY"):
            assert article.license == "CC BY", article.place
        else:
            assert article.license in ("CC0", "public domain"), article.place


def allowed(element: etree._Element, out: list[str]) -> None:
    """Every text node that no rule leaves out, by a walk that knows nothing else."""
    name = local_name(element)
    left_out = name is None or (name in LEFT_OUT and name != "table-wrap-foot") or name in ("tex-math", "annotation")
    if left_out or (name == "sec" and is_left_out(element)):
        return
    if name == "xref" and element.get("ref-type") in NOTES:
        return
    out.append(element.text or "")
    for child in element:
        if name in ("fig", "fig-group") and local_name(child) not in ("label", "caption", "fig"):
            continue
        if name == "table-wrap-foot" and local_name(child) == "fn":
            for inner in child:
                allowed(inner, out)
        else:
            allowed(child, out)
        out.append(child.tail or "")


def letters(text: str) -> Counter[str]:
    return Counter(one for one in unicodedata.normalize("NFC", text) if one.isalnum())


@pytest.mark.slow
def test_no_letter_of_a_real_article_is_lost(real_data: Path) -> None:
    """But for headings under which nothing is left: below 100 letters of 38 million."""
    settings = ParsePmc(tables="text", citations="keep", abstract=False)
    lost: Counter[str] = Counter()
    total = 0
    for path in sorted((real_data / "pmc").glob("*/*.tar.gz")):
        with tarfile.open(path) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                root = etree.fromstring(archive.extractfile(member).read())  # type: ignore[union-attr]
                parts: list[str] = []
                for part in (*root.iterchildren("body"), *root.iterchildren("floats-group")):
                    allowed(part, parts)
                wanted = letters("".join(parts))
                total += sum(wanted.values())
                missing = wanted - letters(read_article(root, settings, member.name).text)
                lost[member.name] = sum(missing.values())
    assert total > 30_000_000 and sum(lost.values()) < 100, lost.most_common(5)


@pytest.mark.slow
def test_damage_to_real_files_is_told_and_loses_nothing_in_silence(real_data: Path, tmp_path: Path) -> None:
    random = Random(3)
    packed = (real_data / "pmc" / "bulk" / "ccby_sample.PMC000xxxxxx.tar.gz").read_bytes()
    loose = [path for path in sorted((real_data / "pmc" / "loose").glob("*/*")) if path.stat().st_size < 130_000]
    outcomes: Counter[str] = Counter()
    for _ in range(900):
        if random.random() < 0.4:
            data, least = (packed, 5) if random.random() < 0.5 else (gzip.decompress(packed), 5)
            path = tmp_path / ("a.tar.gz" if data is packed else "a.tar")
        else:
            source = random.choice(loose)
            data, least, path = source.read_bytes(), 1, tmp_path / source.name
        path.write_bytes(damaged_bytes(data, random, PIECES, 700))
        outcomes[outcome(path, least)] += 1
    assert min(outcomes[name] for name in ("read", "refused", "bad")) > 50, outcomes


@pytest.mark.slow
def test_odd_metadata_and_headers_around_real_articles_never_crash(real_data: Path, tmp_path: Path) -> None:
    random = Random(4)
    small = [path for path in sorted((real_data / "pmc" / "loose").glob("*/*")) if path.stat().st_size < 60_000]
    texts = [path.read_bytes() for path in small if not path.name.endswith((".gz", ".json"))]
    outcomes: Counter[str] = Counter()
    for number in range(600):
        data = odd_metadata(random, metadata(5, doi="10.1/x", title="Its title", citation="J. 2019;1:2"))
        members = [("PMC5.1.json", data), ("PMC5.1.xml", texts[number % len(texts)])]
        odd_tarball(random, tmp_path / "a.tar", members)
        try:
            outcomes["read" if all(row["kind"] == "article" for row in rows_of(tmp_path / "a.tar")) else "bad"] += 1
        except Refused:
            outcomes["refused"] += 1
    assert min(outcomes[name] for name in ("read", "refused", "bad")) > 20, outcomes
