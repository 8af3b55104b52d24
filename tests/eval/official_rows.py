"""Rows in the official formats, right and wrong, and the files that hold them."""

import json
from pathlib import Path
from typing import Any

from eval.official_files import Questions, load_questions
from eval.tasks import protocols


def load(name: str, data: Path | str, limit: int | None = None) -> Questions:
    (protocol,) = protocols([name])
    return load_questions(protocol, str(data), limit)


def medqa_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    options = {"A": "one", "B": "two", "C": "three", "D": "four"}
    row = {"question": f"Which word comes at place {number}?", "options": options, "answer_idx": "B", "answer": "two"}
    return {**row, **changes}


def medmcqa_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    row = {"question": f"Which word comes at place {number}?", "cop": 4, "id": f"q{number}", "subject_name": "Words"}
    return {**row, "opa": "one", "opb": "two", "opc": "three", "opd": "four", **changes}


def pubmedqa_row(**changes: Any) -> dict[str, Any]:
    row = {"QUESTION": "Does it rain?", "CONTEXTS": ["It was wet.", "Clouds came."], "LONG_ANSWER": "It rains."}
    return {**row, "final_decision": "yes", **changes}


def golden_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    snippets = [{"text": "Yes, it binds.", "document": "http://www.ncbi.nlm.nih.gov/pubmed/501"}]
    row = {"body": "Does it bind?", "type": "yesno", "id": f"g{number}", "snippets": snippets, "exact_answer": "yes"}
    return {**row, **changes}


def written(folder: Path, name: str, content: Any) -> Path:
    """A list of rows as lines, text as it is, anything else as one JSON value; returns the data folder."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in content)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def medqa_file(folder: Path, rows: list[Any]) -> Path:
    return written(folder, "medqa/US/4_options/phrases_no_exclude_test.jsonl", rows)


def medmcqa_file(folder: Path, rows: list[Any]) -> Path:
    return written(folder, "medmcqa/dev.json", rows)


def pubmedqa_files(folder: Path, rows: Any, truth: Any) -> Path:
    written(folder, "pubmedqa/data/test_ground_truth.json", truth)
    return written(folder, "pubmedqa/data/ori_pqal.json", rows)


def golden_file(folder: Path, rows: list[Any], name: str = "7B1") -> Path:
    return written(folder, f"bioasq/Task7BGoldenEnriched/{name}_golden.json", {"questions": rows})


def anatomy_file(folder: Path, content: str | bytes) -> Path:
    return written(folder, "mmlu/data/test/anatomy_test.csv", content)


def reasons(questions: Questions) -> dict[str, str]:
    return {refused.id: refused.reason for refused in questions.refused}
