"""MedQA, United States, four options (Jin et al. 2020, arXiv 2009.13081)."""

import hashlib
from collections.abc import Sequence

from eval.official_files import read_json_lines
from eval.task import ACC, ACC_NORM, BadRow, Form, Item, Release, Row, Source, Task, text_of

LETTERS = "ABCD"


def read_row(row: Row) -> Item:
    """``question``, ``options`` (letter → text), gold letter in ``answer_idx`` and gold text in ``answer``."""
    question = text_of(row, "question")
    options = row.get("options")
    if not isinstance(options, dict):
        raise BadRow("options is not an object of letters and texts: not the official format")
    if sorted(options) != list(LETTERS):
        raise BadRow(f"has {len(options)} options ({', '.join(map(str, options))}); this task has four, A to D")
    texts = tuple(text_of(options, letter) for letter in LETTERS)
    gold = row.get("answer_idx")
    if gold not in tuple(LETTERS):
        raise BadRow(f"answer_idx is {gold!r}, not one of A, B, C, D")
    if "answer" in row and row["answer"] != options[gold]:
        raise BadRow(f"answer is not the text of option {gold}: the gold letter belongs to another version of the file")
    return Item(_id(question, texts), question, texts, LETTERS.index(gold))


def _id(question: str, options: Sequence[str]) -> str:
    """The file gives no ids, and a line's number changes with every part of the file: a hash of the content."""
    return hashlib.sha256("\n".join((question, *options)).encode()).hexdigest()[:16]


MEDQA = Task(
    name="medqa",
    version=2,
    scored=Source(("medqa/US/4_options/phrases_no_exclude_test*.jsonl",), (Release("test", 1273),)),
    shots=Source(("medqa/US/4_options/phrases_no_exclude_train*.jsonl",)),
    origin=(
        "The file is in the archive that https://github.com/jind11/MedQA links to: data_clean/questions/US/4_options/"
        "phrases_no_exclude_test.jsonl; put it into DATA/medqa/US/4_options"
    ),
    read_rows=read_json_lines,
    read_row=read_row,
    forms={
        "cloze": Form("Question: {question}\nAnswer:", "texts", ACC_NORM),
        "letter": Form("Question: {question}\n{options}\nAnswer:", "letters", ACC),
    },
    primary=("cloze", 0),
    notes=(
        "Zero-shot, by the likelihood of the option's text. BioMedLM's published 50.3 is fine-tuned with a linear "
        "head, and lm-eval's medqa_4options asks for letters: neither belongs in one column with this score."
    ),
)
