"""Records read from bytes are the records read from trees, whatever the file is like; damage never crashes or hangs."""

import gzip
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from damage import damaged

from data_prep.download.sample import write_sample
from data_prep.parse.pubmed import read_pubmed, read_pubmed_as_tree
from data_prep.parse.pubmed_bytes import Unusual, read_record
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record
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
                try:
                    read_record(match[0], RULES[0])
                    from_bytes += 1
                except Unusual:
                    pass
    assert from_bytes > 0.95 * records > 100


def test_damaged_generated_files_are_read_alike_or_refused_alike(sample: list[bytes], tmp_path: Path) -> None:
    seeds = [piece for data in sample for piece in pieces_of(data, 3)]
    outcomes = damaged_many_times(seeds, 400, tmp_path)
    assert min(outcomes["read"], outcomes["refused"]) > 100, outcomes


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
