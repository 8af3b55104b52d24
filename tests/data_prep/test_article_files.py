"""Containers of full text: in tarballs and bundles each member stands alone; a damaged container is refused whole."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest
from damage import damaged_bytes
from made_articles import jats, metadata, tarball

from data_prep.download.sample_articles import write_articles
from data_prep.parse.article import Article
from data_prep.parse.article_files import read_articles, read_loose
from data_prep.parse.article_xml import MEMORY_LIMIT, memory_for
from data_prep.parse.refusal import Refused
from data_prep.parse.rows import write_articles as write_rows
from data_prep.schema import ParsePmc, Sample
from data_prep.select.reasons import REASONS

SETTINGS = ParsePmc()
DOCTYPE = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE article PUBLIC "-//NLM//DTD JATS//EN" "JATS.dtd">\n'
BOMB = '<!DOCTYPE article [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


def all_of(path: Path, **others: Any) -> list[Article]:
    return list(read_articles(path, SETTINGS, path.name, **others))


def written(path: Path, data: str | bytes) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_every_shape_gives_the_same_articles(tmp_path: Path) -> None:
    one, two = jats(pmcid=1), jats("<p>Other.</p>", pmcid=2)
    sets = {
        "articles": f"<articles>{one}{two}</articles>",
        "efetch": f"{DOCTYPE.replace('article ', 'pmc-articleset ')}<pmc-articleset>{one}{two}</pmc-articleset>",
        "oai": "<OAI-PMH xmlns='http://www.openarchives.org/OAI/2.0/'><ListRecords>"
        + "".join(
            f"<record><header/><metadata>{each}</metadata></record>"
            for each in (
                one.replace("<article ", "<article xmlns='j' ", 1),
                two.replace("<article ", "<article xmlns='j' "),
            )
        )
        + "</ListRecords></OAI-PMH>",
    }
    found = {}
    for name, xml in sets.items():
        for suffix in (".xml", ".xml.gz"):
            found[name + suffix] = all_of(written(tmp_path / f"{name}{suffix}", xml))
            assert [article.place for article in found[name + suffix]] == ["#1", "#2"]
    members = [("PMC001xxxxxx/PMC1.xml", one.encode()), ("PMC001xxxxxx/PMC2.nxml", two.encode())]
    for name in ("a.tar", "a.tar.gz", "a.tgz"):
        found[name] = all_of(tarball(tmp_path / name, members))
        assert [article.place for article in found[name]] == [member for member, _ in members]
    found["single"] = [
        *all_of(written(tmp_path / "x.nxml", DOCTYPE + one)), *all_of(written(tmp_path / "y.xml.gz", "\ufeff" + two)),
    ]  # fmt: skip
    loose = [("x.nxml", tmp_path / "x.nxml"), ("y.xml.gz", tmp_path / "y.xml.gz")]
    found["loose"] = list(read_loose(loose, SETTINGS))
    assert [article.place for article in found["loose"]] == ["x.nxml", "y.xml.gz"]
    for articles in found.values():
        assert [(article.kind, article.pmcid, article.text, article.license) for article in articles] == [
            ("article", 1, "A title\n\nText.", "CC BY"), ("article", 2, "A title\n\nOther.", "CC BY"),
        ]  # fmt: skip


def test_metadata_beside_the_article_wins_over_its_xml(tmp_path: Path) -> None:
    told = metadata(
        5, 3, license_code="CC BY-NC 4.0", is_retracted=True, is_manuscript=True, is_historical_ocr=True, pmid=8
    )
    for order in (1, -1):
        members = [("PMC5.3.json", told), ("PMC5.3.xml", jats(pmcid=5).encode())][::order]
        (article,) = all_of(tarball(tmp_path / "a.tar.gz", members))
        assert (article.pmcid, article.version, article.pmid, article.title) == (5, 3, 8, "A title")
        assert (article.license, article.license_from) == ("CC BY-NC", "metadata")
        assert article.retracted and article.manuscript and article.historical_ocr


def test_a_retraction_that_the_xml_tells_holds_whatever_the_metadata_say(tmp_path: Path) -> None:
    xml = jats(pmcid=5).replace("<article-title>A title", "<article-title>RETRACTED: A title")
    members = [("PMC5.1.json", metadata(5, is_retracted=False)), ("PMC5.1.xml", xml.encode())]
    (article,) = all_of(tarball(tmp_path / "a.tar.gz", members))
    assert article.retracted


def test_the_xml_tells_the_licence_where_the_metadata_name_none(tmp_path: Path) -> None:
    for code in (None, "", "other"):
        members = [("PMC5.1.json", metadata(5, license_code=code)), ("PMC5.1.xml", jats(pmcid=5).encode())]
        (article,) = all_of(tarball(tmp_path / "a.tar.gz", members))
        assert (article.license, article.license_from) == ("CC BY", "xml")


def test_metadata_without_a_text_is_a_record_of_its_own(tmp_path: Path) -> None:
    members = [
        ("PMC1.1.json", metadata(1, license_code="CC BY-NC", title="Its  title", citation="J. 2019;1:2", pmid=4)),
        ("PMC2.1.json", metadata(2, error="gone")),
        ("PMC3.1.json", metadata(3, error="too_large")),
        ("PMC4.1.json", b"{"),
        ("PMC5.1.json", metadata(5)), ("PMC5.1.xml", jats(pmcid=5, front="").encode()),
        ("PMC6.1.json", b"[]"), ("PMC6.1.xml", jats(pmcid=6).encode()),
        ("PMC7.2.xml", jats(pmcid=7).encode()),
    ]  # fmt: skip
    articles = all_of(tarball(tmp_path / "pmc-00000.tar.gz", members))
    assert [(article.kind, article.pmcid, article.version) for article in articles] == [
        ("not_fetched", 1, 1), ("gone", 2, 1), ("too_large", 3, 1), ("malformed", 4, 1), ("article", 5, 1),
        ("malformed", 6, 1), ("article", 7, 2),
    ]  # fmt: skip
    first = articles[0]
    assert (first.license, first.title, first.year, first.pmid, first.text) == ("CC BY-NC", "Its title", 2019, 4, "")
    assert "JSON" in str(articles[3].detail) and "JSON" in str(articles[5].detail)


@pytest.mark.parametrize("head", ["Article File,Article Citation,Accession ID,Last Updated (x),PMID,License,Retracted",
                                  "File,Citation,Accession ID,Last Updated,PMID,License"])  # fmt: skip
def test_a_file_list_tells_licences_and_retractions(tmp_path: Path, head: str) -> None:
    rows = 'f,"J, 2",PMC2,2020-01-01,5,CC BY-NC,yes\nf,J,PMC1,2020-01-01,,CC0,no\nf,J,PMC3,2020,,NO-CC CODE,no\n'
    listed = written(tmp_path / "a.filelist.csv", f"{head}\n{rows}")
    path = tarball(tmp_path / "a.tar.gz", [(f"x/PMC{pmcid}.xml", jats(pmcid=pmcid).encode()) for pmcid in range(1, 5)])
    articles = all_of(path, lists=[listed])
    assert [(article.license, article.license_from) for article in articles] == [
        ("CC0", "metadata"), ("CC BY-NC", "metadata"), (None, "metadata"), ("CC BY", "xml"),
    ]  # fmt: skip
    assert [article.retracted for article in articles] == [False, "Retracted" in head, False, False]
    with pytest.raises(Refused, match="no columns"):
        all_of(path, lists=[written(tmp_path / "b.csv", "a,b\n")])


def bad_members() -> dict[str, tuple[bytes, str, str]]:
    """Name → what it holds, the kind that it is given, and a word of the reason."""
    good = (DOCTYPE + jats()).encode()
    return {
        "cut.xml": (good[:-20], "malformed", "not well-formed"),
        "amp.xml": (good.replace(b"Text.", b"a & b"), "malformed", "not well-formed"),
        "bomb.xml": (f"{BOMB}{jats('<p>&b;</p>')}".encode(), "malformed", "declares entities"),
        "entity.xml": (good.replace(b"Text.", b"&alpha;"), "malformed", "alpha"),
        "bare.xml": (jats("<p>&alpha;</p>").encode(), "malformed", "alpha"),
        "latin.xml": (good.replace(b"Text.", "Müller".encode("latin-1")), "encoding", "not in the encoding"),
        "utf16.xml": (jats().encode("utf-16"), "encoding", "UTF-16"),
        "named.xml": (good.replace(b"UTF-8", b"EBCDIC-US"), "encoding", "EBCDIC-US"),
        "page.xml": (b"<html><body>503</body></html>", "not_jats", "html"),
        "text.xml": (b"no XML at all", "not_jats", "not to be found"),
        "empty.xml": (b"", "not_jats", "empty"),
        "set.xml": (f"<articles>{jats()}<article></articles>".encode(), "malformed", "not well-formed"),
        "deep.xml": (jats("<sec>" * 400 + "</sec>" * 400).encode(), "malformed", "epth"),
        "deep-inline.xml": (jats(f"<p>{'<sup>' * 240}x{'</sup>' * 240}</p>").encode(), "malformed", "deeply"),
        "damaged.xml.gz": (gzip.compress(good)[:-12], "malformed", "gzip"),
    }


def test_a_bad_member_of_a_tarball_or_a_bundle_costs_nothing_but_itself(tmp_path: Path) -> None:
    bad = bad_members()
    members = [("first.xml", jats(pmcid=1).encode())]
    members += [(name, data) for name, (data, _, _) in bad.items()]
    members += [("last.xml", jats(pmcid=2).encode())]
    (tmp_path / "loose").mkdir()
    for name, data in members:
        (tmp_path / "loose" / name).write_bytes(data)
    loose = [(name, tmp_path / "loose" / name) for name, _ in members]
    for articles in (all_of(tarball(tmp_path / "a.tar.gz", members)), list(read_loose(loose, SETTINGS))):
        assert [article.place for article in articles] == [name for name, _ in members]
        assert (articles[0].pmcid, articles[-1].pmcid) == (1, 2)
        for article in articles[1:-1]:
            _, kind, word = bad[article.place]
            assert article.kind == kind and word in str(article.detail), article
            assert article.text == ""


def test_a_package_of_a_bundle_is_its_article_or_one_bad_record(tmp_path: Path) -> None:
    paths = []
    for pmcid in range(1, 5):
        members = [(f"PMC{pmcid}/j-{pmcid}.nxml", jats(pmcid=pmcid).encode()), (f"PMC{pmcid}/f.jpg", b".")]
        paths.append((f"ab/PMC{pmcid}.tar.gz", tarball(tmp_path / f"PMC{pmcid}.tar.gz", members)))
    paths[1][1].write_bytes(paths[1][1].read_bytes()[:-20])
    paths[2][1].write_bytes(b"no tarball")
    paths.append(("PMC5.tar.gz", tarball(tmp_path / "PMC5.tar.gz", [("PMC5/f.jpg", b".")])))
    passed_over: Counter[str] = Counter()
    articles = list(read_loose(paths, SETTINGS, (), passed_over))
    assert [(article.kind, article.place, article.pmcid) for article in articles] == [
        ("article", "ab/PMC1.tar.gz/PMC1/j-1.nxml", 1), ("malformed", "ab/PMC2.tar.gz", 2),
        ("malformed", "ab/PMC3.tar.gz", 3), ("article", "ab/PMC4.tar.gz/PMC4/j-4.nxml", 4),
        ("malformed", "PMC5.tar.gz", 5),
    ]  # fmt: skip
    with pytest.raises(Refused, match="holds no article"):
        all_of(paths[-1][1])
    assert passed_over[".jpg"] >= 2 and "cut off" in str(articles[1].detail)


def test_names_and_links_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link.xml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("hard.nxml")
    hard.type, hard.linkname = tarfile.LNKTYPE, "../a.xml"
    folder = tarfile.TarInfo("PMC1")
    folder.type = tarfile.DIRTYPE
    data = jats().encode()
    path = tarball(
        tmp_path / "a.tar.gz",
        [link, hard, folder, ("/absolute.xml", data), ("a/../../b.xml", data), ("PMC1/x.jpg", b"."),
         ("PMC1/y.pdf", b"."), ("PMC1/z.txt", b"."), ("PMC1/table.json", b"{}"), ("good.xml", data)],
    )  # fmt: skip
    passed_over: Counter[str] = Counter()
    articles = all_of(path, passed_over=passed_over)
    assert [article.kind for article in articles] == ["unsafe_member"] * 4 + ["article"]
    assert passed_over == {"/": 1, ".jpg": 1, ".pdf": 1, ".txt": 1, ".json": 1}


class Padding(io.RawIOBase):
    """Spaces without end."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return b" " * size


def test_an_article_beyond_all_measure_is_never_held_in_memory(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("huge.xml")
    huge.size = 17 << 20
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        archive.addfile(huge, Padding())
        good = tarfile.TarInfo("good.xml")
        good.size = len(jats().encode())
        archive.addfile(good, io.BytesIO(jats().encode()))
    assert [article.kind for article in all_of(path)] == ["too_large", "article"]
    with gzip.open(tmp_path / "huge.xml.gz", "wb", compresslevel=1) as file:
        for _ in range(17):
            file.write(b"<article>" + b" " * (1 << 20))
    assert [article.kind for article in all_of(tmp_path / "huge.xml.gz")] == ["too_large"]
    packed = (tmp_path / "huge.xml.gz").read_bytes()
    assert [article.kind for article in all_of(tarball(tmp_path / "b.tar", [("x.xml.gz", packed)]))] == ["too_large"]
    with gzip.open(tmp_path / "set.xml.gz", "wb", compresslevel=1) as file:
        file.write(b"<articles>" + b"<x/>" * 1_000_000)
    with pytest.raises(Refused, match="before an article would take more than 250 MB"):
        all_of(tmp_path / "set.xml.gz")


def large(pmcid: int, share: float, unit: str = "<i/>Ā") -> str:
    """An article that takes this share of the limit, by default of tiny elements, which take most for their bytes."""
    return jats(f"<p>{unit * int(share * MEMORY_LIMIT / memory_for(unit.encode()))}</p>", pmcid=pmcid)


def test_what_is_too_large_is_left_out_alone(tmp_path: Path) -> None:
    fits, too_large, other = large(1, 0.99), large(2, 1.01), jats(pmcid=3)
    ends = [("article", 1), ("too_large", None), ("article", 3)]
    members = [(f"{number}.xml", xml.encode()) for number, xml in enumerate((fits, too_large, other))]
    found = all_of(tarball(tmp_path / "a.tar.gz", members))
    assert [(article.kind, article.pmcid) for article in found] == ends
    assert found[1].detail == "would take more than 250 MB of memory, the limit for one article"
    assert REASONS["too_large"].startswith("would take more than 250 MB of memory")
    (alone,) = all_of(written(tmp_path / "a.xml.gz", too_large))
    assert (alone.kind, alone.detail) == ("too_large", found[1].detail)
    many = f"<articles>{fits}{large(2, 3)}{other}</articles>"
    written(tmp_path / "set.xml.gz", many)
    for articles in (
        all_of(tmp_path / "set.xml.gz"),
        all_of(tarball(tmp_path / "b.tar.gz", [("set.xml", many.encode())])),
        list(read_loose([("set.xml.gz", tmp_path / "set.xml.gz")], SETTINGS)),
    ):
        assert [(article.kind, article.pmcid) for article in articles] == ends
        assert articles[1].place.endswith("#2") and articles[1].detail == found[1].detail


PEAK = """
import resource, sys
from pathlib import Path
from data_prep.parse.article_xml import MEMORY_LIMIT, memory_for
from data_prep.parse.article_files import read_articles
from data_prep.parse.rows import write_articles
from data_prep.schema import ParsePmc

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
before = peak()
counts = write_articles(read_articles(Path(sys.argv[1]), ParsePmc(), sys.argv[1]), Path(sys.argv[2]))
print(counts.records, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "share"),
    [
        ("<i/>Ā", 0.98), ("<i/>Ā", 8), ('<i a="" b="" c="">x</i>', 0.98),
        (f"<b>{'A sentence like many others. ' * 20}</b>", 0.9),
        ('<td align="left">12.5</td>', 0.98), ("<a/>" + "".join(f"<a{number}/>Ā" for number in range(100_000)), 0.98),
    ],
)  # fmt: skip
def test_the_largest_article_takes_less_than_a_worker_has_left(tmp_path: Path, unit: str, share: float) -> None:
    """A worker may take 600 MB, and 350 are the most that one was seen to hold before such an article."""
    written(tmp_path / "a.xml.gz", f"<articles>{large(1, share, unit)}{jats(pmcid=2)}</articles>")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "a.xml.gz"), str(tmp_path / "rows.parquet")]
    records, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert records == 2 and peak < 250e6


def test_a_damaged_container_is_refused_whole(tmp_path: Path) -> None:
    members = [(f"PMC{pmcid}.xml", jats(f"<p>{'word ' * 2000}</p>", pmcid=pmcid).encode()) for pmcid in range(6)]
    packed = tarball(tmp_path / "good.tar.gz", members).read_bytes()
    plain = gzip.decompress(packed)
    size = 512 + -(-len(members[0][1]) // 512) * 512
    damaged = {
        "cut.tar.gz": packed[: len(packed) // 2],
        "crc.tar.gz": packed[:-8] + bytes(8),
        "tail.tar.gz": packed + b"garbage",
        "header.tar.gz": gzip.compress(plain[: size * 3] + b"x" * 512 + plain[size * 3 + 512 :]),
        "short.tar": plain[: size * 3 + 700],
        "at-a-header.tar": plain[: size * 3],
        "two.tar": plain + plain,
        "zeros.tar": plain[:size] + bytes(1024) + plain[size:],
        "set.xml": f"<articles>{jats()}".encode(),
        "wrong-set.xml.gz": gzip.compress(f"<articles>{jats()}</article>".encode()),
        "none.xml": b"<articles></articles>",
        "latin-set.xml": f"<articles>{jats('<p>Müller</p>')}</articles>".encode("latin-1"),
        "cut.xml.gz": gzip.compress(jats("<p>word</p>" * 9999).encode())[:-9],
    }
    assert len(all_of(tmp_path / "good.tar.gz")) == 6
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Refused):
            all_of(tmp_path / name)
            pytest.fail(name)


def test_the_sample_has_every_shape_and_is_the_same_every_time(tmp_path: Path) -> None:
    names = write_articles(tmp_path / "a", Sample(articles=40))
    assert names == write_articles(tmp_path / "b", Sample(articles=40))
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    kinds: Counter[str] = Counter()
    for name in names:
        if not name.endswith(".csv"):
            kinds.update(article.kind for article in all_of(tmp_path / "a" / name))
    assert kinds == {"article": 40, "not_fetched": 1}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The articles as they are written down, which is more than to read them."""
    write_rows(all_of(path), path.with_suffix(".parquet"))
    return pq.read_table(path.with_suffix(".parquet")).to_pylist()


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"title": "\ud800"}, "half of a character"), ({"doi": "10.1/\udfff"}, "half of a character"),
        ({"version": 2**31}, "version of more than four digits"), ({"version": "99999"}, "more than four digits"),
        ({"others": [{"deep": "\udcff"}]}, "half of a character"),
    ],
)  # fmt: skip
def test_metadata_that_no_row_can_hold_cost_their_article_alone(
    tmp_path: Path, more: dict[str, Any], detail: str
) -> None:
    members = [("PMC1.1.json", metadata(1, **more)), ("PMC1.1.xml", jats(pmcid=1).encode())]
    members += [("PMC2.1.json", metadata(2)), ("PMC2.1.xml", jats(pmcid=2).encode())]
    bad, good = rows_of(tarball(tmp_path / "a.tar.gz", members))
    assert (bad["kind"], bad["place"]) == ("malformed", "PMC1.1.xml") and detail in bad["detail"]
    assert good["kind"] == "article"


def test_names_that_are_not_utf8_are_written_down_all_the_same(tmp_path: Path) -> None:
    info = tarfile.TarInfo("Mu\udcf1oz/PMC7.xml")
    info.size = len(jats().encode())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(jats().encode()))
        archive.addfile(tarfile.TarInfo("x.\udcff"))
    (tmp_path / "a.tar").write_bytes(packed.getvalue())
    passed_over: Counter[str] = Counter()
    (article,) = all_of(tmp_path / "a.tar", passed_over=passed_over)
    assert article.place == "Mu\\udcf1oz/PMC7.xml" and passed_over == {".\\udcff": 1}
    assert rows_of(tmp_path / "a.tar")[0]["place"] == article.place


ODD: tuple[Any, ...] = (
    None, True, -1, 10**11, 2**31, 10**30, 1.5, float("nan"), "", "\ud800", "10.1/\udfff", "PMC99999999999999", [], {},
    [1], {"a": 1}, "CC BY", "NO-CC CODE", "gone", "9" * 12, "true", "\x00", "\x02", "PMC3.9", "٣",
)  # fmt: skip
KEYS = (
    "pmcid", "version", "pmid", "doi", "title", "citation", "license_code", "is_retracted", "is_manuscript",
    "is_historical_ocr", "error",
)  # fmt: skip


def odd_metadata(random: Random, data: bytes) -> bytes:
    """The metadata with odd values in one or two of its keys, or with damaged bytes."""
    if random.random() < 0.3:
        return damaged_bytes(data, random, PIECES, 700)
    found = json.loads(data)
    for _ in range(random.choice((1, 2))):
        found[random.choice(KEYS)] = random.choice(ODD)
    return json.dumps(found).encode()


def odd_tarball(random: Random, path: Path, members: list[tuple[str, bytes]]) -> None:
    """A tarball with a damaged header, an odd name in one, or both; sums are right, so that the header is believed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=random.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), random.choice((0, 2**33, 1.5))
            match random.randrange(5):
                case 0:
                    info.name = random.choice(("\udcff", "../", "a" * 300, "\n", "é", "\x01")) + name
                case 1:
                    info.type = bytes([random.randrange(256)])
            file.addfile(info, io.BytesIO(data))
    data = bytearray(packed.getvalue())
    if random.random() < 0.7:
        header = data[:512]
        place = random.choice((0, 90, 100, 124, 130, 136, 156, 157, 257, 263, 300, 345)) + random.randrange(6)
        header[place] = random.randrange(256)
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[:512] = header
    path.write_bytes(data)


def test_odd_metadata_and_headers_never_crash_and_are_written_down(tmp_path: Path) -> None:
    random = Random(7)
    outcomes: Counter[str] = Counter()
    for _ in range(800):
        members = [("PMC5.1.json", odd_metadata(random, metadata(5))), ("PMC5.1.xml", jats(pmcid=5).encode())]
        if random.random() < 0.5:
            members.append(("PMC6.1.xml", jats(pmcid=6).encode()))
        path = tmp_path / "a.tar"
        if random.random() < 0.5:
            odd_tarball(random, path, members)
        else:
            tarball(path, members)
        try:
            rows = rows_of(path)
        except Refused:
            outcomes["refused"] += 1
        else:
            outcomes["read" if all(row["kind"] == "article" for row in rows) else "bad"] += 1
    assert min(outcomes[name] for name in ("read", "refused", "bad")) > 20, outcomes


PIECES = (
    b"<",
    b">",
    b"&",
    b"&x;",
    b"</p>",
    b"<p>",
    b"<article>",
    b"</article>",
    b"\x00",
    b"\xff",
    b"<![CDATA[",
    b"<!--",
)


def outcome(path: Path, least: int) -> str:
    """``refused``, ``read`` or ``bad``; a container that is not refused has lost no record."""
    try:
        articles = all_of(path)
    except Refused:
        return "refused"
    assert len(articles) >= least, (path, len(articles))
    return "read" if all(article.kind == "article" for article in articles) else "bad"


def test_damage_anywhere_is_told_and_never_crashes_or_loses_a_record_in_silence(tmp_path: Path) -> None:
    random = Random(2)
    members = [
        (f"PMC{pmcid}.1.xml", jats(f"<sec><title>T</title><p>Words [{pmcid}]</p></sec>", pmcid=pmcid).encode())
        for pmcid in range(1, 9)
    ]
    packed = tarball(tmp_path / "a.tar.gz", members).read_bytes()
    shapes = [
        ("a.tar.gz", packed, 8), ("a.tar", gzip.decompress(packed), 8), ("PMC1.1.xml", members[0][1], 1),
        ("PMC1_PMC9.xml", b"<articles>" + b"".join(data for _, data in members) + b"</articles>", 1),
    ]  # fmt: skip
    outcomes: Counter[str] = Counter()
    for _ in range(600):
        name, data, least = random.choice(shapes)
        path = tmp_path / name
        path.write_bytes(damaged_bytes(data, random, PIECES, 700))
        outcomes[outcome(path, least)] += 1
    assert min(outcomes[name] for name in ("read", "refused", "bad")) > 20, outcomes
