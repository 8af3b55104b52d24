"""The report of an evaluation shows the scores of the result files and nothing else, and bears whatever it finds."""

import json
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from parsed_page import Page

from base import storage
from base.errors import UserError
from eval.averages import averages
from eval.official_files import load_questions
from eval.prompts import FastEncoder, Prepared, load_tokenizer, prepare
from eval.published import PUBLISHED, QUESTIONS
from eval.records import read_items, read_record, read_records
from eval.report import main, write_report
from eval.report_cells import between, percent
from eval.results import ItemScore, Score, score_of, write_results
from eval.statistics import wilson_interval
from eval.task import METRICS
from eval.tasks import TASKS, protocols

NAMES = ("medqa", "medqa_letter", "medmcqa")
HOSTILE = 'x<script>alert("1")</script> `rm` | $\\frac{1}{0}$ *a* [b](c)'
TOKENS = {"ep0-ba10": 9_000_000, "ep0-ba20": 30_000_000, "ep0-ba30": 200_000_000}


def prepared(data: Path, tokenizer: Path, names: Sequence[str] = NAMES, max_seq_len: int = 1024) -> list[Prepared]:
    encoder = FastEncoder(load_tokenizer(str(tokenizer)))
    return [prepare(load_questions(one, str(data)), encoder, max_seq_len) for one in protocols(names)]


def score(asked: Sequence[Prepared], skill: float, seed: str) -> tuple[dict[str, Score], list[ItemScore]]:
    """Made-up likelihoods that favour the right option by so much."""
    scores: dict[str, Score] = {}
    items: list[ItemScore] = []
    for one in asked:
        draw, gold = random.Random(seed), {item.id: item.gold for item in one.questions.items}
        values = {
            question.id: tuple(
                draw.gauss(0, 1) - 10 + skill * (place == gold[question.id]) for place in range(len(question.options))
            )
            for question in one.encoded
        }
        scores[one.name], of_one = score_of(one, values)
        items += of_one
    return scores, items


def write(folder: Path, name: str, asked: Sequence[Prepared], skill: float, **about: Any) -> dict[str, Score]:
    scores, items = score(asked, skill, name)
    write_results(str(folder), name, scores, items, {"model": f"s3://bucket/{name}", **about})
    return scores


@pytest.fixture(scope="module")
def asked(sample_data: Path, tokenizer_folder: Path) -> list[Prepared]:
    return prepared(sample_data, tokenizer_folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, asked: list[Prepared], sample_data: Path) -> Path:
    """Three checkpoints of a run and another model."""
    folder = tmp_path_factory.mktemp("results")
    for place, (name, tokens) in enumerate(TOKENS.items()):
        texts = {"held-out": {"bits_per_byte": 1.2 - place / 10, "ci95": [0.5, 1.5], "documents": 3, "bytes": 900}}
        about = {"tokens": tokens, "batch": 10 * place + 10, "data": str(sample_data), "versions": {"torch": "2.7.0"}}
        scores, _ = score(asked, place, name)
        groups = {"exams": ("medqa", "medmcqa")}
        means = {group: asdict(mean) for group, mean in averages(scores, groups).items()}
        write(folder, name, asked, place, texts=texts, averages=means, **about)
    write(folder, "gpt-neo", asked, 0.5)
    return folder


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(whole, tmp_path / "results"))


def report(folder: Path, **arguments: Any) -> tuple[str, str, dict[str, Any]]:
    """The page, the Markdown and the numbers."""
    places = write_report(str(folder), str(folder / "report.html"), **arguments)
    page, text, numbers = (Path(place).read_text() for place in places)
    return page, text, json.loads(numbers)


def tables(text: str, heading: str) -> list[list[list[str]]]:
    """The tables of a section of the Markdown, header first."""
    section = re.split(r"^## ", text, flags=re.M)
    (found,) = [part for part in section if part.startswith(f"{heading}\n")]
    runs = re.findall(r"(?:^\|.*\n?)+", found, flags=re.M)
    return [
        [[cell.replace("\\", "") for cell in line[2:-2].split(" | ")] for line in run.splitlines() if "---" not in line]
        for run in runs
    ]


def change(folder: Path, name: str, **changes: Any) -> None:
    """Change the first score of a record, or the record itself where the key is none of a score."""
    place = folder / f"{name}.json"
    record = json.loads(place.read_text())
    first = record["scores"]["medqa"]
    for key, value in changes.items():
        (first if key in first else record)[key] = value
    place.write_text(json.dumps(record))


def test_the_record_with_most_tokens_is_shown_and_the_order_is_that_of_tokens_not_of_names(results):
    shutil.move(results / "ep0-ba10.json", results / "ep9-ba99.json")
    shutil.move(results / "ep0-ba10.items.jsonl", results / "ep9-ba99.items.jsonl")
    page, _, numbers = report(results)
    assert numbers["report_of"] == "ep0-ba30" and "<b>200M</b><span>tokens trained on" in page
    order = [row["tokens"] for row in numbers["scores"]]
    assert order == sorted(order) and set(order) == set(TOKENS.values()) and len(order) == 9
    assert numbers["scores"][0]["record"] == "ep9-ba99"


def test_the_table_over_tokens_has_the_first_and_the_last_checkpoint_in_their_order(results):
    for place in range(20):
        name = f"ep1-ba{place}"
        shutil.copy(results / "ep0-ba20.items.jsonl", results / f"{name}.items.jsonl")
        shutil.copy(results / "ep0-ba20.json", results / f"{name}.json")
        change(results, name, tokens=40_000_000 + place * 1_000_000)
    page, text, numbers = report(results)
    (table,) = tables(text, "Scores over tokens")
    assert "medqa: 23 scores of 40 questions." in page and len(table[0]) == 9
    assert table[0][1] == "9M" and table[0][-1] == "200M"
    primary = {(row["protocol"], row["tokens"]): row["primary"] for row in numbers["scores"]}
    for row in table[1:]:
        assert row[1] == percent(primary[row[0], 9_000_000]) and row[-1] == percent(primary[row[0], 200_000_000])


def test_every_score_that_is_shown_is_in_the_numbers_and_in_the_result_files(results):
    _, text, numbers = report(results, against=["gpt-neo"])
    records = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json") if "items" not in path.name}
    final, every, quality = tables(text, "Scores")
    assert len(final) - 1 == 2 * len(NAMES)
    rows = {(row["protocol"], row["record"]): row for row in numbers["scores"]}
    for shown, all_of_it, beside in zip(final[1:], every[1:], quality[1:], strict=True):
        row = rows[shown[0], shown[1]]
        score = records[shown[1]]["scores"][shown[0]]
        assert {key: score[key] for key in row if key in score} == {key: row[key] for key in row if key in score}
        assert shown[2] == str(row["n"]) and shown[4] == percent(row[row["metric"]]) == percent(row["primary"])
        low, high = wilson_interval(round(row["primary"] * row["n"]), row["n"])
        assert shown[5] == between((low, high)) == between(row["primary_ci95"])
        place = "above" if low > row["majority"] else "below" if high < row["majority"] else "level with"
        assert shown[6] == f"{place} {percent(row['majority'])}"
        assert all_of_it[2:] == [percent(row[metric]) for metric in METRICS]
        assert beside[3:5] == [f"{row['ece']:.3f}", f"{row['brier']:.3f}"]


def test_macro_and_micro_stand_in_columns_of_their_own(results):
    _, text, numbers = report(results)
    ((header, row),) = tables(text, "Averages")
    average = next(one for one in numbers["averages"] if one["record"] == "ep0-ba30")
    assert header[3:] == ["macro", "95 %", "micro", "95 %"]
    assert row[3] == percent(average["macro"]) and row[5] == percent(average["micro"])
    assert average["members"] == ["medqa", "medmcqa"]


def test_the_page_needs_no_other_file_and_every_anchor_is_one(results):
    page = Page(report(results, against=["gpt-neo"])[0])
    links = [value for name, value in page.attributes if name in ("href", "src", "xlink:href") and value]
    assert links and all(link.startswith("#") for link in links)
    assert not {"script", "link", "iframe", "img"} & set(page.seen)
    headings = re.findall(r'<h\d id="([^"]*)"', (results / "report.html").read_text())
    assert len(headings) == len(set(headings))
    # Three curves and one of the text, an average, subjects, and two of each protocol.
    assert page.seen.count("svg") == 3 + 1 + 1 + 1 + 2 * len(NAMES)


def test_the_same_results_give_the_same_bytes(results):
    assert report(results) == report(results)


def test_a_report_of_a_folder_with_a_report_is_the_same(results):
    first = report(results)
    assert (results / "results.json").exists() and report(results) == first


def test_fine_tuned_and_zero_shot_are_never_in_one_column(results):
    change(results, "ep0-ba30", fine_tuned={"medqa": {"acc": 0.487, "n": 1273, "ci95": [0.46, 0.515]}})
    _, text, numbers = report(results, against=["gpt-neo"])
    found = tables(text, "Beside what was published")
    column = {"fine-tuned": 1, "zero-shot": 2}
    assert all(table[0][1:3] == ["fine-tuned", "zero-shot"] for table in found)
    rows = [row for table in found for row in table[1:]]
    assert all((row[1] == "–") != (row[2] == "–") for row in rows)
    medqa = found[0][1:]
    assert ["ep0-ba30", "48.7"] in [row[:2] for row in medqa]
    ours = {(row["record"], row["protocol"]): percent(row["primary"]) for row in numbers["scores"]}
    for record in ("ep0-ba30", "gpt-neo"):
        for protocol in ("medqa", "medqa_letter"):
            assert [record, "–", ours[record, protocol]] in [row[:3] for row in medqa]
    for one in PUBLISHED:
        if one.task in ("medqa", "medmcqa"):
            shown = [row for row in rows if row[0] == one.model and row[column[one.how]] == f"{one.accuracy:.1f}"]
            assert shown and any((row[5] == one.source) == one.checked for row in shown)
    assert "not checked" in text


def test_a_score_with_shots_stands_in_neither_column(results):
    record = json.loads((results / "ep0-ba30.json").read_text())
    record["scores"]["medqa"]["shots"] = 3
    (results / "ep0-ba30.json").write_text(json.dumps(record))
    _, text, _ = report(results)
    medqa = tables(text, "Beside what was published")[0]
    assert [row[4] for row in medqa if row[0] == "ep0-ba30"] == ["medqa_letter: letter, sum"]


def test_every_published_number_is_of_a_task_that_there_is():
    assert {one.task for one in PUBLISHED} <= set(TASKS) and {one.task for one in PUBLISHED} <= set(QUESTIONS)
    assert all(0 < one.accuracy < 100 for one in PUBLISHED)
    assert {one.how for one in PUBLISHED} == {"fine-tuned", "zero-shot"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("question_hash", "0" * 64, "another prompt"),
        ("prompt_hash", "0" * 64, "another tokenizer"),
        ("files", {"medqa/other.jsonl": "0" * 64}, "other questions"),
        ("notes", "the same", "yes"),
    ],
)
def test_another_model_is_refused_never_and_marked_where_it_was_asked_differently(results, key, value, said):
    change(results, "gpt-neo", **{key: value})
    _, text, _ = report(results, against=["gpt-neo"])
    marks = {(row[0], row[1]): row[-1] for row in tables(text, "Scores")[0][1:]}
    assert marks["medqa", "gpt-neo"] == said and marks["medmcqa", "gpt-neo"] == "yes"
    assert marks["medqa", "ep0-ba30"] == "–"


def test_scores_with_another_prompt_are_not_on_the_curve(results):
    change(results, "ep0-ba10", prompt_hash="0" * 64)
    page, text, _ = report(results)
    assert "1 scores with another prompt or tokenizer are not on the curves" in text
    assert [row[1] == "–" for row in tables(text, "Scores over tokens")[0][1:]] == [True, False, False]
    assert "medqa: 2 scores of 40 questions." in page and "medmcqa: 3 scores of 40 questions." in page


def test_scores_of_another_number_of_questions_are_another_line(results):
    change(results, "ep0-ba10", n=50)
    page, _, _ = report(results)
    assert "medqa: 3 scores of 50 questions and 40 questions." in page


def test_subjects_have_their_interval_and_few_questions_are_grey(results):
    page, text, numbers = report(results)
    (table,) = tables(text, "By subject")
    subjects = numbers["protocols"]["medmcqa"]["subjects"]
    assert {(row[1], row[2], row[3], row[4]) for row in table[1:]} == {
        (name, str(one["n"]), percent(one["correct"] / one["n"]), between(tuple(one["ci95"])))
        for name, one in subjects.items()
    }
    assert sum(one["n"] for one in subjects.values()) == 40 and "Grey: fewer than 30." in page
    sizes = [int(row[2]) for row in table[1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_answers_and_right_positions_are_counted(results):
    _, text, numbers = report(results)
    (table,) = tables(text, "What is answered, and what is right")
    for answered, right in zip(table[1::2], table[2::2], strict=True):
        score = numbers["protocols"][answered[0]]
        metric = next(row["metric"] for row in numbers["scores"] if row["protocol"] == answered[0])
        for row, values in ((answered, score["predicted"][metric]), (right, score["gold"])):
            assert row[2] == ", ".join(f"{letter}: {value}" for letter, value in zip("ABCD", values, strict=True))
            assert sum(values) == 40


def test_the_bins_of_calibration_hold_every_question_and_give_the_ece(results):
    _, _, numbers = report(results)
    scores = {row["protocol"]: row for row in numbers["scores"] if row["record"] == "ep0-ba30"}
    for name, protocol in numbers["protocols"].items():
        bins = protocol["calibration"]
        assert sum(one["n"] for one in bins) == 40
        error = sum(one["n"] * abs(one["accuracy"] - one["probability"]) for one in bins) / 40
        assert error == pytest.approx(scores[name]["ece"])


def test_examples_show_the_question_the_answer_and_the_right_option(results, asked):
    page = report(results)[0]
    words = Page(page).words
    items = read_items(read_record(str(results / "ep0-ba30.json")))
    texts = {item.id: item for item in asked[0].questions.items}
    shown = [id for id in texts if id in words]
    assert 4 <= len(shown) <= 12 and page.count("<details>") == len(NAMES)
    for item in items["medqa"]:
        if f"medqa {item.id}" not in words:
            continue
        example = words.split(f"medqa {item.id}", 1)[1][:3000]
        assert texts[item.id].question in example
        for place, option in enumerate(texts[item.id].options):
            both = place == item.prediction == item.gold
            mark = (
                "answered, right" if both else "answered" * (place == item.prediction) + "right" * (place == item.gold)
            )
            assert re.search(rf"{re.escape(option)}{item.log_likelihoods[place]:.3f}-?\d+\.\d{{4}}{mark}(?!,)", example)


def test_data_that_is_not_there_or_not_the_scored_one_is_told_and_the_rest_stands(results, sample_data, tmp_path):
    for data, said in (
        (str(tmp_path / "nowhere"), "no such folder"),
        (str(shutil.copytree(sample_data, tmp_path / "other")), "not those that were scored"),
    ):
        for path in Path(tmp_path / "other").rglob("*.json*"):
            path.write_text(path.read_text() + "\n")
        page, text, _ = report(results, data=data)
        assert said in text and "<details>" not in page and "## Calibration" in text


@pytest.mark.parametrize("cut", ["missing", "half", "line", "other"])
def test_items_that_cannot_be_used_are_told_and_the_scores_stand(results, cut):
    place = results / "ep0-ba30.items.jsonl"
    lines = place.read_text().splitlines(keepends=True)
    if cut == "missing":
        place.unlink()
    else:
        kept = {"half": "".join(lines)[:-300], "line": "".join(lines[:-1])}
        place.write_text(kept.get(cut, "".join(lines).replace('"medqa"', '"medqb"')))
    page, text, numbers = report(results)
    assert "Not shown, nor are examples, since the items cannot be used" in text and str(place) in Page(page).words
    assert len(tables(text, "Scores")[0]) == 1 + len(NAMES) and "<details>" not in page
    assert all(one["calibration"] == [] for one in numbers["protocols"].values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON, or not whole"),
        ('{"scores": {"medqa": {"acc": NaN}}}', "NaN, which is no number"),
        ('{"scores": {}}', "holds no score"),
        ("[]", "not a result file of this version"),
        ('{"scores": {"medqa": {"acc": 0.5, "n": 3}}}', "scores.medqa.task: Field required"),
        ('{"name": "\\ud800", "scores": {}}', "not a result file of this version"),
        ('{"scores": {}, "texts": {"a": {"bits_per_byte": 1e999}}}', "not JSON, or not whole"),
        ("[" * 100_000, "not JSON, or not whole"),
        ("\xff", "not JSON, or not whole"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_result_is_left_out_with_the_reason(results, content, said):
    (results / "strange.json").write_bytes(content.encode("latin-1"))
    records, left_out = read_records(str(results))
    assert said in left_out["strange.json"] and len(records) == 4
    with pytest.raises(UserError, match=r"strange\.json can be used"):
        report(results, name="strange")


def test_what_was_left_out_is_told_on_the_page_and_in_the_numbers(results):
    (results / "strange.json").write_text("{")
    page, text, numbers = report(results)
    (reason,) = numbers["left_out"].values()
    assert f"strange.json{reason}" in Page(page).words and f"| strange.json | {reason} |" in text
    assert len(numbers["scores"]) == 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"acc": 1.5}, "a share is not between 0 and 1"),
        ({"metric": "acc_pmi"}, "of which it has no score"),
        ({"scored": 41}, "41 scored of 40"),
        ({"gold": [1]}, "histograms"),
        ({"intervals": {}}, "no interval"),
        ({"subjects": {"a": {"n": 0, "correct": 0, "ci95": [0, 1]}}}, "more right answers than questions"),
        ({"n": "40"}, "valid integer"),
    ],
)
def test_a_score_that_nothing_could_have_written_is_left_out(results, changes, said):
    change(results, "ep0-ba10", **changes)
    records, left_out = read_records(str(results))
    assert said in left_out["ep0-ba10.json"] and len(records) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda item: item | {"log_likelihoods": [1.0]},
        lambda item: item | {"characters": [0, 0, 0, 0]},
        lambda item: item | {"predictions": {}},
        lambda item: item | {"without_question": [1e999] * 4},
        lambda item: {"task": "medqa"},
    ],
)
def test_a_damaged_item_is_told_with_its_line(results, damage):
    place = results / "ep0-ba30.items.jsonl"
    lines = place.read_text().splitlines()
    lines[4] = json.dumps(damage(json.loads(lines[4])))
    place.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"items\.jsonl, line 5"):
        read_items(read_record(str(results / "ep0-ba30.json")))


def test_a_folder_without_results_or_with_several_models_to_choose_from_is_a_user_error(results, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"no result file is there"):
            report(folder)
    with pytest.raises(UserError, match="there are ep0-ba10, ep0-ba20"):
        report(results, name="medqa")
    with pytest.raises(UserError, match="is the record that is shown"):
        report(results, name="gpt-neo", against=["gpt-neo"])
    for path in results.glob("ep0*"):
        path.unlink()
    shutil.copy(results / "gpt-neo.json", results / "biogpt.json")
    with pytest.raises(UserError, match="say --name, one of biogpt, gpt-neo"):
        report(results)
    assert report(results, name="gpt-neo")[2]["report_of"] == "gpt-neo"
    (results / "results.json").unlink()
    for path in results.glob("*.json"):
        path.write_text("{")
    with pytest.raises(UserError, match=r"can be shown:\n  biogpt\.json: not JSON"):
        report(results)


def test_a_result_file_is_never_overwritten(results):
    shutil.copy(results / "gpt-neo.json", results / "results.json")
    before = (results / "results.json").read_bytes()
    with pytest.raises(UserError, match=r"results\.json: is not of a report"):
        report(results)
    assert (results / "results.json").read_bytes() == before
    with pytest.raises(UserError, match=r"should end with \.html"):
        write_report(str(results), str(results / "page"))


def test_text_from_results_and_questions_is_shown_and_never_run(sample_data, tokenizer_folder, tmp_path):
    data = Path(shutil.copytree(sample_data, tmp_path / "data"))
    place = next((data / "medmcqa").glob("*.json"))
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"question": f"{number} {HOSTILE}", "opa": HOSTILE, "subject_name": f"{number % 2} {HOSTILE}"}
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path, "ours", prepared(data, tokenizer_folder, ["medmcqa"]), 1.0, data=str(data), command=HOSTILE)
    write(tmp_path, HOSTILE[1:8], prepared(data, tokenizer_folder, ["medmcqa"]), 1.0)
    html, text, _ = report(tmp_path, name="ours", against=[HOSTILE[1:8]], command=HOSTILE)
    page = Page(html)
    shown = HOSTILE.replace("`", "'")
    assert "script" not in page.seen and page.words.count(shown) > 12
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)  # code is shown as it is
    assert "<script>" not in prose and "alert" in prose
    in_a_cell = shown.replace("|", "\\|")
    assert f"| command | `{in_a_cell}` |" in text


def test_what_could_not_be_scored_is_listed_with_the_reason(sample_data, tokenizer_folder, tmp_path):
    short = prepared(sample_data, tokenizer_folder, ["medqa"], max_seq_len=60)
    scores = write(tmp_path, "ours", short, 1.0)
    assert scores["medqa"].too_long > 0
    _, text, numbers = report(tmp_path)
    (table,) = tables(text, "What could not be scored")
    assert len(numbers["protocols"]["medqa"]["unscorable"]) == scores["medqa"].too_long
    assert table[1][2].endswith("the model reads 60") and len(table) - 1 <= 21


def test_a_model_that_was_given_no_tokens_has_a_page_without_curves(results):
    page, text, numbers = report(results, name="gpt-neo")
    assert "Scores over tokens" not in text and "not known" in page
    assert {row["record"] for row in numbers["scores"]} == {"gpt-neo"}
    assert "Also in the folder and not shown here: ep0-ba10, ep0-ba20, ep0-ba30" in page


def test_the_foot_has_prompt_hashes_files_versions_and_command(results):
    _, text, numbers = report(results, command="python -m eval report here")
    for name in NAMES:
        row = next(row for row in numbers["scores"] if row["protocol"] == name and row["record"] == "ep0-ba30")
        assert row["prompt_hash"] in text and row["question_hash"] in text
        assert all(sha256 in text for sha256 in numbers["protocols"][name]["files"].values())
    assert "Question: {question}\nAnswer: ▏text of an option" in text
    assert "| versions.torch | `2.7.0` |" in text and "python -m eval report here" in text


def test_a_task_of_another_version_is_shown_without_its_prompt(results):
    change(results, "ep0-ba30", version=99)
    _, text, _ = report(results)
    assert "the prompt cannot be shown: it was version 99 of medqa" in text
    assert "No texts for medqa: it was version 99" in text


def test_seen_and_unseen_are_shown_with_their_numbers(results):
    part = {"n": 10, "correct": 5, "accuracy": 0.5, "ci95": [0.2, 0.8]}
    none = {"n": 0, "correct": 0, "accuracy": None, "ci95": [0.0, 1.0]}
    groups = {"seen": part, "unseen": part | {"n": 30}, "unknown": none, "difference": 0.125, "ci95": [-0.1, 0.3]}
    split = {"metric": "acc_norm", **dict.fromkeys(("any", "question", "context", "pmid"), groups)}
    change(
        results, "ep0-ba30", seen={"card": "corpus/contamination.json", "sha256": "0" * 64, "scores": {"medqa": split}}
    )
    _, text, _ = report(results)
    ((_, row),) = tables(text, "Seen and unseen questions")
    assert row == ["medqa", "10", "50.0", "30", "50.0", "0", "–", "12.5", "-10.0 – 30.0"]


def test_the_command_writes_the_three_files_beside_each_other(results, tmp_path, capsys):
    main([str(results), "--against", "gpt-neo", "--out", str(tmp_path / "out" / "page.html")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"page.html", "page.md", "results.json"}
    assert f"--against gpt-neo --out {tmp_path}/out/page.html" in (tmp_path / "out" / "page.md").read_text()
    assert "wrote" in capsys.readouterr().err


@pytest.mark.slow
def test_results_in_a_bucket_give_the_same_page_there(results, s3):
    folder = "s3://test/results"
    for path in results.iterdir():
        storage.upload(path, f"{folder}/{path.name}")
    places = write_report(folder, f"{folder}/report.html", against=["gpt-neo"])
    page, text, _ = report(results, against=["gpt-neo"])
    assert [storage.read_bytes(place).decode() for place in places[:2]] == [page, text]
    with pytest.raises(UserError, match="no result file is there"):
        write_report("s3://test/nothing", f"{folder}/report.html")
