"""Where full text lies: containers one by one, loose files in bundles, in the order in which they replace others."""

import os
from pathlib import Path

import pytest
from made_articles import jats, tarball

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3
from data_prep.parse import sources
from data_prep.parse.sources import find_article_sources, find_sources


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


NAMES = (
    "oa_comm_xml.incr.2025-07-01.tar.gz", "oa_comm_xml.PMC001xxxxxx.baseline.2025-06-26.tar.gz",
    "oa_comm_xml.incr.2025-06-26.tar.gz", "pmc-00001.tar.gz", "pmc-00001.tar.gz.json", "pmc-00000.tar.gz",
    "PMC1_PMC99.xml.gz", "loose/b.nxml", "loose/a.xml", "loose/note.txt", "loose/.hidden.xml", "loose/deep/c.xml.gz",
    "bucket/PMC5.1/PMC5.1.xml", "bucket/PMC5.1/PMC5.1.json", "bucket/PMC6.1/PMC6.1.json", "bucket/PMC6.1/figure.jpg",
    "oa_comm_xml.PMC001xxxxxx.baseline.2025-06-26.filelist.csv", "loose/oa_file_list.csv",
)  # fmt: skip
WANTED = [
    ("PMC1_PMC99.xml.gz", [], []),
    ("loose/", ["loose/a.xml", "loose/b.nxml"], ["loose/oa_file_list.csv"]),
    ("loose/deep/", ["loose/deep/c.xml.gz"], ["loose/oa_file_list.csv"]),
    ("oa_comm_xml.PMC001xxxxxx.baseline.2025-06-26.tar.gz", [],
     ["oa_comm_xml.PMC001xxxxxx.baseline.2025-06-26.filelist.csv"]),
    ("oa_comm_xml.incr.2025-06-26.tar.gz", [], []),
    ("oa_comm_xml.incr.2025-07-01.tar.gz", [], []),
    ("bucket/", ["bucket/PMC5.1/PMC5.1.json", "bucket/PMC5.1/PMC5.1.xml", "bucket/PMC6.1/PMC6.1.json"], []),
    ("pmc-00000.tar.gz", [], []),
    ("pmc-00001.tar.gz", [], []),
]  # fmt: skip


def found(place: str) -> list[tuple[str, list[str], list[str]]]:
    return [
        (
            source.name,
            [name for name, location in source.members if location == f"{place}/{name}"],
            [location.removeprefix(f"{place}/") for location in source.lists],
        )
        for source in find_article_sources(place)
    ]


def test_what_replaces_comes_after_what_it_replaces(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    assert found(str(tmp_path)) == WANTED


def test_a_bucket_is_listed_as_a_folder_is(s3: LocalS3) -> None:
    for name in NAMES:
        storage.write_bytes(f"s3://test/full/{name}", name.encode())
    assert found("s3://test/full") == WANTED
    (one,) = find_article_sources("s3://test/full/pmc-00000.tar.gz")
    assert (one.name, one.members) == ("pmc-00000.tar.gz", ())
    assert [source.name for source in find_article_sources("s3://test/full/loose/*.nxml")] == ["./"]


@pytest.mark.parametrize(
    "glob",
    ["*.xml", "*/*.xml", "**/*.xml", "a/**", "**/b/*.xml", "**/[bc]/**/*.xml", "a/b/?.xml", "**", "*/.c/*", ".*/*.xml"],
)
def test_a_glob_finds_the_same_in_a_bucket_as_on_a_disk(s3: LocalS3, tmp_path: Path, glob: str) -> None:
    names = (
        "1.xml",
        "a/2.xml",
        "a/b/3.xml",
        "a/b/c/4.xml",
        "b/5.xml",
        "a/.c/6.xml",
        ".d/7.xml",
        "a/b/.8.xml",
        "B/9.xml",
    )
    put(tmp_path, *names)
    for name in names:
        storage.write_bytes(f"s3://test/globs/{name}", b"")
    on_disk = [source.name for source in find_sources(f"{tmp_path}/{glob}")]
    assert on_disk and [source.name for source in find_sources(f"s3://test/globs/{glob}")] == on_disk


def test_a_bundle_is_cut_but_never_between_an_article_and_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BUNDLE", 2)
    put(tmp_path, *(f"PMC{number}.1.{suffix}" for number in range(1, 6) for suffix in ("json", "xml")))
    bundles = find_article_sources(str(tmp_path))
    assert [source.name for source in bundles] == ["./#0001", "./#0002", "./#0003"]
    assert [len(source.members) for source in bundles] == [4, 4, 2]


def test_a_large_article_of_the_bucket_stays_with_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGE", 20)
    put(tmp_path, "PMC1.1/PMC1.1.json", "PMC1.1/PMC1.1.xml", "many-articles-in-one-file.xml")
    names = [(name, members) for name, members, _ in found(str(tmp_path))]
    assert names == [("many-articles-in-one-file.xml", []), ("./", ["PMC1.1/PMC1.1.json", "PMC1.1/PMC1.1.xml"])]


def test_old_packages_of_single_articles_are_bundled_by_the_outer_of_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, *(f"oa_package/{name}.tar.gz" for name in ("0a/01/PMC1", "0a/ff/PMC2", "0a/ff/PMC3", "0b/01/PMC4")))
    put(tmp_path, "oa_file_list.csv", "pmc-00001.tar.gz")
    first = ["oa_package/0a/01/PMC1.tar.gz", "oa_package/0a/ff/PMC2.tar.gz", "oa_package/0a/ff/PMC3.tar.gz"]
    assert found(str(tmp_path)) == [
        ("oa_package/0a/", first, ["oa_file_list.csv"]),
        ("oa_package/0b/", ["oa_package/0b/01/PMC4.tar.gz"], ["oa_file_list.csv"]),
        ("pmc-00001.tar.gz", [], ["oa_file_list.csv"]),
    ]
    monkeypatch.setattr(sources, "BUNDLE_BYTES", 70)  # each holds its own name: 28 bytes
    assert [name for name, _, _ in found(str(tmp_path))][:2] == ["oa_package/0a/#0001", "oa_package/0a/#0002"]


def test_a_change_of_any_file_changes_the_identity(tmp_path: Path) -> None:
    put(tmp_path, "loose/a.xml", "loose/b.xml", "x.tar.gz", "x.filelist.csv", "y.tar.gz")

    def identities() -> dict[str, str]:
        return {source.name: source.identity for source in find_article_sources(str(tmp_path))}

    before = identities()
    for name, changed in (("loose/b.xml", "loose/"), ("x.filelist.csv", "x.tar.gz"), ("y.tar.gz", "y.tar.gz")):
        os.utime(tmp_path / name, ns=(1, 1))
        after = identities()
        assert {name for name in after if after[name] != before[name]} == {changed}
        before = after


def test_one_file_is_one_source_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(jats())
    tarball(tmp_path / "b.tar.gz", [])
    for name in ("a.xml", "b.tar.gz"):
        (source,) = find_article_sources(str(tmp_path / name))
        assert (source.name, source.members) == (name, ())


def test_a_place_without_full_text_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pmc=.*holds no .xml"):
        find_article_sources(str(tmp_path))
    with pytest.raises(UserError, match=r"pmc=.*no file matches"):
        find_article_sources(f"{tmp_path}/*.xml")
    with pytest.raises(UserError, match=r"pmc=.*no such file"):
        find_article_sources(f"{tmp_path}/none")
