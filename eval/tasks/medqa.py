"""MedQA, United States (Jin et al. 2020, arXiv 2009.13081): four options, five options, and five on the dev split."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from base.errors import UserError
from eval.official_files import read_json, read_json_lines
from eval.task import ACC, ACC_NORM, BadRow, Download, Form, Item, Release, Row, Source, Task, text_of

ARCHIVE = "The files are in the archive that https://github.com/jind11/MedQA links to, below data_clean/questions/US: "
FORMS = {
    "cloze": Form("Question: {question}\nAnswer:", "texts", ACC_NORM),
    "letter": Form("Question: {question}\n{options}\nAnswer:", "letters", ACC),
}
OPTION = re.compile(r"([A-J])\. (.*)", re.DOTALL)


def read_row(row: Row) -> Item:
    """``question``, ``options`` (letter → text), gold letter in ``answer_idx`` and gold text in ``answer``."""
    return _item(row, "ABCD")


def read_row_of_five(row: Row) -> Item:
    """The same with options A to E."""
    return _item(row, "ABCDE")


def _item(row: Row, letters: str) -> Item:
    question = text_of(row, "question")
    options = row.get("options")
    if not isinstance(options, dict):
        raise BadRow("options is not an object of letters and texts: not the official format")
    if sorted(options) != list(letters):
        told = f"has {len(options)} options ({', '.join(map(str, options))})"
        raise BadRow(f"{told}; this task has {len(letters)}, A to {letters[-1]}")
    texts = tuple(text_of(options, letter) for letter in letters)
    gold = row.get("answer_idx")
    if gold not in tuple(letters):
        raise BadRow(f"answer_idx is {gold!r}, not one of {', '.join(letters)}")
    if "answer" in row and row["answer"] != options[gold]:
        raise BadRow(f"answer is not the text of option {gold}: the gold letter belongs to another version of the file")
    return Item(_id(question, texts), question, texts, letters.index(gold))


def read_array(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """Rows of a JSON array."""
    rows = read_json(paths[0])
    if not isinstance(rows, list):
        raise UserError(f"{paths[0]}: not a JSON array, but a {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"entry {number}", row if isinstance(row, dict) else BadRow(f"not an object but a {type(row).__name__}")


def read_labelled_row(row: Row) -> Item:
    """``question``, ``options`` as a list of ``A. text``, gold text in ``answer``."""
    given = row.get("options")
    if not isinstance(given, list) or not all(isinstance(option, str) for option in given):
        raise BadRow("options is not a list of texts")
    matches = [OPTION.fullmatch(option) for option in given]
    if [match[1] if match else None for match in matches] != list("ABCDE"):
        raise BadRow(f"has {len(given)} options, which are not marked A. to E. in this order")
    options = {match[1]: match[2] for match in matches if match}
    answer = text_of(row, "answer")
    golds = [letter for letter, text in options.items() if text == answer]
    if len(golds) != 1:
        raise BadRow(f"answer is the text of {len(golds)} options, not of one")
    return _item({"question": row.get("question"), "options": options, "answer_idx": golds[0]}, "ABCDE")


def _id(question: str, options: Sequence[str]) -> str:
    """The file gives no ids, and a line's number changes with every part of the file: a hash of the content."""
    return hashlib.sha256("\n".join((question, *options)).encode()).hexdigest()[:16]


def _hub(name: str) -> tuple[Download, ...]:
    file = f"phrases_no_exclude_{name}.jsonl"
    return (Download("hub", "GBaker/MedQA-USMLE-4-options", file, f"medqa/US/4_options/{file}"),)


MEDQA = Task(
    name="medqa",
    version=2,
    scored=Source(
        ("medqa/US/4_options/phrases_no_exclude_test*.jsonl",),
        read_json_lines,
        read_row,
        releases=(Release("test", 1273),),
        downloads=_hub("test"),
    ),
    shots=Source(
        ("medqa/US/4_options/phrases_no_exclude_train*.jsonl",), read_json_lines, read_row, downloads=_hub("train")
    ),
    origin=f"{ARCHIVE}4_options/phrases_no_exclude_test.jsonl and …_train.jsonl; put them into DATA/medqa/US/4_options",
    forms=FORMS,
    primary=("cloze", 0),
    notes=(
        "Zero-shot, by the likelihood of the option's text. A is gold in 27.7 %: that is the majority baseline. "
        "BioMedLM's published 50.3 is fine-tuned with a linear head, and lm-eval's medqa_4options asks for letters: "
        "neither belongs in one column with this score."
    ),
)

TRAIN_OF_FIVE = Source(("medqa/US/train*.jsonl",), read_json_lines, read_row_of_five)

MEDQA_5OPTIONS = Task(
    name="medqa_5options",
    version=1,
    scored=Source(
        ("medqa/US/test*.jsonl",), read_json_lines, read_row_of_five, releases=(Release("test of five options", 1273),)
    ),
    shots=TRAIN_OF_FIVE,
    origin=f"{ARCHIVE}test.jsonl (and train.jsonl), not those in 4_options; put them into DATA/medqa/US",
    forms=FORMS,
    primary=("cloze", 0),
    notes=(
        "The questions of medqa with one wrong option more and another order: harder, and no number to set beside it. "
        "B is gold in 21.8 % of test: that is the majority baseline, not 20 %."
    ),
)

MEDQA_5OPTIONS_DEV = Task(
    name="medqa_5options_dev",
    version=1,
    scored=Source(
        ("medqa/derived_5opt/medqa_full_dev*.json",),
        read_array,
        read_labelled_row,
        releases=(
            Release(
                "dev split, as tadsligar/MedQA2026 has written it again",
                1272,
                ("348eaf72e65078bf67fedfbdcf69fcb59a15a36343672269bac0434e35c79ee9",),
            ),
        ),
    ),
    shots=TRAIN_OF_FIVE,
    origin=(
        "The file is a copy of the dev split with its options as a list of texts: data/datasets/medqa_full_dev.json of "
        "https://github.com/tadsligar/MedQA2026; put it into DATA/medqa/derived_5opt"
    ),
    forms=FORMS,
    primary=("cloze", 0),
    notes="The dev split, for choosing between runs without looking at test. B is gold in 21.9 %.",
)
