"""MedMCQA, the dev split, since test comes without gold answers (Pal et al. 2022, arXiv 2203.14371)."""

from collections.abc import Sequence

from eval.hub_formats import medmcqa_json_lines
from eval.official_files import read_json_lines
from eval.task import ACC, ACC_NORM, BadRow, Download, Form, Item, Release, Row, Source, Task, text_of

OPTIONS = ("opa", "opb", "opc", "opd")


def read_row(row: Row) -> Item:
    """``question``, ``opa`` to ``opd``, gold in ``cop`` counted from 1, ``id``, ``subject_name``."""
    question = text_of(row, "question")
    options = tuple(text_of(row, name) for name in OPTIONS)
    if row.get("ope") is not None:
        raise BadRow("has five options (ope); this task has four")
    gold = row.get("cop")
    if isinstance(gold, bool) or not isinstance(gold, int):
        raise BadRow(f"cop is {gold!r}, not one of 1, 2, 3, 4")
    if not 1 <= gold <= 4:
        raise BadRow(f"cop is {gold}; the official file counts 1, 2, 3, 4")
    subject = row.get("subject_name")
    return Item(text_of(row, "id"), question, options, gold - 1, subject if isinstance(subject, str) else None)


def check_rows(rows: Sequence[Row]) -> str | None:
    """A file that counts from 0 would be scored against the wrong option in every row but those that say 0."""
    golds = [row.get("cop") for row in rows]
    if 0 in golds and 4 not in golds:
        return (
            f"cop is 0 in {golds.count(0):,} of {len(golds):,} rows and 4 in none, so it counts from 0, as the copy on "
            "the Hugging Face hub does; the official file counts from 1. Take the official file, or add 1 to each cop"
        )
    return None


def _hub(split: str, name: str) -> tuple[Download, ...]:
    file = f"data/{split}-00000-of-00001.parquet"
    return (Download("hub", "openlifescienceai/medmcqa", file, f"medmcqa/{name}.json", medmcqa_json_lines),)


MEDMCQA = Task(
    name="medmcqa",
    version=2,
    scored=Source(
        ("medmcqa/dev*.json",),
        read_json_lines,
        read_row,
        releases=(Release("dev", 4183),),
        downloads=_hub("validation", "dev"),
        check_rows=check_rows,
    ),
    shots=Source(
        ("medmcqa/train*.json",), read_json_lines, read_row, downloads=_hub("train", "train"), check_rows=check_rows
    ),
    origin=(
        "The files are dev.json and train.json (a JSON object a line) in the archive that "
        "https://github.com/medmcqa/medmcqa links to; put them into DATA/medmcqa"
    ),
    forms={
        "cloze": Form("Question: {question}\nAnswer:", "texts", ACC_NORM),
        "letter": Form("Question: {question}\nChoices:\n{options}\nAnswer:", "letters", ACC),
    },
    primary=("cloze", 0),
    notes=(
        "Zero-shot, by the likelihood of the option's text. A is gold in 32.2 % of dev: that is the majority baseline, "
        "not 25 %. Questions of choice_type multi have one gold option too. BioMedLM's published 57.3 is fine-tuned."
    ),
)
