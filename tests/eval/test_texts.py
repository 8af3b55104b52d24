"""What becomes of each document of a place: its exact text, or the reason why it is not measured."""

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3
from data_prep import pipeline
from eval.shard_texts import _byte_characters
from eval.texts import Texts, load_texts

SMALL = (
    "executor.workers=1", "pubmed=sample", "pmc=sample", "sample.citations=150", "sample.articles=40",
    "tokenizer.vocab_size=600", "shards.max_seq_len=64", "shards.size_limit=65536", "shards.val_fraction=0.2",
    "select.quality.min_words=null",
)  # fmt: skip
ODD = ["two\r\nlines\n", "  spaces around \u2028 and within  ", "µ, 你好, \U0001f9ec, e\u0301", "<|endoftext|> is text"]


def lines(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def contents(texts: Texts) -> list[str]:
    return sorted(document.text for document in texts.documents)


def reasons(texts: Texts) -> list[str]:
    return [f"{entry.place}: {entry.reason}" for entry in texts.refused]


def write(path: Path, texts: Sequence[str]) -> Path:
    """A file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": list(texts)}), path)
    elif path.suffix == ".txt":
        (text,) = texts
        path.write_bytes(text.encode())
    else:
        data = lines(texts)
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_document_is_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    texts = load_texts("odd", str(write(tmp_path / name, ODD)))
    assert contents(texts) == sorted(ODD) and not texts.refused
    assert texts.bytes == sum(len(text.encode()) for text in ODD)


@pytest.mark.parametrize("text", ODD)
def test_a_text_file_is_one_document(tmp_path: Path, text: str) -> None:
    assert contents(load_texts("one", str(write(tmp_path / "a.txt", [text])))) == [text]


def test_the_same_documents_are_the_same_set_whatever_their_files(tmp_path: Path) -> None:
    texts = [f"Document {number}." for number in range(50)]
    write(tmp_path / "one" / "all.jsonl", texts)
    write(tmp_path / "many" / "deep" / "a.parquet", texts[30:])
    write(tmp_path / "many" / "b.jsonl.gz", texts[1:30])
    write(tmp_path / "many" / "c.txt", texts[:1])
    one, many = (load_texts("set", str(tmp_path / folder)) for folder in ("one", "many"))
    assert [document.sha256 for document in one.documents] == [document.sha256 for document in many.documents]
    assert contents(one) == sorted(texts)


def test_documents_keep_the_ids_that_they_have(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["pmid:1", "pmid:2"], "text": ["One.", None]}), tmp_path / "a.parquet")
    texts = load_texts("set", str(tmp_path / "a.parquet"))
    assert [document.id for document in texts.documents] == ["pmid:1"]
    assert [(entry.id, entry.place) for entry in texts.refused] == [("pmid:2", "a.parquet row 2")]


def test_a_star_stays_within_its_folder(tmp_path: Path) -> None:
    for name in ("a/x.txt", "b/x.txt", "b/y.jsonl", "b/deep/x.txt", "x.txt"):
        write(tmp_path / name, [name])
    assert contents(load_texts("set", f"{tmp_path}/*/*.txt")) == ["a/x.txt", "b/x.txt"]
    assert contents(load_texts("set", f"{tmp_path}/[b]/*")) == ["b/x.txt", "b/y.jsonl"]


def test_relative_places_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "x.txt", ["here"])
    monkeypatch.chdir(tmp_path)
    for place in ("a", "a/", "a/x.txt", "*/x.txt", "a/*"):
        assert contents(load_texts("set", place)) == ["here"]


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_limit_keeps_a_part_of_what_a_larger_one_keeps(tmp_path: Path, seed: int) -> None:
    texts = [f"{seed} {number} " + "word " * (number * number % 37) for number in range(200)]
    write(tmp_path / "forwards.jsonl", texts)
    write(tmp_path / "backwards.parquet", texts[::-1])
    everything = load_texts("set", str(tmp_path / "forwards.jsonl"))
    before: set[str] = set()
    for limit in (1, 100, 1000, 5000, everything.bytes, everything.bytes + 1):
        found = load_texts("set", str(tmp_path / "forwards.jsonl"), limit)
        assert found.documents == everything.documents[: len(found.documents)]
        assert contents(found) == contents(load_texts("set", str(tmp_path / "backwards.parquet"), limit))
        assert found.bytes >= min(limit, everything.bytes) > found.bytes - found.documents[-1].bytes
        assert before <= set(contents(found))
        assert (found.documents_found, found.bytes_found) == (200, everything.bytes)
        before = set(contents(found))
    assert len(before) == 200


def test_what_stands_twice_is_measured_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ["same", "other", "same"])
    assert contents(load_texts("set", str(tmp_path))) == ["other", "same", "same"]
    assert [len(load_texts("set", str(tmp_path), limit).documents) for limit in (4, 5, 9, 13)] == [1, 2, 3, 3]


def test_every_document_is_measured_or_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "good"}\n\n{"text": ""}\n{"text": " \\n"}\n{"txt": "x"}\n{"text": null}\n{"text": 7}\n'
        b'{"text": "half \\ud800"}\n{"text": "cut\n[1]\n{"text": "na\xefve"}\n'
    )
    (tmp_path / "b.txt").write_bytes(b"na\xefve")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines(["text"] * 1000))[:-20])
    (tmp_path / "d.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "e.parquet").write_bytes(b"not parquet")
    (tmp_path / "f.pdf").write_bytes(b"%PDF")
    (tmp_path / "g.txt").write_bytes(b"")
    pq.write_table(pa.table({"abstract": ["x"]}), tmp_path / "h.parquet")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "i.parquet")
    pq.write_table(pa.table({"text": pa.array([b"na\xefve", b"good too"]).view(pa.string())}), tmp_path / "j.parquet")
    texts = load_texts("set", str(tmp_path))
    assert contents(texts) == ["good", "good too"]
    assert reasons(texts) == [
        "a.jsonl line 3: text is empty",
        "a.jsonl line 4: text is empty",
        "a.jsonl line 5: has no text",
        "a.jsonl line 6: has no text",
        "a.jsonl line 7: text is not text but a int",
        "a.jsonl line 8: text holds half a surrogate pair, which is no character",
        "a.jsonl line 9: not JSON: Unterminated string starting at: line 1 column 10 (char 9)",
        "a.jsonl line 10: not a JSON object but a list",
        "a.jsonl line 11: not JSON: 'utf-8' codec can't decode byte 0xef in position 12: invalid continuation byte",
        "b.txt: not UTF-8: invalid continuation byte at byte 2",
        "c.jsonl.gz: cannot be read: Compressed file ended before the end-of-stream marker was reached",
        "d.jsonl.gz: cannot be read: Not a gzipped file (b'no')",
        "e.parquet: cannot be read: Parquet magic bytes not found in footer. Either the file is corrupted or this is "
        "not a parquet file.",
        "f.pdf: is none of .txt, .jsonl, .jsonl.gz, .parquet",
        "g.txt: text is empty",
        "h.parquet: its column text is not among abstract",
        "i.parquet: its column text is int64, not strings",
        "j.parquet row 1: not UTF-8: invalid continuation byte at byte 2",
    ]


def test_a_place_without_any_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jsonl").write_text('{"abstract": "x"}\n' * 5)
    (tmp_path / "mds" / "val").mkdir(parents=True)
    (tmp_path / "mds" / "val" / "index.json").write_text("{}")
    for place, said in {
        "nowhere": "nowhere: no such file or folder",
        "empty": "no such file or folder, or nothing in it",
        "*.md": r"\*\.md: no such file",
        "a.jsonl": "5 refused: a.jsonl line 1: has no text.*and 2 more",
        "mds": "holds shards in val; give one",
        "mds/val": "has no doc_ids.parquet",
    }.items():
        with pytest.raises(UserError, match=said):
            load_texts("set", str(tmp_path / place))
    with pytest.raises(UserError, match="texts_limit_bytes"):
        load_texts("set", str(tmp_path / "a.jsonl"), limit_bytes=0)


def test_texts_in_a_bucket_are_those_on_disk(tmp_path: Path, s3: LocalS3) -> None:
    for name in ("x/a.jsonl", "x/b.jsonl.gz", "x/c.parquet", "x/d.txt", "x/deep/d.txt"):
        storage.upload(write(tmp_path / name, ODD[:1] if name.endswith("txt") else ODD), s3.location("texts", name))
    for place in ("x", "x/d.txt", "x/*.parquet", "*/deep/*"):
        there = load_texts("set", s3.location("texts", *place.split("/")))
        assert there.documents == load_texts("set", str(tmp_path / place)).documents
    with pytest.raises(UserError, match="no such file or folder"):
        load_texts("set", s3.location("texts", "nowhere"))


# --- shards ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packing → a whole preparation over invented records, abstracts and full texts far longer than a sequence."""
    out = tmp_path_factory.mktemp("prepared")
    found = {}
    for packing, compression in (("eos", "null"), ("concat", "null"), ("best_fit", "zstd")):
        pipeline.run(
            "yamls/data/quickstart.yaml",
            [f"out={out}", f"shards.packing={packing}", f"shards.compression={compression}", *SMALL],
        )
        found[packing] = tmp_path_factory.mktemp(packing) / "data"
        shutil.copytree(out, found[packing])
    return found


def documents(out: Path) -> dict[str, str]:
    table = pq.read_table(out / "documents", columns=["id", "text"])
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["eos", "concat", "best_fit"])
@pytest.mark.parametrize("split", ["val", "train"])
def test_shards_give_back_the_documents_that_they_were_made_from(
    prepared: dict[str, Path], packing: str, split: str
) -> None:
    out = prepared[packing]
    numbers = json.loads((out / "mds" / "card.json").read_text())["splits"][split]
    texts = load_texts("held out", str(out / "mds" / split))
    originals = documents(out)
    assert texts.documents and all(document.text == originals[document.id] for document in texts.documents)
    assert len({document.id for document in texts.documents}) == texts.documents_found
    assert texts.documents_found + len(texts.refused) == numbers["documents"]
    assert len(texts.refused) == (0 if packing == "best_fit" else 1) and numbers["documents_cut"] > 5
    assert all("behind the last whole sequence" in entry.reason for entry in texts.refused)


@pytest.mark.slow
def test_shards_in_a_bucket_are_those_on_disk(prepared: dict[str, Path], s3: LocalS3) -> None:
    for packing in ("eos", "best_fit"):
        out = prepared[packing]
        for name in storage.list_files(str(out)):
            if name.startswith(("mds/", "tokenizer/")):
                storage.upload(out / name, s3.location("shards", packing, name))
        there = load_texts("held out", s3.location("shards", packing, "mds", "val"))
        assert there.documents == load_texts("held out", str(out / "mds" / "val")).documents


@pytest.mark.slow
def test_shards_that_are_not_whole_or_not_of_this_tokenizer_are_refused(
    prepared: dict[str, Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    def changed(name: str) -> Path:
        shutil.copytree(prepared["eos"], tmp_path / name)
        return tmp_path / name

    val = str(prepared["eos"] / "mds" / "val")
    with pytest.raises(UserError, match="is not the tokenizer that wrote"):
        load_texts("held out", val, tokenizer=str(tokenizer_folder))
    with pytest.raises(UserError, match="it takes the tokenizer that wrote"):
        load_texts("held out", val, tokenizer=str(tmp_path))

    out = changed("damaged")
    shard = out / "mds" / "val" / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"shard.00000.mds: is not what index.json says"):
        load_texts("held out", str(out / "mds" / "val"))
    shard.unlink()
    with pytest.raises(UserError, match=r"shard.00000.mds of its index.json is not there"):
        load_texts("held out", str(out / "mds" / "val"))

    out = changed("others")  # the side file of other shards: no text is made up from it
    shutil.copy(out / "mds" / "train" / "doc_ids.parquet", out / "mds" / "val")
    with pytest.raises(UserError, match=r"doc_ids.parquet tells of .* is not of these shards"):
        load_texts("held out", str(out / "mds" / "val"))
    table = pq.read_table(val + "/doc_ids.parquet")
    moved = pa.array([tokens - 1 if row == 0 else tokens for row, tokens in enumerate(table["tokens"].to_pylist())])
    column = table.schema.get_field_index("tokens")
    pq.write_table(table.set_column(column, "tokens", moved), out / "mds" / "val" / "doc_ids.parquet")
    texts = load_texts("held out", str(out / "mds" / "val"))
    assert [entry.id for entry in texts.refused if "does not end where" in entry.reason] == [table["id"][0].as_py()]

    (out / "mds" / "val" / "index.json").write_text(
        '{"shards": [{"column_names": ["text"], "column_encodings": ["str"]}]}'
    )
    with pytest.raises(UserError, match=r"index.json: not of shards with the one column tokens"):
        load_texts("held out", str(out / "mds" / "val"))
    (out / "mds" / "val" / "index.json").write_text('{"shards": [{"samples": 1}]}')
    with pytest.raises(UserError, match=r"index.json: not the index of shards: KeyError"):
        load_texts("held out", str(out / "mds" / "val"))

    out = changed("no_card")  # a tokenizer that nothing vouches for
    (out / "mds" / "card.json").unlink()
    content = json.loads((out / "tokenizer" / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    (out / "tokenizer" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is not byte-level"):
        load_texts("held out", str(out / "mds" / "val"))


def test_each_byte_has_the_character_that_the_tokenizers_library_gives_it() -> None:
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    table = _byte_characters()
    assert sorted(table) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for character in (*map(chr, range(0x800)), "\u2028", "\uffff", "\U0001f9ec", "\U0010ffff"):
        ((shown, _),) = split.pre_tokenize_str(character)
        assert shown == "".join(table[byte] for byte in character.encode())
