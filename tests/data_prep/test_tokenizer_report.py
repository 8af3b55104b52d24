"""The tokenizer's report: what is measured is what stands in the text, for ours and for others'."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import prepare
from tokenizers import Tokenizer, models

from base.errors import UserError
from data_prep.tokenizer.corpus import Choice
from data_prep.tokenizer.others import ByteLevel, Moses, load_other, moses
from data_prep.tokenizer.report import measure_terms
from data_prep.tokenizer.terms import (
    CountTask,
    TermList,
    count_terms,
    joined,
    lowered,
    natural,
    read_terms,
    spelled,
)  # fmt: skip
from data_prep.tokenizer.training import train

STAGES = ("download", "parse", "select", "tokenizer")


def term_lists(folder: Path) -> Path:
    folder.mkdir()
    mesh = "specialty\tterm\ttree_number\noncology\tLeukemia, Myeloid, Acute\tC04\noncology\tNeoplasms\tC04\n"
    (folder / "mesh_terms_by_specialty.tsv").write_text(mesh + "cardiology\tAorta\tA07\ncardiology\tNeoplasms\tC04\n")
    (folder / "drug_names.tsv").write_text("name\tmesh_id\nZorbamide\t\nMEK 162\t\n")
    return folder


def biogpt(folder: Path) -> Path:
    folder.mkdir()
    (folder / "bpecodes").write_text("t h 10\nth e</w> 9\no r 8\na or 7\n")
    (folder / "dict.txt").write_text("the 10\nt@@ 5\n% 4\n0 3\n5 3\n. 2\n")
    return folder


def test_inverted_headings_get_the_order_of_a_sentence() -> None:
    assert natural("Leukemia, Myeloid, Acute") == "Acute Myeloid Leukemia"
    assert natural("1,2-Dipalmitoylphosphatidylcholine") == "1,2-Dipalmitoylphosphatidylcholine"
    assert joined("NF - kappa B ( p65 )") == "NF-kappa B (p65)"
    assert lowered("Acute DNA Damage, mRNA and 5'-Nucleotidase") == "acute DNA damage, mRNA and 5'-nucleotidase"


def test_terms_are_counted_in_the_text_that_is_trained_on(tmp_path: Path) -> None:
    terms = term_lists(tmp_path / "terms")
    texts = ["The aorta. Aorta-like; AORTA", "acute myeloid\nleukemia", "MEK-162 and MEK 162, not MEK 1620"]
    rows = {"id": ["a", "b", "c"], "source": ["pubmed"] * 3, "text": texts}
    pq.write_table(pa.table(rows), tmp_path / "part.parquet")
    choice = Choice(("pubmed",), "", 1 << 64, 0.0)
    counts = Counter(count_terms(CountTask(tmp_path / "part.parquet", terms, choice)))
    assert (spelled("Aorta", counts).text, spelled("Aorta", counts).count) == ("aorta", 2)
    assert spelled("Acute Myeloid Leukemia", counts).count == 1
    assert spelled("MEK 162", counts).count == 2
    assert spelled("Zorbamide", counts).text == "zorbamide" and spelled("Zorbamide", counts).count == 0


def test_a_term_of_one_word_is_whole_when_it_is_one_token_inside_a_sentence() -> None:
    tokenizer = ByteLevel(train(iter([["the aorta and the aorta of the aorta"] * 20]), 300, 2))
    lists = [TermList("specialty", "vessels", ("Aorta", "Aortic Arch", "Vein"))]
    counts = Counter({("aorta",): 60})
    found = measure_terms({"ours": tokenizer}, lists, counts)["by_tokenizer"]["ours"]
    falls = found["by_list"]["vessels"]
    assert (falls["terms"], falls["of_one_word"], falls["whole"]) == (3, 2, 0.5)
    assert found["by_frequency"]["frequent"]["whole"] == 1 and found["by_frequency"]["unseen"]["whole"] == 0
    assert found["by_frequency"]["rare"]["whole"] is None
    assert tokenizer.pieces(["aorta"]) == [[" aorta"]]
    assert "".join(tokenizer.pieces(["37 °C"])[0]).startswith(" 37 ")


def test_biogpt_is_read_as_it_cuts(tmp_path: Path) -> None:
    other = load_other("biogpt", str(biogpt(tmp_path / "biogpt")))
    assert isinstance(other, Moses) and other.vocab_size == 6 + 4
    assert other.pieces(["the", "5%", "toré"]) == [["the "], ["5 ", "% "], ["t", "or", "<unk>"]]
    assert other.count(["the the", "the"]) == 3


def test_words_are_those_of_moses() -> None:
    """Expected: what sacremoses 0.2.0 gives with aggressive hyphens."""
    assert moses("TNF-alpha (1,234 ng/ml) rose.").split() == [
        "TNF", "@-@", "alpha", "(", "1,234", "ng", "/", "ml", ")", "rose", "."
    ]  # fmt: skip
    assert moses("Crohn's p<0.05, [n=3] & 2.5 mg").split() == [
        "Crohn", "&apos;s", "p", "&lt;", "0.05", ",", "&#91;", "n", "=", "3", "&#93;", "&amp;", "2.5", "mg"
    ]  # fmt: skip


def test_the_report_measures_ours_beside_others_on_held_out_text(tmp_path: Path) -> None:
    reference = tmp_path / "gpt2"
    reference.mkdir()
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(reference / "tokenizer.json"))
    others = [f"compare_with.gpt2={reference}", f"compare_with.biogpt={biogpt(tmp_path / 'biogpt')}"]
    settings = [*others, f"terms={term_lists(tmp_path / 'terms')}", "curve=[300,500,600,900]"]
    prepare("sample", tmp_path / "out", *STAGES, *(f"tokenizer.{setting}" for setting in settings))
    prepare("sample", tmp_path / "plain", *STAGES)
    folder = tmp_path / "out" / "tokenizer"
    report = json.loads((folder / "report.json").read_text())
    assert list(report["rates"]) == ["ours", "gpt2", "biogpt"] and "held out" in report["measured_on"]
    assert report["rates"]["ours"]["pubmed"]["tokens_per_word"] == report["tokens_per_word"] > 1
    assert list(report["terms"]["by_tokenizer"]["ours"]["by_list"]) == ["cardiology", "oncology", "drugs"]
    curve = report["curve"]
    assert [point["vocab_size"] for point in curve] == [300, 500, 600, 900]
    assert curve[2]["pubmed"] == report["rates"]["ours"]["pubmed"]
    assert curve[0]["pubmed"]["tokens_per_byte"] > curve[3]["pubmed"]["tokens_per_byte"]
    text = (folder / "report.md").read_text()
    assert "| cardiology | 2 | 2 |" in text and "Immunohistochemistry" in text
    # Neither the curve nor what is compared changes the tokenizer.
    plain = tmp_path / "plain" / "tokenizer" / "tokenizer.json"
    assert (folder / "tokenizer.json").read_bytes() == plain.read_bytes()


def test_what_cannot_be_measured_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compare_with\.gpt2"):
        load_other("gpt2", str(tmp_path))
    with pytest.raises(UserError, match=r"tokenizer\.terms"):
        read_terms(tmp_path)
    (tmp_path / "drug_names.tsv").write_text("drug\nAspirin\n")
    with pytest.raises(UserError, match="has no column name"):
        read_terms(tmp_path)


def test_real_tokenizers_and_terms_are_read(real_data: Path) -> None:
    sizes = {"gpt2": 50257, "gpt_neox": 50280, "biogpt": 42384}
    found = {name: load_other(name, str(real_data / "tokenizers" / name)) for name in sizes}
    assert {name: each.vocab_size for name, each in found.items()} == sizes
    assert [len(each.pieces(["Immunohistochemistry"])[0]) for each in found.values()] == [4, 3, 1]
    lists = read_terms(real_data / "terms")
    assert len([each for each in lists if each.kind == "specialty"]) == 35
    assert {each.kind for each in lists} == {"specialty", "disease", "drug", "gene"}
