"""A tokenizer that is there already: the same ids as its owner's, in shards, reports and what follows; or refused."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made import SMALL, YAML, content, documents, prepare
from test_tokenise import abstracts, equal_to_reference, odd_texts
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)  # fmt: skip

from base.configuration import load_configuration
from base.errors import UserError
from base.local_s3 import LocalS3
from base.storage import sha256, upload
from data_prep import pipeline
from data_prep.schema import DataConfiguration
from data_prep.shards.reading import read_shard
from data_prep.tokenizer.encoding import Reference
from data_prep.tokenizer.ready import load_ready
from data_prep.tokenizer.training import END_OF_TEXT, byte_level, load_tokenizer, train, write_tokenizer

ENTRIES = 500


def vocabulary(entries: int = ENTRIES) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """As GPT-2's in form: <|endoftext|> is an entry of the model; here the first, so that its place tells nothing."""
    model = json.loads(train(iter([abstracts(200)]), entries, 2).to_str())["model"]
    ids = {END_OF_TEXT: 0} | {token: id + 1 for token, id in model["vocab"].items()}
    return ids, [(left, right) for left, right in model["merges"]]


def as_two_files(folder: Path, entries: int = ENTRIES) -> Path:
    folder.mkdir()
    ids, merges = vocabulary(entries)
    (folder / "vocab.json").write_text(json.dumps(ids))
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    return folder


def as_one_file(folder: Path, change: Callable[[Tokenizer], Any] = lambda tokenizer: None) -> Path:
    folder.mkdir()
    ids, merges = vocabulary()
    tokenizer = byte_level(models.BPE(vocab=ids, merges=merges))
    tokenizer.add_special_tokens([END_OF_TEXT])
    (change(tokenizer) or tokenizer).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_two_files(tmp_path_factory.mktemp("ready") / "two")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ready: Path) -> Path:
    out = tmp_path_factory.mktemp("made")
    run(out, ready)
    return out


def run(out: Path, tokenizer: object, *arguments: str) -> None:
    settings = [one for one in SMALL if not one.startswith("tokenizer.")]
    given = "{" + f"name: {tokenizer}" + "}"
    pipeline.run(YAML, ["pubmed=sample", f"out={out}", *settings, f"tokenizer={given}", *arguments])


def test_any_form_of_the_same_tokenizer_becomes_the_same(ready: Path, tmp_path: Path, s3: LocalS3) -> None:
    def surround(tokenizer: Tokenizer) -> None:
        tokenizer.enable_truncation(8)
        tokenizer.enable_padding(length=12)
        around = processors.TemplateProcessing(f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)])
        tokenizer.post_processor = around  # type: ignore[assignment]

    expected = load_ready(str(ready))
    assert expected.files == {name: sha256(ready / name) for name in ("vocab.json", "merges.txt")}
    one = load_ready(str(as_one_file(tmp_path / "one", surround)))
    assert one.tokenizer.to_str() == expected.tokenizer.to_str() and list(one.files) == ["tokenizer.json"]
    for file in ready.iterdir():
        upload(file, s3.location("ready", file.name))
    assert load_ready(s3.location("ready")).tokenizer.to_str() == expected.tokenizer.to_str()


def test_what_training_has_written_is_taken_back_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_tokenizer(train(iter([abstracts(100)]), 400, 2), tmp_path / "a", 64)
    write_tokenizer(load_ready(str(tmp_path / "a")).tokenizer, tmp_path / "b", 64)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def _digits(tokenizer: Tokenizer) -> None:
    cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])  # type: ignore[list-item]
    tokenizer.pre_tokenizer = cut  # type: ignore[assignment]


def _other_end(tokenizer: Tokenizer) -> Tokenizer:
    ids, merges = vocabulary()
    ids["</s>"] = ids.pop(END_OF_TEXT)
    return byte_level(models.BPE(vocab=ids, merges=merges))


def _without_a_byte(tokenizer: Tokenizer) -> Tokenizer:
    ids, _ = vocabulary(258)
    ids["xx"] = ids.pop("Ā")
    return byte_level(models.BPE(vocab=ids, merges=[]))


def _with_a_gap(tokenizer: Tokenizer) -> Tokenizer:
    ids, merges = vocabulary()
    return byte_level(models.BPE(vocab=ids | {"xx": 900}, merges=merges))


def _word_piece(tokenizer: Tokenizer) -> Tokenizer:
    other = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", END_OF_TEXT])
    other.train_from_iterator(abstracts(20), trainer)
    return other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: setattr(one, "normalizer", normalizers.NFC()), ["changes texts before", "NFC"]),
        (lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.ByteLevel(True)), ["in another way than GPT-2"]),
        (lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)), ["than GPT-2"]),
        (_digits, [r"in another way than GPT-2 \(Sequence\)"]),
        (lambda one: one.add_tokens(["    "]) and None, [r"takes tokens out of a text.*\['    '\]"]),
        (lambda one: setattr(one.model, "dropout", 0.1), ["not a plain BPE"]),
        (_other_end, ["has no <|endoftext|>".replace("|", r"\|")]),
        (_without_a_byte, ["bytes are missing"]),
        (_with_a_gap, ["ids are not 0 to 500"]),
        (_word_piece, ["model is WordPiece", r"another way than GPT-2 \(nothing\)", "bytes are missing"]),
    ],
)
def test_what_does_not_do_as_ours_is_refused_with_all_reasons(
    tmp_path: Path, change: Callable[[Tokenizer], Any], said: list[str]
) -> None:
    folder = as_one_file(tmp_path / "one", change)
    with pytest.raises(UserError, match=r"^tokenizer\.name: .*one: shards cannot be written with it: ") as error:
        load_ready(str(folder))
    for reason in said:
        assert error.match(reason)


@pytest.mark.parametrize("entries", [65_536, 65_537])
def test_ids_that_do_not_fit_into_16_bits_are_refused(tmp_path: Path, entries: int) -> None:
    folder = as_two_files(tmp_path / "large")
    ids = json.loads((folder / "vocab.json").read_text())
    ids |= {f"x{number}": number for number in range(len(ids), entries)}
    (folder / "vocab.json").write_text(json.dumps(ids))
    if entries == 65_536:
        assert load_ready(str(folder)).tokenizer.get_vocab_size() == 65_536
    else:
        with pytest.raises(UserError, match="65,537 entries, and an id in a shard has 16 bits: 65,536 at most"):
            load_ready(str(folder))


def test_a_damaged_or_missing_one_is_told_before_anything_is_done(tmp_path: Path) -> None:
    folder = as_two_files(tmp_path / "ready")
    (folder / "merges.txt").write_text("not a merge\n")
    with pytest.raises(UserError, match=r"ready: vocab.json and merges.txt: not a tokenizer"):
        run(tmp_path / "out", folder)
    (folder / "merges.txt").unlink()
    for place in (str(folder), "openai-community/gpt2"):
        with pytest.raises(UserError, match=rf"tokenizer\.name: {place} holds neither .* download"):
            run(tmp_path / "out", place)
    assert not (tmp_path / "out" / "work" / "done").exists()


def test_shards_end_documents_with_its_own_end_of_text(made: Path, ready: Path) -> None:
    card = json.loads((made / "mds" / "card.json").read_text())
    assert (card["vocab_size"], card["eos_id"]) == (ENTRIES, 0)
    entry = json.loads((made / "mds" / "train" / "index.json").read_text())["shards"][0]
    name = entry["raw_data"]["basename"]
    stream = read_shard(str(made / "mds" / "train" / name), entry, 64, made / "work").reshape(-1)
    ends = np.flatnonzero(stream == 0)
    theirs = load_tokenizer(made / "tokenizer")
    texts = {one["text"] for one in documents(made).values()}
    assert len(ends) > 5
    for begin, end in pairwise(ends):
        assert theirs.decode(stream[begin + 1 : end].tolist(), skip_special_tokens=False) in texts


def test_hugging_face_and_the_evaluation_read_it(made: Path, ready: Path) -> None:
    from transformers import AutoTokenizer, GPT2TokenizerFast

    from eval.prompts import load_tokenizer as for_questions

    theirs = GPT2TokenizerFast(vocab_file=str(ready / "vocab.json"), merges_file=str(ready / "merges.txt"))
    loaded = AutoTokenizer.from_pretrained(made / "tokenizer")
    assert loaded.eos_token_id == theirs.eos_token_id == 0 and len(loaded) == len(theirs) == ENTRIES
    for text in [*abstracts(20), *odd_texts(200)]:
        expected = theirs(text)["input_ids"]
        assert loaded(text)["input_ids"] == expected == for_questions(str(made / "tokenizer")).encode(text).ids


def test_report_and_card_say_which_it_was(made: Path, ready: Path) -> None:
    report = json.loads((made / "tokenizer" / "report.json").read_text())
    assert report["ready"] == {name: sha256(ready / name) for name in ("vocab.json", "merges.txt")}
    assert "training" not in report and report["tokens_per_word"] > 1
    facts = json.loads((made / "card.json").read_text())
    settings = facts["configuration"]["tokenizer"]
    # Neither its place, nor what it was not made by.
    assert settings == {"name": None, "compare_with": {}, "terms": None}
    assert "tokenizer.name" in facts["inputs"]["named"]
    for text in ((made / "tokenizer" / "report.md").read_text(), (made / "card.md").read_text()):
        assert report["ready"]["vocab.json"] in text and "taken as it was" in text
        assert f"{report['tokens_per_word']:.3f}" in text


def test_terms_are_counted_in_the_documents_whatever_their_source(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "terms").mkdir()
    (tmp_path / "terms" / "drug_names.tsv").write_text("name\tmesh_id\nstudy\t\nNeverheardofamine\t\n")
    given = f"tokenizer.terms={tmp_path / 'terms'}"
    run(tmp_path / "out", ready, "pubmed=null", "pmc=sample", "sample.articles=40", given)
    report = json.loads((tmp_path / "out" / "tokenizer" / "report.json").read_text())
    bands = report["terms"]["by_tokenizer"]["ours"]["by_frequency"]
    assert (bands["frequent"]["terms"], bands["unseen"]["terms"]) == (1, 1)
    assert "how often the documents have them" in (tmp_path / "out" / "tokenizer" / "report.md").read_text()


def test_another_ready_tokenizer_makes_other_shards_and_the_same_one_elsewhere_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def done_before(tokenizer: Path) -> set[str]:
        capfd.readouterr()
        run(tmp_path / "out", tokenizer)
        return {line.split(":")[0] for line in capfd.readouterr().err.splitlines() if line.endswith("done before")}

    first, documents_alone = as_two_files(tmp_path / "first"), {"download", "parse", "select"}
    assert done_before(first) == set()
    before = content(tmp_path / "out")
    assert done_before(first) == documents_alone | {"tokenizer", "shards", "card"}
    elsewhere = as_one_file(tmp_path / "elsewhere")
    assert done_before(elsewhere) == documents_alone | {"shards"}  # the report names other files
    second = as_two_files(tmp_path / "second", ENTRIES - 50)
    assert done_before(second) == documents_alone
    prepare("sample", tmp_path / "out")  # one of its own
    assert "trained" in (tmp_path / "out" / "tokenizer" / "report.md").read_text()
    for file in first.iterdir():
        (second / file.name).write_bytes(file.read_bytes())  # another content in the same place
    assert done_before(second) == documents_alone
    assert content(tmp_path / "out") == before


def test_keys_of_training_beside_a_ready_one_are_refused_together(tmp_path: Path) -> None:
    load_configuration("yamls/data/biomedlm.yaml", ["tokenizer={name: x, terms: y}"], DataConfiguration)
    config = tmp_path / "data.yaml"
    config.write_text("pubmed: sample\nout: x\ntokenizer:\n  name: x\n  vocab_size: 300\n")
    with pytest.raises(UserError) as error:
        load_configuration(str(config), ["tokenizer.seed=1", "tokenizer.curve=[]"], DataConfiguration)
    said = str(error.value)
    assert said.startswith("3 faults") and "data.yaml:5: tokenizer.vocab_size: is for training" in said
    assert "argument tokenizer.seed=1: tokenizer.seed" in said and "tokenizer={name: FOLDER}" in said
    with pytest.raises(UserError, match=r"tokenizer\.vocab_szie: unknown key; did you mean tokenizer\.vocab_size"):
        load_configuration(str(config), ["tokenizer.vocab_szie=1"], DataConfiguration)


def test_a_yaml_based_on_one_that_trains_takes_the_ready_one_alone() -> None:
    path = "yamls/data/tokenizer_gpt2.yaml"
    ready, trained = (
        load_configuration(one, ["out=x"], DataConfiguration) for one in (path, "yamls/data/biomedlm.yaml")
    )
    assert ready.tokenizer.model_fields_set == {"name"}
    assert ready.model_dump(exclude={"tokenizer"}) == trained.model_dump(exclude={"tokenizer"})


def test_special_tokens_beside_the_end_of_text_stay_and_are_text_in_documents(tmp_path: Path) -> None:
    extra = AddedToken("<|padding|>", special=True, normalized=False)
    folder = as_one_file(tmp_path / "one", lambda one: one.add_special_tokens([extra]) and None)
    ours = load_ready(str(folder)).tokenizer
    assert ours.token_to_id("<|padding|>") == ENTRIES and ours.token_to_id(END_OF_TEXT) == 0
    (tmp_path / "written").mkdir()
    write_tokenizer(ours, tmp_path / "written", 64)
    texts = ["a <|padding|> b", f"a{END_OF_TEXT}b", *abstracts(50)]
    assert equal_to_reference(tmp_path / "written", texts)
    assert not {0, ENTRIES} & set(Reference(tmp_path / "written").encode(pa.array(texts))[0].tolist())


def test_decoders_are_ours_whatever_the_file_has(tmp_path: Path) -> None:
    folder = as_one_file(tmp_path / "one", lambda one: setattr(one, "decoder", decoders.BPEDecoder()))
    ours = load_ready(str(folder)).tokenizer
    assert ours.decode(ours.encode("two  words").ids, skip_special_tokens=False) == "two  words"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """GPT-2's real tokenizer, as the stage writes it."""
    folder = tmp_path_factory.mktemp("gpt2")
    write_tokenizer(load_ready(str(real_data / "tokenizers" / "gpt2")).tokenizer, folder, 1024)
    return folder


def test_gpt2s_end_of_text_is_50256(gpt2: Path) -> None:
    tokenizer = load_tokenizer(gpt2)
    assert tokenizer.get_vocab_size() == 50257 and tokenizer.token_to_id(END_OF_TEXT) == 50256
    assert 50256 not in tokenizer.encode(f"quoted {END_OF_TEXT} here").ids


@pytest.mark.slow
def test_fast_tokenising_with_gpt2s_gives_the_ids_of_its_own_class(gpt2: Path, real_data: Path) -> None:
    """Against transformers' GPT-2 on the files themselves: what we make of them has no part in what is expected."""
    from transformers import GPT2TokenizerFast

    files = [*(real_data / "pubmed" / "efetch").glob("*.xml"), *(real_data / "pmc" / "loose").rglob("*.*xml")]
    real = [file.read_text(encoding="utf-8", errors="replace") for file in files[:30]]
    texts = [*real, *abstracts(100), *odd_texts(5000)]
    assert equal_to_reference(gpt2, texts)
    folder = real_data / "tokenizers" / "gpt2"
    theirs = GPT2TokenizerFast(vocab_file=str(folder / "vocab.json"), merges_file=str(folder / "merges.txt"))
    theirs.backend_tokenizer.encode_special_tokens = True
    ids, _ = Reference(gpt2).encode(pa.array(texts))
    expected = [id for one in theirs.backend_tokenizer.encode_batch_fast(texts) for id in one.ids]
    assert ids.tolist() == expected


def test_a_real_tokenizer_that_changes_texts_is_refused(real_data: Path) -> None:
    with pytest.raises(UserError, match="NFC") as error:
        load_ready(str(real_data / "tokenizers" / "gpt_neox"))
    assert error.match("takes tokens out of a text")
