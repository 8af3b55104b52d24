"""Scores by what the corpus holds: seen, unseen, and what nobody looked for."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from made_results import item, scores

from base.errors import NotThere, UserError
from data_prep import pipeline
from eval.seen import read_card, split
from eval.statistics import difference_interval, wilson_interval
from eval.tasks.medqa import read_row

GROUPS = ("seen", "unseen", "unknown")
NONE: dict[str, list[str]] = {"question": [], "context": [], "pmid": []}


def found(searched: dict[str, list[str]], contaminated: dict[str, list[str]]) -> dict[str, Any]:
    return {"searched": NONE | searched, "contaminated": NONE | contaminated, "items": 9}


def card(folder: Path, by_benchmark: dict[str, Any]) -> str:
    (folder / "contamination.json").write_text(json.dumps({"by_benchmark": by_benchmark, "phrases": 0}))
    return str(folder)


def numbers(groups: dict[str, Any], of: str = "n") -> list[int]:
    """Of seen, unseen and unknown questions."""
    return [groups[group][of] for group in GROUPS]


def test_an_item_found_in_any_way_is_seen_and_one_that_nobody_looked_for_is_unknown(tmp_path: Path) -> None:
    place = card(
        tmp_path,
        {"pubmedqa": found({"question": ["1", "2"], "context": ["1", "2", "3"], "pmid": ["1", "2", "3", "4"]},
                           {"context": ["1"], "pmid": ["1", "4"]})},
    )  # fmt: skip
    right = {"1": True, "2": False, "3": True, "4": True, "5": True, "6 (line 7)": None}
    items = [item("pubmedqa", id, one) for id, one in right.items()]
    told = split(scores(items), items, read_card(place))["scores"]["pubmedqa"]
    assert numbers(told["any"]) == [2, 2, 2] and numbers(told["any"], "correct") == [2, 1, 1]
    sizes = {way: numbers(told[way]) for way in NONE}
    assert sizes == {"question": [0, 2, 4], "context": [1, 2, 3], "pmid": [2, 2, 2]}
    assert told["any"]["seen"]["ci95"] == wilson_interval(2, 2)
    assert told["any"]["difference"] == 0.5 and told["any"]["ci95"] == difference_interval((2, 2), (1, 2))
    assert told["question"]["difference"] is None and told["question"]["seen"]["accuracy"] is None
    assert json.loads(json.dumps(told))["metric"] == "acc_norm"


def test_a_subset_is_of_its_benchmark_and_of_a_benchmark_not_searched_nothing_is_known(tmp_path: Path) -> None:
    place = card(tmp_path, {"mmlu": found({"question": ["anatomy_test:1", "anatomy_test:2"]},
                                          {"question": ["anatomy_test:2"]})})  # fmt: skip
    items = [item("mmlu_anatomy", f"anatomy_test:{row}", True) for row in (1, 2, 3)]
    items += [item("medqa", "anatomy_test:1", True)]
    told = split(scores(items), items, read_card(place))["scores"]
    assert numbers(told["mmlu_anatomy"]["any"]) == [1, 1, 1]
    assert numbers(told["medqa"]["any"]) == [0, 0, 1]


def test_the_split_is_of_the_primary_accuracy_and_every_question_is_in_one_group(tmp_path: Path) -> None:
    ids = [str(number) for number in range(60)]
    place = card(tmp_path, {"medqa": found({"question": ids[:50]}, {"question": ids[:20]})})
    predictions = [{"acc": 0, "acc_norm": int(number % 3 > 0), "acc_bytes": 0, "acc_token": 0} for number in range(60)]
    items = [item("medqa", id, True, predictions=one) for id, one in zip(ids, predictions, strict=True)]
    by_norm, by_sum = (
        split(scores(items, medqa={"metric": metric}), items, read_card(place))["scores"]["medqa"]["any"]
        for metric in ("acc_norm", "acc")
    )
    assert sum(numbers(by_norm)) == sum(numbers(by_sum, "correct")) == 60
    assert sum(numbers(by_norm, "correct")) == 20


def test_the_card_is_found_in_its_folder_and_in_the_card_of_the_corpus(tmp_path: Path) -> None:
    by_benchmark = {"medqa": found({"question": ["1"]}, {})}
    folder = card(tmp_path, by_benchmark)
    whole = tmp_path / "card.json"
    whole.write_text(json.dumps({"contamination": {"by_benchmark": by_benchmark}, "inputs": {}}))
    one, other, third = map(read_card, (folder, f"{folder}/contamination.json", str(whole)))
    assert one == other and one.benchmarks == third.benchmarks
    assert one.sha256 == hashlib.sha256((tmp_path / "contamination.json").read_bytes()).hexdigest()
    (tmp_path / "contamination.json").unlink()
    assert read_card(folder) == third


def test_a_corpus_that_was_not_searched_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match=r"neither contamination\.json nor card\.json.*decontaminate\.questions"):
        read_card(str(tmp_path))
    (tmp_path / "card.json").write_text('{"contamination": null}')
    with pytest.raises(UserError, match=r"were not searched for in this corpus; run .*decontaminate\.questions"):
        read_card(str(tmp_path))
    with pytest.raises(NotThere, match=r"gone\.json"):
        read_card(str(tmp_path / "gone.json"))


def test_a_card_without_the_list_of_what_was_searched_for_is_refused(tmp_path: Path) -> None:
    old = found({}, {"question": ["1"]})
    del old["searched"]
    with pytest.raises(UserError, match=r"which questions of medqa were searched for.*decontaminate\.questions"):
        read_card(card(tmp_path, {"medqa": old, "mmlu": found({}, {})}))


@pytest.mark.parametrize("content", ["{", "[]", '{"scores": {}}'])
def test_another_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "contamination.json").write_text(content)
    with pytest.raises(UserError, match=r"contamination\.json: (not JSON|neither)"):
        read_card(str(tmp_path))


ASKED = "A keeper of bees of sixty is stung on the tongue and within minutes her voice turns hoarse and low"
OTHER = "A baker of forty has coughed at night for two years and only ever in the weeks before his holidays"


def test_a_question_planted_in_a_real_corpus_is_seen_and_another_is_not(tmp_path: Path) -> None:
    rows = [
        {"question": f"{text}?", "options": dict(zip("ABCD", ("Rest", "Heat", "Cold", "Iron"), strict=True)),
         "answer_idx": "A", "answer": "Rest"}
        for text in (ASKED, OTHER, "Too short")
    ]  # fmt: skip
    questions = tmp_path / "qa" / "medqa" / "US" / "4_options" / "phrases_no_exclude_test.jsonl"
    questions.parent.mkdir(parents=True)
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pubmed = tmp_path / "pubmed" / "pubmed26n0001.xml"
    pubmed.parent.mkdir()
    records = "".join(
        f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>A case.</ArticleTitle><Abstract>"
        f"<AbstractText>{text}</AbstractText></Abstract><Language>eng</Language></Article></MedlineCitation>"
        "</PubmedArticle>"
        for number, text in enumerate((f"We tell that {ASKED.lower()}.", "Of something else."), start=1)
    )
    pubmed.write_text(f"<PubmedArticleSet>{records}</PubmedArticleSet>")
    out = tmp_path / "out"
    settings = ("executor.workers=1", "select.quality.min_words=null", "select.quality.min_body_words=null")
    pipeline.run(
        "yamls/data/quickstart.yaml",
        [f"pubmed={pubmed.parent}", "pmc=null", f"out={out}", *settings, "download", "parse", "select",
         f"select.decontaminate.questions={tmp_path / 'qa'}"],
    )  # fmt: skip
    items = [item("medqa", read_row(row).id, right) for row, right in zip(rows, (True, False, False), strict=True)]
    told = split(scores(items), items, read_card(str(out)))["scores"]["medqa"]
    assert numbers(told["any"]) == [1, 1, 1] and numbers(told["any"], "correct") == [1, 0, 0]
    assert told["any"]["difference"] == 1.0 and told["question"] == told["any"] and told["pmid"]["unknown"]["n"] == 3
