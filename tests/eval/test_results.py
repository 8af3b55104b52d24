"""From likelihoods to a score and its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from asked import ours, questions_of, scorer_of, small_gpt2

from eval.prompts import Encoded, FastEncoder, Prepared, load_tokenizer, prepare
from eval.results import score_of, write_results
from eval.scoring import log_likelihoods
from eval.task import METRICS, Refused

Values = dict[str, tuple[float, ...]]


@pytest.fixture(scope="module")
def prepared(sample_data: Path, tokenizer_folder: Path) -> Prepared:
    encoder = FastEncoder(load_tokenizer(str(tokenizer_folder)))
    return prepare(questions_of("medqa", sample_data), encoder, 128, without_question=True)


def flat(encoded: tuple[Encoded, ...]) -> Values:
    """A model for which all tokens are alike: an option's log-likelihood is minus the number of its tokens."""
    return {question.id: tuple(-float(len(option)) for option in question.options) for question in encoded}


def no_question(prepared: Prepared) -> dict[str, float]:
    return {text: -len(text) / 7 for text in prepared.without_question}


def test_each_accuracy_follows_its_definition(prepared: Prepared) -> None:
    found, alone = flat(prepared.encoded), no_question(prepared)
    score, items = score_of(prepared, found, alone)
    texts = {item.id: item.options for item in prepared.questions.items}
    for item in items:
        options, values = texts[item.id], found[item.id]
        worth = {
            "acc": values,
            "acc_norm": [value / len(text) for value, text in zip(values, options, strict=True)],
            "acc_bytes": [value / len(text.encode()) for value, text in zip(values, options, strict=True)],
            "acc_token": [-1.0 for _ in options],
            "acc_pmi": [value - alone[text] for value, text in zip(values, options, strict=True)],
        }
        assert item.predictions == {metric: list(one).index(max(one)) for metric, one in worth.items()}
        assert item.prediction == item.predictions["acc_norm"]
        assert (item.characters, item.tokens) == (tuple(map(len, options)), tuple(-int(value) for value in values))
    for metric in METRICS:
        right = sum(item.predictions is not None and item.predictions[metric] == item.gold for item in items)
        assert getattr(score, metric) == right / 40
    assert score.primary == score.acc_norm
    assert len({tuple(item.predictions.values()) for item in items if item.predictions}) > 5


def test_without_pmi_there_is_none(sample_data: Path, prepared: Prepared) -> None:
    plain = replace(prepared, without_question={})
    score, items = score_of(plain, flat(plain.encoded))
    assert score.acc_pmi is None and items[0].without_question is None
    assert items[0].predictions is not None and "acc_pmi" not in items[0].predictions


def test_pmi_is_less_the_likelihood_after_the_beginning_of_text_alone(prepared: Prepared) -> None:
    model = small_gpt2(600)
    scorer = scorer_of(ours(model))
    alone = log_likelihoods(tuple(prepared.without_question.values()), scorer, 8)
    text = prepared.questions.items[0].options[2]
    (ids,) = prepared.without_question[text].options
    with torch.no_grad():
        logits = model(torch.tensor([[599, *ids]])).logits[0].log_softmax(-1)
    expected = sum(float(logits[place, token]) for place, token in enumerate(ids))
    assert alone[text][0] == pytest.approx(expected, abs=1e-4)


def test_refused_rows_stay_in_the_denominator_of_the_score(prepared: Prepared) -> None:
    refused = (Refused("line 1", "line 1", "not JSON"), Refused("line 2", "line 2", "not JSON"))
    worse = replace(
        prepared,
        questions=replace(prepared.questions, refused=refused),
        unscorable={entry.id: entry.reason for entry in refused},
    )
    found, alone = flat(prepared.encoded), no_question(prepared)
    before, after = score_of(prepared, found, alone)[0], score_of(worse, found, alone)[0]
    assert (before.n, after.n, after.bad_rows, after.scored) == (40, 42, 2, 40)
    assert after.acc == pytest.approx(before.acc * 40 / 42)
    assert after.majority == pytest.approx(before.majority * 40 / 42)
    assert after.unscorable == [{"id": "line 1", "reason": "not JSON"}, {"id": "line 2", "reason": "not JSON"}]
    assert (after.brier, after.ece) == (before.brier, before.ece)  # of what was scored


def test_a_question_that_does_not_fit_counts_as_wrong(sample_data: Path, tokenizer_folder: Path) -> None:
    questions = questions_of("medqa", sample_data)
    encoder = FastEncoder(load_tokenizer(str(tokenizer_folder)))
    lengths = sorted(question.length for question in prepare(questions, encoder, 128).encoded)
    short = prepare(questions, encoder, max_seq_len=lengths[20])
    score, items = score_of(short, flat(short.encoded))
    fit = sum(length <= lengths[20] for length in lengths)
    assert (score.n, score.scored, score.too_long) == (40, fit, 40 - fit)
    assert 0 < fit < 40
    assert score.primary == sum(item.prediction == item.gold for item in items if item.prediction is not None) / 40
    assert f"the model reads {lengths[20]}" in score.unscorable[0]["reason"]
    assert f"{40 - fit} too long" in short.describe()


def test_subjects_share_the_questions_among_them(sample_data: Path, tokenizer_folder: Path) -> None:
    encoder = FastEncoder(load_tokenizer(str(tokenizer_folder)))
    prepared = prepare(questions_of("medmcqa", sample_data), encoder, 128)
    score, items = score_of(prepared, flat(prepared.encoded))
    assert len(score.subjects) > 3
    assert sum(subject.n for subject in score.subjects.values()) == score.n
    assert sum(subject.correct for subject in score.subjects.values()) == sum(
        item.is_right("acc_norm") for item in items
    )


def test_a_diverged_model_answers_nothing(prepared: Prepared, tmp_path: Path) -> None:
    nan = {id: tuple(float("nan") for _ in values) for id, values in flat(prepared.encoded).items()}
    score, items = score_of(prepared, nan, no_question(prepared))
    assert (score.acc, score.scored, sum(score.predicted["acc"]), score.brier) == (0.0, 0, 0, None)
    assert score.unscorable[0]["reason"] == "the model's log-likelihoods are not finite"
    write_results(str(tmp_path), "nan", {"medqa": score}, items, {})  # and the files are still JSON


def test_a_question_that_no_rank_scored_is_an_error(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="scored by no rank"):
        score_of(prepared, {}, no_question(prepared))


def test_result_files_hold_the_score_and_one_line_a_question(prepared: Prepared, tmp_path: Path) -> None:
    found = log_likelihoods(prepared.encoded, scorer_of(ours(small_gpt2(600))), 8)
    score, items = score_of(prepared, found, no_question(prepared))
    write_results(str(tmp_path), "ep0-ba5", {"medqa": score}, items, {"batch": 5})
    record = json.loads((tmp_path / "ep0-ba5.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "ep0-ba5.items.jsonl").read_text().splitlines()]
    written = record["scores"]["medqa"]
    assert (record["batch"], written["n"], len(lines)) == (5, 40, 40)
    assert {"acc", "acc_norm", "n", "majority", "ci95"} <= written.keys()
    assert sum(line["prediction"] == line["gold"] for line in lines) / 40 == written["acc_norm"]
    assert sum(written["gold"]) == sum(written["predicted"]["acc"]) == 40
    assert tuple(lines[0]["log_likelihoods"]) == found[lines[0]["id"]]
    assert {line["prompt_hash"] for line in lines} == {written["prompt_hash"]}
    assert all(len(digest) == 64 for digest in written["files"].values())
