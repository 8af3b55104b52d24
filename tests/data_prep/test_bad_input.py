"""A file is used whole or refused whole; the rest goes on; nothing outside the file is ever read."""

import contextlib
import gzip
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest
from damage import damaged_bytes
from made import BOTH, HEAD, SMALL, YAML, article, documents, dropped, ledger, prepare, pubmed_file
from made_articles import long

import data_prep
from base.errors import PartlyRefused, UserError
from data_prep.download.sample import write_sample
from data_prep.parse.pubmed import read_pubmed
from data_prep.parse.refusal import Refused
from data_prep.schema import Sample

GOOD = f"{HEAD}<PubmedArticleSet>{article(1)}{article(2)}</PubmedArticleSet>".encode()
BOMB = (
    '<!DOCTYPE PubmedArticleSet [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(Refused) as caught:
        list(read_pubmed(path))
    return str(caught.value)


def test_entity_bomb_is_refused(tmp_path: Path) -> None:
    for place in ("<PubmedArticle>&i;</PubmedArticle>", '<PubmedArticle x="&i;"/>'):
        bomb = f"{BOMB}<PubmedArticleSet>{place}</PubmedArticleSet>".encode()
        assert "declares entities" in refusal(tmp_path / "a.xml", bomb)
        assert "declares entities" in refusal(tmp_path / "a.xml.gz", gzip.compress(bomb))


def test_no_dtd_and_no_entity_is_fetched(tmp_path: Path) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def listen() -> None:
            with contextlib.suppress(TimeoutError):
                asked.append(server.accept())

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.dtd"
        (tmp_path / "dtd").write_text("<!ELEMENT PubmedArticleSet ANY>")
        for system in (url, f"file://{tmp_path}/dtd"):
            external = GOOD.replace(b"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd", system.encode())
            (tmp_path / "a.xml").write_bytes(external)
            assert len(list(read_pubmed(tmp_path / "a.xml"))) == 2
        secret = tmp_path / "secret"
        secret.write_text("secret")
        for declared in (f'<!ENTITY x SYSTEM "file://{secret}">', f'<!ENTITY % x SYSTEM "{url}"> %x;'):
            xml = f"<!DOCTYPE PubmedArticleSet [{declared}]><PubmedArticleSet>{article(1, '&x;')}</PubmedArticleSet>"
            assert "declares entities" in refusal(tmp_path / "b.xml", xml.encode())
        thread.join()
    assert not asked


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("cut.xml.gz", gzip.compress(GOOD)[:-30], "cut off"),
        (
            "flipped.xml.gz",
            gzip.compress(GOOD)[:60] + bytes(20) + gzip.compress(GOOD)[80:],
            "damaged|sound|well-formed",
        ),
        ("crc.xml.gz", gzip.compress(GOOD)[:-8] + bytes(8), "not a sound gzip"),
        ("tail.xml.gz", gzip.compress(GOOD) + b"garbage" * 9, "not a sound gzip"),
        ("cut.xml", GOOD[: len(GOOD) * 2 // 3], "not well-formed"),
        ("open.xml", GOOD.removesuffix(b"</PubmedArticleSet>"), "not well-formed"),
        ("middle.xml", GOOD.replace(b"Text.", b"a & b", 1), "not well-formed"),
        ("twice.xml", GOOD + GOOD, "not well-formed"),
        ("latin.xml", GOOD.replace(b"Text.", "Müller".encode("latin-1")), "not well-formed"),
        ("declared.xml", GOOD.replace(b'"utf-8"', b'"iso-8859-1"'), "encoded in iso-8859-1"),
        ("utf16.xml", GOOD.decode().replace('"utf-8"', '"utf-16"').encode("utf-16"), "not PubMed XML"),
        ("entity.xml", GOOD.replace(b"Text.", b"5&micro;g"), "micro"),
        ("empty.xml", b"", "is empty"),
        ("none.xml", f"{HEAD}<PubmedArticleSet></PubmedArticleSet>".encode(), "holds no citation"),
        ("page.xml", b"<!DOCTYPE html><html><body>503</body></html>", "its root is html"),
        ("jats.xml", b"<article><front/></article>", "its root is article.*give it as pmc="),
        ("text.xml", b"PMID- 1\nTI  - not XML\n", "not PubMed XML"),
        ("deep.xml", GOOD.replace(b"Text.", b"<i>" * 3000 + b"</i>" * 3000), "too deep"),
        ("binary.xml.gz", gzip.compress(os.urandom(5000)), "not PubMed XML"),
    ],
)
def test_a_damaged_file_is_refused_with_its_reason(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    assert re.search(reason, refusal(tmp_path / name, data))


def test_a_record_beyond_all_measure_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.xml.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f"{HEAD}<PubmedArticleSet><PubmedArticle><MedlineCitation>".encode())
        for _ in range(80):
            file.write(b"<x>" + b"a" * (1 << 20) + b"</x>")
    with pytest.raises(Refused, match="64 MB without the end of a record"):
        list(read_pubmed(path))


def test_the_rest_goes_on_and_the_refused_are_in_ledger_and_message(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    pubmed_file(folder / "good.xml", article(1), article(2, "Other text."))
    (folder / "cut.xml.gz").write_bytes(gzip.compress(GOOD)[:-30])
    pubmed_file(folder / "sum.xml", article(3))
    (folder / "sum.xml.md5").write_text(f"MD5(sum.xml)= {'0' * 32}\n")
    for _ in range(2):  # the second time everything is done before, and it is said again all the same
        with pytest.raises(PartlyRefused, match=r"(?s)2 input file.*cut\.xml\.gz: .*sum\.xml: its MD5"):
            prepare(folder, tmp_path / "out", "download", "parse", "select")
    assert set(documents(tmp_path / "out")) == {"pmid:1", "pmid:2"}
    book = ledger(tmp_path / "out")
    assert [file["name"] for file in book["refused_files"]] == ["cut.xml.gz", "sum.xml"]
    assert set(book["files"]) == {"good.xml"}
    (folder / "cut.xml.gz").write_bytes(gzip.compress(GOOD))
    (folder / "sum.xml.md5").unlink()
    prepare(folder, tmp_path / "out", "download", "parse", "select")
    assert set(documents(tmp_path / "out")) == {"pmid:1", "pmid:2"}
    assert ledger(tmp_path / "out")["refused_files"] == []


def without_rights_of_root(command: list[str]) -> list[str]:
    """So that a file's mode holds for root as well, to whom this environment may belong alone."""
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command] if os.geteuid() == 0 else command


def test_an_unreadable_file_is_refused_until_it_can_be_read(tmp_path: Path) -> None:
    folder, out, full = tmp_path / "in", tmp_path / "out", tmp_path / "pmc"
    full.mkdir()
    pubmed_file(folder / "a.xml", article(1))
    (full / "PMC7.xml").write_text(long(7))
    shut = [pubmed_file(folder / "b.xml", article(2, "Other text.")), full / "PMC8.xml"]
    shut[1].write_text(long(8))
    for path in shut:
        path.chmod(0)
    command = [sys.executable, "-m", "data_prep", YAML, f"pubmed={folder}", f"pmc={full}", f"out={out}", *SMALL]
    command = without_rights_of_root([*command, "download", "parse", "select"])
    message = (
        r"(?s)1 input file.*b\.xml: cannot be read: Permission denied.*PMC8\.xml: cannot be read: Permission denied"
    )
    for _ in range(2):
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert run.returncode == 1 and re.search(message, run.stderr), run.stderr
    assert set(documents(out)) == {"pmid:1", "pmcid:PMC7"} and dropped(out) == {"pmcid:PMC8": "unreadable"}
    for path in shut:
        path.chmod(0o644)
    subprocess.run(command, check=True, timeout=120)
    assert set(documents(out)) == {"pmid:1", "pmid:2", "pmcid:PMC7", "pmcid:PMC8"}
    done = (out / "work" / "done" / "parse.json").stat().st_mtime_ns
    subprocess.run(command, check=True, timeout=120)
    assert (out / "work" / "done" / "parse.json").stat().st_mtime_ns == done


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here whose reading fails for certain")
def test_a_disk_that_fails_while_a_file_is_read_costs_that_file(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "in" / "good.xml", article(1))
    (tmp_path / "in" / "bad.xml").symlink_to("/proc/self/mem")
    with pytest.raises(PartlyRefused, match=r"bad\.xml: cannot be read: Input/output error"):
        prepare(tmp_path / "in", tmp_path / "out", "download", "parse", "select")
    assert not (tmp_path / "out" / "work" / "parsed" / "pubmed" / "bad.xml.parquet.json").exists()


def test_names_of_files_that_are_not_utf8_are_told_all_the_same(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "in" / "b\udce9.xml", article(1))
    pubmed_file(tmp_path / "in" / "c\udce9.xml").write_text("<html/>")
    (tmp_path / "pmc").mkdir()
    (tmp_path / "pmc" / "x\udce9.xml").write_text(long(7))
    with pytest.raises(PartlyRefused, match=r"c\\udce9\.xml"):
        prepare(tmp_path / "in", tmp_path / "out", f"pmc={tmp_path / 'pmc'}", "download", "parse", "select")
    assert documents(tmp_path / "out")["pmid:1"]["source_file"] == "b\\udce9.xml"
    assert set(documents(tmp_path / "out")) == {"pmid:1", "pmcid:PMC7"}


@pytest.mark.parametrize(
    ("pubmed", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "holds no .xml or .xml.gz file"),
        ("empty/*.gz", "no file matches"),
        ("bad", r"(?s)nothing there could be used.*page\.xml"),
        ("ftp://host/x", "only local paths and s3://"),
    ],
)
def test_nothing_to_read_is_for_the_user_to_mend(tmp_path: Path, pubmed: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "page.xml").write_text("<html/>")
    place = pubmed if "://" in pubmed else tmp_path / pubmed
    with pytest.raises(UserError, match=message):
        prepare(place, tmp_path / "out")


def test_unknown_stages_and_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such stage: cards\. The stages are: download, parse, select"):
        prepare("sample", tmp_path, "cards")
    with pytest.raises(UserError, match=r"(?s)3 faults.*known here: pmc, pubmed.*vocab_size.*shards\.packing"):
        prepare("sample", tmp_path, "shards.packing=best", "tokenizer.vocab_size=70000", "parse.lables=keep")
    with pytest.raises(UserError, match=r"shards\.size_limit: must hold one sequence: at least 84100 bytes"):
        prepare("sample", tmp_path, "shards.max_seq_len=40000")
    with pytest.raises(UserError, match="work: must name a local folder"):
        prepare("sample", "s3://bucket/x")
    with pytest.raises(UserError, match="shards needs download, which has not been done"):
        prepare("sample", tmp_path, "shards")


@pytest.mark.slow
def test_compiled_code_that_can_be_kept_nowhere_is_told_at_the_start(tmp_path: Path) -> None:
    root = Path(data_prep.__path__[0]).parent
    for name in ("base", "data_prep", "yamls"):
        shutil.copytree(root / name, tmp_path / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    for folder in (*(tmp_path / "code").rglob("*"), tmp_path / "code", tmp_path / "home"):
        if folder.is_dir():
            folder.chmod(0o555)
    command = without_rights_of_root(
        [
            sys.executable,
            "-m",
            "data_prep",
            YAML,
            "pubmed=sample",
            f"out={tmp_path / 'out'}",
            *SMALL,
            "download",
            "parse",
        ]
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    for more, code in (({}, 2), ({"NUMBA_CACHE_DIR": str(tmp_path / "kept")}, 0)):
        run = subprocess.run(
            command, cwd=tmp_path / "code", env=environment | more, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == code and ("set NUMBA_CACHE_DIR" in run.stderr) == (code == 2), run.stderr
    assert list((tmp_path / "kept").iterdir())


def limited(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("size", [4_000, 20_000, 60_000])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_that_counts_as_whole(tmp_path: Path, size: int) -> None:
    command = [sys.executable, "-m", "data_prep", YAML, "pubmed=sample", f"out={tmp_path}", "executor.workers=1"]
    command += ["sample.citations=600", *BOTH, "download", "parse", "select", "tokenizer"]
    run = subprocess.run(command, preexec_fn=lambda: limited(size), capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and "cannot be written" in run.stderr and "Traceback" not in run.stderr, run.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    whole = tmp_path / "other"
    other = [argument.replace(f"out={tmp_path}", f"out={whole}") for argument in command]
    assert subprocess.run(other, capture_output=True, timeout=120).returncode == 0
    for name in ("ledger.json", "tokenizer/tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_damage_anywhere_is_read_or_refused_but_never_crashes(tmp_path: Path) -> None:
    random = Random(1)
    (name, *_) = write_sample(tmp_path, Sample(citations=50, files=2))
    packed = (tmp_path / name).read_bytes()
    plain = gzip.decompress(packed)
    pieces = (
        b"<",
        b">",
        b"&",
        b"&x;",
        b"</PMID>",
        b"<PMID>",
        b"\x00",
        b"\xff",
        b"<![CDATA[",
        b"<!--",
        b"<DeleteCitation>",
    )
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        data = damaged_bytes(random.choice((packed, plain)), random, pieces, 200)
        (tmp_path / "damaged").write_bytes(data)
        try:
            list(read_pubmed(tmp_path / "damaged"))
            outcomes["read"] += 1
        except Refused:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes
