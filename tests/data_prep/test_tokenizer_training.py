"""The tokenizer: lossless, deterministic, as BioMedLM's, loadable by Hugging Face."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import prepare
from tokenizers import Tokenizer

from data_prep.download.sample_text import article, drugs
from data_prep.schema import Tokenizer as Settings
from data_prep.tokenizer.corpus import Corpus
from data_prep.tokenizer.training import END_OF_TEXT, load_tokenizer, train, truncated, write_tokenizer


def texts(number: int = 300) -> Iterator[list[str]]:
    random = Random(3)
    known = drugs(random, 30)
    for _ in range(number):
        title, sections = article(random, known)
        yield [title, *(text for _, text in sections)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(train(texts(), 1200, 2), folder, 1024)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def test_any_text_comes_back_as_it_was(tokenizer: Tokenizer) -> None:
    every = "".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000)
    random = Random(0)
    mixed = ["".join(chr(random.randrange(1, 0x11000 if i % 2 else 0xD800)) for _ in range(50)) for i in range(200)]
    mixed = [text.encode("utf-8", "ignore").decode() for text in mixed]
    texts = [
        every,
        *mixed,
        " two  spaces\n\n\tand tabs ",
        "’µ²ﬁ½ 10^-5 😀\u0000",
        END_OF_TEXT,
        f"a{END_OF_TEXT}b",
        " ",
        "",
    ]
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_end_of_text_is_the_last_id_and_a_document_that_quotes_it_does_not_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 1200 and tokenizer.token_to_id(END_OF_TEXT) == 1199
    assert 1199 not in tokenizer.encode(f"quoted {END_OF_TEXT} here").ids
    assert tokenizer.token_to_id("Ā") is not None and len(tokenizer.encode("\x00").ids) == 1  # all 256 bytes are there


TRAIN = """
import sys
from pathlib import Path
sys.path[:0] = ["tests/data_prep"]
from test_tokenizer_training import texts
from data_prep.tokenizer.training import train, write_tokenizer
write_tokenizer(train(texts(), 1200, 2), Path(sys.argv[1]), 1024)
"""


@pytest.mark.parametrize("threads", [1, 5])
def test_the_same_text_gives_the_same_tokenizer_with_any_number_of_threads(
    folder: Path, tmp_path: Path, threads: int
) -> None:
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads), "PYTHONPATH": "."}
    subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path)], env=environment, check=True)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("size", [258, 400, 777, 1199, 1200])
def test_a_truncated_tokenizer_is_the_one_that_training_at_that_size_gives(tokenizer: Tokenizer, size: int) -> None:
    largest = train(texts(), 1200, 2)
    assert json.loads(truncated(largest, size).to_str()) == json.loads(train(texts(), size, 2).to_str())


def test_only_the_named_sources_are_trained_on_and_their_size_is_read_off_the_footers(tmp_path: Path) -> None:
    rows = [{"id": f"pmid:{n}", "source": "pubmed" if n % 2 else "pmc", "text": f"text {n} " * 50} for n in range(400)]
    parts = []
    for name, group in (("a", rows[:100]), ("b", [row for row in rows[100:] if row["source"] == "pmc"])):
        parts.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.Table.from_pylist(group), parts[-1], row_group_size=30)
    corpus = Corpus(parts, Settings(), 0.1)
    assert corpus.documents == 100  # the second file, by its footer, has none
    text = [text for some in corpus.training_texts(lambda number: None) for text in some]
    held_out, wanted = corpus.held_out("pubmed"), [row["text"] for row in rows[:100] if row["source"] == "pubmed"]
    assert held_out and sorted([*text, *held_out]) == sorted(wanted)
    assert corpus.taken == sum(map(len, text))


def test_hugging_face_loads_it(folder: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded).__name__ == "GPT2TokenizerFast" and len(loaded) == 1200
    assert loaded.eos_token_id == loaded.bos_token_id == loaded.unk_token_id == 1199 and loaded.model_max_length == 1024
    text = "  Mean troponin fell by 3.5 % (P < 0.05) , didn 't it ?"
    assert loaded(text)["input_ids"] == tokenizer.encode(text).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text


def test_a_small_text_gives_a_smaller_vocabulary_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare("sample", tmp_path, "download", "parse", "select", "tokenizer", "tokenizer.vocab_size=28896")
    report = json.loads((tmp_path / "tokenizer" / "report.json").read_text())
    assert report["vocab_size"] < report["asked"] == 28896 and "min_frequency" in report["said"]
    assert "SMALLER than the 28896" in capfd.readouterr().err
    assert "held out" in report["measured_on"] and 1 < report["tokens_per_word"] < 4


def test_training_text_is_bounded_and_held_out_documents_are_not_trained_on(tmp_path: Path) -> None:
    stages = ["download", "parse", "select", "tokenizer"]
    prepare("sample", tmp_path, *stages)
    everything = json.loads((tmp_path / "tokenizer" / "report.json").read_text())["training"]
    assert 0.8 * everything["of_bytes"] < everything["bytes"] < everything["of_bytes"]
    prepare("sample", tmp_path, *stages, "tokenizer.max_training_bytes=40000")
    assert 20_000 < json.loads((tmp_path / "tokenizer" / "report.json").read_text())["training"]["bytes"] < 60_000
