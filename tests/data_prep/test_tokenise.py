"""Tokenising: the ids of the reference, whatever the text, the engine and the order."""

import hashlib
import json
import sys
import unicodedata
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import prepare
from tokenizers import pre_tokenizers

from base.storage import sha256
from data_prep.download.sample_text import article, drugs
from data_prep.shards import tokenise
from data_prep.shards.tokenise import TokeniseTask, ids_path, lengths_path, tokenise_part
from data_prep.tokenizer import encoding
from data_prep.tokenizer.encoding import UNLIKE, Gigatoken, Reference, load_encoders
from data_prep.tokenizer.training import END_OF_TEXT, train, write_tokenizer

SPACES = [" ", "  ", "\n", "\t", "\u00a0", "\u2028", "\u3000", "\u200b", "\u200d", "\x85", "\x1c", "\ufeff"]
ODD = [*SPACES, "'s", "'S", "'ll", "’s", "a", "1", "٣", "²", "Ⅷ", "½", "\u0301", ".", END_OF_TEXT, "👩‍🔬", "\x00"]


def abstracts(number: int) -> list[str]:
    random = Random(5)
    known = drugs(random, 30)
    return ["\n".join([title, *(text for _, text in sections)]) for title, sections in
            (article(random, known) for _ in range(number))]  # fmt: skip


def odd_texts(number: int) -> list[str]:
    """Texts of characters of every category, of ODD, and of long runs of one."""
    random = Random(1)
    kinds: dict[str, list[str]] = {}
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            kinds.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    names = sorted(kinds)
    texts = ["", "a" * 100_000, " " * 5000, "\n" * 3000 + "x", "ACGT" * 20_000, "0" * 3000, f"a{END_OF_TEXT}'s"]
    for index in range(number):
        mixed = index % 3
        texts.append("".join(
            random.choice(ODD) if mixed == 2 or (mixed == 1 and random.random() < 0.5)
            else random.choice(kinds[random.choice(names)])
            for _ in range(random.randrange(30))
        ))  # fmt: skip
    return texts


def documents(path: Path, texts: list[str]) -> Path:
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    pq.write_table(pa.table({"id": [f"pmid:{n}" for n in range(len(texts))], "text": texts, "sha256": digests}), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    contractions = " ".join(f"patient{end}" for end in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"))
    write_tokenizer(train(iter([[*abstracts(300), *[contractions] * 300]]), 1200, 2), folder, 1024)
    return folder


def task(tokenizer: Path, part: Path, folder: Path) -> TokeniseTask:
    folder.mkdir(exist_ok=True)
    return TokeniseTask(part, tokenizer, sha256(tokenizer / "tokenizer.json"), folder)


def written(folder: Path, part: Path) -> list[list[int]]:
    ids, lengths = np.load(ids_path(folder, part)), np.load(lengths_path(folder, part))
    assert ids.dtype == np.uint16 and lengths.dtype == np.int32 and lengths.sum() == len(ids)
    return [ids.tolist() for ids in np.split(ids, np.cumsum(lengths)[:-1])]


def equal_to_reference(tokenizer: Path, texts: list[str]) -> bool:
    reference = Reference(tokenizer)
    column = pa.array(texts, type=pa.string())
    ours, theirs = Gigatoken(tokenizer, reference).encode(column), reference.encode(column)
    return all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_ids_are_those_of_the_reference_for_any_text(tokenizer: Path) -> None:
    assert equal_to_reference(tokenizer, [*abstracts(200), *odd_texts(20_000)])


@pytest.mark.slow
def test_long_texts_have_the_same_ids_when_they_are_encoded_in_pieces(
    tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*odd_texts(3000), "", " ".join(odd_texts(1500)), *abstracts(30)]
    whole, lengths = Reference(tokenizer).encode(pa.array(texts))
    for size in (1, 7, 1000):
        monkeypatch.setattr(encoding, "PIECE", size)
        ids, counted = Reference(tokenizer).encode(pa.array(texts))
        assert np.array_equal(ids, whole) and np.array_equal(counted, lengths)


def test_the_listed_characters_are_all_on_which_the_two_differ() -> None:
    from gigatoken.gigatoken_rs import pretokenizer

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    differ = []
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            text = f"a{chr(code)}a1{chr(code)}1.{chr(code)}.{chr(code)}'s \t{chr(code)} {chr(code)}  {chr(code)}\n"
            theirs = [len(piece) for piece, _ in split.pre_tokenize_str(text)]
            if [len(piece) for piece in pretokenizer(text.encode())] != theirs:
                differ.append(code)
    assert differ == [code for first, last in UNLIKE for code in range(first, last + 1)]


def test_a_character_on_which_the_two_differ_is_left_to_the_reference(tokenizer: Path) -> None:
    from gigatoken import Tokenizer

    texts = ["plain", f"{chr(0x32F98)}'s", "more", f"x{chr(0x88F)}'s", ""]
    assert equal_to_reference(tokenizer, texts)
    alone = Tokenizer.from_json((tokenizer / "tokenizer.json").read_text()).encode_batch_list(texts, parallel=False)
    assert alone != [Reference(tokenizer).encode(pa.array([text]))[0].tolist() for text in texts]  # it is needed


def test_real_text_has_the_ids_of_the_reference(tokenizer: Path, real_data: Path) -> None:
    files = [*(real_data / "pubmed" / "efetch").glob("*.xml"), *(real_data / "pmc" / "loose").rglob("*.*xml")]
    assert equal_to_reference(tokenizer, [file.read_text(encoding="utf-8", errors="replace") for file in files[:30]])


def test_batches_do_not_change_what_is_written(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = documents(tmp_path / "a.parquet", [*abstracts(40), *odd_texts(600)])
    tokenise_part(task(tokenizer, part, tmp_path / "large"))
    monkeypatch.setattr(tokenise, "BATCH", 100)
    monkeypatch.setattr(tokenise, "ROWS", 7)
    monkeypatch.setattr(encoding, "REMEMBERED", -(1 << 40))  # loaded again for each batch
    tokenise_part(task(tokenizer, part, tmp_path / "small"))
    for file in (tmp_path / "large").iterdir():
        if file.suffix == ".npy":
            assert (tmp_path / "small" / file.name).read_bytes() == file.read_bytes()


def test_a_sample_of_every_file_is_compared_and_a_difference_turns_to_the_reference(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = abstracts(600)
    part = documents(tmp_path / "a.parquet", texts)
    good = tokenise_part(task(tokenizer, part, tmp_path / "good"))
    assert good.engine.startswith("gigatoken ") and not good.why and 1 <= good.compared <= 12

    _, fast, _ = load_encoders(tokenizer, sha256(tokenizer / "tokenizer.json"))
    assert fast is not None
    other = tmp_path / "other"  # gigatoken with another vocabulary, which stands for a fault of it
    other.mkdir()
    write_tokenizer(train(iter([abstracts(300)]), 600, 2), other, 1024)
    monkeypatch.setattr(fast, "_tokenizer", Gigatoken(other, Reference(other))._tokenizer)
    bad = tokenise_part(task(tokenizer, part, tmp_path / "bad"))
    assert bad.engine.startswith("tokenizers ") and "do not agree on pmid:" in bad.why
    assert written(tmp_path / "bad", part) == written(tmp_path / "good", part)
    load_encoders.cache_clear()


def test_no_documents_and_empty_documents_are_files_too(tokenizer: Path, tmp_path: Path) -> None:
    part = documents(tmp_path / "empty.parquet", ["", "", ""])
    tokenise_part(task(tokenizer, part, tmp_path / "ids"))
    assert written(tmp_path / "ids", part) == [[], [], []]
    pq.write_table(pq.read_table(part).slice(0, 0), part)
    assert tokenise_part(task(tokenizer, part, tmp_path / "ids")).documents == 0
    assert (
        np.load(ids_path(tmp_path / "ids", part)).shape == np.load(lengths_path(tmp_path / "ids", part)).shape == (0,)
    )


def test_without_gigatoken_the_ids_are_the_same_and_the_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = ["download", "parse", "select", "tokenizer", "shards"]
    prepare("sample", tmp_path / "with", *stages)
    assert "WARNING" not in capfd.readouterr().err
    load_encoders.cache_clear()
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    prepare("sample", tmp_path / "without", *stages)
    load_encoders.cache_clear()
    assert "WARNING" in (said := capfd.readouterr().err) and "gigatoken is not installed" in said
    index = [json.loads((tmp_path / out / "mds" / "train" / "index.json").read_text()) for out in ("with", "without")]
    assert index[0] == index[1]
