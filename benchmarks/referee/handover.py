"""Our questions as tasks of lm-eval: the very prompts that we score, and the official files for its own templates."""

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.official_files import find_files
from eval.prompts import Prepared, cut_prompt
from eval.task import ACC, ACC_BYTES, ACC_NORM, ACC_PMI, Protocol

METRICS = {"acc": ACC, "acc_norm": ACC_NORM, "acc_bytes": ACC_BYTES, "acc_mutual_info": ACC_PMI}
"""lm-eval's name of a metric → ours."""

Row = dict[str, Any]


def prompts_of(prepared: Prepared) -> dict[str, str]:
    """By id of each question that can be scored: what is scored, without the shots and passages that are left out."""
    items = {item.id: item for item in prepared.questions.items}
    return {one.id: cut_prompt(prepared.questions, items[one.id], one.cut) for one in prepared.encoded}


def our_prompts(prepared: Prepared, folder: Path) -> Row:
    """A task of lm-eval that asks what ``prepared`` holds, word for word."""
    items = {item.id: item for item in prepared.questions.items}
    rows = [
        {"id": id, "prompt": text, "choices": prepared.answers(items[id]), "gold": items[id].gold}
        for id, text in prompts_of(prepared).items()
    ]
    metrics = [name for name, ours in METRICS.items() if ours != ACC_PMI or prepared.without_question]
    config = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": _write(rows, folder / f"{prepared.name}.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        # Names of columns, so the texts are taken as they are; templates would be filled in.
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in metrics],
    }
    return {"name": prepared.name, "base": None, "config": config}


def own_template(prepared: Prepared, data: str, folder: Path) -> Row | None:
    """lm-eval's own task for a protocol, on the same rows of the official files in the layout of the Hugging Face hub.

    The files are read here anew, without eval/'s readers. None where lm-eval has no such task.
    """
    protocol = prepared.questions.protocol
    counterpart = _counterpart(protocol)
    if counterpart is None:
        return None
    scorable = {one.id for one in prepared.encoded}
    asked: dict[tuple[str, ...], list[str]] = {}
    for item in prepared.questions.items:
        if item.id in scorable:
            asked.setdefault(key(item.question, item.options), []).append(item.id)
    task = protocol.task
    rows = []
    for row in counterpart.rows(find_files(task, task.scored, data)):
        if ids := asked.get(counterpart.key(row)):
            rows.append({**row, "id": ids.pop(0)})
    files = {"test": _write(rows, folder / f"{protocol.name}.hub.jsonl")}
    config: Row = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files},
                   "test_split": "test", "training_split": None, "validation_split": None}  # fmt: skip
    if protocol.shots:
        assert task.shots is not None
        shots = [{**row, "id": ""} for row in counterpart.rows(find_files(task, task.shots, data))]
        files["dev"] = _write(shots, folder / f"{protocol.name}.shots.jsonl")
        config["num_fewshot"] = protocol.shots
    elif counterpart.name.startswith("mmlu_"):
        config["fewshot_split"] = "test"  # must be one that is there; no shot is taken from it
    return {"name": f"{protocol.name}.own", "base": counterpart.name, "config": config}


@dataclass(frozen=True)
class Counterpart:
    """A task of lm-eval: its name, how its rows are made from official files, and what tells one of its questions."""

    name: str
    rows: Callable[[list[Path]], Iterable[Row]]
    key: Callable[[Row], tuple[str, ...]]


def key(question: str, options: Iterable[str]) -> tuple[str, ...]:
    """What tells a question from others, whatever a reader does to the blanks in it."""
    return tuple("".join(text.split()) for text in (question, *options))


def _counterpart(protocol: Protocol) -> Counterpart | None:
    name, form = protocol.task.name, protocol.form_name
    if (name, form, protocol.shots) == ("medqa", "letter", 0):
        return Counterpart(
            "medqa_4options", _medqa, lambda row: key(row["sent1"], [row[f"ending{place}"] for place in range(4)])
        )
    if (name, form, protocol.shots) == ("medmcqa", "letter", 0):
        return Counterpart(
            "medmcqa", _medmcqa, lambda row: key(row["question"], [row[f"op{letter}"] for letter in "abcd"])
        )
    if (name, form, protocol.shots) == ("pubmedqa", "cloze", 0):
        return Counterpart("pubmedqa", _pubmedqa, lambda row: key(row["QUESTION"], ("yes", "no", "maybe")))
    if name.startswith("mmlu_"):
        theirs = name if form == "letter" else f"{name}_continuation"
        return Counterpart(theirs, _mmlu, lambda row: key(row["question"], row["choices"]))
    return None


def _medqa(paths: list[Path]) -> Iterable[Row]:
    for line in paths[0].read_text().split("\n"):
        if line:
            row = json.loads(line)
            endings = {f"ending{place}": row["options"][letter] for place, letter in enumerate("ABCD")}
            yield {"sent1": row["question"], "sent2": "", **endings, "label": "ABCD".index(row["answer_idx"])}


def _medmcqa(paths: list[Path]) -> Iterable[Row]:
    for line in paths[0].read_text().split("\n"):
        if line:
            row = json.loads(line)
            # The hub's copy counts from 0.
            yield {name: row[name] for name in ("question", "opa", "opb", "opc", "opd")} | {"cop": row["cop"] - 1}


def _pubmedqa(paths: list[Path]) -> Iterable[Row]:
    for row in json.loads(paths[1].read_text()).values():  # the first is the list of the test questions
        yield {name: row[name] for name in ("QUESTION", "CONTEXTS", "final_decision")}


def _mmlu(paths: list[Path]) -> Iterable[Row]:
    with paths[0].open(newline="") as file:
        for question, *choices, gold in csv.reader(file):
            yield {"question": question, "choices": choices, "answer": "ABCD".index(gold)}


def _write(rows: Iterable[Row], path: Path) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)
