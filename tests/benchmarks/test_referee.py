"""What is handed to lm-eval is what we score, and no difference between the two passes for agreement."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from base.errors import UserError
from benchmarks.referee.agreement import compare
from benchmarks.referee.handover import our_prompts, own_template
from benchmarks.referee.process import environment
from benchmarks.referee.referee import measure
from eval.official_files import load_questions
from eval.prompts import FastEncoder, Prepared, prepare
from eval.results import ItemScore
from eval.task import METRICS
from eval.tasks import protocols

Rows = list[dict[str, Any]]


@pytest.fixture
def encoder(real_data: Path) -> FastEncoder:
    source = real_data / "models" / "tiny_gpt2_medical"
    return FastEncoder(ByteLevelBPETokenizer(str(source / "vocab.json"), str(source / "merges.txt"))._tokenizer)


@pytest.fixture
def prepared(real_data: Path, encoder: FastEncoder) -> Callable[..., Prepared]:
    def prepared(name: str, max_seq_len: int = 1024, limit: int = 12) -> Prepared:
        [protocol] = protocols([name])
        return prepare(load_questions(protocol, str(real_data / "qa"), limit), encoder, max_seq_len)

    return prepared


def rows_of(task: dict[str, Any], split: str = "test") -> Rows:
    path = Path(task["config"]["dataset_kwargs"]["data_files"][split])
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "max_seq_len"), [("medqa", 1024), ("mmlu_nutrition_letter_5shot", 450), ("pubmedqa", 250)]
)
def test_handed_over_is_what_is_scored(
    prepared: Callable[..., Prepared], encoder: FastEncoder, tmp_path: Path, name: str, max_seq_len: int
) -> None:
    one = prepared(name, max_seq_len)
    if max_seq_len < 1024:
        assert any(entry.cut.shots or entry.cut.passages for entry in one.encoded)
    rows = {row["id"]: row for row in rows_of(our_prompts(one, tmp_path))}
    assert rows.keys() == {entry.id for entry in one.encoded}
    for entry in one.encoded:
        row = rows[entry.id]
        ids = encoder([f"{row['prompt']} {choice}" for choice in row["choices"]])
        assert ids == [[*entry.given, *option] for option in entry.options]


@pytest.mark.parametrize("name", ["medqa_letter", "medmcqa_letter", "pubmedqa", "mmlu_anatomy_letter", "mmlu_anatomy"])
def test_hub_layout_holds_the_same_questions_with_the_same_gold(
    prepared: Callable[..., Prepared], real_data: Path, tmp_path: Path, name: str
) -> None:
    one = prepared(name)
    task = own_template(one, str(real_data / "qa"), tmp_path)
    assert task is not None
    gold = {item.id: item.gold for item in one.questions.items}
    found = {
        row["id"]: row.get("label", row.get("cop", row.get("answer", row.get("final_decision"))))
        for row in rows_of(task)
    }
    assert {
        id: ("yes", "no", "maybe").index(label) if isinstance(label, str) else label for id, label in found.items()
    } == gold


def test_shots_are_the_rows_that_we_take(prepared: Callable[..., Prepared], real_data: Path, tmp_path: Path) -> None:
    one = prepared("mmlu_anatomy_letter_5shot")
    task = own_template(one, str(real_data / "qa"), tmp_path)
    assert task is not None and task["config"]["num_fewshot"] == 5
    assert [row["answer"] for row in rows_of(task, "dev")][:5] == [shot.gold for shot in one.questions.shots]


def test_forms_that_lm_eval_does_not_have_have_no_template_of_its_own(
    prepared: Callable[..., Prepared], real_data: Path, tmp_path: Path
) -> None:
    for name in ("medqa", "pubmedqa_letter", "bioasq_dev"):
        assert own_template(prepared(name), str(real_data / "qa"), tmp_path) is None


OURS = ItemScore(
    task="made", id="1", prompt_hash="", subject=None, log_likelihoods=(-1.0, -2.0), without_question=(-3.0, -3.5),
    characters=(3, 9), bytes=(3, 9), tokens=(1, 2), predictions=dict.fromkeys(METRICS, 0), prediction=0, gold=0,
    shots_left_out=0, passages_left_out=0, reason=None,
)  # fmt: skip
THEIRS: dict[str, Any] = {
    "id": "1", "prompt": "One?\nAnswer:", "log_likelihoods": [-1.0005, -2.0], "without_question": [-3.0, -3.5],
    "metrics": {"acc": 1.0, "acc_norm": 1.0, "acc_bytes": 1.0, "acc_mutual_info": 1.0},
}  # fmt: skip
PROMPTS = {"1": THEIRS["prompt"]}


def test_what_differs_by_less_than_the_bar_agrees() -> None:
    found = compare([OURS], [THEIRS], PROMPTS)
    assert found["met"] and found["n"] == found["same_prompts"] == 1
    assert found["largest_difference"] == pytest.approx(5e-4)
    assert found["largest_difference_without_question"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"log_likelihoods": [-1.0, -2.002]},
        {"log_likelihoods": [-1.0, float("nan")]},
        {"without_question": [-3.0, -3.6]},
        {"metrics": {"acc": 1.0, "acc_norm": 0.0}},
        {"prompt": "One? \nAnswer:"},
    ],
)
def test_each_difference_is_seen(change: dict[str, Any]) -> None:
    assert not compare([OURS], [THEIRS | change], PROMPTS)["met"]


def test_two_verdicts_that_cancel_out_are_not_the_same() -> None:
    other = replace(OURS, id="2", gold=1)
    there = [{**THEIRS, "metrics": {"acc": 0.0}}, {**THEIRS, "id": "2", "metrics": {"acc": 1.0}}]
    found = compare([OURS, other], there, PROMPTS | {"2": THEIRS["prompt"]})
    assert found["ours"] == found["lm_eval"] == {"acc": 0.5}
    assert found["other_verdicts"] == {"acc": 2} and not found["met"]


def test_how_far_apart_other_verdicts_are_is_told() -> None:
    there = THEIRS | {"log_likelihoods": [-1.00001, -1.0], "metrics": {"acc": 0.0}}
    found = compare([OURS], [there], PROMPTS)
    assert found["other_by_at_most"] == pytest.approx(1e-5) and not found["met"]


def test_nothing_compared_is_no_agreement() -> None:
    assert not compare([OURS], [], PROMPTS)["met"]


def test_an_environment_without_lm_eval_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--env {tmp_path}"):
        environment(str(tmp_path))


@pytest.mark.slow
def test_lm_eval_agrees_and_what_it_would_cut_is_counted(real_data: Path, tmp_path: Path) -> None:
    """``BIOMEDLM_LM_EVAL``: an environment made from benchmarks/referee/requirements.txt."""
    env = os.environ.get("BIOMEDLM_LM_EVAL")
    if not env:
        pytest.skip("set BIOMEDLM_LM_EVAL to an environment with lm-eval")
    torch.manual_seed(1)
    shape = GPT2Config(n_positions=320, n_layer=2, n_embd=16, n_head=2, initializer_range=0.5)
    shape.scale_attn_by_inverse_layer_idx = True
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).symlink_to(real_data / "models" / "tiny_gpt2_medical" / name)
    tasks = "medqa,medqa_letter,pubmedqa,mmlu_medical_genetics_letter_5shot"
    figures = measure(
        ["--data", str(real_data / "qa"), "--model", str(tmp_path), "--env", env, "--parts", "agreement",
         "--items", "12", "--tasks", tasks]
    )["agreement"][str(tmp_path)]  # fmt: skip
    assert figures["met"] and figures["attention"] == "eager"
    for name, fewer in {"pubmedqa": "fewer_passages", "mmlu_medical_genetics_letter_5shot": "fewer_shots"}.items():
        found = figures["protocols"][name]
        assert found["our_prompts"]["left_out"] == {} and found["our_prompts"]["n"] == found["scored"]
        assert sum(found["own_template"]["left_out"].values()) == found[fewer] > 0
