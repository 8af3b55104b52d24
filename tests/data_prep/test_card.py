"""The data card: its numbers are those of the corpus, its bytes depend on nothing else, and it bears any data."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made import SMALL, YAML, documents, ledger, prepare
from parsed_page import Page

from base.configuration import load_configuration
from base.errors import UserError
from data_prep import pipeline
from data_prep.card import stage as card
from data_prep.documents import DOCUMENT_SCHEMA
from data_prep.executors.local import LocalProcesses
from data_prep.parse.numbering import doubts
from data_prep.schema import DataConfiguration, License
from data_prep.select.reasons import REASONS
from data_prep.shards.doc_ids import SCHEMA as DOC_IDS_SCHEMA
from data_prep.stage import Job

SEQUENCE = "shards.max_seq_len=512"  # some documents are longer, most are not
FILES = ("card.html", "card.md", "card.json")
HOSTILE = 'Acta <script>alert("x")</script> | `rm` & $\\frac{1}{0}$ *Medica* [a](b)'
CONTAMINATION = {
    "by_benchmark": {
        "medqa": {
            "files": 2, "items": 1273, "items_hit": {"question": 4}, "documents_hit": {"question": 6},
            "documents_dropped": 6, "items_too_short": 31, "stock_phrases": 12,
        },
        "pubmedqa": {
            "files": 1, "items": 1000, "items_hit": {"question": 2, "context": 410, "pmid": 431},
            "documents_hit": {"question": 2, "context": 402, "pmid": 431}, "documents_dropped": 0, "items_too_short": 0,
            "stock_phrases": 3,
        },
    },
    "phrases": 7,
    "files_left_out": ["notes/README.txt"],
}  # fmt: skip
DUPLICATES = {
    "exact": {"groups": 11, "dropped": 14},
    "near": {
        "groups": 9, "dropped": 320, "sizes": {"2": 5, "3": 2, "7": 1, "312": 1},
    },
    "overlap": {"abstracts_with_full_text": 55, "dropped": 31},
    "boilerplate": {"neutrality": 12, "competing_interests": 40},
}  # fmt: skip
LISTS = ["drugs", "diseases", "genes", "Cardiology", "Oncology", "Neurology and the disorders of the nervous system"]


def report() -> dict[str, Any]:
    """What the tokenizer's report holds when other tokenizers, terms and sizes are asked for."""

    def fall(whole: float | None) -> dict[str, Any]:
        return {"terms": 40, "of_one_word": 9, "whole": whole, "pieces_per_term": 2.5, "pieces_per_word": 1.5}

    def rates(words: float) -> dict[str, Any]:
        return {name: {"tokens_per_word": words, "tokens_per_byte": words / 6.5} for name in ("pubmed", "pmc")}

    sizes = {"ours": 600, "gpt2": 50257, "bio`gpt": 42384}
    by_tokenizer = {
        name: {
            "by_list": {one: fall(0.1 + index / 50) for index, one in enumerate(LISTS)},
            "by_kind": {"drug": fall(0.12), "gene": fall(None)},
            "by_frequency": {"frequent": fall(0.5), "rare": fall(0.1), "unseen": fall(0.0)},
        }
        for name in sizes
    }
    return {
        "vocab_sizes": sizes,
        "rates": {name: rates(1.2 + index / 10) for index, name in enumerate(sizes)},
        "examples": {name: {"thrombin": ["thrombin"], "ECG": ["E", "CG"]} for name in sizes},
        "terms": {"by_tokenizer": by_tokenizer},
        "curve": [{"vocab_size": size, **rates(2 - size / 9000)} for size in (1000, 2000, 4000, 8000)],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    prepare("sample", out, SEQUENCE)
    return out


@pytest.fixture
def corpus(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def job_of(configuration: DataConfiguration) -> Job:
    work, local = pipeline.folders(configuration)
    return Job(configuration, work, local, configuration.out, LocalProcesses(1))


def write_card(out: Path, *arguments: str) -> dict[str, Any]:
    """The stage alone, over whatever lies in ``out``."""
    configuration = load_configuration(
        YAML, ["pubmed=sample", f"out={out}", *SMALL, SEQUENCE, *arguments], DataConfiguration
    )
    card.STAGE.run(job_of(configuration))
    return numbers(out)


def numbers(out: Path) -> dict[str, Any]:
    return json.loads((out / "card.json").read_text())


def text(out: Path) -> str:
    return (out / "card.md").read_text()


def add_full_texts(out: Path, number: int = 40, journal: str = HOSTILE) -> None:
    """Invented full texts beside the abstracts, as packing may leave them: each in two pieces that do not adjoin."""
    rows: list[dict[str, Any]] = [
        {
            "id": f"pmcid:PMC{index}", "source": "pmc", "text": f"Text {index}.", "language": ("en", "de")[index % 2],
            "license": ("CC BY", "CC0", None)[index % 3], "year": 2000 + index % 20 if index % 4 else None,
            "journal": journal if index % 2 else None, "types": ["research-article"], "sha256": "0" * 64,
        }
        for index in range(number)
    ]  # fmt: skip
    names = DOCUMENT_SCHEMA.names
    columns = {name: [row.get(name) for row in rows] for name in names}
    pq.write_table(pa.table(columns, schema=DOCUMENT_SCHEMA), out / "documents" / "00099-pmc.parquet")
    path = out / "mds" / "train" / "doc_ids.parquet"
    table = pq.read_table(path)
    tokens = [60 + index for index in range(number)]

    def pieces(begin: list[int]) -> pa.Table:
        return pa.table([columns["id"], range(number), [0] * number, tokens, begin], schema=DOC_IDS_SCHEMA)

    pq.write_table(pa.concat_tables([pieces([0] * number), table, pieces(tokens)]), path)
    found = ledger(out)
    found["sources"] = {
        "pubmed": found["total"].copy(),
        "pmc": {"in": number + 7, "kept": number, "dropped": {"license": 5, "duplicate": 2}},
    }
    both = found["sources"].values()
    reasons = {reason: 0 for one in both for reason in one["dropped"]}
    found["total"] = {
        **{key: sum(one[key] for one in both) for key in ("in", "kept")},
        "dropped": {reason: sum(one["dropped"].get(reason, 0) for one in both) for reason in reasons},
    }
    (out / "ledger.json").write_text(json.dumps(found))


def add_checks(out: Path) -> None:
    (out / "contamination.json").write_text(json.dumps(CONTAMINATION))
    (out / "duplicates.json").write_text(json.dumps(DUPLICATES))
    path = out / "tokenizer" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | report()))


def test_every_run_ends_with_a_card(whole: Path) -> None:
    assert all((whole / name).stat().st_size > 3000 for name in FILES)


def test_matplotlib_is_imported_by_the_stage_alone() -> None:
    look = "import sys, data_prep.pipeline; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look]).returncode == 0


def test_numbers_are_those_of_documents_and_shards(whole: Path) -> None:
    facts, rows = numbers(whole), documents(whole)
    doc_ids = [pq.read_table(whole / "mds" / split / "doc_ids.parquet").to_pylist() for split in ("train", "val")]
    tokens = {row["id"]: row["tokens"] for rows_of_it in doc_ids for row in rows_of_it}
    assert facts["sources"] == {
        "pubmed": {
            "documents": len(rows),
            "tokens": sum(tokens.values()),
            "bytes": sum(len(row["text"].encode()) for row in rows.values()),
        }
    }
    for key, column in (("licenses", "license"), ("years", "year"), ("languages", "language")):
        assert {(row["name"], row["documents"], row["tokens"]) for row in facts[key]} == {
            (value, len(those), sum(tokens[name] for name in those))
            for value in {row[column] for row in rows.values()}
            if (those := [name for name, row in rows.items() if row[column] == value])
        }
    for row in facts["lengths"]:
        those = [number for number in tokens.values() if row["at_least"] <= number < 2 * row["at_least"]]
        assert (row["documents"], row["tokens"]) == (len(those), sum(those))
    assert facts["ledger"]["total"] == ledger(whole)["total"]
    length = facts["packing"]["max_seq_len"]
    cut = [row for rows_of_it in doc_ids for row in rows_of_it if row["offset"] + row["tokens"] - 1 > length]
    short = [row for row in cut if row["tokens"] - 1 <= length]
    assert facts["packing"]["cut"]["cut"] == len(cut) > len(short) == facts["packing"]["cut"]["short_cut"] > 0


def test_a_document_in_several_pieces_counts_once_with_all_its_tokens(corpus: Path) -> None:
    before = write_card(corpus)
    add_full_texts(corpus)
    facts = write_card(corpus)
    pieces = 2 * sum(60 + index for index in range(40))
    assert facts["sources"]["pmc"] == {"documents": 40, "tokens": pieces, "bytes": facts["sources"]["pmc"]["bytes"]}
    assert facts["sources"]["pubmed"] == before["sources"]["pubmed"]
    assert facts["packing"]["cut"]["cut"] == before["packing"]["cut"]["cut"] + 40
    licenses = {(row["source"], row["name"]): row["documents"] for row in facts["licenses"]}
    assert licenses["pmc", "CC BY"] == 14 and licenses["pmc", "CC0"] == 13 and licenses["pmc", None] == 13
    assert "| PMC full texts | none found | 13 |" in text(corpus)
    assert re.search(r"\| PMC full texts \| CC BY \| 14 \| .* \| attribution \|", text(corpus))


@pytest.mark.slow
def test_card_bytes_do_not_depend_on_workers_hash_seed_or_place(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    add_full_texts(tmp_path)
    add_checks(tmp_path)
    seen = set()
    for workers, seed in ((1, "1"), (2, "2")):
        place = tmp_path.parent / f"{tmp_path.name}-{workers}"
        shutil.copytree(tmp_path, place)
        script = (
            f"from test_card import write_card; from pathlib import Path\n"
            f"if __name__ == '__main__': write_card(Path({str(place)!r}), 'executor.workers={workers}')"
        )
        program = place / "program.py"
        program.write_text(script)
        here = Path(__file__).parent
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{here}:{here.parent}:{Path.cwd()}"}
        subprocess.run([sys.executable, str(program)], check=True, env=environment)
        seen.add(tuple((place / name).read_bytes() for name in FILES))
    assert len(seen) == 1


def test_text_from_data_is_shown_and_never_run(corpus: Path) -> None:
    add_full_texts(corpus)
    add_checks(corpus)
    facts = write_card(corpus)
    assert HOSTILE in [row["name"] for row in facts["journals"]["first"]]
    page = Page((corpus / "card.html").read_text())
    assert "script" not in page.seen and HOSTILE.replace("`", "'") in page.words
    row = next(line for line in text(corpus).splitlines() if "Medica" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 4 and "<script>" not in row and "`" not in row


def test_page_needs_no_other_file_and_has_its_plots(corpus: Path) -> None:
    add_full_texts(corpus)
    add_checks(corpus)
    write_card(corpus)
    page = Page((corpus / "card.html").read_text())
    links = [value for name, value in page.attributes if name in ("href", "src", "xlink:href") and value]
    assert links and all(link.startswith("#") for link in links)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links} <= anchors
    # Records, years and lengths; tokenizers, sizes of vocabulary and lists of terms.
    assert page.seen.count("svg") == 6 and page.seen.count("h1") == 1


def test_page_and_markdown_say_the_same(corpus: Path) -> None:
    add_full_texts(corpus)
    add_checks(corpus)
    write_card(corpus)
    words = Page((corpus / "card.html").read_text()).words
    shown = re.sub(r"\\(.)", r"\1", text(corpus).replace("`", "").replace("&lt;", "<").replace("&gt;", ">"))
    for line in shown.splitlines():
        if line and line[0] not in "-|`#" and line.isprintable() and len(line.split()) > 12:
            assert line.replace("&amp;", "&") in words


def test_markdown_begins_with_what_the_hub_reads(corpus: Path) -> None:
    add_full_texts(corpus)
    write_card(corpus)
    _, front, body = text(corpus).split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "other" and fields["language"] == ["en", "de"]
    assert fields["size_categories"] == ["n<1K"] and fields["task_categories"] == ["text-generation"]
    assert body.strip().startswith("# Data card: PubMed abstracts and PMC full texts (invented")


def test_what_was_not_checked_is_said_to_be_unchecked(whole: Path, corpus: Path) -> None:
    assert numbers(whole)["contamination"] is None and "Not searched for in this run." in text(whole)
    assert "| equal texts |" in text(whole) and "Nearly equal texts were not looked for." in text(whole)
    write_card(corpus, "select.near_duplicates={}")
    assert "| equal texts |" in text(corpus) and "| nearly equal texts |" in text(corpus)
    write_card(corpus, "select.exact_duplicates=false")
    assert "Equal texts were not looked for." in text(corpus) and "equal texts |" not in text(corpus)


def test_the_engine_stands_in_the_data_card_and_not_in_the_card_of_the_shards(whole: Path) -> None:
    how = json.loads((whole / "work" / "done" / "shards.json").read_text())["summary"]["tokenised"]
    assert how == numbers(whole)["tokenised"] and sum(how["engines"].values()) == 3 <= how["compared"]
    (engine,) = how["engines"]
    assert engine in text(whole) and f"{how['compared']} documents, chosen by hash" in text(whole)
    assert "tokenised" not in json.loads((whole / "mds" / "card.json").read_text())


def test_a_slow_engine_is_told_with_its_reason(corpus: Path) -> None:
    place = corpus / "work" / "done" / "shards.json"
    marker = json.loads(place.read_text())
    marker["summary"]["tokenised"] |= {
        "engines": {"gigatoken 1": 2, "tokenizers 2": 1}, "not_gigatoken": {"they differ on pmid:1": 1},
    }  # fmt: skip
    place.write_text(json.dumps(marker))
    write_card(corpus)
    assert "gigatoken 1 (2 files) and tokenizers 2 (1 file)" in text(corpus)
    assert "Why not with gigatoken: they differ on pmid:1." in text(corpus)


def test_what_is_doubtful_about_the_input_is_told(corpus: Path) -> None:
    assert "doubtful" not in text(corpus)
    warnings = list(doubts(f"pubmed{year}n{number:04d}.xml.gz" for year, number in ((25, 1), (26, 1334), (26, 1336))))
    (corpus / "ledger.json").write_text(json.dumps(ledger(corpus) | {"warnings": warnings}))
    assert write_card(corpus)["inputs"]["warnings"] == warnings and len(warnings) == 2
    words = Page((corpus / "card.html").read_text()).words
    assert all(f"\n- {warning}." in text(corpus) and f"{warning}." in words for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Nothing was taken out"),
        (
            ("select.decontaminate.questions=qa", "select.decontaminate.drop_by_pmid=[pubmedqa]"),
            "are not comparable to BioMedLM's",
        ),
    ],
)
def test_contamination_says_what_was_removed_and_what_scores_are_worth(
    corpus: Path, arguments: tuple[str, ...], said: str
) -> None:
    add_checks(corpus)
    write_card(corpus, *arguments)
    assert said in text(corpus)
    assert "| PubMedQA | items | 1,000 | 2 | 410 | 431 | – |\n| PubMedQA | documents | – | 2 | 402 | 431 | 0 |" in text(
        corpus
    )
    assert "| MedQA | documents | – | 6 | – | – | 6 |" in text(corpus)
    assert "phrases of its examiners (MedQA 12, PubMedQA 3)" in text(corpus)
    assert "more than 10 of the documents hold, which are phrases of their authors (7 here)" in text(corpus)


def test_tokenizers_are_compared(corpus: Path) -> None:
    add_checks(corpus)
    write_card(corpus)
    lines = text(corpus).splitlines()
    assert "| this corpus | 600 | 1.200 | 0.1846 | 1.200 | 0.1846 | 1 of 2 |" in lines
    assert "| bio'gpt | 42,384 | 1.400 | 0.2154 | 1.400 | 0.2154 | 1 of 2 |" in lines
    assert "| gene | – (2.50) | – (2.50) | – (2.50) |" in lines and "| 8,000 | 1.111 | 0.1709 |" in lines


def test_every_licence_that_may_be_kept_has_its_conditions() -> None:
    from data_prep.card.content import CONDITIONS

    assert set(CONDITIONS) == set(get_args(License))


def test_every_reason_of_the_ledger_has_a_meaning(corpus: Path) -> None:
    for reason, number in ledger(corpus)["total"]["dropped"].items():
        shown, meaning = (re.escape(words.replace("_", "\\_")) for words in (reason, REASONS[reason]))
        assert re.search(rf"^\| {shown} \| {number} \| .*\| {meaning} \|$", text(corpus), re.M)


@pytest.mark.parametrize(
    "missing", ["ledger.json", "mds/card.json", "tokenizer/report.json", "mds/val/doc_ids.parquet", "documents"]
)
def test_a_missing_file_is_named(corpus: Path, missing: str) -> None:
    place = corpus / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(UserError, match=re.escape(str(place))):
        write_card(corpus)


def test_documents_that_the_shards_lack_are_a_fault(corpus: Path) -> None:
    path = corpus / "mds" / "val" / "doc_ids.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(UserError, match=re.escape(table["id"][0].as_py())):
        write_card(corpus)


def test_settings_that_decide_nothing_do_not_change_the_card(whole: Path, tmp_path: Path) -> None:
    settings = numbers(whole)["configuration"]
    assert not {"out", "work", "executor", "verify"} & set(settings) and settings["pubmed"] == "sample"
    place = tmp_path / "card.yaml"
    place.write_text(yaml.safe_dump(settings))
    again = load_configuration(str(place), [f"out={tmp_path}"], DataConfiguration)  # what the card shows can be run
    assert card.depends_on(job_of(again))[1] == yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def test_places_on_this_machine_are_asked_for_and_not_told(corpus: Path) -> None:
    listed = corpus / "takedowns-of-ours.txt"
    listed.write_text("pmid:1\n")
    facts = write_card(corpus, f"select.exclude={listed}", f"tokenizer.compare_with={{one: {corpus}}}")
    assert facts["inputs"]["named"] == ["select.exclude", "tokenizer.compare_with"]
    assert "select.exclude=… tokenizer.compare_with=… out=FOLDER" in text(corpus)
    assert not any(str(corpus) in (corpus / name).read_text() for name in FILES)


def test_a_journal_that_is_written_in_two_ways_is_one(corpus: Path) -> None:
    before = write_card(corpus)["journals"]
    add_full_texts(corpus, journal=before["first"][0]["name"].upper())
    after = write_card(corpus)["journals"]
    assert after["number"] == before["number"]
    assert sum(one["documents"] for one in after["first"]) == sum(one["documents"] for one in before["first"]) + 20


def test_plots_bear_extremes(tmp_path: Path) -> None:
    from data_prep.card import plots

    for picture in (
        plots.flow(10**9, [("a_reason_with_a_long_name_for_its_bar", 999_999_990), ("rare", 1)], 9),
        plots.flow(3, [], 3),
        plots.stacked([1781], {"one": [1]}, "documents"),
        plots.shares([str(n) for n in range(20)], {"a": np.full(20, 0.05).tolist()}, "x"),
        plots.bars(["$x$ & <y>"], [0.0], "x"),
        plots.line([300, 301, 302], [1.0, 1.0, 1.0], "x", "y", None),
    ):
        assert picture.startswith("<svg") and "<y>" not in picture
