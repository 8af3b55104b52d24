"""PubMedQA's 500 official test questions (Jin et al. 2019, arXiv 1909.06146), in the paper's two settings and without
any text."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from base.errors import UserError
from eval.official_files import read_json
from eval.other_formats import looks_like
from eval.task import ACC, BadRow, Download, Form, Item, Release, Row, Source, Task, require_text, text_of

ANSWERS = ("yes", "no", "maybe")
PATTERNS = ("pubmedqa/data/test_ground_truth*.json", "pubmedqa/data/ori_pqal*.json")
DOWNLOADS = tuple(
    Download("github", "pubmedqa/pubmedqa", f"data/{name}.json", f"pubmedqa/data/{name}.json")
    for name in ("test_ground_truth", "ori_pqal")
)
OFFICIAL = Release(
    "test",
    500,
    (
        "939fe566f09017d13b1ca64d2ddfee0bc2374b366048152997669cccedc44d51",
        "8b3276be8942ebbd77f3ddcda12c1749bf0e490045a736fd8438ee40cf37a41d",
    ),
)


def read_test(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """The rows that the ground truth lists, in its order, with its label beside each row's own.

    The list alone says which questions are the test: the last 500 rows of the file hold 258 of them.
    """
    truth, questions = (_by_pmid(path) for path in paths)
    for pmid, label in truth.items():
        row = questions.get(pmid)
        if row is None:
            yield f"PMID {pmid}", BadRow(f"is in {paths[0].name} and not in {paths[1].name}")
        elif not isinstance(row, dict):
            yield f"PMID {pmid}", BadRow(f"not an object but a {type(row).__name__}")
        else:
            yield f"PMID {pmid}", {**row, "id": pmid, "ground_truth": label}


def read_others(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """The rows that the ground truth does not list: examples are taken from them."""
    truth, questions = (_by_pmid(path) for path in paths)
    for pmid, row in questions.items():
        if pmid not in truth and isinstance(row, dict):
            yield f"PMID {pmid}", {**row, "id": pmid, "ground_truth": row.get("final_decision")}


def _by_pmid(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not content or not all(key.isdigit() for key in content):
        rows = content if isinstance(content, list) else [content]
        other = looks_like([row for row in rows if isinstance(row, dict)])
        told = f"; its format looks like {other}" if other else ""
        raise UserError(f"{path}: not an object of PMIDs, as the official file is{told}")
    return content


def read_row_with_context(row: Row) -> Item:
    """``QUESTION`` about ``CONTEXTS``, the abstract without its conclusion; gold in ``final_decision``."""
    contexts = row.get("CONTEXTS")
    if not isinstance(contexts, list) or not contexts:
        raise BadRow("CONTEXTS is not a list of texts")
    return _item(row, tuple(require_text(text, "CONTEXTS") for text in contexts))


def read_row_with_conclusion(row: Row) -> Item:
    """``QUESTION`` about ``LONG_ANSWER``, the abstract's conclusion."""
    return _item(row, (text_of(row, "LONG_ANSWER"),))


def read_row_alone(row: Row) -> Item:
    """``QUESTION`` about nothing."""
    return _item(row, ())


def _item(row: Row, passages: tuple[str, ...]) -> Item:
    question = text_of(row, "QUESTION")
    gold = row.get("final_decision")
    if gold not in ANSWERS:
        raise BadRow(f"final_decision is {gold!r}, not one of {', '.join(ANSWERS)}")
    if gold != row["ground_truth"]:
        raise BadRow(f"final_decision is {gold}, but the ground truth says {row['ground_truth']!r}")
    return Item(row["id"], question, ANSWERS, ANSWERS.index(gold), passages=passages, pmids=(int(row["id"]),))


def _task(name: str, asked: str, read_row: Any, notes: str) -> Task:
    return Task(
        name=name,
        version=1,
        scored=Source(PATTERNS, read_test, read_row, releases=(OFFICIAL,), downloads=DOWNLOADS),
        shots=Source(PATTERNS, read_others, read_row, downloads=DOWNLOADS),
        origin=(
            "The files are data/ori_pqal.json and data/test_ground_truth.json of https://github.com/pubmedqa/pubmedqa; "
            "put them into DATA/pubmedqa/data"
        ),
        forms={
            "cloze": Form(f"{asked}\nAnswer:", "texts", ACC),
            "letter": Form(f"{asked}\n{{options}}\nAnswer:", "letters", ACC),
        },
        primary=("cloze", 0),
        notes=f"{notes} Yes is gold in 55.2 %: that is the majority baseline. Macro-F1 is the second official measure.",
        fixed_options=True,
    )


WITH_TEXT = "Abstract: {context}\nQuestion: {question}"

PUBMEDQA = _task(
    "pubmedqa",
    WITH_TEXT,
    read_row_with_context,
    "The reasoning-required setting: the abstract without its conclusion. BioMedLM's published 74.4 is fine-tuned. "
    "Scores on all 1,000 questions, as some harnesses give, are others.",
)

PUBMEDQA_REASONING_FREE = _task(
    "pubmedqa_reasoning_free",
    WITH_TEXT,
    read_row_with_conclusion,
    "The reasoning-free setting: the abstract's conclusion, which says the answer.",
)

PUBMEDQA_QUESTION_ONLY = _task(
    "pubmedqa_question_only",
    "Question: {question}",
    read_row_alone,
    "No text beside the question: what the model knows by heart. MIRAGE asks it so.",
)
